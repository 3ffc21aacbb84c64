"""The table of metrics: their names in records, which stay, their units, and how to show them.

docs/results.md lists the same names and units for readers of ``results.json``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

Role = Literal["headline", "main", "detail"]


@dataclass(frozen=True)
class Metric:
    """One metric."""

    unit: str
    """Unit in records."""
    meaning: str
    title: str
    """Name in tables; ``{}`` stands for a number of the metric's name, ``~`` for a space that no
    line ends at."""
    better: Literal["higher", "lower"] | None = None
    """Direction of better values; None where a value says nothing about quality."""
    digits: int = 0
    """Number of decimals in tables."""
    role: Role = "detail"
    """Headlines are in summaries too, details only where all columns are shown."""


METRICS: dict[str, Metric] = {
    # matching
    "mma_N": Metric(
        "fraction",
        "Matches within N px of the truth (mean matching accuracy), mean over pairs.",
        *("MMA {}~px", "higher", 3),
    ),
    "recall_DISTANCEm_ANGLEdeg": Metric(
        "%",
        "Queries localized within a distance and an angle of their true poses.",
        *("within {}~m, {}°", "higher", 1, "headline"),
    ),
    "homography_accuracy_N": Metric(
        "fraction",
        "Pairs whose estimated homography moves the corners by N px or less on average.",
        *("homographies, {}~px", "higher", 3),
    ),
    "homography_auc_N": Metric(
        "fraction",
        "Area under the curve of homography_accuracy up to N px.",
        *("homography AUC, {}~px", "higher", 3),
    ),
    # reconstruction
    "images": Metric("images", "Photographs of the scene.", "images"),
    "registered_images": Metric(
        "images", "Images in the model.", "registered", "higher", role="headline"
    ),
    "sparse_points": Metric(
        "points", "3D points of the model.", "sparse points", "higher", role="headline"
    ),
    "observations": Metric(
        "observations", "Keypoints that see a 3D point.", "observations", "higher", role="main"
    ),
    "mean_track_length": Metric(
        "observations per point", "Mean over 3D points.", "track length", "higher", 2, "headline"
    ),
    "mean_observations_per_image": Metric(
        "observations per image",
        "Mean over registered images.",
        *("observations per image", "higher", 0, "main"),
    ),
    "mean_reprojection_error": Metric(
        "px", "Mean over observations.", "reprojection error", "lower", 3, "headline"
    ),
    "median_position_error": Metric(
        "m",
        "Distance of camera centres from the true ones, median over images; in the unit of the "
        "true poses where that is not the metre.",
        *("median position error", "lower", 4, "main"),
    ),
    "median_rotation_error": Metric(
        "deg",
        "Angle between cameras and the true ones, median over images.",
        *("median rotation error", "lower", 3, "main"),
    ),
    "mean_position_error": Metric("m", "The same, mean.", "mean position error", "lower", 4),
    "mean_rotation_error": Metric("deg", "The same, mean.", "mean rotation error", "lower", 3),
    "max_position_error": Metric("m", "The same, largest.", "largest position error", "lower", 4),
    "max_rotation_error": Metric("deg", "The same, largest.", "largest rotation error", "lower", 3),
    "dense_points": Metric(
        "points", "Points of multi-view stereo.", "dense points", "higher", role="main"
    ),
    "verified_pairs": Metric(
        "pairs", "Pairs with a two-view geometry.", "verified pairs", "higher", role="main"
    ),
    "inlier_matches": Metric(
        "matches", "Matches of all two-view geometries.", "inlier matches", "higher", role="main"
    ),
    "matched_pairs": Metric("pairs", "Pairs with matches.", "matched pairs"),
    "reference_images": Metric("images", "Images with a true pose.", "images with true pose"),
    # matching
    "match_score": Metric(
        "fraction",
        "Right matches (3 px) per keypoint in the shared view, mean over pairs.",
        *("match score", "higher", 3, "headline"),
    ),
    "repeatability": Metric(
        "fraction",
        "Keypoints that are found in both images (3 px), mean over pairs.",
        *("repeatability", "higher", 3, "main"),
    ),
    "precision": Metric(
        "fraction",
        "Matches within 3 px, mean of both directions and over pairs.",
        *("precision", "higher", 3, "main"),
    ),
    "recall": Metric(
        "fraction",
        "Right matches among those that could be found, mean over pairs.",
        *("recall", "higher", 3, "headline"),
    ),
    "average_precision": Metric(
        "fraction",
        "Area under the precision-recall curve of matches (3 px), mean over pairs.",
        *("average precision", "higher", 3, "headline"),
    ),
    "mean_matches": Metric("matches per pair", "Mean over pairs.", "matches per pair", role="main"),
    "mean_keypoints": Metric(
        "keypoints per image", "Mean over images.", "keypoints per image", role="main"
    ),
    # patches
    "fpr95": Metric(
        "fraction",
        "Pairs that do not match and are accepted where 95 % of those that match are.",
        *("FPR95", "lower", 4, "headline"),
    ),
    "verification_map": Metric(
        "fraction",
        "Average precision of patch verification with five times as many negatives as positives.",
        *("verification mAP", "higher", 3, "headline"),
    ),
    "verification_map_balanced": Metric(
        "fraction", "The same with all pairs.", "verification mAP, balanced", "higher", 3
    ),
    "matching_map": Metric(
        "fraction",
        "Average precision of patch matching, mean over pairs of images.",
        *("matching mAP", "higher", 3, "headline"),
    ),
    "retrieval_map": Metric(
        "fraction",
        "Average precision of patch retrieval, mean over queries.",
        *("retrieval mAP", "higher", 3, "headline"),
    ),
    # localization
    "localized_queries": Metric(
        "images", "Queries with a pose.", "localized queries", "higher", role="main"
    ),
    "queries": Metric("images", "Queries of the data set.", "queries"),
    "queries_with_true_pose": Metric("images", "Those with truth.", "queries with true pose"),
    "database_images": Metric("images", "Images of the model.", "database images"),
    "scans_used": Metric("images", "Scans that queries are localized in.", "scans used"),
    "matches_that_fit_the_poses": Metric(
        "%",
        "Matches of database images that agree with their known poses.",
        *("matches that fit the poses", "higher", 1),
    ),
    # speed
    "seconds": Metric("s", "Median over the repeats.", "time", "lower", 3, "headline"),
    "seconds_spread": Metric("s", "Interquartile range over the repeats.", "time, spread", None, 3),
    "peak_memory_mib": Metric(
        "MiB", "Largest resident memory of the process.", "peak memory", "lower", 0, "headline"
    ),
    "megapixels": Metric("megapixels", "Pixels of the image.", "megapixels", None, 2),
    "megapixels_per_second": Metric(
        "megapixels/s", "Size of the image over time.", "throughput", "higher", 3, "headline"
    ),
    "keypoints": Metric("keypoints", "Keypoints that are extracted or matched.", "keypoints"),
    "keypoints_per_second": Metric(
        "keypoints/s", "Keypoints over time.", "keypoints per second", "higher", role="main"
    ),
    "times_our_seconds": Metric(
        "x", "Time of a peer over that of featplug.", "time over ours", None, 2, "main"
    ),
}
"""Name to metric, in the order of tables; capitals of a name stand for numbers."""

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("mma_1", "mma_5", "mma_10"), "main"),
    **dict.fromkeys(("recall_0.5m_2deg", "recall_1m_5deg"), "main"),
    **dict.fromkeys(("mma_3", "homography_accuracy_3"), "headline"),
}
"""Roles of metrics with some numbers."""
_NUMBER = r"\d+(?:\.\d+)?"


def find_metric(name: str) -> Metric | None:
    """Look a metric up, with the numbers of its name in its title; None where it is unknown."""
    metric = METRICS.get(generic_name(name))
    if metric is None:
        return None
    title = metric.title.format(*numbers(name)).replace("~", "\N{NO-BREAK SPACE}")
    return replace(metric, title=title, role=_ROLES.get(name, metric.role))


@cache
def generic_name(name: str) -> str:
    """Return the name that a metric has in :data:`METRICS`."""
    for generic in METRICS:
        if re.fullmatch(re.sub("[A-Z]+", lambda _: _NUMBER, generic), name):
            return generic
    return name


def numbers(name: str) -> list[str]:
    """Return the numbers of a metric's name, as text."""
    return re.findall(_NUMBER, name)


def with_units(values: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return metrics as records have them: each value with its unit."""
    return {
        name: {"value": value, "unit": METRICS[generic_name(name)].unit}
        for name, value in values.items()
    }
