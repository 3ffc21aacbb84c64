"""Poses and homographies of rendered points, under noise, wrong matches and degenerate input."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from featplug.metrics.homography import corner_error, project
from featplug.metrics.relative_pose import relative_pose_error
from featplug.metrics.two_view_estimators import ESTIMATORS, Estimator

K0 = np.array([[900.0, 0, 610], [0, 930, 395], [0, 0, 1]])
K1 = np.array([[1400.0, 3, 700], [0, 1390, 520], [0, 0, 1]])  # with a skew
TURN = Rotation.from_euler("xyz", [4, -14, 6], degrees=True).as_matrix()
POSE = np.column_stack([TURN, [1.2, 0.1, -0.3]])
HOMOGRAPHY = np.array([[1.1, 0.1, -30], [-0.05, 0.95, 12], [1e-4, -5e-5, 1]])


@pytest.fixture(params=list(ESTIMATORS))
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return ESTIMATORS[request.param]


def matches(
    num: int = 400, num_wrong: int = 120, noise: float = 0.3, depth: float = 5
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    world = rng.uniform([-3, -2, 6 - depth / 2], [3, 2, 6 + depth / 2], (num, 3))
    points = []
    for k, camera in ((K0, world), (K1, world @ POSE[:, :3].T + POSE[:, 3])):
        pixels = camera @ k.T
        points.append(pixels[:, :2] / pixels[:, 2:] + rng.normal(0, noise, (num, 2)))
    points[1][:num_wrong] = rng.uniform(0, 1000, (num_wrong, 2))
    return points[0], points[1]


def test_a_pose_is_found_among_wrong_matches(estimator: Estimator) -> None:
    points = matches()
    found = estimator.relative_pose(*points, K0, K1, 1.0)
    assert found is not None
    error = relative_pose_error(found.matrix, POSE)
    assert error.rotation < 0.5
    assert error.translation < 2
    assert np.linalg.norm(found.matrix[:, 3]) == pytest.approx(1)
    assert found.matrix[:, 3] @ POSE[:, 3] > 0  # the points are in front of both cameras
    assert found.inliers.dtype == bool
    assert found.inliers[120:].mean() > 0.8
    assert found.inliers[:120].mean() < 0.1


def test_exact_matches_give_the_exact_pose(estimator: Estimator) -> None:
    """A half pixel in the points or the principal point would show."""
    points = matches(num_wrong=0, noise=0)
    found = estimator.relative_pose(*points, K0, K1, 0.5)
    assert found is not None
    assert relative_pose_error(found.matrix, POSE).angle < 1e-3


def test_the_convention_of_pixel_centres_does_not_matter(estimator: Estimator) -> None:
    points0, points1 = matches()
    shift = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    ours = estimator.relative_pose(points0, points1, K0, K1, 1.0, seed=3)
    colmaps = estimator.relative_pose(points0 + 0.5, points1 + 0.5, K0 + shift, K1 + shift, 1.0, 3)
    assert ours is not None
    assert colmaps is not None
    np.testing.assert_allclose(ours.matrix, colmaps.matrix, atol=1e-6)


def test_a_seed_decides(estimator: Estimator) -> None:
    points = matches(noise=1.0)
    found = [estimator.relative_pose(*points, K0, K1, 0.7, seed) for seed in (0, 0, 1, 2, 3, 4)]
    poses = [f.matrix for f in found if f is not None]
    assert len(poses) == 6
    np.testing.assert_array_equal(poses[0], poses[1])
    if estimator.name != "poselib":  # whose refinement ends at the same pose
        assert any(np.abs(pose - poses[0]).max() > 1e-6 for pose in poses[2:])


def test_thresholds_are_in_pixels(estimator: Estimator) -> None:
    """The number of inliers of noise of 2 px rises from one to the other."""
    points = matches(num_wrong=0, noise=2)
    counts = []
    for threshold in (0.2, 1, 8):
        found = estimator.relative_pose(*points, K0, K1, threshold)
        counts.append(0 if found is None else int(found.inliers.sum()))
    assert counts[0] < 150
    assert counts[0] < counts[1] < counts[2]
    assert counts[2] > 380


def test_points_of_a_plane(estimator: Estimator) -> None:
    """Two poses explain a plane's points; whichever is found, all matches agree with it."""
    found = estimator.relative_pose(*matches(num_wrong=0, noise=0, depth=0), K0, K1, 1.0)
    assert found is not None
    assert np.isfinite(found.matrix).all()
    assert found.inliers.mean() > 0.95
    np.testing.assert_allclose(found.matrix[:, :3] @ found.matrix[:, :3].T, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("num", range(5))
def test_too_few_matches_define_no_pose(estimator: Estimator, num: int) -> None:
    points0, points1 = (points[:num] for points in matches(num_wrong=0))
    assert estimator.relative_pose(points0, points1, K0, K1, 1.0) is None
    if num < 4:
        assert estimator.homography(points0, points1, 3.0) is None


@pytest.mark.parametrize("num", [5, 6, 7, 8, 20])
@pytest.mark.parametrize("kind", ["one place", "a line", "not moved", "chance"])
def test_degenerate_matches_give_none_or_a_finite_result(
    estimator: Estimator, num: int, kind: str
) -> None:
    rng = np.random.default_rng(num)
    points0, points1 = rng.uniform(0, 900, (2, num, 2))
    if kind == "one place":
        points0, points1 = np.full((2, num, 2), 50.0)
    elif kind == "a line":
        points0, points1 = points0[:, :1] * [1, 0.5], points1[:, :1] * [0.2, 1]
    elif kind == "not moved":
        points1 = points0.copy()
    pose = estimator.relative_pose(points0, points1, K0, K0, 1.0)
    homography = estimator.homography(points0, points1, 3.0)
    for found in (pose, homography):
        if found is not None:
            assert np.isfinite(found.matrix).all()
            assert found.inliers.shape == (num,)
            assert found.inliers.sum() >= 4


def test_matches_that_are_not_finite_are_outliers(estimator: Estimator) -> None:
    points0, points1 = matches(num_wrong=0)
    points0[7], points1[9, 1] = np.nan, np.inf
    pose = estimator.relative_pose(points0, points1, K0, K1, 1.0)
    homography = estimator.homography(points0, project(points0, HOMOGRAPHY), 3.0)
    assert pose is not None
    assert homography is not None
    assert not pose.inliers[[7, 9]].any()
    assert relative_pose_error(pose.matrix, POSE).angle < 2
    assert not homography.inliers[7]


def test_points_of_other_shapes_are_rejected(estimator: Estimator) -> None:
    points0, points1 = matches()
    with pytest.raises(ValueError, match="400, 2"):
        estimator.relative_pose(points0, points1[:-1], K0, K1, 1.0)
    with pytest.raises(ValueError, match="3, 3"):
        estimator.homography(np.ones((3, 3)), np.ones((3, 3)), 3.0)


def test_a_homography_is_found_among_wrong_matches(estimator: Estimator) -> None:
    rng = np.random.default_rng(1)
    points0 = rng.uniform(0, [800, 600], (300, 2))
    points1 = project(points0, HOMOGRAPHY) + rng.normal(0, 0.3, (300, 2))
    points1[:100] = rng.uniform(0, 800, (100, 2))
    found = estimator.homography(points0, points1, 3.0)
    assert found is not None
    assert corner_error(found.matrix, HOMOGRAPHY, (800, 600)) < 1
    assert found.inliers[100:].mean() > 0.95
    assert found.inliers[:100].mean() < 0.05
    again = estimator.homography(points0, points1, 3.0)
    assert again is not None
    np.testing.assert_array_equal(found.matrix, again.matrix)


def test_exact_matches_give_the_exact_homography(estimator: Estimator) -> None:
    points0 = np.random.default_rng(1).uniform(0, [800, 600], (100, 2))
    found = estimator.homography(points0, project(points0, HOMOGRAPHY), 1.0)
    assert found is not None
    assert corner_error(found.matrix, HOMOGRAPHY, (800, 600)) < 1e-2


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(estimator.version() for estimator in ESTIMATORS.values())
    monkeypatch.setitem(sys.modules, "poselib", None)
    with pytest.raises(ValueError, match=r"poselib.*featplug\[pose\]"):
        ESTIMATORS["poselib"].version()
