"""Whether chance explains the inliers of an estimated geometry: an a contrario bound.

Moisan and Stival, "A probabilistic criterion to detect rigid point matches between two images and
estimate the fundamental matrix" (IJCV 2004, section 4); Moulon, Monasse and Marlet, "Adaptive
structure from motion with a contrario model estimation" (ACCV 2012, equation 6). A geometry is
accepted where wrong matches alone would be expected to support less than a thousandth of a geometry
so well, over all the minimal samples that RANSAC could draw. How many inliers that takes grows with
the number of matches, with the threshold, and with how densely the keypoints lie.

Two things differ from the papers. The probability that a wrong match fits is not the area of a band
over that of the image: it is measured on the keypoints themselves, paired differently. It is larger
where keypoints lie in a few clusters or the geometry sends everything to one place. And matches
count once where both of their ends are in the same places as another's, because they are right or
wrong together: keypoints of several orientations or scales, points reconstructed twice, dense
matches. Inliers count in the same way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, log10

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import gammaln
from scipy.stats import binom

from featplug.metrics.epipolar import sampson_errors
from featplug.metrics.homography import project

_MOST_FALSE_ALARMS = -3.0
"""Decimal logarithm of the expected number of false alarms above which chance is the explanation.
RANSAC's local optimisation finds better geometries than those of minimal samples, which alone are
counted: of 4,000 sets of 4 to 50 random 2D-3D matches, the most extreme reached -1.3."""
_MOST_SEPARATION = 24.0
"""Largest distance in pixels within which matches count once. It is the largest error of an inlier,
but not where that is so large that few separate places fit into an image (48 pixels in 640).
"""
_NUM_PAIRINGS = 20_000
"""Largest number of pairings that the probability is measured on: 7 % error where it is .01."""


@dataclass(frozen=True)
class MinimalSolver:
    """How many geometries a set of matches can give."""

    sample_size: int
    """Number of matches in a minimal sample."""
    num_models: int
    """Largest number of geometries that fit one sample."""


ESSENTIAL = MinimalSolver(5, 10)
FUNDAMENTAL = MinimalSolver(7, 3)
HOMOGRAPHY = MinimalSolver(4, 1)
PARALLAX = MinimalSolver(2, 1)
"""The epipole of a fundamental matrix from two matches off a plane, whose homography is known."""
ABSOLUTE_POSE = MinimalSolver(3, 4)
ABSOLUTE_POSE_AND_FOCAL_LENGTH = MinimalSolver(4, 10)


@dataclass(frozen=True)
class Evidence:
    """How far the inliers of a geometry exceed what chance explains."""

    num_matches: int
    num_inliers: int
    log_false_alarms: float
    """Decimal logarithm of the expected number of geometries with so many inliers among wrong
    matches."""

    @property
    def is_chance(self) -> bool:
        """Whether wrong matches would be expected to support a geometry so well."""
        return self.log_false_alarms > _MOST_FALSE_ALARMS

    @property
    def reason(self) -> str:
        """The reason to reject the geometry, in words."""
        return f"chance explains the {self.num_inliers} inliers of {self.num_matches} matches"


def weigh_inliers(
    places0: np.ndarray,
    places1: np.ndarray,
    errors: Callable[[np.ndarray, np.ndarray], np.ndarray],
    max_error: float,
    solver: MinimalSolver,
    inliers: np.ndarray | None = None,
) -> Evidence:
    """Weigh the inliers of a geometry against chance.

    Args:
        places0: N×2, the first end of each match, in pixels.
        places1: N×2, the second end, in pixels: of an image point or, for the pose of a camera, of
            the projection of a 3D point; NaN where it has none.
        errors: errors in pixels of matches of the ends with two arrays of indices.
        max_error: largest error of an inlier, in pixels.
        solver: the minimal problem of the geometry.
        inliers: N bool, the inliers that count where they fit; by default all that fit.

    Returns:
        The same for the same input.
    """
    same = np.arange(len(places0))
    fitting = errors(same, same) <= max_error
    if inliers is not None:
        fitting &= inliers
    places = np.column_stack([places0, places1])
    separation = min(max_error, _MOST_SEPARATION)
    distinct = _distinct(places, separation)
    num_supporting = len(_distinct(places[fitting], separation))
    first, second = _pairings(distinct)
    num_fitting = int(np.count_nonzero(errors(first, second) <= max_error))
    probability = (num_fitting + 1) / (len(first) + 1)  # never 0, however few pairings there are
    false_alarms = log_false_alarms(len(distinct), num_supporting, probability, solver)
    return Evidence(len(places0), int(np.count_nonzero(fitting)), false_alarms)


def weigh_fundamental(
    points0: np.ndarray,
    points1: np.ndarray,
    fundamental: np.ndarray,
    max_error: float,
    solver: MinimalSolver = FUNDAMENTAL,
    inliers: np.ndarray | None = None,
) -> Evidence:
    """Weigh the matches that fit a fundamental matrix, by their Sampson errors in pixels.

    Args:
        points0: N×2, points of the matches in image 0.
        points1: N×2, in image 1.
        fundamental: 3×3, with x1ᵀ F x0 = 0.
        max_error: largest error of an inlier, in pixels.
        solver: the minimal problem of the matrix.
        inliers: see :func:`weigh_inliers`.
    """

    def errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return sampson_errors(points0[first], points1[second], fundamental)

    return weigh_inliers(points0, points1, errors, max_error, solver, inliers)


def weigh_homography(
    points0: np.ndarray,
    points1: np.ndarray,
    homography: np.ndarray,
    max_error: float,
    inliers: np.ndarray | None = None,
) -> Evidence:
    """Weigh the matches that a homography maps close to their partners.

    Args:
        points0: N×2, points of the matches in image 0.
        points1: N×2, in image 1.
        homography: 3×3, maps image 0 to image 1.
        max_error: largest error of an inlier in image 1, in pixels.
        inliers: see :func:`weigh_inliers`.
    """
    mapped = project(points0, homography)

    def errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.linalg.norm(mapped[first] - points1[second], axis=1)

    return weigh_inliers(points0, points1, errors, max_error, HOMOGRAPHY, inliers)


def log_false_alarms(
    num_matches: int, num_inliers: int, probability: float, solver: MinimalSolver
) -> float:
    """Return the decimal logarithm of the expected number of false alarms.

    Each of the geometries through minimal samples has as many further inliers with the probability
    of a binomial tail; the papers bound the tail by its first term.

    Args:
        num_matches: number of independent matches.
        num_inliers: number of independent inliers.
        probability: that a wrong match is an inlier.
        solver: the minimal problem.

    Returns:
        The logarithm, infinite where a minimal sample has all inliers.
    """
    rest, more = num_matches - solver.sample_size, num_inliers - solver.sample_size
    if more <= 0:
        return np.inf
    samples = gammaln(num_matches + 1) - gammaln(solver.sample_size + 1) - gammaln(rest + 1)
    tail = binom.logsf(more - 1, rest, probability)
    return float((samples + tail) / log(10)) + log10(solver.num_models)


def _pairings(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of different indices: all of them, or as many as are drawn at random."""
    num = len(indices)
    if num * (num - 1) <= _NUM_PAIRINGS:
        first, second = np.nonzero(~np.eye(num, dtype=bool))
    else:
        rng = np.random.default_rng(0)
        first = rng.integers(num, size=_NUM_PAIRINGS)
        second = (first + rng.integers(1, num, size=_NUM_PAIRINGS)) % num
    return indices[first], indices[second]


def _distinct(places: np.ndarray, distance: float) -> np.ndarray:
    """Return the indices of matches N×4 of which no two are close to each other at both ends.

    Those without a place at one end have one place there.
    """
    finite = np.where(np.isfinite(places), places, -1e6).clip(-1e6, 1e6)
    # At most one of each cell first, because all may be close to each other.
    cells = np.floor(finite / distance).astype(np.int64)
    first = np.sort(np.unique(cells, axis=0, return_index=True)[1])
    keep = np.ones(len(first), dtype=bool)
    close = cKDTree(finite[first]).query_pairs(distance, p=np.inf) if len(first) else set()
    for earlier, later in sorted(close):
        if keep[earlier]:
            keep[later] = False
    return first[keep]
