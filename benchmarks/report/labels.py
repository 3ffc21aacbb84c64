"""How benchmarks, data, protocols and metrics are called, and which way metrics are better."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

MINUS = "\N{MINUS SIGN}"
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class MetricLabel:
    """How a metric is shown."""

    title: str
    better: Literal["higher", "lower"] | None = None
    """None where it says nothing about quality."""
    digits: int = 0
    """After the point."""
    unit: str | None = None
    """Short; the record's if None."""
    role: Literal["headline", "main", "detail"] = "detail"
    """Headlines are in the summary too, details only where all columns are shown."""


_BENCHMARKS = {
    "reconstruction": "Reconstruction",
    "matching": "Matching",
    "patches": "Patches",
    "localization": "Localization",
    "speed": "Speed",
}

_DATASETS = {
    "hpatches": "HPatches",
    "oxford": "Oxford affine",
    "rdnim": "RDNIM",
    "wxbs": "WxBS",
    "hpatches-patches": "HPatches patches",
    "rome-patches": "RomePatches",
    "demo-town": "Demo town",
    "demo-room": "Demo room",
    "aachen": "Aachen Day-Night",
    "aachen_v1.1": "Aachen Day-Night v1.1",
    "inloc": "InLoc",
}

_PROTOCOLS = {
    "local-feature-evaluation": "local feature evaluation (Schönberger et al. 2017)",
    "mma-d2net": "MMA on D2-Net's 108 sequences",
    "mma-116": "MMA on all 116 sequences",
    "recall-contextdesc": "ContextDesc's recall at 2.5 px",
    "lisrd-480x640": "LISRD's homographies at 480×640",
    "mtldesc-hpatches": "MTLDesc's scores and homographies",
    "oxford-mma": "MMA of image 1 with the others",
    "oxford-ap": "DOAP's average precision",
    "rdnim": "day and night homographies",
    "wxbs": "wide baselines",
    "phototour-fpr95": "false positives at 95 % recall",
    "hpatches-patches-a": "HPatches' three tasks, split a",
    "rome-patches": "patch retrieval",
    "aachen": "visual localization benchmark",
    "aachen-local-features": "local features challenge",
    "inloc": "indoor visual localization",
    "speed": "time and memory",
    "pipelines.sfm": "as run by pipelines.sfm",
    "pipelines.aachen": "as run by pipelines.aachen",
    "pipelines.inloc": "as run by pipelines.inloc",
}

_METRICS = {
    # reconstruction
    "images": MetricLabel("images"),
    "registered_images": MetricLabel("registered", "higher", 0, "images", "headline"),
    "sparse_points": MetricLabel("sparse points", "higher", 0, "", "headline"),
    "observations": MetricLabel("observations", "higher", 0, "", "main"),
    "mean_track_length": MetricLabel("track length", "higher", 2, "", "headline"),
    "mean_observations_per_image": MetricLabel("observations per image", "higher", 0, "", "main"),
    "mean_reprojection_error": MetricLabel("reprojection error", "lower", 3, "px", "headline"),
    "median_position_error": MetricLabel("median position error", "lower", 4, role="main"),
    "median_rotation_error": MetricLabel("median rotation error", "lower", 3, "°", "main"),
    "mean_position_error": MetricLabel("mean position error", "lower", 4),
    "mean_rotation_error": MetricLabel("mean rotation error", "lower", 3, "°"),
    "max_position_error": MetricLabel("largest position error", "lower", 4),
    "max_rotation_error": MetricLabel("largest rotation error", "lower", 3, "°"),
    "dense_points": MetricLabel("dense points", "higher", 0, "", "main"),
    "verified_pairs": MetricLabel("verified pairs", "higher", 0, "", "main"),
    "inlier_matches": MetricLabel("inlier matches", "higher", 0, "", "main"),
    "matched_pairs": MetricLabel("matched pairs", None, 0, ""),
    "reference_images": MetricLabel("images with true pose", None, 0, ""),
    # matching
    "match_score": MetricLabel("match score", "higher", 3, "", "headline"),
    "repeatability": MetricLabel("repeatability", "higher", 3, "", "main"),
    "precision": MetricLabel("precision", "higher", 3, "", "main"),
    "recall": MetricLabel("recall", "higher", 3, "", "headline"),
    "average_precision": MetricLabel("average precision", "higher", 3, "", "headline"),
    "mean_matches": MetricLabel("matches per pair", None, 0, "", "main"),
    "mean_keypoints": MetricLabel("keypoints per image", None, 0, "", "main"),
    # patches
    "fpr95": MetricLabel("FPR95", "lower", 4, "", "headline"),
    "verification_map": MetricLabel("verification mAP", "higher", 3, "", "headline"),
    "verification_map_balanced": MetricLabel("verification mAP, balanced", "higher", 3, ""),
    "matching_map": MetricLabel("matching mAP", "higher", 3, "", "headline"),
    "retrieval_map": MetricLabel("retrieval mAP", "higher", 3, "", "headline"),
    # localization
    "localized_queries": MetricLabel("localized queries", "higher", 0, "", "main"),
    "queries": MetricLabel("queries", None, 0, ""),
    "queries_with_true_pose": MetricLabel("queries with true pose", None, 0, ""),
    "database_images": MetricLabel("database images", None, 0, ""),
    "scans_used": MetricLabel("scans used", None, 0, ""),
    "matches_that_fit_the_poses": MetricLabel("matches that fit the poses", "higher", 1, "%"),
    # speed
    "seconds": MetricLabel("time", "lower", 3, "s", "headline"),
    "peak_memory_mib": MetricLabel("peak memory", "lower", 0, "MiB", "headline"),
    "megapixels_per_second": MetricLabel("throughput", "higher", 3, "MP/s", "headline"),
    "keypoints_per_second": MetricLabel("keypoints per second", "higher", 0, "", "main"),
    "times_our_seconds": MetricLabel("time over ours", None, 2, "×", "main"),
}

_LONGEST_UNIT = 14
_OF_MODELS = {"sparse_points", "observations", "mean_track_length", "mean_reprojection_error"}

_NUMBERED = (
    ("mma_", "1|5|10", MetricLabel("MMA {}~px", "higher", 3, "", "main")),
    ("mma_", "3", MetricLabel("MMA {}~px", "higher", 3, "", "headline")),
    ("mma_", ".+", MetricLabel("MMA {}~px", "higher", 3, "")),
    ("recall_", "0.5m_2deg|1m_5deg", MetricLabel("within {}~m, {}°", "higher", 1, "%", "main")),
    ("recall_", ".+m_.+deg", MetricLabel("within {}~m, {}°", "higher", 1, "%", "headline")),
    ("homography_accuracy_", "3", MetricLabel("homographies, {}~px", "higher", 3, "", "headline")),
    ("homography_accuracy_", ".+", MetricLabel("homographies, {}~px", "higher", 3, "")),
    ("homography_auc_", ".+", MetricLabel("homography AUC, {}~px", "higher", 3, "")),
)
"""Metrics with numbers in their names: what stands before those, what they look like, the label;
``~`` in it is a space that no line ends at."""

MAIN_PARTS = ("all", "illumination", "viewpoint", "easy", "hard", "tough", "day", "night")
"""Parts that stand in the first table of data with many."""


def metric_label(name: str, unit: str = "", benchmark: str = "") -> MetricLabel:
    """Say how a metric is shown; one that is not known goes under its own name.

    Args:
        name: of the metric.
        unit: as recorded.
        benchmark: that measured it; what a model is like is a detail of localization.
    """
    if name in _METRICS:
        label = _METRICS[name]
        if benchmark == "localization" and name in _OF_MODELS:
            label = replace(label, role="detail")
        return label if label.unit is not None else replace(label, unit=unit)
    for stem, numbers, label in _NUMBERED:
        if re.fullmatch(f"{stem}({numbers})", name):
            title = label.title.format(*_numbers(name)).replace("~", NO_BREAK_SPACE)
            return replace(label, title=title)
    short = unit if len(unit) <= _LONGEST_UNIT else ""  # others explain rather than measure
    return MetricLabel(name.replace("_", " "), digits=3, unit=short, role="main")


def metric_order(names: Iterable[str]) -> list[str]:
    """Sort metrics as tables have them; unknown ones come last, as they came."""
    stems = list(dict.fromkeys(stem for stem, _, _ in _NUMBERED))

    def place(name: str) -> tuple[int, int, list[float]]:
        if name in _METRICS:
            return 1, list(_METRICS).index(name), []
        for index, stem in enumerate(stems):
            if name.startswith(stem):
                return 0, index, [float(number) for number in _numbers(name)]
        return 2, 0, []

    return sorted(names, key=place)


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", name)


def benchmark_title(name: str) -> str:
    """Name of a benchmark."""
    return _BENCHMARKS.get(name, name)


def benchmark_order(name: str) -> int:
    """Place of a benchmark on the page."""
    return list(_BENCHMARKS).index(name) if name in _BENCHMARKS else len(_BENCHMARKS)


def dataset_title(name: str) -> str:
    """Name of a dataset; a scene's is its folder's."""
    if name.startswith("phototour-"):
        return f"PhotoTour {name.removeprefix('phototour-').capitalize()}"
    return _DATASETS.get(name, name)


def protocol_title(name: str) -> str:
    """What a protocol is."""
    return _PROTOCOLS.get(name, name)


def part_order(part: str) -> tuple[int, str]:
    """Place of a part in a table: the usual ones, then others by name."""
    return (MAIN_PARTS.index(part) if part in MAIN_PARTS else len(MAIN_PARTS), part)


def format_value(value: float, digits: int, sign: bool = False) -> str:
    """Write a number as people read it, with groups of thousands and a true minus."""
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if float(text.replace(",", "")) == 0:  # of nothing there is no minus
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def is_better(value: float, other: float, label: MetricLabel) -> bool:
    """Whether a value is better than another, by the metric's direction."""
    return value > other if label.better == "higher" else value < other
