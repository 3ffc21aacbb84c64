"""What protocols measure: the keypoints of two images, and the matches of all or some of them.

Matches are those of a matcher of features, of a match file, or of a matcher of two images, whose
points are keypoints of this pair only.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.pairs.pair_set import ImagePair
from featplug.api.feature_types import Matches, found_matches
from featplug.api.image_matcher import ImageCache, ImageMatcher, PreparedImage
from featplug.base import Matcher, choose_device
from featplug.io.images import MAX_MEGAPIXELS, read_image_size
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.match_parts import open_matches
from featplug.stages.matcher_inputs import MatcherInputs

_IMAGE_BYTES = 256 * 2**20
"""Pixels of images that are kept for the next pairs."""


@dataclass(frozen=True)
class ImageFeatures:
    """Keypoints of an image, and the arrays that a matcher reads."""

    keypoints: np.ndarray
    """N×2 float64 (x, y)."""
    scores: np.ndarray
    """N values; equal ones where they are not known."""
    size: tuple[int, int]
    """(width, height)."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Input of the matcher."""


@dataclass(frozen=True)
class FeaturePair:
    """Features of two images, and the matches of all or some of their keypoints."""

    image0: ImageFeatures
    image1: ImageFeatures
    matcher: Matcher | Matches
    """Matcher, or all matches where these are given."""
    is_detected: bool = True
    """Whether the keypoints were detected in each image alone."""
    known: dict[str, Matches] = field(default_factory=dict)
    """Matches of all keypoints, once they were computed."""
    num_detected: tuple[int, int] | None = None
    """Number of keypoints that were detected, where only the matched ones are here."""

    @property
    def num_keypoints(self) -> tuple[int, int] | None:
        """Number of keypoints of both images; None where none were detected in each alone."""
        if not self.is_detected:
            return self.num_detected
        return len(self.image0.keypoints), len(self.image1.keypoints)

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
        """Match the keypoints of both images at some indices, or all of them.

        Given matches are selected: those of which both keypoints are kept.
        """
        if keep0 is None and keep1 is None:
            if "all" not in self.known:
                self.known["all"] = self._match(*map(_everything, (self.image0, self.image1)))
            return self.known["all"]
        return self._match(
            _everything(self.image0) if keep0 is None else keep0,
            _everything(self.image1) if keep1 is None else keep1,
        )

    def match_by(self, matcher: Matcher, key: str) -> Matches:
        """Match all keypoints by another matcher that reads the same arrays, once for each key."""
        if key not in self.known:
            everything = map(_everything, (self.image0, self.image1))
            self.known[key] = replace(self, matcher=matcher)._match(*everything)
        return self.known[key]

    def _match(self, keep0: np.ndarray, keep1: np.ndarray) -> Matches:
        if isinstance(self.matcher, Matches):
            index0, index1 = self.matcher.indices.T
            kept = np.isin(index0, keep0) & np.isin(index1, keep1)
            indices, scores = self.matcher.indices[kept], self.matcher.scores[kept]
            return Matches.of_keypoints(indices, scores, *self.keypoints)
        if min(len(keep0), len(keep1)) == 0:
            indices, scores = np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
            return Matches.of_keypoints(indices, scores, *self.keypoints)
        sides = (
            _selected(self.matcher, image, keep)
            for image, keep in ((self.image0, keep0), (self.image1, keep1))
        )
        found, scores = found_matches(self.matcher.match_pair(*sides))
        indices = np.stack([keep0[found[:, 0]], keep1[found[:, 1]]], axis=1)
        return Matches.of_keypoints(indices, scores, *self.keypoints)


def featureless_pair(
    sizes: tuple[tuple[int, int], tuple[int, int]], is_detected: bool
) -> FeaturePair:
    """Return a pair as a method that finds nothing would leave it; sizes are (width, height)."""
    nowhere = np.zeros((0, 2))
    image0, image1 = (ImageFeatures(nowhere, np.zeros(0), size) for size in sizes)
    none = Matches.of_keypoints(
        np.zeros((0, 2), np.int64), np.zeros(0, np.float32), nowhere, nowhere
    )
    return FeaturePair(image0, image1, none, is_detected)


def _everything(image: ImageFeatures) -> np.ndarray:
    return np.arange(len(image.keypoints))


def _selected(matcher: Matcher, image: ImageFeatures, keep: np.ndarray) -> dict[str, Tensor]:
    if np.array_equal(keep, _everything(image)):
        return image.tensors
    return matcher.select(image.tensors, torch.from_numpy(keep))


KnownMatches = dict[tuple[str, str], dict[str, Matches]]
"""Pair to :attr:`FeaturePair.known`."""


class MatchedFeatures(ExitStack):
    """Pairs of a feature file, with a matcher or a match file; each image is read once.

    Args:
        features: the feature file.
        matcher: the matcher, or a match file.
        pairs: all pairs that will be read, in their order.
        image_dir: folder of the images, for the sizes that a file lacks.
        known: matches of all keypoints that are known before, which are added to.
        max_keypoints: number of keypoints to keep, the strongest; all if None or -1.
        device: device of the matcher.
    """

    def __init__(
        self,
        features: Path,
        matcher: Matcher | Path | None,
        pairs: Sequence[ImagePair],
        image_dir: Path,
        *,
        known: KnownMatches,
        max_keypoints: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        self._reader = self.enter_context(open_features(features))
        self._matches = self._matcher = None
        if isinstance(matcher, Matcher):
            self._matcher = matcher.to(choose_device(device))
            self._inputs = MatcherInputs(
                self._reader, self._matcher, choose_device(device), image_dir
            )
        elif matcher is not None:
            self._matches = self.enter_context(open_matches(matcher))
            self._matches.check_features(self._reader)
        self._image_dir, self._max_keypoints = image_dir, max_keypoints
        self._known = known
        self._uses = Counter(name for pair in pairs for name in (pair.name0, pair.name1))
        self._images: dict[str, ImageFeatures] = {}
        """Images that later pairs have, too."""

    def read_pair(self, pair: ImagePair) -> FeaturePair:
        """Read a pair.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: a file does not have the pair, or cannot be used.
        """
        image0, image1 = (self._image(name) for name in (pair.name0, pair.name1))
        if self._matcher is not None:
            known = self._known.setdefault((pair.name0, pair.name1), {})
            return FeaturePair(image0, image1, self._matcher, known=known)
        if self._matches is None:
            raise ValueError(f"{self._reader.path} needs a matcher or a match file.")
        num = len(image0.keypoints), len(image1.keypoints)
        matches = Matches.of_keypoints(
            *self._matches.read(pair.name0, pair.name1, num), image0.keypoints, image1.keypoints
        )
        return FeaturePair(image0, image1, matches)

    def _image(self, name: str) -> ImageFeatures:
        image = self._images.get(name) or self._read_image(name)
        self._uses[name] -= 1
        if self._uses[name] > 0:
            self._images[name] = image
        else:
            self._images.pop(name, None)
        return image

    def _read_image(self, name: str) -> ImageFeatures:
        reader, matcher = self._reader, self._matcher
        size = reader.known_image_size(name) or read_image_size(self._image_dir / name)
        keypoints = reader.keypoints(name).astype(np.float64)
        stored = reader.read(name, ["scores"]).get("scores")
        scores = np.ones(len(keypoints)) if stored is None else stored.astype(np.float64)
        if matcher is None:
            return ImageFeatures(keypoints, scores, size)
        image = ImageFeatures(keypoints, scores, size, self._inputs.read(name))
        if self._max_keypoints is None or not 0 <= self._max_keypoints < len(keypoints):
            return image
        strongest = np.sort(np.argsort(-scores, kind="stable")[: self._max_keypoints])
        selected = _selected(matcher, image, strongest)
        return ImageFeatures(keypoints[strongest], scores[strongest], size, selected)


class MatchedImages(ExitStack):
    """Pairs of images, matched by a matcher of two images.

    Args:
        matcher: the matcher.
        image_dir: folder of the images.
    """

    def __init__(self, matcher: ImageMatcher, image_dir: Path) -> None:
        super().__init__()
        self._matcher = matcher
        self._images = ImageCache(matcher, image_dir, _IMAGE_BYTES, MAX_MEGAPIXELS)

    def read_pair(self, pair: ImagePair) -> FeaturePair:
        """Match a pair.

        Raises:
            ValueError: an image cannot be used, or the method broke its contract.
        """
        image0, image1 = self._image(pair.name0), self._image(pair.name1)
        found = self._matcher.match_prepared(image0, image1)
        sides = [
            ImageFeatures(points.astype(np.float64), found.scores, image.turn.size)
            for points, image in ((found.points0, image0), (found.points1, image1))
        ]
        return FeaturePair(sides[0], sides[1], found, is_detected=False)

    def _image(self, name: str) -> PreparedImage:
        image = self._images.load(name)
        if image is None:
            raise ValueError(self._images.unusable[name])
        return image


PairSource = MatchedFeatures | MatchedImages
"""Pairs of a data set, one after the other."""
