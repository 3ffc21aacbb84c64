"""Distances from epipolar lines, against closed-form cases."""

from __future__ import annotations

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.metrics.epipolar import (
    epipolar_errors,
    essential_from_pose,
    estimate_fundamental,
    fundamental_from_pose,
)

SIDEWAYS = np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Of a camera that moves along x: rows stay."""


def test_distance_from_the_rows_of_a_sideways_motion() -> None:
    points0 = np.array([[1.0, 5], [30, 8], [3, 3]])
    points1 = np.array([[9.0, 5], [-4, 11], [3, -1]])
    expected = np.sqrt(2) * np.array([0, 3, 4])
    np.testing.assert_allclose(epipolar_errors(points0, points1, SIDEWAYS), expected, atol=1e-12)
    # At twice the scale in image 1 the distance there is twice that in image 0.
    matrix = np.diag([0.5, 0.5, 1]) @ SIDEWAYS
    errors = epipolar_errors(points0, 2 * points1, matrix)
    np.testing.assert_allclose(errors, np.sqrt(1 + 4) * np.array([0, 3, 4]), atol=1e-12)


def test_a_geometry_is_found_among_wrong_matches() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform([-1, -1, 3], [1, 1, 5], (120, 3))
    calibration = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    turn = Rotation.from_euler("xyz", [3, -8, 5], degrees=True).as_matrix()
    shift = np.array([0.8, 0.1, -0.2])
    projected = []
    for camera in (points, points @ turn.T + shift):
        pixels = camera @ calibration.T
        projected.append(pixels[:, :2] / pixels[:, 2:])
    points0, points1 = projected
    wrong = points1.copy()
    wrong[:40] = rng.uniform(0, 480, (40, 2))
    pose = np.column_stack([turn, shift])
    true = fundamental_from_pose(calibration, calibration, pose)
    assert epipolar_errors(points0, points1, true).max() < 1e-9
    found = estimate_fundamental(points0, wrong)
    assert found is not None
    assert epipolar_errors(points0, points1, found).max() < 1
    assert estimate_fundamental(points0[:7], points1[:7]) is None


def test_the_essential_matrix_is_pycolmaps() -> None:
    turn = Rotation.from_euler("xyz", [30, -8, 50], degrees=True).as_matrix()
    pose = np.column_stack([turn, [3.0, 0.5, -2]])
    expected = pycolmap.essential_matrix_from_pose(pycolmap.Rigid3d(pose))
    np.testing.assert_allclose(essential_from_pose(pose), expected, atol=1e-14)
    still = np.column_stack([turn, np.zeros(3)])
    np.testing.assert_array_equal(essential_from_pose(still), np.zeros((3, 3)))
