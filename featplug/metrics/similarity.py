"""Similarities between two sets of points: least squares, robust, and how certain they are.

Least squares by Umeyama (PAMI 1991), since COLMAP's own estimator fails for points in a plane. The
robust fit is least median of squares (Rousseeuw 1984), which needs no threshold: how far GPS is off
is not known beforehand.
"""

from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import f as f_distribution

FEWEST_POINTS = 3
_FEWEST_ROBUST = 6
"""Fewest points of which some can be told to be wrong."""
_MAX_TRIALS = 300
_MEDIAN_OF_SQUARES = 2.366
"""Median of the squared length of a 3-D vector of normal noise, in variances of a coordinate."""
_INLIER_DEVIATIONS = 3.37
"""Largest residual in the first fit, in standard deviations of a coordinate: 99 % are within."""
_INLIER_PROBABILITY = 0.999
"""Fraction of right points that the final fit keeps."""
_MAX_ROUNDS = 10
_ON_A_LINE = 1e-6
"""Extent across a line below which points lie on it, relative to that along it."""
_NUM_PARAMETERS = 7


@dataclass(frozen=True)
class Similarity:
    """The similarity ``target = scale · rotation · source + translation``."""

    scale: float
    rotation: np.ndarray
    """3×3."""
    translation: np.ndarray
    """3."""

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Return points N×3 in the frame of the target."""
        return self.scale * points @ self.rotation.T + self.translation

    def inverse(self) -> "Similarity":
        """Return the similarity from the target to the source."""
        rotation = self.rotation.T
        return Similarity(1 / self.scale, rotation, -rotation @ self.translation / self.scale)


@dataclass(frozen=True)
class SimilarityFit:
    """A similarity that was fitted to pairs of points, and how well it is known."""

    similarity: Similarity
    inliers: np.ndarray
    """Points that it was fitted to, N bool."""
    residuals: np.ndarray
    """Distances of all points from their targets, N."""
    noise: float
    """Standard deviation of the inliers' coordinates, in the unit of the target."""
    scale_uncertainty: float
    """Standard deviation of the scale, relative to it."""
    rotation_uncertainty: float
    """Standard deviation of the rotation about its least certain axis, in degrees."""


def lie_on_a_line(points: np.ndarray) -> bool:
    """Return whether all points N×3 lie on one line, or at one place."""
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(spread[1] <= _ON_A_LINE * spread[0])


def fit_similarity(source: np.ndarray, target: np.ndarray) -> Similarity:
    """Return the similarity with the least sum of squared distances.

    Args:
        source: N×3, N at least 3, not on a line.
        target: N×3.
    """
    centred, centred_target = source - source.mean(0), target - target.mean(0)
    rotation = Rotation.align_vectors(centred_target, centred)[0].as_matrix()
    turned = centred @ rotation.T
    scale = float(np.sum(turned * centred_target) / np.sum(turned**2))
    return Similarity(scale, rotation, target.mean(0) - scale * rotation @ source.mean(0))


def fit_similarity_robustly(source: np.ndarray, target: np.ndarray, seed: int = 0) -> SimilarityFit:
    """Fit a similarity to points of which up to half are anywhere.

    Args:
        source: N×3, without outliers, such as the camera centres of a model.
        target: N×3, such as their positions by GPS.
        seed: seed of the triples that are tried.

    Raises:
        ValueError: there are fewer than three points, those of one side lie on a line, or the scale
            is not above 0.
    """
    if len(source) < FEWEST_POINTS:
        raise ValueError(f"three positions or more are needed, there are {len(source)}")
    inliers = np.ones(len(source), bool)
    if len(source) >= _FEWEST_ROBUST:
        inliers = _inliers_of_least_median(source, target, np.random.default_rng(seed))
    for _ in range(_MAX_ROUNDS):
        for points in (source[inliers], target[inliers]):
            if lie_on_a_line(points):
                raise ValueError("the positions lie on a line, so that any turn about it fits")
        similarity = fit_similarity(source[inliers], target[inliers])
        if not similarity.scale > 0:
            raise ValueError("the positions contradict the model")
        residuals = np.linalg.norm(similarity.apply(source) - target, axis=1)
        freedom = 3 * int(inliers.sum()) - _NUM_PARAMETERS
        noise = float(np.sqrt(np.sum(residuals[inliers] ** 2) / freedom))
        before, inliers = inliers, _fitting(residuals, inliers, noise, target)
        if (inliers == before).all() or len(source) < _FEWEST_ROBUST:
            break
    inliers = before  # those of the fit
    # The scale's lever arms are distances from the middle, those of a turn distances from its axis.
    scaled = similarity.scale * source[inliers]
    squares = np.linalg.svd(scaled - scaled.mean(0), compute_uv=False) ** 2
    return SimilarityFit(
        similarity,
        inliers,
        residuals,
        noise,
        noise / float(np.sqrt(squares.sum())),
        float(np.degrees(noise / np.sqrt(squares[1:].sum()))),
    )


def _fitting(
    residuals: np.ndarray, inliers: np.ndarray, noise: float, target: np.ndarray
) -> np.ndarray:
    """Return the points whose residual normal noise explains, of which few points say little."""
    num = int(inliers.sum())
    quantile = f_distribution.ppf(_INLIER_PROBABILITY, 3, 3 * num - _NUM_PARAMETERS)
    prediction = 1 + _NUM_PARAMETERS / (3 * num)  # a point that was not fitted is further off
    rounding = _ON_A_LINE * np.ptp(target, axis=0).max()
    return np.asarray(residuals <= noise * np.sqrt(3 * quantile * prediction) + rounding)


def _inliers_of_least_median(
    source: np.ndarray, target: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the points that agree with the similarity whose median residual is least."""
    num = len(source)
    triples = np.array(list(islice(combinations(range(num), 3), _MAX_TRIALS + 1)))
    if len(triples) > _MAX_TRIALS:
        triples = np.array([rng.choice(num, 3, replace=False) for _ in range(_MAX_TRIALS)])
    least, nearest = np.inf, np.full(num, np.inf)
    for triple in triples:
        chosen = triple
        for _ in range(3):  # the nearer half of the points fits better than any three of them
            if lie_on_a_line(source[chosen]) or lie_on_a_line(target[chosen]):
                break
            similarity = fit_similarity(source[chosen], target[chosen])
            squares = np.sum((similarity.apply(source) - target) ** 2, axis=1)
            median = float(np.median(squares))
            if similarity.scale > 0 and median < least:
                least, nearest = median, squares
            chosen = np.argsort(squares, kind="stable")[: num // 2 + 1]
    if np.isinf(least):
        return np.ones(num, bool)
    # Of few points, the nearest ones are nearer than the noise (Rousseeuw and Leroy 1987).
    deviation = np.sqrt(least / _MEDIAN_OF_SQUARES) * (1 + 5 / (num - _NUM_PARAMETERS / 3))
    rounding = _ON_A_LINE * np.ptp(target, axis=0).max()
    return np.asarray(np.sqrt(nearest) <= _INLIER_DEVIATIONS * deviation + rounding)
