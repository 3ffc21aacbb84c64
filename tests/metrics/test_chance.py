"""Whether chance explains inliers: random matches, and true geometries among wrong matches."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from featplug.colmap.geometric_verification import weigh_geometry
from featplug.localization.absolute_pose import AbsolutePoseOptions, estimate_pose
from featplug.metrics.chance import (
    ABSOLUTE_POSE,
    FUNDAMENTAL,
    HOMOGRAPHY,
    Evidence,
    log_false_alarms,
    weigh_fundamental,
    weigh_homography,
    weigh_inliers,
)
from featplug.metrics.epipolar import estimate_fundamental

SIZE = np.array([1600, 1200])
CAMERA, OTHER_CAMERA = (
    # Two of them: COLMAP takes a second to solve for a focal length that two images share.
    pycolmap.Camera(
        model="SIMPLE_RADIAL", width=1600, height=1200, params=[1400.0, 800.0, 600.0, -0.04]
    )
    for _ in range(2)
)
MAX_ERROR = 4.0


def verify(
    points0: np.ndarray, points1: np.ndarray, seed: int = 0, *, calibrated: bool = False
) -> Evidence | None:
    """Evidence of COLMAP's two-view geometry, as verification weighs it; None for no geometry.

    COLMAP estimates an essential matrix where cameras are ``calibrated``.
    """
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_error = MAX_ERROR
    options.ransac.random_seed = seed
    options.ransac.min_inlier_ratio = 0.1
    options.ransac.max_num_trials = 3000
    options.min_num_inliers = 8
    same = np.repeat(np.arange(len(points0))[:, None], 2, axis=1)
    cameras, points = (CAMERA, OTHER_CAMERA), (points0, points1)
    for camera in cameras:
        camera.has_prior_focal_length = calibrated
    geometry = pycolmap.estimate_two_view_geometry(
        cameras[0], points0, cameras[1], points1, same, options
    )
    found = len(geometry.inlier_matches) > 0
    return weigh_geometry(geometry, cameras, points, same, MAX_ERROR) if found else None


def random_points(rng: np.random.Generator, num: int, kind: str) -> np.ndarray:
    """Points all over the image, in six clusters, in one window, or three at or near a place."""
    if kind == "clusters":
        centres = rng.random((6, 2)) * SIZE
        spread = 40 * rng.standard_normal((num, 2))
        return np.clip(centres[rng.integers(6, size=num)] + spread, 0, SIZE)
    if kind == "window":
        return rng.random(2) * (SIZE - 150) + rng.random((num, 2)) * 150
    if kind in ("places", "near places"):
        places = np.repeat(rng.random((num // 3 + 1, 2)) * SIZE, 3, axis=0)[:num]
        return places if kind == "places" else places + rng.standard_normal((num, 2)) / 2
    return rng.random((num, 2)) * SIZE


def two_views(
    rng: np.random.Generator, num: int, plane: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Images of points in space, or on a plane, with noise of half a pixel."""
    points = rng.uniform([-4, -3, 6], [4, 3, 14], (num, 3))
    if plane:
        points[:, 2] = 9 + 0.3 * points[:, 0]
    turn = Rotation.from_rotvec([0.02, -0.12, 0.03]).as_matrix()
    views = points, points @ turn.T + [1.2, 0.1, 0.2]
    noise = rng.standard_normal((2, num, 2)) / 2
    view0, view1 = (
        np.asarray(CAMERA.img_from_cam(view)) + n for view, n in zip(views, noise, strict=True)
    )
    return view0, view1


@pytest.mark.parametrize("kind", ["everywhere", "clusters", "window", "places", "near places"])
def test_random_matches_are_chance(kind: str) -> None:
    """The constant of 15 inliers accepts most of them where matches are many or in clusters."""
    rng = np.random.default_rng(0)
    evidence = [
        verify(
            random_points(rng, num, kind), random_points(rng, num, kind), seed, calibrated=seed > 1
        )
        for num in (20, 60, 200, 500)
        for seed in range(4)
    ]
    found = [entry for entry in evidence if entry is not None]
    assert any(entry.num_inliers >= 15 for entry in found)
    assert all(entry.is_chance for entry in found)


def num_random_poses(
    num_sets: int, nums: list[int], kinds: list[str], half_extent: list[float]
) -> tuple[int, int]:
    """Estimate poses of random 2D-3D matches; return how many are accepted, and most inliers."""
    rng = np.random.default_rng(1)
    accepted = most = 0
    middle, extent = np.array([0, 0, 9]), np.array(half_extent)
    for seed in range(num_sets):
        num = int(rng.choice(nums))
        points2d = random_points(rng, num, str(rng.choice(kinds)))
        points3d = rng.uniform(middle - extent, middle + extent, (num, 3))
        pose = estimate_pose(points2d, points3d, CAMERA, AbsolutePoseOptions(seed=seed))
        if pose is not None:
            accepted += not pose.evidence.is_chance
            most = max(most, pose.num_inliers)
    return accepted, most


def test_poses_of_a_few_random_matches_in_a_window_are_chance() -> None:
    """Few matches have few pairings, of which none fits: that does not make a fit improbable."""
    accepted, most = num_random_poses(1000, [4, 5, 6, 7, 8], ["window"], [1, 1, 0.5])
    assert most >= 5
    assert accepted == 0


@pytest.mark.slow
def test_one_random_pose_in_a_thousand_is_accepted_at_most() -> None:
    kinds = ["everywhere", "clusters", "window", "places"]
    accepted, most = num_random_poses(1000, [4, 6, 8, 10, 20, 50], kinds, [4, 3, 4])
    assert most >= 8
    assert accepted <= 1


@pytest.mark.parametrize(
    ("size", "window", "max_error", "num_right", "num_wrong"),
    [
        ((640, 480), (640, 480), 48.0, 1000, 1000),
        ((640, 480), (640, 480), 48.0, 3000, 9000),
        ((1600, 1200), (48, 36), 12.0, 500, 50),
        ((1600, 1200), (80, 60), 12.0, 100, 300),
    ],
)
def test_true_poses_are_not_chance_at_large_errors_and_in_small_windows(
    size: tuple[int, int],
    window: tuple[int, int],
    max_error: float,
    num_right: int,
    num_wrong: int,
) -> None:
    """Inliers and matches are counted alike where they lie densely for the threshold."""
    rng = np.random.default_rng(0)
    camera = pycolmap.Camera(
        model="SIMPLE_PINHOLE",
        width=size[0],
        height=size[1],
        params=[1.2 * size[0], size[0] / 2, size[1] / 2],
    )
    right = (rng.random((num_right, 2)) - 0.5) * window
    depths = rng.uniform(4, 12, (num_right, 1))
    seen = np.hstack([right / (1.2 * size[0]), np.ones((num_right, 1))]) * depths
    noisy = right + np.array(size) / 2 - 0.5 + rng.standard_normal((num_right, 2))
    wrong = rng.random((num_wrong, 2)) * size
    unseen = rng.uniform([-4, -4, 4], [4, 4, 12], (num_wrong, 3))
    pose = estimate_pose(
        np.concatenate([noisy, wrong]),
        np.concatenate([seen, unseen]),
        camera,
        AbsolutePoseOptions(max_error=max_error),
    )
    assert pose is not None
    centre = -pose.cam_from_world[:, :3].T @ pose.cam_from_world[:, 3]
    assert np.linalg.norm(centre) < 0.05
    assert not pose.evidence.is_chance


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("plane", [False, True])
@pytest.mark.parametrize(("num_right", "num_wrong"), [(20, 10), (40, 40), (100, 300), (100, 500)])
def test_true_geometries_are_not_chance(
    num_right: int, num_wrong: int, plane: bool, calibrated: bool
) -> None:
    rng = np.random.default_rng(num_wrong)
    right0, right1 = two_views(rng, num_right, plane)
    wrong0, wrong1 = (random_points(rng, num_wrong, "everywhere") for _ in range(2))
    points0, points1 = np.concatenate([right0, wrong0]), np.concatenate([right1, wrong1])
    evidence = verify(points0, points1, calibrated=calibrated)
    assert evidence is not None
    assert evidence.num_inliers >= 0.9 * num_right
    assert not evidence.is_chance


@pytest.mark.parametrize(("window", "num_right", "num_wrong"), [(32, 65, 15), (64, 20, 5)])
def test_true_geometries_of_small_windows_are_not_chance(
    window: int, num_right: int, num_wrong: int
) -> None:
    rng = np.random.default_rng(0)
    half = window / 2 / 1400
    rays = rng.uniform([-half, -half, 1], [half, half, 1], (num_right, 3))
    points = rays * rng.uniform(5, 12, (num_right, 1))
    turn = Rotation.from_rotvec([0.01, -0.03, 0.01]).as_matrix()
    views = points, points @ turn.T + [-0.8, 0.05, 0.1]
    points0, points1 = (
        np.concatenate(
            [
                np.asarray(CAMERA.img_from_cam(view)) + rng.standard_normal((num_right, 2)) / 2,
                rng.random((num_wrong, 2)) * SIZE,
            ]
        )
        for view in views
    )
    evidence = verify(points0, points1, calibrated=True)
    assert evidence is not None
    assert evidence.num_inliers >= 0.9 * num_right
    assert not evidence.is_chance


def test_the_inliers_of_the_geometry_are_weighed_with_one_matrix_of_several() -> None:
    """COLMAP's inliers are those of one matrix; the best of three counts for less than one."""
    rng = np.random.default_rng(2)
    right, wrong = two_views(rng, 40), [random_points(rng, 20, "everywhere") for _ in range(2)]
    points0, points1 = (np.concatenate(ends) for ends in zip(right, wrong, strict=True))
    matches = np.repeat(np.arange(60)[:, None], 2, axis=1)
    inliers = np.arange(60) < 30
    fundamental = estimate_fundamental(*right, 1.0, 1000)
    geometry = pycolmap.TwoViewGeometry()
    geometry.F, geometry.H = fundamental, np.diag([1.0, 1.0, 1e-6])
    geometry.inlier_matches = matches[inliers].astype(np.uint32)
    cameras, points = (CAMERA, OTHER_CAMERA), (points0, points1)
    evidence = weigh_geometry(geometry, cameras, points, matches, MAX_ERROR)
    alone = weigh_fundamental(points0, points1, fundamental, MAX_ERROR, inliers=inliers)
    assert evidence.num_inliers == alone.num_inliers == 30
    assert evidence.log_false_alarms == pytest.approx(alone.log_false_alarms + np.log10(2))
    more = weigh_fundamental(points0, points1, fundamental, MAX_ERROR)
    assert more.log_false_alarms < alone.log_false_alarms - 3


def test_matches_of_one_place_count_once() -> None:
    """Keypoints of several orientations are right or wrong together."""
    rng = np.random.default_rng(3)
    few0, few1 = two_views(rng, 6, plane=True)
    wrong0, wrong1 = (random_points(rng, 60, "everywhere") for _ in range(2))
    homography, _ = pycolmap_homography(few0, few1)
    many0, many1 = (
        np.concatenate([np.repeat(few, 5, axis=0), wrong])
        for few, wrong in ((few0, wrong0), (few1, wrong1))
    )
    repeated = weigh_homography(many0, many1, homography, MAX_ERROR)
    assert repeated.num_inliers >= 30
    once = weigh_homography(
        np.concatenate([few0, wrong0]), np.concatenate([few1, wrong1]), homography, MAX_ERROR
    )
    assert repeated.log_false_alarms == pytest.approx(once.log_false_alarms, abs=2)


def pycolmap_homography(points0: np.ndarray, points1: np.ndarray) -> tuple[np.ndarray, int]:
    found = pycolmap.estimate_homography_matrix(points0, points1)
    return found["H"], found["num_inliers"]


def test_a_geometry_that_sends_everything_to_one_place_is_chance() -> None:
    """A camera far away sees all points in a few pixels; any keypoint there fits any of them."""
    rng = np.random.default_rng(4)
    places = random_points(rng, 100, "everywhere")
    centre = np.array([700, 500])
    places[:30] = centre + rng.standard_normal((30, 2))
    projections = centre + rng.standard_normal((100, 2))

    def errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.linalg.norm(places[first] - projections[second], axis=1)

    evidence = weigh_inliers(places, projections, errors, 12.0, ABSOLUTE_POSE)
    assert evidence.num_inliers == 30
    assert evidence.is_chance
    assert evidence.reason == "chance explains the 30 inliers of 100 matches"


def test_points_behind_the_camera_fit_nothing() -> None:
    rng = np.random.default_rng(5)
    places = random_points(rng, 40, "everywhere")
    projections = places.copy()
    projections[20:] = np.nan

    def errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.linalg.norm(places[first] - projections[second], axis=1)

    evidence = weigh_inliers(places, projections, errors, 12.0, ABSOLUTE_POSE)
    assert evidence.num_inliers == 20
    assert not evidence.is_chance


def test_the_number_of_inliers_needed_grows_with_matches_and_probability() -> None:
    def needed(num_matches: int, probability: float) -> int:
        return next(
            num
            for num in range(num_matches)
            if not Evidence(
                num_matches, num, log_false_alarms(num_matches, num, probability, FUNDAMENTAL)
            ).is_chance
        )

    assert [needed(num, 0.01) for num in (20, 100, 1000)] == [13, 23, 60]
    assert needed(100, 0.001) < needed(100, 0.01) < needed(100, 0.1)
    # Moisan and Stival's bound, the first term of the binomial tail, is close where it is small.
    assert log_false_alarms(40, 20, 1e-4, HOMOGRAPHY) == pytest.approx(
        np.log10(91390 * 7307872110.0) + 16 * -4, abs=0.01
    )


@pytest.mark.parametrize("num", [0, 1, 2])
def test_a_match_or_none_is_chance(num: int) -> None:
    places = np.zeros((num, 2))
    evidence = weigh_homography(places, places, np.eye(3), MAX_ERROR)
    assert evidence.is_chance
