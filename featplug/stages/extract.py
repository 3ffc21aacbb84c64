"""The extraction engine: images to a feature file.

What is in the file already is not computed again, and a run can be killed and started again at any
time.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from featplug.api import Feature, Features
from featplug.base import Extractor, GlobalExtractor, Matcher, PairMatcher
from featplug.io.artifact import Provenance, is_old_fingerprint
from featplug.io.feature_arrays import KEYPOINT_AXES, check_axes, selected
from featplug.io.h5file import OtherContentsError
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.image_folder import list_images
from featplug.io.image_origin import image_origin, is_masked_by, is_turned_as
from featplug.io.images import LoadedImage, UnreadableImage, prefetch_images
from featplug.io.masks import Masks, is_visible, mask_of
from featplug.io.names import checked_name, enumerated
from featplug.io.orientation import Orientation
from featplug.io.pair_lists import read_image_list
from featplug.io.store import FeatureReader, FeatureWriter, GlobalDescriptorWriter
from featplug.methods.method_sources import source_records
from featplug.methods.user_classes import recorded_name
from featplug.stages.shared_options import NetworkOptions
from featplug.utils.batches import Batches, grouped
from featplug.utils.errors import described
from featplug.utils.progress import progress_bar

logger = logging.getLogger(__name__)
REVISION = 1
"""Revision of what this stage makes of an extractor's output, see :mod:`featplug.io.artifact`."""
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(NetworkOptions):
    """How features are extracted and stored."""

    as_half: bool = True
    """Store descriptors as float16; keypoints stay float32."""
    half_keypoints: bool = False
    """Store keypoints as float16, too, as hloc does by default, to compare with its files: it moves
    them by up to 1 px on large images."""
    num_workers: int = 2
    """Threads that read images ahead."""


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did."""

    feature_path: Path
    names: list[str]
    """Requested images whose features are in the file now."""
    num_extracted: int
    num_present: int
    """Images that were in the file before."""
    num_keypoints: int
    """Keypoints extracted by this run."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images that could not be used, and why."""
    weights: list[dict[str, str]] = field(default_factory=list)
    """Name, origin and sha256 of each weights file."""
    seconds: float = 0.0


def extract_features(
    conf: str | Mapping[str, Any] | Feature,
    image_dir: Path,
    export_dir: Path | None = None,
    *,
    image_list: Path | Sequence[str] | None = None,
    feature_path: Path | None = None,
    options: ExtractOptions | None = None,
    progress: bool = False,
    **changes: Any,
) -> ExtractSummary:
    """Extract local features of a folder of images; what is in the file already is kept.

    Args:
        conf: a feature conf, its name, or a feature with the same options, loaded before.
        image_dir: folder of the images.
        export_dir: folder of the feature file, which is named after the conf's ``output``.
        image_list: names relative to ``image_dir``, or a text file of them; all images if None.
        feature_path: the feature file, instead of ``export_dir``.
        options: how features are extracted and stored.
        progress: show a progress bar.
        changes: fields of :class:`ExtractOptions` that replace those of ``options``.

    Raises:
        FileNotFoundError: the folder, the list or the weights do not exist.
        ValueError: an argument does not fit, a photograph changed since the file was made, or no
            image at all could be used.
    """
    start = time.perf_counter()
    image_dir = Path(image_dir)
    options = replace(options or ExtractOptions(), **changes)
    feature = None
    if isinstance(conf, Feature):
        feature, conf = conf, conf.conf
    else:
        conf = options.conf(conf)
    if export_dir is None and feature_path is None:
        raise ValueError("Set export_dir, a folder, or feature_path, a file.")
    feature_path = Path(feature_path or Path(export_dir or "") / f"{conf['output']}.h5")
    names = image_names(image_dir, image_list, options.masks)
    feature = feature or Feature(
        conf,
        device=options.device,
        precision=options.precision,
        orientation=options.orientation,
    )
    provenance = features_provenance(feature, options)

    masks = Masks(options.masks, names) if options.masks is not None else None
    with FeatureWriter(feature_path, provenance, options.overwrite) as writer:
        todo = not_yet_extracted(writer, image_dir, names, feature.orientation, masks)
        done = extract_into(writer, feature, image_dir, todo, masks, options, progress)
        raise_if_all_skipped(names, done.skipped)  # here, so that a file to overwrite stays
    return ExtractSummary(
        feature_path,
        [name for name in names if name not in done.skipped],
        done.num_extracted,
        len(names) - len(todo),
        done.num_keypoints,
        done.skipped,
        provenance.weights,
        time.perf_counter() - start,
    )


@dataclass
class Extracted:
    """What was extracted into a file."""

    num_extracted: int = 0
    num_keypoints: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Images that could not be used, and why."""


def extract_into(
    writer: FeatureWriter,
    feature: Feature,
    image_dir: Path,
    names: Sequence[str],
    masks: Masks | None,
    options: ExtractOptions,
    progress: bool = False,
) -> Extracted:
    """Extract the features of images into an open file.

    Args:
        writer: the file.
        feature: the feature.
        image_dir: folder of the images.
        names: the images.
        masks: their masks, if there are any.
        options: how features are extracted and stored.
        progress: show a progress bar.
    """

    def extract(images: Sequence[LoadedImage]) -> list[Features]:
        return feature.extract_preprocessed(
            [image.image for image in images], [image.turn for image in images]
        )

    done = Extracted()
    hidden = []
    images = prefetch_images(
        image_dir,
        names,
        feature.preprocessing,
        options.num_workers,
        options.max_megapixels,
        feature.orientation,
    )
    bar = progress_bar(images, "extract", len(names), "image", progress)
    batches = Batches(extract, options.batch_size, "images")
    for image, features in computed(bar, batches, "extract", image_dir, done.skipped):
        try:
            arrays = _visible_arrays(image, features, masks, feature)
        except ValueError as error:  # such as a mask of another size
            done.skipped[image.name] = str(error)
            continue
        if len(features) and not len(arrays["keypoints"]):
            hidden.append(image.name)
        try:
            writer.write(
                image.name,
                as_stored(arrays, options),
                image.original_size,
                features.detection_noise,
                image.fingerprint,
                image_origin(image.turn, feature.orientation, mask_of(masks, image.name)),
            )
        except UnusableDataError as error:  # such as descriptors too large for float16
            done.skipped[image.name] = str(error)
            continue
        done.num_keypoints += len(arrays["keypoints"])
        done.num_extracted += 1
    if hidden:
        logger.warning(
            "%s: %d images have no keypoints outside the black of their masks: %s.",
            options.masks,
            len(hidden),
            enumerated(hidden),
        )
    return done


def features_provenance(feature: Feature, options: ExtractOptions) -> Provenance:
    """Return the provenance of what a feature extracts with options."""
    return made_by(
        "features",
        feature.name,
        feature.extractor,
        {"extract": REVISION},
        preprocessing=feature.preprocessing,
        as_half=options.as_half,
        precision=options.precision,
        **({"half_keypoints": True} if options.half_keypoints else {}),
    )


def made_by(
    kind: str,
    name: str,
    method: Extractor | GlobalExtractor | Matcher | PairMatcher,
    stage_revision: Mapping[str, int],
    **conf: Any,
) -> Provenance:
    """Return the provenance of what a method computes, with its name, code and weights.

    ``stage_revision`` maps the stage to its revision; ``conf`` is what else decides over the
    contents.
    """
    return Provenance(
        kind,
        {"model": {"name": recorded_name(name), **method.settings}, **conf},
        weights_files(method),
        revisions={**method.revisions, **stage_revision},
        methods=source_records(method),
    )


def weights_files(
    method: Extractor | GlobalExtractor | Matcher | PairMatcher,
) -> list[dict[str, str]]:
    """Return name, origin and sha256 of each weights file that a method has loaded."""
    return [
        {"name": record.name, "origin": record.origin, "sha256": record.sha256}
        for record in method.weights_records
    ]


def computed(
    images: Iterable[LoadedImage | UnreadableImage],
    batches: Batches[LoadedImage, Result],
    verb: str,
    image_dir: Path,
    skipped: dict[str, str],
) -> Iterator[tuple[LoadedImage, Result]]:
    """Yield images with what is computed of each; ``skipped`` gets the others, and why.

    ``verb`` and ``image_dir``, the folder of the images, are for messages.
    """

    def readable() -> Iterator[LoadedImage]:
        for image in images:
            if isinstance(image, UnreadableImage):
                skipped[image.name] = image.reason
            else:
                yield image

    for group in grouped(readable(), lambda image: image.image.shape, batches.size):
        for image, result in batches.results(group):
            if isinstance(result, Exception):  # whatever a method raises, the others go on
                reason = described(result)
                skipped[image.name] = f"Cannot {verb} {image_dir / image.name}: {reason}"
            else:
                yield image, result


def raise_if_all_skipped(names: Sequence[str], skipped: Mapping[str, str]) -> None:
    """Check that at least one image could be used.

    Raises:
        ValueError: none could.
    """
    if skipped and len(skipped) == len(names):
        first = next(iter(skipped.values()))
        raise ValueError(f"None of the {len(names)} images could be used; the first: {first}")


def image_names(
    image_dir: Path, image_list: Path | Sequence[str] | None, masks: Path | None = None
) -> list[str]:
    """List the images asked for: those of a list or a text file of names, or all of a folder.

    Raises:
        FileNotFoundError: the folder or the file does not exist.
        ValueError: there is no image, or a name that cannot be used.
    """
    if image_list is None:
        return list_images(image_dir, masks)
    if not image_dir.is_dir():
        raise FileNotFoundError(f"There is no image folder {image_dir}.")
    return listed_names(image_list)


def listed_names(image_list: Path | Sequence[str]) -> list[str]:
    """Return the normal forms of names, or of those in a text file, each once.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a name cannot be used.
    """
    if isinstance(image_list, str | Path):
        return read_image_list(Path(image_list))
    return list(dict.fromkeys(map(checked_name, image_list)))


def _visible_arrays(
    image: LoadedImage, features: Features, masks: Masks | None, feature: Feature
) -> dict[str, np.ndarray]:
    """Return the arrays of the keypoints that the mask of an image leaves.

    Raises:
        ValueError: the mask does not fit the image, or the feature has an array of unknown axis.
    """
    arrays = features.arrays()
    mask = None if masks is None else masks.read(image.name, image.turn)
    if mask is None:
        return arrays
    axes = {**KEYPOINT_AXES, **feature.extractor.keypoint_axes}
    check_axes(arrays, axes, type(feature.extractor).__name__)
    return selected(arrays, is_visible(mask, features.keypoints), axes)


def not_yet_extracted(
    writer: FeatureWriter | GlobalDescriptorWriter,
    image_dir: Path,
    names: Sequence[str],
    orientation: Orientation,
    masks: Masks | None = None,
) -> list[str]:
    """List the images that are not in the file, or have another mask there.

    Raises:
        OtherContentsError: a photograph was exchanged since the file was made, or turned otherwise
            when it was.
    """
    todo = []
    for name in names:
        path = image_dir / name
        if writer.fingerprint(name) is None:
            todo.append(name)
        elif reason := other_photograph(writer, name, path):
            raise OtherContentsError(reason)
        elif path.is_file() and not is_turned_as(writer, name, path, orientation):
            raise OtherContentsError(turned_otherwise(path, writer.path, orientation))
        elif not is_masked_by(writer, name, mask_of(masks, name)):
            todo.append(name)
    return todo


def turned_otherwise(path: Path, made: Path, orientation: Orientation) -> str:
    """Return the sentence for a photograph that a file was made from, but turned otherwise."""
    other = "stored" if orientation == "exif" else "exif"
    return (
        f"{made} was made with --orientation {other}, this run has {orientation}, and EXIF turns "
        f"{path}"
    )


def other_photograph(
    store: FeatureReader | FeatureWriter | GlobalDescriptorWriter, name: str, path: Path
) -> str | None:
    """Return the reason if a photograph is not the one that an image in a file was made from."""
    if not path.is_file() or store.is_made_from(name, path):
        return None
    or_same = ""
    if is_old_fingerprint(store.fingerprint(name) or ""):
        or_same = ", or was copied since: a file of featplug 0.1 cannot distinguish the two"
    return f"{path} is another photograph than the one {store.path} was made from{or_same}"


def as_stored(arrays: Mapping[str, np.ndarray], options: ExtractOptions) -> dict[str, np.ndarray]:
    """Return the arrays of an image as a feature file stores them."""

    def stored(key: str, value: np.ndarray) -> np.ndarray:
        # Descriptors only: float16 would round keypoints to 1 or 2 px on large images.
        is_halved = options.half_keypoints or (options.as_half and key.endswith("descriptors"))
        return value.astype(np.float16) if is_halved and value.dtype == np.float32 else value

    return {key: stored(key, value) for key, value in arrays.items()}
