"""From measurements to the rows of a run, and to lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.console import short_number, table_lines
from benchmarks.record import Curve, Row
from benchmarks.speed.measure import Case, Figures
from featplug.io.results import metric

PROTOCOL = "speed"
OURS = "featplug"

_UNITS = {
    "megapixels_per_second": "megapixels/s",
    "keypoints_per_second": "keypoints/s",
    "seconds": "s",
    "mib": "MiB",
    "deg": "deg",
    "m": "m",
}
"""A figure's name ends on one of these."""


def case_rows(
    part: str, case: Case, dataset: str, runs: Mapping[str, Sequence[Figures]]
) -> list[Row]:
    """Give a row for each measurement of a case: medians over the repeats.

    Args:
        part: of the data set, what the case is called.
        case: what was measured.
        dataset: name of what it was measured on.
        runs: measurement to its figures, one for each repeat; those that failed are not there.
    """
    medians = {name: median([run["seconds"] for run in of_name]) for name, of_name in runs.items()}
    rows = []
    for name, of_name in runs.items():
        metrics = {
            key: _metric(key, [run[key] for run in of_name])
            for key in of_name[0]
            if key not in ("stages", "curves")
        }
        if name != OURS and medians.get(OURS):
            ratio = medians[name] / medians[OURS]
            metrics["times_our_seconds"] = metric(ratio, "x")
        rows.append(
            Row(
                feature=case.feature if name == OURS else f"{case.feature} ({name})",
                dataset=dataset,
                protocol=PROTOCOL,
                part=part,
                metrics=metrics,
                stages=_stages([run.get("stages", {}) for run in of_name]),
                curves=_curves([run.get("curves", {}) for run in of_name]),
            )
        )
    return rows


def _metric(name: str, values: Sequence[Any]) -> dict[str, Any]:
    if isinstance(values[0], Mapping):
        return metric(median([value["value"] for value in values]), values[0]["unit"])
    unit = next((unit for end, unit in _UNITS.items() if f"_{name}".endswith(f"_{end}")), "")
    return metric(median(values), unit)


def _stages(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        stage: {figure: median([run[stage][figure] for run in runs]) for figure in runs[0][stage]}
        for stage in runs[0]
    }


def _curves(runs: Sequence[Mapping[str, Curve]]) -> dict[str, Curve]:
    curves = {}
    for name, first in runs[0].items():
        heights = zip(*(run[name].y for run in runs), strict=True)
        y = [median(values) for values in heights]
        curves[name] = Curve(first.x, y, first.x_label, first.y_label)
    return curves


def row_lines(row: Row) -> list[str]:
    """Give a row's figures as lines of text: metrics, stages, a column for each point of a curve.

    Curves over the same range share a table.
    """
    metrics = [
        f"{name.replace('_', ' ')} {short_number(entry['value'])} {entry['unit']}".rstrip()
        for name, entry in row.metrics.items()
    ]
    lines = [f"  {row.feature}: {', '.join(metrics)}"]
    tables = {"stages": [["stage", "seconds", "peak MiB"]]}
    for stage, figures in row.stages.items():
        seconds, peak = figures["seconds"], figures["peak_memory_mib"]
        tables["stages"].append([stage, f"{seconds:.2f}", f"{peak:.0f}"])
    for curve in row.curves.values():
        heads = [curve.x_label, *(f"{x:g}" for x in curve.x)]
        cells = [curve.y_label, *map(short_number, curve.y)]
        tables.setdefault(" ".join(heads), [heads]).append(cells)
    return lines + [f"    {line}" for cells in tables.values() for line in table_lines(cells)]
