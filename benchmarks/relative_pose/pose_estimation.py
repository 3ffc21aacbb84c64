"""Poses estimated from the matches of pairs, their errors, and the means over pairs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.pairs.estimator_options import EstimatorRules
from benchmarks.pairs.feature_pairs import FeaturePair
from benchmarks.pairs.pair_protocol import MeasuredPair
from benchmarks.pairs.pair_set import ImagePair
from featplug.metrics.epipolar import epipolar_errors
from featplug.metrics.homography import Size, error_auc
from featplug.metrics.relative_pose import (
    AUC_ANGLES,
    MAA_ANGLES,
    MAA_DISTANCES,
    PoseError,
    mean_accuracy,
    mean_metric_accuracy,
    normalized_epipolar_errors,
    relative_pose_error,
)
from featplug.utils.parallel import map_ahead

PRECISION_DISTANCES = (0.0005, 0.0001)
"""Largest squared epipolar distances of right matches at a focal length of 1: SuperGlue's and
LoFTR's on ScanNet, and LoFTR's on MegaDepth."""


@dataclass(frozen=True)
class PosedPair(MeasuredPair):
    """Matches of one pair, and the poses estimated from them."""

    sizes: tuple[Size, Size] = ((0, 0), (0, 0))
    """(width, height) of both images."""
    precision: tuple[float, ...] = ()
    """Fraction of matches within each of :data:`PRECISION_DISTANCES`; 0 without matches."""
    poses: Mapping[int, tuple[PoseError, int]] = field(default_factory=dict)
    """Seed to the errors of the pose and its number of inliers."""


def known_geometry(pair: ImagePair) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return the intrinsics and the pose of a pair; raise ValueError where they are not known."""
    if pair.intrinsics is None or pair.cam1_from_cam0 is None:
        raise ValueError(f"{pair.name0} and {pair.name1} have no known intrinsics and pose.")
    return pair.intrinsics, pair.cam1_from_cam0


def measure_matches(pair: ImagePair, features: FeaturePair) -> PosedPair:
    """Match a pair, and measure the distances of its matches from the true epipolar lines."""
    intrinsics, pose = known_geometry(pair)
    matches = features.match()
    points = features.points(matches)
    squares = normalized_epipolar_errors(*points, intrinsics, pose)
    fundamental = pair.true_fundamental
    return PosedPair(
        points,
        features.num_keypoints,
        matches.scores,
        None if fundamental is None else epipolar_errors(*points, fundamental),
        features.sizes,
        tuple(float(np.mean(squares < d)) if len(squares) else 0.0 for d in PRECISION_DISTANCES),
    )


def estimate_poses(
    pairs: Sequence[ImagePair], measures: Sequence[PosedPair], rules: EstimatorRules
) -> Iterator[PosedPair]:
    """Estimate the pose of each pair with each seed, on all processors; yield them in order."""
    estimator = rules.estimator

    def estimate(index: int) -> PosedPair:
        pair, measure = pairs[index], measures[index]
        intrinsics, true = known_geometry(pair)
        scale0, scale1 = (_scale(size, rules.longer_side) for size in measure.sizes)
        points0, points1 = measure.points[0] * scale0, measure.points[1] * scale1
        k0, k1 = _scaled(intrinsics[0], scale0), _scaled(intrinsics[1], scale1)
        poses = {}
        for seed in rules.seeds:
            found = estimator.relative_pose(points0, points1, k0, k1, rules.threshold, seed)
            error = relative_pose_error(None if found is None else found.matrix, true)
            poses[seed] = error, 0 if found is None else int(found.inliers.sum())
        return replace(measure, poses=poses)

    return map_ahead(estimate, range(len(pairs)), os.cpu_count() or 1)


def _scale(size: Size, longer_side: int | None) -> float:
    """Return by how much an image is scaled for its longer side to have that length."""
    return 1.0 if longer_side is None else longer_side / max(size)


def _scaled(intrinsics: np.ndarray, scale: float) -> np.ndarray:
    return np.diag([scale, scale, 1.0]) @ intrinsics


def summarise_poses(
    pairs: Sequence[ImagePair], measures: Sequence[PosedPair], seed: int
) -> dict[str, float]:
    """Return the metrics of pairs with one seed."""
    errors = [m.poses[seed][0] for m in measures]
    angles = [error.angle for error in errors]
    areas = error_auc(angles, AUC_ANGLES)
    metrics = {f"pose_auc_{n:g}": area for n, area in zip(AUC_ANGLES, areas, strict=True)}
    metrics[f"pose_maa_{MAA_ANGLES[-1]:g}"] = mean_accuracy(angles)
    if all(pair.unit == "m" for pair in pairs):
        metrics[_METRIC_MAA] = mean_metric_accuracy(errors)
    columns = pose_columns(pairs, measures, seed)
    for name in (*_precisions(), "inliers", "mean_matches"):
        metrics[name] = float(np.mean(columns[name]))
    metrics["pairs_without_pose"] = float(np.isinf(columns["pose_error"]).sum())
    counts = {
        name: number
        for pair, m in zip(pairs, measures, strict=True)
        for name, number in zip((pair.name0, pair.name1), m.num_keypoints or (), strict=False)
    }
    if counts:
        metrics["mean_keypoints"] = float(np.mean(list(counts.values())))
    return metrics


def pose_columns(
    pairs: Sequence[ImagePair], measures: Sequence[PosedPair], seed: int
) -> dict[str, np.ndarray]:
    """Return the values of each pair with one seed."""
    errors, inliers = zip(*(m.poses[seed] for m in measures), strict=True)
    columns = {
        "pose_error": [error.angle for error in errors],
        "rotation_error": [error.rotation for error in errors],
        "translation_error": [error.translation for error in errors],
    }
    if all(pair.unit == "m" for pair in pairs):
        columns["translation_distance"] = [error.distance for error in errors]
        columns[_METRIC_MAA] = [mean_metric_accuracy([error]) for error in errors]
    for place, name in enumerate(_precisions()):
        columns[name] = [m.precision[place] for m in measures]
    columns["inliers"] = list(inliers)
    columns["mean_matches"] = [len(m.scores) for m in measures]
    return {name: np.array(values, float) for name, values in columns.items()}


_METRIC_MAA = f"pose_maa_{MAA_ANGLES[-1]:g}deg_{MAA_DISTANCES[-1]:g}m"


def _precisions() -> list[str]:
    return [f"epipolar_precision_{distance:.4f}" for distance in PRECISION_DISTANCES]
