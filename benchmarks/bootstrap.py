"""How sure a figure of image pairs is, and whether two differ: a bootstrap over pairs.

The pairs of a data set are drawn again, with replacement (Efron and Tibshirani, "An Introduction to
the Bootstrap", 1993, chapters 6 and 12). The standard deviation of a figure over the draws is its
standard error, of which Student's t makes the 95 % interval: with few pairs, such as the five of a
sequence, percentiles of the draws are too narrow.

Where figures have seeds, each pair's value is a mean over them: what seeds change of a pair, such
as the samples of RANSAC, is part of what differs between pairs. A difference of two methods is that
on the same draws of the same pairs, so that hard pairs, which are hard for both, do not count
against it. A mean of scenes is drawn within each of these.

An interval is about other pairs of the same kind. Pairs of one sequence have an image in common;
they are drawn as if they were independent, which makes intervals of such data sets too narrow.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

NUM_DRAWS = 1000
_LARGEST = 100
"""Number of largest values of which a draw has at least one: it lacks all once in 10^43 draws."""
MIN_PAIRS = 5
"""Number of pairs that an interval needs."""
LEVEL = 0.95
"""Level of confidence of an interval."""


@dataclass(frozen=True)
class Estimate:
    """A figure, or a difference of two, and how sure it is."""

    value: float
    half: float
    """Half of the 95 % interval, which is ``value`` ± ``half``."""
    p_value: float
    """Probability, if the true value were 0, of one as far from it as this."""
    num_pairs: int
    num_seeds: int
    """Number of seeds that each pair's values are means over; 1 where there is none."""
    sides: tuple[float, ...] = ()
    """Values of A and B, of which ``value`` is the difference; nothing for a figure alone."""

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends of the interval."""
        return self.value - self.half, self.value + self.half


@dataclass(frozen=True)
class Statistic:
    """A figure of the values of N pairs: a mean of terms, and for an area a small correction."""

    terms: Callable[[np.ndarray], np.ndarray]
    """Function of N values that returns the N terms."""
    limit: float | None = None
    """Threshold of an area under a curve of errors, see :func:`_area`."""

    def __call__(self, values: np.ndarray) -> float:
        """Return the figure of N values."""
        return float(self.of_draws(values, np.ones((1, len(values))))[0])

    def of_draws(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the figures of D draws of N values, D×N numbers of how often each was drawn."""
        figures = counts @ self.terms(values) / len(values)
        if self.limit is None:
            return figures
        below = np.flatnonzero(values < self.limit)
        largest = below[np.argsort(-values[below], kind="stable")][:_LARGEST]
        drawn = counts[:, largest] > 0
        last = values[largest][drawn.argmax(axis=1)] if len(largest) else 0.0
        return figures + np.where(drawn.any(axis=1), last, 0) / (2 * len(values) * self.limit)


def _area(limit: float) -> Statistic:
    """Return the area under the curve of :func:`featplug.metrics.homography.error_auc`.

    The curve is linear between the errors x below the limit t, and level behind the last of them;
    summed by parts, its area over t is Σ (t − x) / (N t) + max x / (2 N t).
    """
    return Statistic(lambda errors: np.where(errors < limit, 1 - errors / limit, 0), limit)


def _at_most(limit: float) -> Statistic:
    return Statistic(lambda errors: (errors <= limit).astype(float))


def _mean_accuracy(largest: float) -> Statistic:
    """Return IMC's mAA: the mean of the accuracies at 1, 2, …, ``largest`` (Jin et al. 2021)."""
    limits = np.arange(1, int(largest) + 1)
    return Statistic(lambda errors: 1 - np.searchsorted(limits, errors, "right") / len(limits))


_MEAN = Statistic(lambda values: values)
_COUNTS = {
    "failed_pairs": ("failed", Statistic(lambda failed: failed * len(failed))),
    "pairs_without_pose": ("pose_error", Statistic(lambda errors: np.isinf(errors) * len(errors))),
}
"""Metric that is a number of pairs to its column, and the number."""
_OF_ERRORS: dict[str, tuple[str, Callable[[float], Statistic]]] = {
    r"homography_auc_(\d+)": ("corner_error", _area),
    r"homography_accuracy_(\d+)": ("corner_error", _at_most),
    r"pose_auc_(\d+)": ("pose_error", _area),
    r"pose_maa_(\d+)": ("pose_error", _mean_accuracy),
}
"""Pattern of a metric to the column of pair values that it is a figure of, and the figure."""


def statistic(metric: str) -> tuple[str, Statistic]:
    """Return the column of pair values that a metric is made from, and the function of it.

    A metric that is a mean over pairs has a column of its own name.
    """
    if metric in _COUNTS:
        return _COUNTS[metric]
    for pattern, (column, make) in _OF_ERRORS.items():
        if found := re.fullmatch(pattern, metric):
            return column, make(float(found[1]))
    return metric, _MEAN


Columns = Mapping[str, np.ndarray]
"""Name to the values of N pairs, as in :class:`benchmarks.pair_values.PairValues`."""


def interval(
    metric: str, seeds: Sequence[Columns], scenes: Sequence[str] | None = None
) -> Estimate | None:
    """Return a metric and its 95 % interval.

    Args:
        metric: name of the metric.
        seeds: values of the same pairs, once for each seed.
        scenes: scene of each pair, for a mean of scenes.

    Returns:
        The mean over seeds and its interval; None where the column is missing, or fewer than
        :data:`MIN_PAIRS` pairs were measured, or a scene has a single one.
    """
    return _estimate(metric, [seeds], scenes)


def difference(
    metric: str, a: Sequence[Columns], b: Sequence[Columns], scenes: Sequence[str] | None = None
) -> Estimate | None:
    """Return the difference A − B of a metric of two methods, and its 95 % interval.

    Args:
        metric: name of the metric.
        a: values of A, once for each seed.
        b: values of B on the same pairs; its seeds need not be those of A.
        scenes: scene of each pair, for a mean of scenes.

    Returns:
        The difference on the pairs that both measured; None as for :func:`interval`.
    """
    return _estimate(metric, [a, b], scenes)


def _estimate(
    metric: str, sides: Sequence[Sequence[Columns]], scenes: Sequence[str] | None
) -> Estimate | None:
    column, function = statistic(metric)
    if not all(column in seed for seeds in sides for seed in seeds):
        return None
    values = [np.array([seed[column] for seed in seeds], dtype=float) for seeds in sides]
    measured = ~np.any([np.isnan(of_side).any(axis=0) for of_side in values], axis=0)
    groups = _groups(measured, None if metric in _COUNTS else scenes)
    num_pairs = int(measured.sum())
    if num_pairs < MIN_PAIRS or min(map(len, groups)) < 2:
        return None
    of_sides, variances = np.zeros(len(sides)), []
    for stream, group in enumerate(groups):
        sampled = np.zeros(NUM_DRAWS)
        for side, (sign, of_side) in enumerate(zip((1, -1), values, strict=False)):
            seeds = [seed[group] for seed in of_side]
            of_sides[side] += np.mean([function(seed) for seed in seeds]) / len(groups)
            drawn = [_sampled(metric, seed.tobytes(), stream) for seed in seeds]
            sampled += sign * np.mean(drawn, axis=0) / len(groups)
        # The draws are of N pairs among N, which have (N − 1) / N of the variance.
        freedom = len(group) - 1
        variances.append((float(np.var(sampled)) * len(group) / freedom, freedom))
    error, freedom_of_all = _combined(variances)
    value = float(of_sides[0] - sum(of_sides[1:]))
    figures = tuple(map(float, of_sides)) if len(sides) > 1 else ()
    counts = num_pairs, max(len(of_side) for of_side in values), figures
    if error <= 1e-12 * abs(value):  # all pairs are alike, as they are by chance in a sign test
        return Estimate(value, 0.0, 1.0 if value == 0 else 2.0 ** (1 - num_pairs), *counts)
    half = error * float(stats.t.ppf((1 + LEVEL) / 2, freedom_of_all))
    p_value = 2 * float(stats.t.sf(abs(value) / error, freedom_of_all))
    return Estimate(value, half, p_value, *counts)


def _groups(measured: np.ndarray, scenes: Sequence[str] | None) -> list[np.ndarray]:
    """Return the indices of the measured pairs, of each scene if there are any."""
    if scenes is None:
        return [np.flatnonzero(measured)]
    names = np.array(scenes)
    return [np.flatnonzero(measured & (names == name)) for name in dict.fromkeys(scenes)]


def _combined(variances: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Return the standard error, and Welch and Satterthwaite's degrees of freedom."""
    total = sum(variance for variance, _ in variances)
    if total == 0:
        return 0.0, 1.0
    return total**0.5, total**2 / sum(variance**2 / freedom for variance, freedom in variances)


@lru_cache(maxsize=2048)  # a method is compared with all others
def _sampled(metric: str, values: bytes, stream: int) -> np.ndarray:
    """Return a metric of each draw of N float64 values, by one of several streams of draws."""
    array = np.frombuffer(values)
    return statistic(metric)[1].of_draws(array, _draws(len(array), stream))


@lru_cache(maxsize=32)
def _draws(num_pairs: int, stream: int) -> np.ndarray:
    """Return how often each draw has each pair, the same for every metric and method: D×N."""
    indices = np.random.default_rng(stream).integers(0, num_pairs, (NUM_DRAWS, num_pairs))
    cells = indices + num_pairs * np.arange(NUM_DRAWS)[:, None]
    counts = np.bincount(cells.ravel(), minlength=cells.size)
    return counts.reshape(indices.shape).astype(float)
