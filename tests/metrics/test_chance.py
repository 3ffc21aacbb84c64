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
    weigh_homography,
    weigh_inliers,
)

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
    return weigh_geometry(geometry, cameras, points, MAX_ERROR) if found else None


def random_points(rng: np.random.Generator, num: int, kind: str) -> np.ndarray:
    """Points all over the image, in six clusters, or three at each place."""
    if kind == "clusters":
        centres = rng.random((6, 2)) * SIZE
        spread = 40 * rng.standard_normal((num, 2))
        return np.clip(centres[rng.integers(6, size=num)] + spread, 0, SIZE)
    if kind == "places":
        return np.repeat(rng.random((num // 3 + 1, 2)) * SIZE, 3, axis=0)[:num]
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


@pytest.mark.parametrize("kind", ["everywhere", "clusters", "places"])
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


@pytest.mark.slow
def test_one_random_pose_in_a_thousand_is_accepted_at_most() -> None:
    rng = np.random.default_rng(1)
    accepted = most = 0
    for seed in range(1500):
        num = int(rng.choice([10, 20, 50]))
        kind = str(rng.choice(["everywhere", "clusters", "places"]))
        points2d = random_points(rng, num, kind)
        in_camera = rng.uniform([-4, -3, 6], [4, 3, 20], (num, 3))
        pose = estimate_pose(points2d, in_camera, CAMERA, AbsolutePoseOptions(seed=seed))
        if pose is not None:
            accepted += not pose.evidence.is_chance
            most = max(most, pose.num_inliers)
    assert most >= 9
    assert accepted <= 1


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

    def fits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.linalg.norm(places[first] - projections[second], axis=1) <= 12.0

    same = np.arange(100)
    evidence = weigh_inliers(places, projections, fits(same, same), fits, 12.0, ABSOLUTE_POSE)
    assert evidence.num_inliers == 30
    assert evidence.is_chance
    assert evidence.reason == "chance explains the 30 inliers of 100 matches"


def test_points_behind_the_camera_fit_nothing() -> None:
    rng = np.random.default_rng(5)
    places = random_points(rng, 40, "everywhere")
    projections = places.copy()
    projections[20:] = np.nan

    def fits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.linalg.norm(places[first] - projections[second], axis=1) <= 12.0

    same = np.arange(40)
    evidence = weigh_inliers(places, projections, fits(same, same), fits, 12.0, ABSOLUTE_POSE)
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
