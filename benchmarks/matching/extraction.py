"""Features of a data set's images, kept between runs, and their matching pair by pair."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.choices import KeypointOptions
from featplug.api import Matches, found_matches
from featplug.base import KEYPOINT_LAST_KEYS, Matcher, choose_device
from featplug.io.h5file import OtherContentsError
from featplug.io.store import FeatureReader
from featplug.methods import build_matcher, feature_conf, matcher_conf
from featplug.stages.extract import ExtractSummary, extract_features

logger = logging.getLogger(__name__)


def extract_cached(
    options: KeypointOptions,
    feature: str,
    image_dir: Path,
    names: Sequence[str],
    max_keypoints: int | None,
    stem: str,
    progress: bool = False,
) -> ExtractSummary:
    """Extract the features that an earlier run has not left in ``features/`` of the output folder.

    A file of another conf, other weights or other images is kept and reported; the features then go
    to ``STEM-2.h5``, ``STEM-3.h5``, ….

    Args:
        options: weights, device and output folder.
        feature: name of the conf.
        image_dir: folder of the images.
        names: images in that folder.
        max_keypoints: number of keypoints of each image, the strongest by score; the conf's own
            number if None.
        stem: name of the file, without its suffix.
        progress: show a bar.

    Raises:
        FileNotFoundError: the weights are missing.
        ValueError: no image could be used, or an option does not fit.
    """
    for number in count(1):
        name = f"{stem}.h5" if number == 1 else f"{stem}-{number}.h5"
        try:
            return extract_features(
                feature,
                image_dir,
                feature_path=options.output_dir / "features" / name,
                image_list=names,
                max_keypoints=max_keypoints,
                weights=options.weights_of(feature),
                device=options.device,
                progress=progress,
            )
        except OtherContentsError as other:
            logger.info("%s; it is kept, and not used for this run", other.difference)
    raise AssertionError("count does not end")


def protocol_matcher(feature: str, matcher: str | None, one_way: bool) -> tuple[str, Matcher]:
    """Build the matcher of a protocol.

    Args:
        feature: name of the feature conf.
        matcher: name of a matcher conf; by default the feature's own, but mutual nearest neighbours
            where that has a ratio test, which no protocol has.
        one_way: leave out the mutual check, so that every keypoint of image 0 has a match.

    Returns:
        Its name for tables, and the matcher.

    Raises:
        ValueError: the conf does not exist.
    """
    if matcher is None:
        own = feature_conf(feature)["matcher"]
        has_ratio = matcher_conf(own)["model"].get("ratio_threshold") is not None
        matcher = "NN-mutual" if has_ratio else own
    model = matcher_conf(matcher)["model"]
    if one_way:
        return f"{matcher}, one way", build_matcher({**model, "do_mutual_check": False})
    return matcher, build_matcher(model)


@dataclass(frozen=True)
class ImageFeatures:
    """Keypoints of an image, and the arrays that a matcher reads."""

    keypoints: np.ndarray
    """N×2 float64 (x, y)."""
    scores: np.ndarray
    """N values."""
    size: tuple[int, int]
    """(width, height)."""
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class FeaturePair:
    """Two images' features, of which all or some keypoints can be matched."""

    image0: ImageFeatures
    image1: ImageFeatures
    matcher: Matcher

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) of both images."""
        return self.image0.size, self.image1.size

    def points(self, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
        """Return the matched keypoints, K×2 of each image."""
        return (
            self.image0.keypoints[matches.indices[:, 0]],
            self.image1.keypoints[matches.indices[:, 1]],
        )

    def match(self, keep0: np.ndarray | None = None, keep1: np.ndarray | None = None) -> Matches:
        """Match the images.

        Args:
            keep0: indices of the keypoints of image 0 to match; all if None.
            keep1: the same for image 1.
        """
        keep0 = np.arange(len(self.image0.keypoints)) if keep0 is None else keep0
        keep1 = np.arange(len(self.image1.keypoints)) if keep1 is None else keep1
        if min(len(keep0), len(keep1)) == 0:
            return Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
        with torch.no_grad():
            result = self.matcher.match(_columns(self.image0, keep0), _columns(self.image1, keep1))
        matches = found_matches(result)
        indices = np.stack([keep0[matches.indices[:, 0]], keep1[matches.indices[:, 1]]], axis=1)
        return Matches(indices, matches.scores)


def _columns(image: ImageFeatures, keep: np.ndarray) -> dict[str, Tensor]:
    if np.array_equal(keep, np.arange(len(image.keypoints))):
        return image.tensors
    columns = torch.from_numpy(keep)
    return {
        key: value[..., columns] if key in ("descriptors", *KEYPOINT_LAST_KEYS) else value
        for key, value in image.tensors.items()
    }


class PairLoader:
    """Reader of the features of pairs, which keeps the first image for the next pair."""

    def __init__(self, path: Path, matcher: Matcher, device: str | None = None) -> None:
        self._reader = FeatureReader(path)
        self._device = choose_device(device)
        self._matcher = matcher.to(self._device)
        self._last: dict[str, ImageFeatures] = {}

    def __enter__(self) -> PairLoader:
        return self

    def __exit__(self, *error: Any) -> None:
        self._reader.__exit__(None, None, None)

    def load(self, name0: str, name1: str) -> FeaturePair:
        """Read a pair.

        Raises:
            ValueError: an image is not in the file, or lacks an array that the matcher needs.
        """
        self._last = {name: self._last.get(name) or self._read(name) for name in (name0, name1)}
        return FeaturePair(self._last[name0], self._last[name1], self._matcher)

    def _read(self, name: str) -> ImageFeatures:
        required = self._matcher.required_keys
        arrays = self._reader.read(name, (*required, *self._matcher.optional_keys, "scores"))
        missing = [key for key in required if key not in arrays]
        if missing:
            raise ValueError(
                f"{self._reader.path}: {name!r} has no {', '.join(missing)}, which this matcher "
                "needs; use the feature's own matcher."
            )
        scores = arrays.pop("scores").astype(np.float64)
        tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
        # Floats become float32, as the matching engine hands them to matchers.
        tensors = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        return ImageFeatures(
            self._reader.keypoints(name).astype(np.float64),
            scores,
            self._reader.image_size(name),
            {key: value.to(self._device) for key, value in tensors.items()},
        )
