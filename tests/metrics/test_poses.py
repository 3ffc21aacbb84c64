"""Pose errors against closed-form cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from featplug.metrics.poses import (
    OLD_NIGHT_THRESHOLDS,
    absolute_pose_errors,
    aligned_pose_errors,
    camera_centres,
    localization_recall,
    rotation_angles,
)


def random_poses(num: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(num, rng=rng).as_matrix()
    translations = rng.standard_normal((num, 3, 1))
    poses = np.concatenate([rotations, translations], axis=2)
    return {f"{i}.jpg": pose for i, pose in enumerate(poses)}


def test_camera_centre_projects_to_zero() -> None:
    poses = np.stack(list(random_poses(5).values()))
    centres = camera_centres(poses)
    moved = np.einsum("nij,nj->ni", poses[:, :, :3], centres) + poses[:, :, 3]
    np.testing.assert_allclose(moved, 0, atol=1e-12)


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 1.0, 90.0, 179.9, 180.0])
def test_rotation_angle_is_exact_for_small_and_large_turns(degrees: float) -> None:
    base = Rotation.from_euler("xyz", [10, 20, 30], degrees=True)
    turned = base * Rotation.from_rotvec([0, np.radians(degrees), 0])
    angle = rotation_angles(base.as_matrix(), turned.as_matrix())
    assert angle == pytest.approx(degrees, abs=1e-5)


def test_a_similarity_has_no_error_and_one_moved_camera_has_its_own() -> None:
    reference = random_poses(12)
    # World turned, moved and scaled by 7: x' = 7 R x + t.
    turn = Rotation.from_euler("xyz", [40, -10, 70], degrees=True).as_matrix()
    shift = np.array([3.0, -2.0, 9.0])
    estimated = {}
    for name, pose in reference.items():
        rotation = pose[:, :3] @ turn.T
        centre = 7 * turn @ camera_centres(pose) + shift
        estimated[name] = np.column_stack([rotation, -rotation @ centre])
    errors = aligned_pose_errors(estimated, reference)
    assert errors.names == sorted(reference)
    assert errors.position.max() < 1e-9
    assert errors.rotation.max() < 1e-5

    tilt = Rotation.from_euler("x", 2, degrees=True).as_matrix()
    pose = estimated["3.jpg"]
    estimated["3.jpg"] = tilt @ pose  # turned about its own centre: no position error
    errors = aligned_pose_errors(estimated, reference)
    assert errors.position.max() < 1e-9
    expected = [2.0 if name == "3.jpg" else 0.0 for name in errors.names]
    np.testing.assert_allclose(errors.rotation, expected, atol=1e-5)


def test_position_errors_are_those_of_the_least_squares_alignment() -> None:
    """Centres moved symmetrically leave the best similarity at the identity."""
    square = np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]], float)
    reference = {f"{i}": np.column_stack([np.eye(3), -c]) for i, c in enumerate(square)}
    lifted = square + 0.1 * np.array([[0, 0, 1], [0, 0, -1], [0, 0, 1], [0, 0, -1]])
    estimated = {f"{i}": np.column_stack([np.eye(3), -c]) for i, c in enumerate(lifted)}
    errors = aligned_pose_errors(estimated, reference)
    # The best scale is Σ x·y / Σ x·x = 8 / (8 + 4·0.01): all points also shrink a little.
    scale = 8 / 8.04
    distance = np.hypot(np.sqrt(2) * (1 - scale), 0.1 * scale)
    np.testing.assert_allclose(errors.position, distance, rtol=1e-9)


def test_what_cannot_be_aligned_says_so() -> None:
    reference = random_poses(5)
    with pytest.raises(ValueError, match="these have 2"):
        aligned_pose_errors({name: reference[name] for name in ("0.jpg", "1.jpg")}, reference)
    with pytest.raises(ValueError, match=r"these have 0 \(are the image names the same"):
        aligned_pose_errors({f"images/{k}": v for k, v in reference.items()}, reference)
    line = {f"{i}": np.column_stack([np.eye(3), [-i, 0, 0]]) for i in range(4)}
    with pytest.raises(ValueError, match="on a line"):
        aligned_pose_errors(line, line)


def test_recall_counts_a_missing_pose_as_a_failure() -> None:
    """Poses moved and turned by known amounts, in the same world: nothing is aligned."""
    reference = random_poses(5)
    changes = {"0.jpg": (0.2, 1.0), "1.jpg": (0.4, 1.0), "2.jpg": (0.2, 6.0), "3.jpg": (9.0, 0.0)}
    estimated = {}
    for name, (distance, degrees) in changes.items():
        pose = reference[name]
        rotation = Rotation.from_euler("y", degrees, degrees=True).as_matrix() @ pose[:, :3]
        centre = camera_centres(pose) + np.array([0, 0, distance])
        estimated[name] = np.column_stack([rotation, -rotation @ centre])
    errors = absolute_pose_errors({**estimated, "not a query.jpg": np.eye(3, 4)}, reference)
    assert errors.names == sorted(reference)
    np.testing.assert_allclose(errors.position[:4], [d for d, _ in changes.values()])
    np.testing.assert_allclose(errors.rotation[:4], [a for _, a in changes.values()], atol=1e-6)
    assert errors.position[4] == np.inf
    assert errors.rotation[4] == 180
    np.testing.assert_allclose(localization_recall(errors), [0.2, 0.4, 0.6])
    np.testing.assert_allclose(localization_recall(errors, OLD_NIGHT_THRESHOLDS), [0.4, 0.4, 0.6])
    with pytest.raises(ValueError, match="no image with a true pose"):
        localization_recall(absolute_pose_errors(estimated, {}))
