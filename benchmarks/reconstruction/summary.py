"""Console tables of a run: the features on each scene, mean and spread over the seeds."""

from collections.abc import Mapping, Sequence

from benchmarks.console import NOTHING, mean_and_spread, table_lines
from benchmarks.record import Row, Run

_MODELS = {
    "keypoints": ("mean_keypoints", 0),
    "pairs": ("verified_pairs", 0),
    "inliers": ("inlier_matches", 0),
    "registered": ("registered_images", 0),
    "points": ("sparse_points", 0),
    "observations": ("observations", 0),
    "track": ("mean_track_length", 2),
    "obs/image": ("mean_observations_per_image", 0),
    "error px": ("mean_reprojection_error", 3),
    "dense points": ("dense_points", 0),
}
"""Head to the metric, or the stage, and its number of decimals."""
_SUBSETS = {
    "mAA 10°": ("pose_maa_10", 3),
    "mAA 5°": ("pose_maa_5", 3),
    "AUC 3°": ("pose_auc_3", 3),
    "AUC 5°": ("pose_auc_5", 3),
    "AUC 10°": ("pose_auc_10", 3),
    "registered": ("registered_fraction", 3),
    "without model": ("sets_without_model", 3),
    "points": ("sparse_points", 0),
    "track": ("mean_track_length", 2),
    "error px": ("mean_reprojection_error", 3),
}
"""The same for subsets of a scene."""
_ERRORS_AND_COSTS = {
    "position median": ("median_position_error", 4),
    "position mean": ("mean_position_error", 4),
    "position largest": ("max_position_error", 4),
    "rotation median": ("median_rotation_error", 3),
    "rotation mean": ("mean_rotation_error", 3),
    **{f"{stage} s": (stage, 1) for stage in ("extract", "match", "verify", "map", "dense")},
    "peak MiB": ("peak memory", 0),
}


def _figures(row: Row) -> dict[str, float]:
    """Return all figures of a row: metrics, seconds of stages, and the largest memory."""
    figures = {name: entry["value"] for name, entry in row.metrics.items()}
    figures |= {name: stage["seconds"] for name, stage in row.stages.items()}
    peaks = [stage["peak_memory_mib"] for stage in row.stages.values()]
    return figures | ({"peak memory": max(peaks)} if peaks else {})


def run_lines(run: Run) -> list[str]:
    """Return the tables of a run, as lines of text."""
    lines = []
    for scene in dict.fromkeys(row.dataset for row in run.rows):
        rows = [row for row in run.rows if row.dataset == scene]
        seeds = list(dict.fromkeys(row.seed for row in rows))
        lines.append(_heading(scene, run, rows, seeds))
        if any("pose_maa_10" in row.metrics for row in rows):
            lines += [*_table(rows, _SUBSETS, with_matcher=True), ""]
            continue
        lines += [
            *_table(rows, _MODELS, with_matcher=True),
            "",
            *_table(rows, _ERRORS_AND_COSTS),
            "",
        ]
    measures_scenes = any("pose_maa_10" not in row.metrics for row in run.rows)
    if measures_scenes and not run.options.get("dense"):
        lines.append("dense points: not requested; --dense makes them where COLMAP has CUDA")
    return lines


def _heading(scene: str, run: Run, rows: Sequence[Row], seeds: Sequence[int | None]) -> str:
    images = run.data[scene].get("images")
    text = f"{scene}: mean over scenes" if images is None else f"{scene}: {images} images"
    if len(seeds) > 1:
        text += f", mean ± standard deviation over the seeds {', '.join(map(str, seeds))}"
    errors = [row.metrics.get("median_position_error") for row in rows]
    units = dict.fromkeys(error["unit"] for error in errors if error)
    return text + "".join(
        f"; position errors in {unit}, rotation errors in degrees" for unit in units
    )


def _table(
    rows: Sequence[Row], columns: Mapping[str, tuple[str, int]], with_matcher: bool = False
) -> list[str]:
    cells: list[list[str]] = [["", *columns, *(["matcher"] if with_matcher else [])]]
    for feature, part in dict.fromkeys((row.feature, row.part) for row in rows):
        of_feature = [row for row in rows if (row.feature, row.part) == (feature, part)]
        of_seeds = [_figures(row) for row in of_feature]
        line = [feature if part == "all" else f"{feature}, {part}"]
        for name, decimals in columns.values():
            values = [figures[name] for figures in of_seeds if name in figures]
            line.append(mean_and_spread(values, decimals) if values else NOTHING)
        if with_matcher:
            line.append(of_feature[0].matcher or NOTHING)
        cells.append(line)
    return table_lines(cells)
