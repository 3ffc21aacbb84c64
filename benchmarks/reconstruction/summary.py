"""Console tables of a run: the features on each scene, mean and spread over the seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.console import NOTHING, mean_and_spread, table_lines
from benchmarks.record import Row, Run

_Figure = Callable[[Row], float | None]


def _metric(name: str) -> _Figure:
    def value(row: Row) -> float | None:
        entry = row.metrics.get(name)
        return None if entry is None else entry["value"]

    return value


def _seconds(stage: str) -> _Figure:
    def value(row: Row) -> float | None:
        return row.stages.get(stage, {}).get("seconds")

    return value


def _peak_memory(row: Row) -> float | None:
    return max((stage["peak_memory_mib"] for stage in row.stages.values()), default=None)


_MODELS: dict[str, tuple[_Figure, int]] = {
    "keypoints": (_metric("mean_keypoints"), 0),
    "pairs": (_metric("verified_pairs"), 0),
    "inliers": (_metric("inlier_matches"), 0),
    "registered": (_metric("registered_images"), 0),
    "points": (_metric("sparse_points"), 0),
    "observations": (_metric("observations"), 0),
    "track": (_metric("mean_track_length"), 2),
    "obs/image": (_metric("mean_observations_per_image"), 0),
    "error px": (_metric("mean_reprojection_error"), 3),
    "dense points": (_metric("dense_points"), 0),
}
_ERRORS_AND_COSTS: dict[str, tuple[_Figure, int]] = {
    "position median": (_metric("median_position_error"), 4),
    "position mean": (_metric("mean_position_error"), 4),
    "rotation median": (_metric("median_rotation_error"), 3),
    "rotation mean": (_metric("mean_rotation_error"), 3),
    "extract s": (_seconds("extract"), 1),
    "match s": (_seconds("match"), 1),
    "verify s": (_seconds("verify"), 1),
    "map s": (_seconds("map"), 1),
    "dense s": (_seconds("dense"), 1),
    "peak MiB": (_peak_memory, 0),
}


def run_lines(run: Run) -> list[str]:
    """Return the tables of a run, as lines of text."""
    lines = []
    for scene in dict.fromkeys(row.dataset for row in run.rows):
        rows = [row for row in run.rows if row.dataset == scene]
        seeds = list(dict.fromkeys(row.seed for row in rows))
        lines.append(_heading(scene, run, rows, seeds))
        for columns in (_MODELS, _ERRORS_AND_COSTS):
            lines += [*_table(rows, columns), ""]
    if not run.options.get("dense"):
        lines.append("dense points: not requested; --dense makes them where COLMAP has CUDA")
    return lines


def _heading(scene: str, run: Run, rows: Sequence[Row], seeds: Sequence[int | None]) -> str:
    text = f"{scene}: {run.data[scene]['images']} images"
    if len(seeds) > 1:
        text += f", mean ± standard deviation over the seeds {', '.join(map(str, seeds))}"
    errors = [row.metrics.get("median_position_error") for row in rows]
    units = dict.fromkeys(error["unit"] for error in errors if error)
    return text + "".join(
        f"; position errors in {unit}, rotation errors in degrees" for unit in units
    )


def _table(rows: Sequence[Row], columns: dict[str, tuple[_Figure, int]]) -> list[str]:
    cells: list[list[str]] = [["", *columns]]
    for feature in dict.fromkeys(row.feature for row in rows):
        line = [feature]
        for figure, decimals in columns.values():
            values = [figure(row) for row in rows if row.feature == feature]
            known = [value for value in values if value is not None]
            line.append(mean_and_spread(known, decimals) if known else NOTHING)
        cells.append(line)
    return table_lines(cells)
