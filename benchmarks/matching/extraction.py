"""Features of a data set's images, kept between runs, and their matching pair by pair."""

import logging
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.choices import KeypointOptions
from benchmarks.matching.image_pairs import PairSet
from featplug.api import Matches, found_matches
from featplug.base import Matcher, choose_device
from featplug.io.h5file import OtherContentsError
from featplug.io.store import FeatureReader
from featplug.methods import build_matcher, feature_conf, matcher_conf
from featplug.stages.extract import ExtractSummary, extract_features
from featplug.stages.matcher_inputs import MatcherInputs

logger = logging.getLogger(__name__)


def extract_cached(
    options: KeypointOptions,
    feature: str,
    pair_set: PairSet,
    max_keypoints: int | None,
    stem: str,
    progress: bool = False,
) -> ExtractSummary:
    """Extract the features of pairs that ``features/STEM.h5`` of the output folder lacks.

    A file of another conf, other weights or other images is kept and reported; the features are
    then in ``STEM-2.h5``, ``STEM-3.h5``, ….

    Raises:
        FileNotFoundError: the weights are missing.
        ValueError: no image could be used, or an option does not fit.
    """
    names_of_files = chain([stem], (f"{stem}-{number}" for number in count(2)))
    while True:
        try:
            return extract_features(
                feature,
                pair_set.folder,
                feature_path=options.output_dir / "features" / f"{next(names_of_files)}.h5",
                image_list=pair_set.names,
                max_keypoints=max_keypoints,
                weights=options.weights_of(feature),
                device=options.device,
                progress=progress,
            )
        except OtherContentsError as other:
            logger.info("%s; it is kept, and not used for this run", other.difference)


def protocol_matcher(feature: str, matcher: str | None, one_way: bool) -> tuple[str, Matcher]:
    """Build the matcher of a protocol, and return its name for tables and the matcher.

    Args:
        feature: name of the feature conf.
        matcher: name of a matcher conf; by default the feature's own, but mutual nearest neighbours
            where that has a ratio test, which no protocol has.
        one_way: leave out the mutual check, so that every keypoint of image 0 has a match.

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
    """Input of the matcher."""


@dataclass(frozen=True)
class FeaturePair:
    """Features of two images, and the matcher of all or some of their keypoints."""

    image0: ImageFeatures
    image1: ImageFeatures
    matcher: Matcher

    @property
    def keypoints(self) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints of both images."""
        return self.image0.keypoints, self.image1.keypoints

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) of both images."""
        return self.image0.size, self.image1.size

    def points(self, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
        """Return the matched keypoints, K×2 of each image."""
        index0, index1 = matches.indices.T
        return self.image0.keypoints[index0], self.image1.keypoints[index1]

    def match(self, keep0: np.ndarray | None = None, keep1: np.ndarray | None = None) -> Matches:
        """Match the keypoints of both images at some indices, or all of them."""
        keep0 = np.arange(len(self.image0.keypoints)) if keep0 is None else keep0
        keep1 = np.arange(len(self.image1.keypoints)) if keep1 is None else keep1
        if min(len(keep0), len(keep1)) == 0:
            return Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
        result = self.matcher.match_pair(
            self._selected(self.image0, keep0), self._selected(self.image1, keep1)
        )
        matches = found_matches(result)
        indices = np.stack([keep0[matches.indices[:, 0]], keep1[matches.indices[:, 1]]], axis=1)
        return Matches(indices, matches.scores)

    def _selected(self, image: ImageFeatures, keep: np.ndarray) -> dict[str, Tensor]:
        if np.array_equal(keep, np.arange(len(image.keypoints))):
            return image.tensors
        return self.matcher.select(image.tensors, torch.from_numpy(keep))


class PairReader(FeatureReader):
    """Reader of the features of pairs, which keeps the first image for the next pair."""

    def __init__(
        self, path: Path, matcher: Matcher, device: str | None = None, image_dir: Path | None = None
    ) -> None:
        super().__init__(path)
        torch_device = choose_device(device)
        self._matcher = matcher.to(torch_device)
        self._inputs = MatcherInputs(self, self._matcher, torch_device, image_dir)
        self._last: dict[str, ImageFeatures] = {}

    def read_pair(self, name0: str, name1: str) -> FeaturePair:
        """Read a pair.

        Raises:
            ValueError: an image is not in the file, or lacks an array that the matcher needs.
        """
        names = (name0, name1)
        self._last = {name: self._last.get(name) or self._read_image(name) for name in names}
        return FeaturePair(self._last[name0], self._last[name1], self._matcher)

    def _read_image(self, name: str) -> ImageFeatures:
        scores = self.read(name, ("scores",))["scores"].astype(np.float64)
        return ImageFeatures(
            self.keypoints(name).astype(np.float64),
            scores,
            self.image_size(name),
            self._inputs.read(name),
        )
