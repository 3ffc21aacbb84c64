"""The table of metrics: their names in records, which stay, their units, and how to show them.

docs/results.md lists the same names and units for readers of ``results.json``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

Role = Literal["headline", "main", "detail"]
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Metric:
    """One metric."""

    unit: str
    """Unit in records."""
    meaning: str
    better: Literal["higher", "lower"] | None = None
    """Direction of better values; None where a value says nothing about quality."""
    digits: int = 0
    """Number of decimals in tables."""
    role: Role = "detail"
    """Headlines are in summaries too, details only where all columns are shown."""
    title: str = ""
    """Name in tables, where it is not that in records; ``{}`` stands for a number of the latter,
    ``~`` for a space that no line ends at."""


_fraction = partial(Metric, "fraction", better="higher", digits=3)

METRICS: dict[str, Metric] = {
    # matching
    "mma_N": _fraction(
        "Matches within N px of the truth (mean matching accuracy), mean over pairs.",
        title="MMA {}~px",
    ),
    "recall_DISTANCEm_ANGLEdeg": Metric(
        "%",
        "Queries localized within a distance and an angle of their true poses.",
        "higher",
        1,
        "headline",
        title="within {}~m, {}°",
    ),
    "homography_accuracy_N": _fraction(
        "Pairs whose estimated homography moves the corners by N px or less on average.",
        title="homographies, {}~px",
    ),
    "homography_auc_N": _fraction(
        "Area under the curve of homography_accuracy up to N px.", title="homography AUC, {}~px"
    ),
    "right_among_N": Metric(
        "matches per pair",
        "Right matches (3 px) among the N most certain ones, mean over pairs.",
        "higher",
        role="main",
        title="right among first {}",
    ),
    # reconstruction
    "images": Metric("images", "Photographs of the scene."),
    "registered_images": Metric(
        "images", "Images in the model.", "higher", role="headline", title="registered"
    ),
    "registered_fraction": _fraction(
        "Images of a subset in its model, mean over subsets.",
        role="headline",
        title="registered, fraction",
    ),
    "sets_without_model": Metric(
        "fraction",
        "Subsets of which COLMAP makes no model; all their pairs count as failures.",
        "lower",
        3,
        "main",
        title="subsets without model",
    ),
    "sparse_points": Metric("points", "3D points of the model.", "higher", role="headline"),
    "observations": Metric("observations", "Keypoints that see a 3D point.", "higher", role="main"),
    "two_view_points": Metric(
        "fraction", "Points that only two images see, of all points.", "lower", 3
    ),
    "contradicted_matches": Metric(
        "fraction",
        "Matches of verified pairs that the model's poses contradict, of those within the model.",
        "lower",
        3,
    ),
    "mean_track_length": Metric(
        "observations per point",
        "Mean over 3D points.",
        "higher",
        2,
        "headline",
        title="track length",
    ),
    "mean_observations_per_image": Metric(
        "observations per image",
        "Mean over registered images.",
        "higher",
        role="main",
        title="observations per image",
    ),
    "mean_reprojection_error": Metric(
        "px", "Mean over observations.", "lower", 3, "headline", title="reprojection error"
    ),
    "median_position_error": Metric(
        "m",
        "Distance of camera centres from the true ones, median over images; in the unit of the "
        "true poses where that is not the metre.",
        "lower",
        4,
        "headline",
    ),
    "median_rotation_error": Metric(
        "deg",
        "Angle between cameras and the true ones, median over images.",
        "lower",
        3,
        "headline",
    ),
    "mean_position_error": Metric("m", "The same, mean.", "lower", 4),
    "mean_rotation_error": Metric("deg", "The same, mean.", "lower", 3),
    "max_position_error": Metric(
        "m", "The same, largest.", "lower", 4, "main", title="largest position error"
    ),
    "max_rotation_error": Metric(
        "deg", "The same, largest.", "lower", 3, title="largest rotation error"
    ),
    "dense_points": Metric("points", "Points of multi-view stereo.", "higher", role="main"),
    # More of these is not better: pairs and matches may fit by chance.
    "selected_pairs": Metric("pairs", "Pairs that were to be matched."),
    "matched_pairs": Metric("pairs", "Pairs with at least one match."),
    "verified_pairs": Metric(
        "pairs",
        "Pairs with a geometry of 15 or more inliers, which wrong matches alone would not give.",
        role="main",
    ),
    "model_pairs": Metric(
        "pairs", "Verified pairs of which a match is of two views of one 3D point.", role="main"
    ),
    "inlier_matches": Metric("matches", "Matches of all two-view geometries.", role="main"),
    "reference_images": Metric("images", "Images with a true pose.", title="images with true pose"),
    # matching
    "match_score": _fraction(
        "Right matches (3 px) per keypoint in the shared view, mean over pairs.", role="headline"
    ),
    "repeatability": _fraction(
        "Keypoints that are found in both images (3 px), mean over pairs.", role="main"
    ),
    "precision": _fraction(
        "Matches within 3 px, mean of both directions and over pairs.", role="main"
    ),
    "recall": _fraction(
        "Right matches among those that could be found, mean over pairs.", role="headline"
    ),
    "correspondence_maa_N": _fraction(
        "True correspondences within 0, 1, … N px of the epipolar geometry that is estimated from "
        "the matches, mean over these distances and pairs (WxBS's mAA).",
        role="headline",
        title="mAA, {}~px",
    ),
    "homography_maa_N": _fraction(
        "Pairs whose estimated homography moves the pixels that both images show by a distance or "
        "less on average, mean over ten distances of 1 to N px, of equal ratios (EVD's mAA).",
        role="headline",
        title="homography mAA, {}~px",
    ),
    "average_precision": _fraction(
        "Area under the precision-recall curve of matches (3 px), mean over pairs.", role="headline"
    ),
    "right_matches": Metric(
        "matches per pair",
        "Matches within 3 px of the truth, mean over pairs.",
        "higher",
        role="main",
        title="right matches per pair",
    ),
    "wrong_matches": Metric(
        "matches per pair",
        "Other matches, mean over pairs.",
        "lower",
        role="main",
        title="wrong matches per pair",
    ),
    # relative pose
    "pose_auc_N": _fraction(
        "Area under the curve of the fraction of pairs whose larger angle of error, of rotation or "
        "translation, is below a threshold, up to N degrees.",
        title="pose AUC, {}°",
    ),
    "pose_maa_N": _fraction(
        "Fraction of pairs whose larger angle of error is below a threshold, mean over 1 to N "
        "degrees (IMC's mAA).",
        role="main",
        title="pose mAA, {}°",
    ),
    "pose_maa_ANGLEdeg_DISTANCEm": _fraction(
        "Fraction of pairs whose rotation and translation are within an angle and a distance, mean "
        "over ten of both, up to 10 degrees and 5 m (IMC 2022).",
        role="main",
        title="pose mAA, {}° and {}~m",
    ),
    "epipolar_precision_DISTANCE": _fraction(
        "Matches within a squared symmetric epipolar distance at a focal length of 1, mean over "
        "pairs.",
        role="main",
        title="precision, {}",
    ),
    "inliers": Metric(
        "matches per pair",
        "Matches that agree with the estimated pose, mean over pairs.",
        role="main",
        title="inliers per pair",
    ),
    "pairs_without_pose": Metric(
        "pairs",
        "Pairs whose matches define no pose; their errors are infinite.",
        "lower",
        role="main",
    ),
    "mean_matches": Metric(
        "matches per pair", "Mean over pairs.", role="main", title="matches per pair"
    ),
    "mean_keypoints": Metric(
        "keypoints per image", "Mean over images.", role="main", title="keypoints per image"
    ),
    "failed_pairs": Metric(
        "pairs", "Pairs of which the method returned nothing; they count as failures.", "lower"
    ),
    # patches
    "fpr95": Metric(
        "fraction",
        "Pairs that do not match and are accepted where 95 % of those that match are.",
        "lower",
        4,
        "headline",
        title="FPR95",
    ),
    "verification_map": _fraction(
        "Average precision of patch verification with five times as many negatives as positives.",
        role="headline",
        title="verification mAP",
    ),
    "verification_map_balanced": _fraction(
        "The same with all pairs.", title="verification mAP, balanced"
    ),
    "matching_map": _fraction(
        "Average precision of patch matching, mean over pairs of images.",
        role="headline",
        title="matching mAP",
    ),
    "retrieval_map": _fraction(
        "Average precision of patch retrieval, mean over queries.",
        role="headline",
        title="retrieval mAP",
    ),
    # localization
    "localized_queries": Metric(
        "images",
        "Queries with a pose whose inliers wrong matches alone would not give.",
        "higher",
        role="main",
    ),
    "queries": Metric("images", "Queries of the data set."),
    "queries_with_true_pose": Metric("images", "Those with truth."),
    "database_images": Metric("images", "Images of the model."),
    "scans_used": Metric("images", "Scans that queries are localized in."),
    "matches_that_fit_the_poses": Metric(
        "%", "Matches of database images that agree with their known poses.", "higher", 1
    ),
    # speed
    "seconds": Metric("s", "Median over the repeats.", "lower", 3, "headline", title="time"),
    "seconds_spread": Metric(
        "s", "Interquartile range over the repeats.", digits=3, title="time, spread"
    ),
    "peak_memory_mib": Metric(
        "MiB",
        "Largest resident memory of the process.",
        "lower",
        role="headline",
        title="peak memory",
    ),
    "megapixels": Metric("megapixels", "Pixels of the image.", digits=2),
    "megapixels_per_second": Metric(
        "megapixels/s", "Size of the image over time.", "higher", 3, "headline", title="throughput"
    ),
    "keypoints": Metric("keypoints", "Keypoints that are extracted or matched."),
    "keypoints_per_second": Metric("keypoints/s", "Keypoints over time.", "higher", role="main"),
    "matches": Metric("matches", "Matches that are found."),
    "matches_per_second": Metric("matches/s", "Matches over time.", "higher", role="main"),
    "same_keypoints": _fraction(
        "Keypoints within 0.1 px of one of the CPU in float32, mean of both directions and over "
        "images.",
        role="headline",
    ),
    "same_matches": _fraction(
        "Matches of which both points are within 0.1 px of a match of the CPU in float32, mean of "
        "both directions and over pairs.",
        role="headline",
    ),
    "descriptor_difference": Metric(
        "",
        "Distance of the descriptors of such keypoints, 99th percentile.",
        "lower",
        4,
        "main",
    ),
    "times_our_seconds": Metric(
        "x", "Time of a peer over that of featplug.", digits=2, role="main", title="time over ours"
    ),
}
"""Name to metric, in the order of tables; capitals of a name stand for numbers."""

OWN_UNITS = {"m": ("reference units",)}
"""Unit to others that true poses may have instead."""

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("pose_auc_5", "pose_auc_10", "pose_auc_20"), "headline"),
    **dict.fromkeys(("mma_1", "mma_5", "mma_10"), "main"),
    **dict.fromkeys(("recall_0.5m_2deg", "recall_1m_5deg"), "main"),
    **dict.fromkeys(("mma_3", "right_among_1000", "homography_accuracy_3"), "headline"),
}
"""Roles of metrics with some numbers."""
_NUMBER = r"\d+(?:\.\d+)?"


def find_metric(name: str) -> Metric | None:
    """Look a metric up, with the numbers of its name in its title; None where it is unknown."""
    metric = METRICS.get(generic_name(name))
    if metric is None:
        return None
    title = metric.title.format(*numbers(name)).replace("~", "\N{NO-BREAK SPACE}")
    title = title or name.replace("_", " ")
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


def with_units(values: Mapping[str, float], unit_of_length: str = "m") -> dict[str, dict[str, Any]]:
    """Return metrics as records have them: each value with its unit."""
    units = {name: METRICS[generic_name(name)].unit for name in values}
    return {
        name: {"value": value, "unit": unit_of_length if units[name] == "m" else units[name]}
        for name, value in values.items()
    }


def format_value(value: float, digits: int, sign: bool = False) -> str:
    """Format a number with groups of thousands and a true minus."""
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if float(text.replace(",", "")) == 0:  # zero has no sign
        text = text.lstrip("+-")
    return text.replace("-", MINUS)
