"""Retrieval: global descriptors of images, and the pairs that look alike.

Descriptors are written as hloc writes them, ``global_descriptor`` in each image's group, so that
its ``pairs_from_retrieval`` reads our files and ours reads its files. A vocabulary of VLAD is kept
as safetensors next to the descriptors, since hloc takes every group of the file for an image.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featplug.base import choose_device
from featplug.extractors.vlad import REVISION as VLAD_REVISION
from featplug.extractors.vlad import VLADOptions, Vocabulary, local_descriptors, own_vocabulary
from featplug.io.artifact import Provenance, file_hash
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.image_origin import image_origin
from featplug.io.images import (
    DEFAULT_PREPROCESSING,
    LoadedImage,
    prefetch_images,
)
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import open_features, open_global_descriptors
from featplug.io.store import GlobalDescriptorReader, GlobalDescriptorWriter
from featplug.methods import build_global_extractor, retrieval, retrieval_conf
from featplug.methods.method_options import resized, with_options
from featplug.stages.extract import (
    computed,
    image_names,
    listed_names,
    made_by,
    not_yet_extracted,
    raise_if_all_skipped,
)
from featplug.stages.pairs import best_pairs
from featplug.stages.shared_options import ReadingOptions
from featplug.utils.batches import Batches
from featplug.utils.progress import progress_bar

logger = logging.getLogger(__name__)
REVISION = 1
"""Revision of what this stage makes of a network's output, see :mod:`featplug.io.artifact`."""
_KIND = "global descriptors"
_SCORE_DECIMALS = 6
"""Beyond these, the order of summation decides over the similarity of equal images."""


@dataclass(frozen=True)
class RetrievalSummary:
    """What a computation of global descriptors did."""

    descriptor_path: Path
    names: list[str]
    """Requested images whose descriptors are in the file now."""
    num_described: int
    num_present: int
    """Images that were in the file before."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images that could not be used, and why."""
    weights: list[dict[str, str]] = field(default_factory=list)
    """Name, origin and sha256 of the weights file or the vocabulary."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RetrieveOptions(ReadingOptions):
    """How images are described as a whole."""

    features: Path | None = None
    """Feature file, ours or hloc's, that vlad sums up."""
    vocabulary: Path | None = None
    """Vocabulary that an earlier run of vlad learned, instead of learning one."""
    weights: str | None = None
    """Weights of netvlad: official, or a file."""
    num_workers: int = 2
    """Threads that read images ahead."""


@dataclass(frozen=True, kw_only=True)
class DatabaseRetrieveOptions(RetrieveOptions):
    """Options of retrieval for programs, which know the names of the database's images."""

    database: Sequence[str] | None = None
    """Images that vlad learns its vocabulary from; by default all that are described."""
    database_may_change: bool = False
    """Whether a vocabulary learned from other images is used, as for a database that grows."""


def global_descriptors(
    conf: str | Mapping[str, Any],
    image_dir: Path | None = None,
    export_dir: Path | None = None,
    image_list: Path | Sequence[str] | None = None,
    descriptor_path: Path | None = None,
    *,
    options: RetrieveOptions | None = None,
    progress: bool = False,
    **changes: Any,
) -> RetrievalSummary:
    """Compute one descriptor of each image; what is in the file already is kept.

    Args:
        conf: a retrieval conf or its name, such as ``netvlad`` or ``vlad``.
        image_dir: folder of the images, for networks.
        export_dir: folder of the file, which is named after the conf's ``output``, preceded by the
            name of the feature file if it is made from one.
        image_list: names, or a text file of them; all images of the folder or the feature file if
            None.
        descriptor_path: the file, instead of ``export_dir``.
        options: how images are described.
        progress: show a progress bar.
        changes: fields of :class:`DatabaseRetrieveOptions` that replace those of ``options``.

    Raises:
        FileNotFoundError: a folder, a list, the features or the weights do not exist.
        ValueError: an argument does not fit, or no image at all could be used.
    """
    start = time.perf_counter()
    options = DatabaseRetrieveOptions(**vars(options or RetrieveOptions()) | changes)
    conf = retrieval_conf(conf) if isinstance(conf, str) else conf
    conf = with_options(retrieval, conf, options.option, "option")
    if export_dir is None and descriptor_path is None:
        raise ValueError("Set export_dir, a folder, or descriptor_path, a file.")
    folder = Path(export_dir or "")
    if conf["model"]["name"] == "vlad":
        if options.features is None:
            raise ValueError("vlad sums up local features; set --features to the file of them.")
        if options.resize_max is not None:
            raise ValueError("vlad reads no images; set --resize-max where features are extracted.")
        features = Path(options.features)
        path = Path(descriptor_path or folder / f"{features.stem}_{conf['output']}.h5")
        summary = _sum_up_features(conf, features, path, image_list, options, progress)
    else:
        if image_dir is None:
            raise ValueError(f"{conf['model']['name']} describes images; set image_dir.")
        path = Path(descriptor_path or folder / f"{conf['output']}.h5")
        conf = resized(conf, options.resize_max)
        summary = _describe_images(conf, Path(image_dir), path, image_list, options, progress)
    return replace(summary, seconds=time.perf_counter() - start)


def _summary(
    path: Path,
    names: Sequence[str],
    num_described: int,
    skipped: dict[str, str],
    weights: list[dict[str, str]],
) -> RetrievalSummary:
    """Return the summary of a computation for the requested images ``names``."""
    raise_if_all_skipped(names, skipped)
    described = [name for name in names if name not in skipped]
    num_present = len(described) - num_described
    return RetrievalSummary(path, described, num_described, num_present, skipped, weights)


def _describe_images(
    conf: Mapping[str, Any],
    image_dir: Path,
    path: Path,
    image_list: Path | Sequence[str] | None,
    options: RetrieveOptions,
    progress: bool,
) -> RetrievalSummary:
    """Run a network on the images that are not in the file."""
    preprocessing = {**DEFAULT_PREPROCESSING, **conf.get("preprocessing", {})}
    names = image_names(image_dir, image_list)
    device = choose_device(options.device)
    weights = {} if options.weights is None else {"weights": options.weights}
    extractor = build_global_extractor({**conf["model"], **weights}).to(device)
    provenance = made_by(
        _KIND, conf["model"]["name"], extractor, {"describe": REVISION}, preprocessing=preprocessing
    )

    def describe(images: Sequence[LoadedImage]) -> list[np.ndarray]:
        pixels = torch.from_numpy(np.stack([image.image for image in images])).to(device)
        return list(extractor({"image": pixels})["global_descriptor"].cpu().numpy())

    batches = Batches(describe, 1, "images")
    skipped: dict[str, str] = {}
    num_described = 0
    with GlobalDescriptorWriter(path, provenance, options.overwrite) as writer:
        todo = not_yet_extracted(writer, image_dir, names, options.orientation)
        images = prefetch_images(
            image_dir,
            todo,
            preprocessing,
            options.num_workers,
            options.max_megapixels,
            options.orientation,
        )
        bar = progress_bar(images, "describe", len(todo), "image", progress)
        for image, descriptor in computed(bar, batches, "describe", image_dir, skipped):
            try:
                origin = image_origin(image.turn, options.orientation)
                writer.write(image.name, descriptor, image.turn.size, image.fingerprint, origin)
            except UnusableDataError as error:  # such as huge numbers
                skipped[image.name] = str(error)
            else:
                num_described += 1
    return _summary(path, names, num_described, skipped, provenance.weights)


def _sum_up_features(
    conf: Mapping[str, Any],
    features: Path,
    path: Path,
    image_list: Path | Sequence[str] | None,
    options: DatabaseRetrieveOptions,
    progress: bool,
) -> RetrievalSummary:
    """Compute VLAD of the images that are not in the file, with a new or an old vocabulary."""
    if path.exists() and features.exists() and path.samefile(features):
        raise ValueError(f"{path} is the feature file; write global descriptors to another file.")
    vlad_options = VLADOptions(**{k: v for k, v in conf["model"].items() if k != "name"})
    with open_features(features) as reader:
        names = _listed(reader.names(), image_list)
        if options.vocabulary is None:
            vocabulary_path = path.with_suffix(".safetensors")
            vocabulary = own_vocabulary(
                vocabulary_path,
                reader,
                options.database or names,
                vlad_options,
                options.overwrite,
                options.database_may_change or options.database is None,
            )
        else:
            vocabulary_path = Path(options.vocabulary)
            vocabulary, _ = Vocabulary.load(vocabulary_path)
        sha256 = file_hash(vocabulary_path)
        record = {"name": vocabulary_path.name, "origin": "learnt", "sha256": sha256}
        provenance = Provenance(
            kind=_KIND,
            conf={"model": {"name": "vlad", **asdict(vocabulary.options)}},
            weights=[record],
            inputs={"features": reader.file_id},
            revisions={"vlad": VLAD_REVISION},
        )
        skipped = {
            name: f"{features} has no features of {name!r}" for name in names if name not in reader
        }
        with GlobalDescriptorWriter(path, provenance, options.overwrite) as writer:
            writer.forget_rewritten(reader)
            todo = [
                name for name in names if name not in skipped and writer.fingerprint(name) is None
            ]
            num_described = 0
            for name in progress_bar(todo, "vlad", len(todo), "image", progress):
                try:
                    descriptors = local_descriptors(reader, name, vocabulary.dimensions)
                    size, fingerprint = reader.known_image_size(name), reader.fingerprint(name)
                except ValueError as error:
                    skipped[name] = str(error)
                    continue
                writer.write(name, vocabulary.encode(descriptors), size, fingerprint)
                num_described += 1
    return _summary(path, names, num_described, skipped, [record])


def pairs_from_retrieval(
    descriptors: Path,
    num_matched: int,
    queries: Sequence[str] | None = None,
    database: Sequence[str] | None = None,
    database_descriptors: Path | Sequence[Path] | None = None,
    min_score: float | None = None,
    allowed: Callable[[str], Collection[str] | None] = lambda _: None,
) -> list[Pair]:
    """Pair every query with the images of a database whose global descriptors are nearest.

    As in hloc, except for ``min_score``, and that equally near images keep the order of the
    database.

    Args:
        descriptors: file of the queries' global descriptors, ours or hloc's.
        num_matched: largest number of images for each query. An image is never paired with itself,
            and one without features, whose descriptor is zero, with none.
        queries: names; all of the file if None.
        database: names; all of ``database_descriptors`` if None.
        database_descriptors: the file or files of the database, with different names in each;
            ``descriptors`` if None.
        min_score: least cosine similarity of a pair; it is 0 in hloc.
        allowed: returns the images that a query may be paired with, or None for all.

    Returns:
        By query, the nearest first.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: an image is not in the files, or they were not made alike.
    """
    if num_matched < 1:
        raise ValueError(f"num_matched must be at least 1, not {num_matched}.")
    if database_descriptors is None:
        database_descriptors = descriptors
    if isinstance(database_descriptors, str | Path):
        database_descriptors = [database_descriptors]
    with ExitStack() as stack:
        query_file = stack.enter_context(open_global_descriptors(descriptors))
        files = [stack.enter_context(open_global_descriptors(p)) for p in database_descriptors]
        for file in files:
            _check_alike(query_file, file)
        names = query_file.names()
        given = names if queries is None else queries
        queries = _present("query", given, dict.fromkeys(names), descriptors)
        file_of = {name: file for file in files for name in file.names()}
        given = list(file_of) if database is None else database
        database = _present("database", given, file_of, *database_descriptors)
        skipped: dict[str, str] = {}
        matrix = descriptor_matrix([(file_of[name], name) for name in database], skipped)
        length = matrix.shape[1]

        def scores(block: slice) -> np.ndarray:
            vectors = np.zeros((len(queries[block]), length), np.float32)
            for row, name in zip(vectors, queries[block], strict=True):
                vector = _descriptor(query_file, name, skipped)
                if vector is not None and len(vector) != length:
                    raise ValueError(
                        f"{descriptors} has descriptors of {len(vector)} dimensions, the "
                        f"database of {length}; compute them with one conf."
                    )
                row[:] = 0 if vector is None else vector
            found = similarities(vectors, matrix)
            for row, name in zip(found, queries[block], strict=True):
                if (images := allowed(name)) is not None:
                    row[[image not in images for image in database]] = -np.inf
            return found if min_score is None else np.where(found >= min_score, found, -np.inf)

        pairs = best_pairs(queries, database, scores, num_matched)
    for reason in skipped.values():
        logger.warning("Paired with no other image: %s", reason)
    return pairs


def similarities(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Return the cosine similarities of global descriptors of unit length.

    Args:
        queries: Q×D.
        database: N×D.

    Returns:
        Q×N, ``-inf`` for images without features, whose descriptor is zero.
    """
    scores = np.round(queries @ database.T, _SCORE_DECIMALS)
    allowed = np.any(queries != 0, axis=1)[:, None] & np.any(database != 0, axis=1)
    return np.where(allowed, scores, -np.inf)


def descriptor_matrix(
    images: Sequence[tuple[GlobalDescriptorReader, str]], skipped: dict[str, str]
) -> np.ndarray:
    """Read the descriptors of a database, N×D; zeros for those that cannot be used."""
    found = [_descriptor(file, name, skipped) for file, name in images]
    lengths = {len(vector) for vector in found if vector is not None}
    if not lengths:
        raise ValueError(next(iter(skipped.values())))
    if len(lengths) > 1:
        raise ValueError(
            "The files of the database have descriptors of different lengths; compute them with "
            "one conf."
        )
    (length,) = lengths
    return np.stack([np.zeros(length, np.float32) if v is None else v for v in found])


def _descriptor(
    file: GlobalDescriptorReader, name: str, skipped: dict[str, str]
) -> np.ndarray | None:
    """Read a descriptor; ``skipped`` gets an image whose descriptor cannot be used, and why."""
    try:
        return file.read_one(name)
    except UnusableDataError as error:
        skipped[name] = str(error)
        return None


def described_images(*files: Path) -> list[str]:
    """Return the names of all images in files of global descriptors, sorted in each file.

    Raises:
        FileNotFoundError: a file does not exist.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_global_descriptors(path)) for path in files]
        return [name for reader in readers for name in reader.names()]


def select_images(
    names: Sequence[str],
    prefix: str | Sequence[str] | None = None,
    image_list: Path | Sequence[str] | None = None,
) -> list[str]:
    """Choose images as hloc does: by prefixes of their names, else by a list, else all.

    Raises:
        FileNotFoundError: the list does not exist.
        ValueError: no name has such a prefix.
    """
    if not prefix:
        return _listed(names, image_list)
    prefixes = (prefix,) if isinstance(prefix, str) else tuple(prefix)
    selected = [name for name in names if name.startswith(prefixes)]
    if not selected:
        raise ValueError(
            f"None of the {len(names)} image names starts with {' or '.join(prefixes)}; they are "
            f"like {next(iter(names), 'none')!r}."
        )
    return selected


def _listed(names: Sequence[str], image_list: Path | Sequence[str] | None) -> list[str]:
    return list(names) if image_list is None else listed_names(image_list)


def _present(
    role: str, names: Sequence[str], known: Mapping[str, object], *files: Path
) -> list[str]:
    missing = [name for name in names if name not in known]
    where = " nor in ".join(map(str, files))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"There is no global descriptor of {missing[0]!r}{more} in {where}; compute it."
        )
    if not known:
        raise ValueError(f"There are no global descriptors in {where}; compute them first.")
    if not names:
        raise ValueError(
            f"There are no {role} images to pair; choose some of those in {where}, such as "
            f"{next(iter(known))!r}."
        )
    return list(names)


def _check_alike(first: GlobalDescriptorReader, second: GlobalDescriptorReader) -> None:
    """Check that descriptors are of one conf; hloc's files do not record theirs."""
    if first.provenance is None or second.provenance is None:
        return
    # Two feature files may have one vocabulary.
    of_second = replace(second.provenance, inputs=first.provenance.inputs)
    difference = first.provenance.difference(of_second, str(second.path))
    if difference:
        raise ValueError(
            f"{first.path} {difference}: their global descriptors cannot be compared; compute both "
            "with one conf."
        )
