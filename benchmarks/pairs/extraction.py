"""Features of a data set's images, kept between runs."""

import logging
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from benchmarks.pairs.pair_set import PairSet
from featplug.io.h5file import OtherContentsError
from featplug.io.images import read_image
from featplug.io.parts.feature_parts import open_features
from featplug.io.store import FeatureReader
from featplug.stages.extract import extract_features, other_photograph
from featplug.stages.shared_options import NetworkOptions
from pipelines.run_options import FeatureOptions, values_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractedFeatures:
    """The features of a data set's images."""

    path: Path
    """Feature file."""
    skipped: dict[str, str]
    """Images without features, and why."""
    weights: list[dict[str, Any]]
    """Name, origin and sha256 of each weights file."""
    num_reused: int = 0
    """Images whose features an earlier run, or another protocol, had extracted."""


def extract_cached(
    extraction: FeatureOptions,
    pair_set: PairSet,
    folder: Path,
    stem: str,
    progress: bool = False,
) -> ExtractedFeatures:
    """Extract the features of pairs that ``STEM.h5`` of a folder lacks.

    A file of another conf, other weights or other images is kept and reported; the features are
    then in ``STEM-2.h5``, ``STEM-3.h5``, …. A given feature file is used as it is.

    Args:
        extraction: the feature and its options, or the given file.
        pair_set: pairs whose images are extracted.
        folder: folder of the feature files.
        stem: name of the feature file without its suffix.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: the weights are missing.
        ValueError: no image could be used, or an option does not fit.
    """
    if extraction.features is not None:
        return _given(extraction.features, pair_set)
    names_of_files = chain([stem], (f"{stem}-{number}" for number in count(2)))
    while True:
        try:
            summary = extract_features(
                extraction.method.feature,
                pair_set.folder,
                feature_path=folder / f"{next(names_of_files)}.h5",
                image_list=pair_set.names,
                progress=progress,
                **values_of(NetworkOptions, extraction),
            )
        except OtherContentsError as other:
            logger.info("%s; it is kept, and not used for this run", other.difference)
        else:
            return ExtractedFeatures(
                summary.feature_path, summary.skipped, summary.weights, summary.num_present
            )


def _does_not_fit(reader: FeatureReader, name: str, image: Path) -> str | None:
    """Return the reason if an image cannot be read, or has another size than its features."""
    try:
        height, width = read_image(image).shape[:2]  # left out for all methods, if it is damaged
        size = reader.known_image_size(name)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    if size in (None, (width, height)):
        return None
    return (
        f"{reader.path} has features of {name!r} with {size[0]}×{size[1]} pixels, and {image} has "
        f"{width}×{height}; extract them from that image, or give the images that they are of."
    )


def _given(path: Path, pair_set: PairSet) -> ExtractedFeatures:
    """Return what a given file has of the images of pairs."""
    skipped = {}
    with open_features(path) as reader:
        for name in pair_set.names:
            if name not in reader:
                skipped[name] = f"{path} has no features of {name!r}"
            elif reader.fingerprint(name) and (
                reason := other_photograph(reader, name, pair_set.folder / name)
            ):
                skipped[name] = f"{reason}; extract it again"
            elif reason := _does_not_fit(reader, name, pair_set.folder / name):
                skipped[name] = reason
        weights = [] if reader.provenance is None else reader.provenance.weights
        if len(skipped) == len(pair_set.names):
            example = next(iter(reader.names()), "nothing")
            raise ValueError(
                f"{path} has no image of {pair_set.folder}, but for example {example!r}; names are "
                "relative to that folder."
            )
    return ExtractedFeatures(path, skipped, list(weights), len(pair_set.names) - len(skipped))
