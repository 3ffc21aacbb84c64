"""Recalls and errors of localized queries, condition by condition."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tabulate import tabulate

from featplug.io.metric_table import with_units
from featplug.metrics.poses import (
    LONG_TERM_THRESHOLDS,
    PoseErrors,
    absolute_pose_errors,
    localization_recall,
)

Thresholds = Sequence[tuple[float, float]]
"""Pairs of metres and degrees."""


@dataclass(frozen=True)
class RecallRules:
    """Errors within which a query counts as localized."""

    thresholds: Thresholds = LONG_TERM_THRESHOLDS
    """Thresholds of all conditions."""
    older: Mapping[str, Thresholds] = field(default_factory=dict)
    """Condition to the additional thresholds of older papers."""
    until: str = ""
    """Year of the last papers that use the older thresholds."""

    def of_condition(self, condition: str) -> list[tuple[float, float]]:
        """Return all thresholds of a condition, each once."""
        return list(dict.fromkeys([*self.thresholds, *self.older.get(condition, ())]))


def truth_of_queries(
    names: Sequence[str], truth: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Select the true poses of queries, which a file may list under their base names.

    Raises:
        ValueError: no query has a true pose.
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
    truth: Mapping[str, np.ndarray] | None,
    rules: RecallRules,
    failed: Collection[str] = (),
) -> dict[str, Any]:
    """Measure the queries of each condition as the benchmarks do: no pose is a wrong pose.

    Args:
        poses: query name to the estimated ``cam_from_world`` 3×4.
        conditions: condition to the names of its queries; a sole condition has an empty name.
        truth: query name to the true pose; if None, queries are only counted.
        rules: thresholds of the recalls.
        failed: queries that are not localized, whether or not they have a pose.

    Returns:
        Metrics with their units, whose names begin with the condition; medians where at least half
        of the queries have a pose.
    """
    metrics: dict[str, Any] = {}
    for condition, names in conditions.items():
        measured: dict[str, float] = {
            "queries": len(names),
            "localized_queries": sum(name in poses and name not in failed for name in names),
        }
        reference = {name: truth[name] for name in names if name in truth} if truth else {}
        if reference:
            measured["queries_with_true_pose"] = len(reference)
            errors = absolute_pose_errors(poses, reference)
            measured |= _error_metrics(errors, rules.of_condition(condition))
        metrics |= {_key(condition, name): entry for name, entry in with_units(measured).items()}
    return metrics


def _error_metrics(errors: PoseErrors, thresholds: Thresholds) -> dict[str, float]:
    recalls = localization_recall(errors, thresholds).tolist()
    metrics = {
        _recall_name(threshold): 100 * recall
        for threshold, recall in zip(thresholds, recalls, strict=True)
    }
    if np.isfinite(position := np.median(errors.position)):
        metrics["median_position_error"] = float(position)
        metrics["median_rotation_error"] = float(np.median(errors.rotation))
    return metrics


def _key(condition: str, name: str) -> str:
    return f"{condition}_{name}" if condition else name


def _recall_name(threshold: tuple[float, float]) -> str:
    return f"recall_{threshold[0]:g}m_{threshold[1]:g}deg"


def recall_table(
    metrics: Mapping[str, Any], conditions: Sequence[str], rules: RecallRules
) -> list[str]:
    """Return a table of the metrics as lines, one for each condition."""

    def values(condition: str, *names: str) -> list[float]:
        keys = (_key(condition, name) for name in names)
        return [metrics[key]["value"] for key in keys if key in metrics]

    def recalls(condition: str, thresholds: Thresholds) -> list[str]:
        return [f"{recall:.1f} %" for recall in values(condition, *map(_recall_name, thresholds))]

    rows = []
    for condition in conditions:
        num_localized, num_queries = values(condition, "localized_queries", "queries")
        row = [condition, f"{num_localized} of {num_queries}"]
        row += recalls(condition, rules.thresholds)
        if medians := values(condition, "median_position_error", "median_rotation_error"):
            row.append("{:.3f} m, {:.2f}°".format(*medians))
        rows.append(row)
    heads = ["condition", "localized"]
    if any(len(row) > len(heads) for row in rows):
        heads += [*_heads(rules.thresholds), "median"]
    lines = _lines(rows, heads)
    for condition, thresholds in rules.older.items():
        if row := recalls(condition, thresholds):
            heads = [f"thresholds until {rules.until}", *_heads(thresholds)]
            lines += _lines([[condition, *row]], heads)
    return lines


def _heads(thresholds: Thresholds) -> list[str]:
    return [f"{distance:g} m, {angle:g}°" for distance, angle in thresholds]


def _lines(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> list[str]:
    align = ["left", *["right"] * (len(heads) - 1)]
    table = tabulate(rows, heads, "plain", colalign=align, disable_numparse=True)
    return [f"  {line}" for line in table.splitlines()]
