"""Pose errors and their summaries, against formulas written out independently."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from featplug.metrics.homography import error_auc
from featplug.metrics.relative_pose import (
    AUC_ANGLES,
    MAA_DISTANCES,
    NO_POSE,
    PoseError,
    mean_accuracy,
    mean_metric_accuracy,
    normalized_epipolar_errors,
    relative_pose_error,
)


def poses(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = np.column_stack([Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3)])
    turn = Rotation.from_rotvec(rng.normal(0, 0.1, 3)).as_matrix()
    estimated = np.column_stack([turn @ true[:, :3], 7 * (true[:, 3] + rng.normal(0, 0.2, 3))])
    return estimated, true


def errors_of_pairs(seed: int, num: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    errors = rng.exponential(8, num)
    errors[rng.random(num) < 0.2] = np.inf
    return errors


def area_on_a_grid(errors: np.ndarray, threshold: float) -> float:
    """Integrate the linear curve of the sorted errors by cells, without its formula."""
    ordered = sorted(errors)
    knots = [(0.0, 0.0)] + [(e, (i + 1) / len(errors)) for i, e in enumerate(ordered)]
    inside = [knot for knot in knots if knot[0] < threshold]
    x = np.concatenate([np.linspace(0, threshold, 200_001), [k[0] for k in inside]])
    x = np.unique(x)
    y = np.interp(x, *zip(*inside, strict=True))  # level from the last one on
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() / threshold)


@pytest.mark.parametrize("seed", range(20))
def test_angles_are_scipys_and_pycolmaps(seed: int) -> None:
    estimated, true = poses(seed)
    error = relative_pose_error(estimated, true)
    turn = Rotation.from_matrix(estimated[:, :3] @ true[:, :3].T)
    assert error.rotation == pytest.approx(np.degrees(turn.magnitude()), abs=1e-9)
    rotations = [pycolmap.Rotation3d(pose[:, :3]) for pose in (estimated, true)]
    angle = np.degrees(rotations[0].angle_to(rotations[1]))
    assert error.rotation == pytest.approx(angle, abs=1e-6)
    a, b = estimated[:, 3], true[:, 3]
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    degrees = np.degrees(np.arccos(cosine))
    assert error.translation == pytest.approx(min(degrees, 180 - degrees), abs=1e-6)
    scaled = a * np.linalg.norm(b) / np.linalg.norm(a)
    distance = min(np.linalg.norm(scaled - b), np.linalg.norm(scaled + b))
    assert error.distance == pytest.approx(distance, abs=1e-9)


def test_either_sign_of_the_translation_is_right() -> None:
    _, true = poses(3)
    opposite = np.column_stack([true[:, :3], -2 * true[:, 3]])
    assert relative_pose_error(opposite, true) == pytest.approx((0, 0, 0), abs=1e-6)


def test_right_angles_are_the_largest_error_of_translation() -> None:
    true = np.column_stack([np.eye(3), [1.0, 0, 0]])
    across = np.column_stack([np.diag([1.0, -1, -1]), [0, 0, 1.0]])
    error = relative_pose_error(across, true)
    assert error == pytest.approx((180, 90, np.sqrt(2)))
    assert error.angle == pytest.approx(180)


def test_small_angles_are_exact() -> None:
    true = np.column_stack([np.eye(3), [0, 0, 1.0]])
    turn = Rotation.from_rotvec([0, 1e-7, 0]).as_matrix()
    error = relative_pose_error(np.column_stack([turn, [1e-7, 0, 1]]), true)
    assert error.rotation == pytest.approx(np.degrees(1e-7), rel=1e-3)
    assert error.translation == pytest.approx(np.degrees(1e-7), rel=1e-6)


def test_failures_are_infinite() -> None:
    estimated, true = poses(0)
    assert relative_pose_error(None, true) == NO_POSE
    assert relative_pose_error(np.full((3, 4), np.nan), true) == NO_POSE
    assert relative_pose_error(np.column_stack([np.eye(3), np.zeros(3)]), true) == NO_POSE
    with pytest.raises(ValueError, match="no translation"):
        relative_pose_error(estimated, np.column_stack([np.eye(3), np.zeros(3)]))


@pytest.mark.parametrize("num", [1, 2, 17, 400])
@pytest.mark.parametrize("seed", range(4))
def test_the_area_is_that_of_a_fine_grid(num: int, seed: int) -> None:
    errors = errors_of_pairs(seed, num)
    expected = [area_on_a_grid(errors, threshold) for threshold in AUC_ANGLES]
    np.testing.assert_allclose(error_auc(errors.tolist(), AUC_ANGLES), expected, atol=1e-6)


@pytest.mark.parametrize("num", [1, 2, 17, 400])
def test_the_mean_accuracy_is_that_of_the_challenges_histogram(num: int) -> None:
    errors = errors_of_pairs(num, num)
    histogram, _ = np.histogram(errors[np.isfinite(errors)], np.linspace(0, 10, 11))
    expected = np.mean(np.cumsum(histogram / num))
    assert mean_accuracy(errors.tolist()) == pytest.approx(expected, abs=1e-12)


def test_the_metric_accuracy_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    errors = [PoseError(*rng.exponential([4, 9, 1]).tolist()) for _ in range(200)]
    errors += [NO_POSE] * 20
    right = 0
    for k in range(10):
        distance = 0.2 * 25 ** (k / 9)  # from 0.2 to 5 m in equal ratios
        for error in errors:
            right += error.rotation < k + 1 and error.distance < distance
    assert mean_metric_accuracy(errors) == pytest.approx(right / 10 / 220, abs=1e-12)
    assert MAA_DISTANCES[0] == pytest.approx(0.2)
    assert MAA_DISTANCES[-1] == pytest.approx(5)
    with pytest.raises(ValueError, match="3 angles"):
        mean_metric_accuracy(errors, angles=(1, 2, 3))


def test_no_pairs_have_no_accuracy() -> None:
    with pytest.raises(ValueError, match="no pair"):
        mean_accuracy([])
    with pytest.raises(ValueError, match="no pair"):
        mean_metric_accuracy([])


def test_normalized_errors_are_those_of_the_papers_formula() -> None:
    """Squared distances from both lines at a focal length of 1 (SuperGlue's supplement)."""
    rng = np.random.default_rng(4)
    pose = poses(4)[1]
    intrinsics = (
        np.array([[500.0, 0, 300], [0, 510, 200], [0, 0, 1]]),
        np.array([[800.0, 0, 400], [0, 790, 310], [0, 0, 1]]),
    )
    points0, points1 = rng.uniform(0, 600, (2, 50, 2))
    x, y, z = pose[:, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ pose[:, :3]
    expected = []
    for point0, point1 in zip(points0, points1, strict=True):
        a = np.linalg.solve(intrinsics[0], [*point0, 1])
        b = np.linalg.solve(intrinsics[1], [*point1, 1])
        line1, line0 = essential @ a, essential.T @ b
        square = (b @ essential @ a) ** 2
        expected.append(square / (line1[:2] @ line1[:2]) + square / (line0[:2] @ line0[:2]))
    errors = normalized_epipolar_errors(points0, points1, intrinsics, pose)
    np.testing.assert_allclose(errors, expected, rtol=1e-9)
