"""How well queries were localized, condition by condition, where their true poses are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featplug.io.results import metric
from featplug.metrics.poses import (
    LONG_TERM_THRESHOLDS,
    OLD_NIGHT_THRESHOLDS,
    PoseErrors,
    absolute_pose_errors,
    localization_recall,
)

NIGHT = "night"
"""The condition that older papers measure by other thresholds."""


def truth_of_queries(
    names: Sequence[str], truth: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Pick the true poses of queries, which may stand in the file under their base names.

    Raises:
        ValueError: it has none of them.
    """
    found = {}
    for name in names:
        known = name if name in truth else name.rsplit("/", 1)[-1]
        if known in truth:
            found[name] = truth[known]
    if not found:
        raise ValueError(
            f"The true poses are of none of the queries: they are of {next(iter(truth))!r} and "
            f"others, a query is {names[0]!r}."
        )
    return found


def localization_metrics(
    poses: Mapping[str, np.ndarray],
    conditions: Mapping[str, Sequence[str]],
    truth: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Measure the queries of each condition; those without a pose are failures.

    Args:
        poses: query name to the estimated ``cam_from_world`` 3×4.
        conditions: condition to the names of its queries.
        truth: query name to the true pose; without, only what was localized is counted.

    Returns:
        Metrics with their units, each after its condition's name; medians where at least half of
        the queries have a pose.
    """
    metrics = {}
    for condition, names in conditions.items():
        localized = sum(name in poses for name in names)
        metrics[f"{condition}_queries"] = metric(len(names), "images")
        metrics[f"{condition}_localized_queries"] = metric(localized, "images")
        reference = {name: truth[name] for name in names if name in truth} if truth else {}
        if not reference:
            continue
        thresholds = list(LONG_TERM_THRESHOLDS)
        if condition == NIGHT:
            thresholds = list(dict.fromkeys([*thresholds, *OLD_NIGHT_THRESHOLDS]))
        of_condition = error_metrics(absolute_pose_errors(poses, reference), thresholds)
        metrics |= {f"{condition}_{name}": value for name, value in of_condition.items()}
    return metrics


def error_metrics(errors: PoseErrors, thresholds: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Give the part of queries within each threshold (metres, degrees) and the median errors.

    There are no medians where half of the queries failed.
    """
    recalls = localization_recall(errors, thresholds).tolist()
    metrics = {
        _recall_key(threshold): metric(100 * recall, "%")
        for threshold, recall in zip(thresholds, recalls, strict=True)
    }
    if np.isfinite(np.median(errors.position)):
        metrics["median_position_error"] = metric(float(np.median(errors.position)), "m")
        metrics["median_rotation_error"] = metric(float(np.median(errors.rotation)), "deg")
    return metrics


def _recall_key(threshold: tuple[float, float]) -> str:
    return f"recall_{threshold[0]:g}m_{threshold[1]:g}deg"


def recall_table(metrics: Mapping[str, Any], conditions: Sequence[str]) -> list[str]:
    """Give a table of the metrics, a line for each condition."""
    has_recall = any(f"{c}_{_recall_key(LONG_TERM_THRESHOLDS[0])}" in metrics for c in conditions)
    lines = [f"  {'condition':<16}{'localized':>12}"]
    if has_recall:
        lines[0] += _threshold_heads(LONG_TERM_THRESHOLDS) + f"{'median':>20}"
    for condition in conditions:
        number, total = (
            metrics[f"{condition}_{what}"]["value"] for what in ("localized_queries", "queries")
        )
        line = f"  {condition:<16}{f'{number} of {total}':>12}"
        lines.append(line + _recalls(metrics, condition, LONG_TERM_THRESHOLDS))
        if f"{condition}_median_position_error" in metrics:
            position, rotation = (
                metrics[f"{condition}_median_{what}_error"]["value"]
                for what in ("position", "rotation")
            )
            lines[-1] += f"{f'{position:.3f} m, {rotation:.2f}°':>20}"
    if has_recall and NIGHT in conditions:
        lines.append(f"  {'as papers until 2020':<28}{_threshold_heads(OLD_NIGHT_THRESHOLDS)}")
        lines.append(f"  {NIGHT:<28}{_recalls(metrics, NIGHT, OLD_NIGHT_THRESHOLDS)}")
    return lines


def _threshold_heads(thresholds: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{f'{distance:g} m, {angle:g}°':>14}" for distance, angle in thresholds)


def _recalls(
    metrics: Mapping[str, Any], condition: str, thresholds: Sequence[tuple[float, float]]
) -> str:
    found = [metrics.get(f"{condition}_{_recall_key(threshold)}") for threshold in thresholds]
    values = [entry["value"] for entry in found if entry]
    return "".join(f"{f'{value:.1f} %':>14}" for value in values)
