"""Retrieval: global descriptors of images, and the pairs that look alike.

Descriptors are written as hloc writes them, ``global_descriptor`` in each image's group, so that
its ``pairs_from_retrieval`` reads our files and ours reads its files. A vocabulary of VLAD is kept
as safetensors next to the descriptors, since hloc takes every group of the file for an image.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featplug.base import GlobalExtractor, choose_device
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
from featplug.io.parts.feature_parts import open_features
from featplug.io.store import FeatureReader, GlobalDescriptorWriter
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
from featplug.stages.shared_options import ReadingOptions
from featplug.utils.batches import Batches
from featplug.utils.progress import progress_bar

REVISION = 1
"""Revision of what this stage makes of a network's output, see :mod:`featplug.io.artifact`."""
KIND = "global descriptors"


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
    names = image_names(image_dir, image_list)
    network = load_network(conf, options)
    provenance = network.provenance(conf["model"]["name"])
    with GlobalDescriptorWriter(path, provenance, options.overwrite) as writer:
        todo = not_yet_extracted(writer, image_dir, names, options.orientation)
        skipped = describe_into(writer, network, image_dir, todo, options, progress)
    num_described = len(todo) - len(skipped)
    return _summary(path, names, num_described, skipped, provenance.weights)


@dataclass(frozen=True)
class GlobalNetwork:
    """A network that describes images as a whole, on its device."""

    extractor: GlobalExtractor
    device: torch.device
    preprocessing: Mapping[str, Any]

    def __call__(self, images: Sequence[LoadedImage]) -> list[np.ndarray]:
        """Return the descriptors of images of one size, D each."""
        pixels = torch.from_numpy(np.stack([image.image for image in images])).to(self.device)
        return list(self.extractor({"image": pixels})["global_descriptor"].cpu().numpy())

    def provenance(self, name: str) -> Provenance:
        """Return what makes its descriptors."""
        return made_by(
            KIND, name, self.extractor, {"describe": REVISION}, preprocessing=self.preprocessing
        )


def load_network(conf: Mapping[str, Any], options: RetrieveOptions) -> GlobalNetwork:
    """Load the network of a retrieval conf.

    Raises:
        FileNotFoundError: weights are missing.
        ValueError: an option does not exist.
    """
    device = choose_device(options.device)
    weights = {} if options.weights is None else {"weights": options.weights}
    extractor = build_global_extractor({**conf["model"], **weights}).to(device)
    return GlobalNetwork(
        extractor, device, {**DEFAULT_PREPROCESSING, **conf.get("preprocessing", {})}
    )


def describe_into(
    writer: GlobalDescriptorWriter,
    network: GlobalNetwork,
    image_dir: Path,
    names: Sequence[str],
    options: RetrieveOptions,
    progress: bool = False,
) -> dict[str, str]:
    """Describe images into an open file; return those that could not be, and why."""
    batches = Batches(network, 1, "images")
    skipped: dict[str, str] = {}
    images = prefetch_images(
        image_dir,
        names,
        network.preprocessing,
        options.num_workers,
        options.max_megapixels,
        options.orientation,
    )
    bar = progress_bar(images, "describe", len(names), "image", progress)
    for image, descriptor in computed(bar, batches, "describe", image_dir, skipped):
        try:
            origin = image_origin(image.turn, options.orientation)
            writer.write(image.name, descriptor, image.turn.size, image.fingerprint, origin)
        except UnusableDataError as error:  # such as huge numbers
            skipped[image.name] = str(error)
    return skipped


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
        provenance = replace(
            vlad_provenance(vocabulary, vocabulary_path), inputs={"features": reader.file_id}
        )
        (record,) = provenance.weights
        skipped = {
            name: f"{features} has no features of {name!r}" for name in names if name not in reader
        }
        with GlobalDescriptorWriter(path, provenance, options.overwrite) as writer:
            writer.forget_rewritten(reader)
            todo = [
                name for name in names if name not in skipped and writer.fingerprint(name) is None
            ]
            failed = sum_up_into(writer, reader, vocabulary, todo, progress)
    return _summary(path, names, len(todo) - len(failed), {**skipped, **failed}, [record])


def vlad_provenance(vocabulary: Vocabulary, path: Path) -> Provenance:
    """Return what makes the descriptors of a vocabulary, whose file is ``path``."""
    record = {"name": path.name, "origin": "learnt", "sha256": file_hash(path)}
    conf = {"model": {"name": "vlad", **asdict(vocabulary.options)}}
    return Provenance(KIND, conf, [record], revisions={"vlad": VLAD_REVISION})


def sum_up_into(
    writer: GlobalDescriptorWriter,
    reader: FeatureReader,
    vocabulary: Vocabulary,
    names: Sequence[str],
    progress: bool = False,
) -> dict[str, str]:
    """Sum up local features into an open file; return images that could not be, and why."""
    skipped: dict[str, str] = {}
    for name in progress_bar(names, "vlad", len(names), "image", progress):
        try:
            descriptors = local_descriptors(reader, name, vocabulary.dimensions)
            size, fingerprint = reader.known_image_size(name), reader.fingerprint(name)
        except ValueError as error:
            skipped[name] = str(error)
            continue
        writer.write(name, vocabulary.encode(descriptors), size, fingerprint)
    return skipped


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
