"""Geometries of two views that guide matching: which keypoints may match which others.

Keypoints are split into blocks: some of image 0 that have similar epipolar lines, or that a
homography maps close to each other, and those of image 1 nearby. Similarities are then dense
products of small matrices.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from featplug.metrics.chance import PARALLAX, Evidence, weigh_fundamental, weigh_homography
from featplug.metrics.epipolar import estimate_fundamental, sampson_errors
from featplug.metrics.homography import (
    estimate_homography,
    homogeneous,
    homography_errors,
    project,
)

LEAST_BAND = 4.0
"""Least width in pixels of the band around a line or place that further matches lie in: the largest
error of a match in verification by default."""
_MARGIN = 2.0
"""Width of a band relative to the error that 99 % of the strongest keypoints' right matches have at
most: the distortion of the others may be larger."""
_NUM_PAIRINGS = 20_000
"""Number of random pairings of matched keypoints that the matches are compared with."""
_INLIER_NOISE = 2.0
"""MAGSAC's threshold in pixels."""
_MAX_TRIALS = 20_000
_BLOCK = 256
"""Number of keypoints of image 0 in a block."""
_LEAST = 256
"""Number of keypoints of image 1 that a block has at least: those that the ratio test compares
with. Within a band of a few pixels there may be one candidate alone, which no test could reject."""

Block = tuple[np.ndarray, np.ndarray]
"""Indices of keypoints of image 0 and of image 1."""


@dataclass(frozen=True)
class Guidance(ABC):
    """A geometry of two views, and how far from it matches may be."""

    matrix: np.ndarray
    """3×3."""
    band: float = LEAST_BAND
    """Largest error of a further match in pixels; see :func:`with_measured_band`."""

    @abstractmethod
    def errors(self, points0: np.ndarray, points1: np.ndarray) -> np.ndarray:
        """Return how far the geometry is from each match of N×2 and N×2 points, in pixels: N."""

    @abstractmethod
    def blocks(self, points0: np.ndarray, points1: np.ndarray) -> Iterator[Block]:
        """Split the matches that are possible for points N0×2 and N1×2.

        Each point of image 0 is in one block, or in none where nothing is near its line or place.
        """


class Epipolar(Guidance):
    """Matches lie on epipolar lines: x1ᵀ F x0 = 0 for the matrix F."""

    def errors(self, points0: np.ndarray, points1: np.ndarray) -> np.ndarray:
        """Return Sampson errors; see :meth:`Guidance.errors`."""
        return sampson_errors(points0, points1, self.matrix)

    def blocks(self, points0: np.ndarray, points1: np.ndarray) -> Iterator[Block]:
        """Split by epipolar lines; see :meth:`Guidance.blocks`.

        Lines are in the order of the pencil: by angle around an epipole in or near the image, by
        intercept where it is far away or at infinity. All lines of a block lie between its first
        and last one, where signed distances from these two differ in sign.
        """
        lines = homogeneous(points0) @ self.matrix.T
        lengths = np.linalg.norm(lines[:, :2], axis=1)
        lines /= np.where(lengths > 0, lengths, np.inf)[:, None]
        centre = points1.mean(0)
        radius = np.linalg.norm(points1 - centre, axis=1).max()
        offsets = lines @ [*centre, 1.0]
        epipole = np.linalg.svd(self.matrix)[0][:, -1]
        towards = epipole[:2] - centre * epipole[2]
        if np.linalg.norm(towards) > 2 * radius * abs(epipole[2]):
            across = np.array([-towards[1], towards[0]]) / np.linalg.norm(towards)
            slopes = lines[:, :2] @ across
            signs = np.where(slopes < 0, -1.0, 1.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                places = -offsets / slopes
        else:
            angles = np.arctan2(lines[:, 1], lines[:, 0])
            signs = np.where(angles < 0, -1.0, 1.0)
            places = np.where(angles < 0, angles + np.pi, angles)
        lines *= signs[:, None]
        (rows,) = np.nonzero((lengths > 0) & (np.abs(offsets) <= radius + self.band))
        rows = rows[np.argsort(places[rows], kind="stable")]
        homogeneous1 = homogeneous(points1)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            first, last = (homogeneous1 @ lines[block[end]] for end in (0, -1))
            outside = np.minimum(np.abs(first), np.abs(last))
            outside[first * last <= 0] = 0
            yield block, _nearest(outside, self.band)


class Planar(Guidance):
    """The matrix maps image 0 to image 1, as of a plane, or of a camera that only turns."""

    def errors(self, points0: np.ndarray, points1: np.ndarray) -> np.ndarray:
        """Return distances in image 1; see :meth:`Guidance.errors`."""
        return homography_errors(points0, points1, self.matrix)

    def blocks(self, points0: np.ndarray, points1: np.ndarray) -> Iterator[Block]:
        """Split by the places that points are mapped to; see :meth:`Guidance.blocks`."""
        mapped = project(points0, self.matrix)
        low, high = points1.min(0) - self.band, points1.max(0) + self.band
        (rows,) = np.nonzero(((mapped >= low) & (mapped <= high)).all(1))
        num_strips = max(1, round((len(rows) / _BLOCK) ** 0.5))
        by_x = rows[np.argsort(mapped[rows, 0], kind="stable")]
        for strip in np.array_split(by_x, num_strips):
            by_y = strip[np.argsort(mapped[strip, 1], kind="stable")]
            for start in range(0, len(by_y), _BLOCK):
                block = by_y[start : start + _BLOCK]
                low, high = mapped[block].min(0), mapped[block].max(0)
                outside = np.maximum(low - points1, points1 - high).clip(0)
                yield block, _nearest(np.linalg.norm(outside, axis=1), self.band)


def _nearest(distances: np.ndarray, band: float) -> np.ndarray:
    """Return the indices of the points within reach of a block, at least some."""
    reach = 2 * band
    if len(distances) > _LEAST:
        reach = max(reach, np.partition(distances, _LEAST)[_LEAST])
    return np.nonzero(distances <= reach)[0]


def with_measured_band(guidance: Guidance, points0: np.ndarray, points1: np.ndarray) -> Guidance:
    """Return a geometry with the band of matched points N×2, of which some may be wrong.

    Right matches are farther from it than the noise of their keypoints where the camera has
    distortion, which neither matrix models. Where matches exceed random pairings of the same
    keypoints the most, a wider band adds no more of them than chance. The band is twice as wide
    as one with 99 % of this excess, and at least :data:`LEAST_BAND`.
    """
    num = len(points0)
    rng = np.random.default_rng(0)
    first = rng.integers(num, size=_NUM_PAIRINGS)
    second = (first + rng.integers(1, num, size=_NUM_PAIRINGS)) % num
    errors, by_chance = (
        np.sort(np.nan_to_num(guidance.errors(*places), nan=np.inf))
        for places in ((points0, points1), (points0[first], points1[second]))
    )
    excess = np.arange(1, num + 1) / num
    excess -= np.searchsorted(by_chance, errors, "right") / _NUM_PAIRINGS
    reached = float(errors[np.argmax(excess >= 0.99 * excess.max())])
    return replace(guidance, band=max(LEAST_BAND, _MARGIN * reached))


def estimate_guidance(
    points0: np.ndarray, points1: np.ndarray
) -> tuple[Guidance | None, Evidence | None]:
    """Estimate the geometry of matched points N×2.

    A homography guides where chance explains the matches off its plane that fit the fundamental
    matrix: these alone say where the epipole is.

    Returns:
        The geometry, None where chance explains it, and the evidence for a fundamental matrix, None
        where there are too few matches.
    """
    fundamental = estimate_fundamental(points0, points1, _INLIER_NOISE, _MAX_TRIALS)
    if fundamental is None:
        return None, None
    evidence = weigh_fundamental(points0, points1, fundamental, LEAST_BAND)
    homography = estimate_homography(points0, points1, _INLIER_NOISE, cv2.USAC_MAGSAC)
    if homography is not None:
        off_plane = ~(homography_errors(points0, points1, homography) <= LEAST_BAND)
        parallax = weigh_fundamental(
            points0[off_plane], points1[off_plane], fundamental, LEAST_BAND, PARALLAX
        )
        plane = weigh_homography(points0, points1, homography, LEAST_BAND)
        if parallax.is_chance and not plane.is_chance:
            return with_measured_band(Planar(homography), points0, points1), plane
    if evidence.is_chance:
        return None, evidence
    return with_measured_band(Epipolar(fundamental), points0, points1), evidence
