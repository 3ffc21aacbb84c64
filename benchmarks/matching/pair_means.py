"""Means over pairs: the metrics and curves of a row, and the values of each pair behind them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.bootstrap import statistic
from benchmarks.matching.measuring import EPIPOLAR_THRESHOLDS, MEASURES, RIGHT, PairMeasures
from benchmarks.matching.sweep import Swept, precision_curves
from benchmarks.pairs.pair_set import ImagePair
from benchmarks.record import Curve
from featplug.io.metric_table import with_units

THRESHOLDS = tuple(range(1, 11))
"""Thresholds of the matching accuracy in pixels."""
CORNER_THRESHOLDS = (1, 3, 5)
"""Thresholds of the homography accuracy in pixels."""
AMONG = (500, 1000)
"""Numbers of matches, the most certain ones of a pair, among which the right ones are counted in
every table."""
EQUAL_NUMBERS = (50, 100, 200, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000)
"""All such numbers: a table also shows the largest that every method reaches."""
_STEP = 50
"""Matches from one point of the curve of right matches to the next."""


def summarise(
    pairs: Sequence[ImagePair], measures: Sequence[PairMeasures], with_mma: bool = True
) -> tuple[dict[str, dict[str, Any]], dict[str, Curve]]:
    """Return the metrics and curves of a row, which are means over pairs."""
    columns = pair_columns(measures, with_mma)
    names = [name for name in columns if name != "corner_error"]
    place = names.index("mean_matches")
    if "corner_error" in columns:
        names[place:place] = [
            f"homography_{figure}_{threshold}"
            for threshold in CORNER_THRESHOLDS
            for figure in ("accuracy", "auc")
        ]
    means = {name: _figure(name, columns) for name in names}
    counts = _num_keypoints(pairs, measures)
    if counts:
        means["mean_keypoints"] = float(np.mean(counts))
    return with_units(means), _curves(measures, means)


def _figure(name: str, columns: Mapping[str, np.ndarray]) -> float:
    column, function = statistic(name)
    values = columns[column]
    return function(values[~np.isnan(values)])


def pair_columns(measures: Sequence[PairMeasures], with_mma: bool = True) -> dict[str, np.ndarray]:
    """Return the values of each pair, NaN where it has none; the main ones first."""
    columns: dict[str, list[float]] = {}
    for number, measured in enumerate(measures):
        for name, value in _values(measured, with_mma).items():
            columns.setdefault(name, [np.nan] * len(measures))[number] = value
    order = dict.fromkeys([*columns, "mean_matches"])
    order["mean_matches"] = order.pop("mean_matches")
    return {name: np.array(columns[name]) for name in order}


def _values(measured: PairMeasures, with_mma: bool) -> dict[str, float]:
    values = {}
    errors = measured.errors
    if errors is not None and with_mma:
        for threshold in THRESHOLDS:
            values[f"mma_{threshold}"] = float(np.mean(errors <= threshold)) if len(errors) else 0.0
    if errors is not None:
        values["right_matches"] = float(np.sum(errors <= RIGHT))
        values["wrong_matches"] = len(errors) - values["right_matches"]
        right = right_among(measured, np.array(EQUAL_NUMBERS))
        values |= {f"right_among_{n}": float(r) for n, r in zip(EQUAL_NUMBERS, right, strict=True)}
    values |= {name: measured.values[name] for name in MEASURES if name in measured.values}
    if measured.corner_error is not None:
        values["corner_error"] = measured.corner_error
    return values | {"mean_matches": float(len(measured.points[0]))}


def _num_keypoints(pairs: Sequence[ImagePair], measures: Sequence[PairMeasures]) -> list[int]:
    """Return numbers of keypoints of each image.

    An image counts once, or once in each pair where its keypoints were selected for the pair.
    """
    counts: dict[tuple[int | None, str], int] = {}
    for i, (pair, m) in enumerate(zip(pairs, measures, strict=True)):
        for name, number in zip((pair.name0, pair.name1), m.num_keypoints or (), strict=False):
            counts[i if m.selected_keypoints else None, name] = number
    return list(counts.values())


def _curves(measures: Sequence[PairMeasures], means: Mapping[str, float]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    if "mma_1" in means:
        y = [means[f"mma_{threshold}"] for threshold in THRESHOLDS]
        curves["mma"] = Curve([float(t) for t in THRESHOLDS], y, "threshold (px)", "MMA")
    known = [m for m in measures if m.errors is not None]
    if known:
        curves["right_matches"] = _right_matches(known)
    if known and "mma_1" in means:
        curves |= precision_curves([_swept(m) for m in known])
    recalls = [m.recall_curve for m in measures if m.recall_curve is not None]
    if recalls:
        x = [float(t) for t in EPIPOLAR_THRESHOLDS]
        y = np.mean(recalls, axis=0).tolist()
        curves["recall"] = Curve(x, y, "symmetric epipolar distance (px)", "recall")
    return curves


def _swept(measured: PairMeasures) -> Swept:
    """Return the matches of a pair by their scores, where nothing else is known."""
    if measured.swept is not None or measured.errors is None:
        return measured.swept or Swept(*(np.zeros(0, bool),) * 3)
    is_right = measured.errors <= RIGHT
    return Swept(measured.scores, is_right, np.ones(len(is_right), bool))


def right_among(measures: PairMeasures, numbers: np.ndarray) -> np.ndarray:
    """Count the right matches (3 px) among a pair's most certain ones, for numbers of these.

    Of more matches than the pair has, all are counted. Matches of one score count as the mean over
    their orders.
    """
    if measures.errors is None:
        raise ValueError("The errors of the matches are not known.")
    _, group, sizes = np.unique(-measures.scores, return_inverse=True, return_counts=True)
    right = np.bincount(group, measures.errors <= RIGHT, len(sizes))
    ends, totals = (np.append(0, np.cumsum(of_group)) for of_group in (sizes, right))
    return np.interp(numbers, ends, totals)


def _right_matches(measures: Sequence[PairMeasures]) -> Curve:
    """Return the curve of right matches over matches, mean over pairs."""
    most = max(len(m.scores) for m in measures)
    numbers = np.arange(0, max(*AMONG, most) + _STEP, _STEP)
    y = np.mean([right_among(m, numbers) for m in measures], axis=0).tolist()
    x = [float(n) for n in numbers]
    return Curve(x, y, "matches of a pair, most certain first", "right matches (3 px)")
