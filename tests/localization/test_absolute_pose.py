"""The pose of a camera from 2D-3D matches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from featplug.localization.absolute_pose import AbsolutePoseOptions, FocalLength, estimate_pose
from featplug.metrics.poses import absolute_pose_errors

CAMERA = pycolmap.Camera(
    model="SIMPLE_RADIAL", width=1600, height=1200, params=[1400.0, 803.0, 597.0, -0.04]
)


def matches(
    seed: int, num: int = 300, outliers: float = 0.0, noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image points (integer = pixel centre), world points and the true cam_from_world."""
    rng = np.random.default_rng(seed)
    in_camera = rng.uniform([-4, -3, 6], [4, 3, 20], (num, 3))
    rotation, translation = Rotation.random(rng=rng).as_matrix(), rng.uniform(-9, 9, 3)
    points2d = np.asarray(CAMERA.img_from_cam(in_camera)) - 0.5
    points2d += noise * rng.standard_normal(points2d.shape)
    wrong = int(outliers * num)
    points2d[:wrong] = rng.uniform([0, 0], [1600, 1200], (wrong, 2))
    points3d = (in_camera - translation) @ rotation
    return points2d, points3d, np.column_stack([rotation, translation])


def test_the_pose_is_exact_so_that_no_half_pixel_is_lost() -> None:
    points2d, points3d, truth = matches(0)
    found = estimate_pose(points2d, points3d, CAMERA)
    assert found is not None
    np.testing.assert_allclose(found.cam_from_world, truth, atol=1e-6)
    assert found.inliers.all()
    assert found.num_inliers == 300
    # The same keypoints with another origin are half a pixel off.
    shifted = estimate_pose(points2d + 0.5, points3d, CAMERA)
    assert shifted is not None
    assert np.abs(shifted.cam_from_world - truth).max() > 1e-4


def test_wrong_matches_are_told_from_right_ones() -> None:
    points2d, points3d, truth = matches(1, num=500, outliers=0.6, noise=0.7)
    found = estimate_pose(points2d, points3d, CAMERA)
    assert found is not None
    assert found.inliers[300:].all()
    assert np.mean(found.inliers[:300]) < 0.02
    errors = absolute_pose_errors({"q": found.cam_from_world}, {"q": truth})
    assert errors.position[0] < 0.05
    assert errors.rotation[0] < 0.2
    # A stricter threshold leaves part of the right ones out.
    strict = estimate_pose(points2d, points3d, CAMERA, AbsolutePoseOptions(max_error=1.0))
    assert strict is not None
    assert 80 < strict.num_inliers < 180  # of 200


def test_a_seed_gives_one_pose_in_any_thread_and_order() -> None:
    sets = [matches(seed, num=80, outliers=0.5, noise=2.0)[:2] for seed in range(8)]

    def estimate(pair: tuple[np.ndarray, np.ndarray]) -> bytes:
        found = estimate_pose(*pair, CAMERA, AbsolutePoseOptions(seed=3))
        assert found is not None
        return found.cam_from_world.tobytes()

    alone = [estimate(pair) for pair in sets]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(estimate, sets)) == alone
    assert [estimate(pair) for pair in sets[::-1]][::-1] == alone


def test_too_few_or_unfitting_matches_give_no_pose() -> None:
    points2d, points3d, _ = matches(2)
    for num in range(4):
        assert estimate_pose(points2d[:num], points3d[:num], CAMERA) is None
    assert estimate_pose(points2d[:9], points3d[:9], CAMERA) is not None
    many = AbsolutePoseOptions(min_num_inliers=10)
    assert estimate_pose(points2d[:9], points3d[:9], CAMERA, many) is None
    noise = np.random.default_rng(0).uniform(0, 1200, (60, 2))
    assert (
        estimate_pose(noise, points3d[:60], CAMERA, AbsolutePoseOptions(1.0, min_num_inliers=12))
        is None
    )


def test_arrays_that_do_not_fit_are_refused() -> None:
    points2d, points3d, _ = matches(3)
    with pytest.raises(ValueError, match="300 image points cannot match 299 3D points"):
        estimate_pose(points2d, points3d[1:], CAMERA)
    points3d[7, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        estimate_pose(points2d, points3d, CAMERA)


def unknown_camera(focal_length: float = 1920.0) -> pycolmap.Camera:
    """A camera of the same size with another focal length, COLMAP's default, and no distortion."""
    params = [focal_length, 800.0, 600.0, 0.0]
    return pycolmap.Camera(model="SIMPLE_RADIAL", width=1600, height=1200, params=params)


@pytest.mark.parametrize(
    ("focal_length", "guess"), [("unknown", 1920.0), ("guessed", 1440.0), ("guessed", 2100.0)]
)
def test_the_focal_length_is_fitted_where_it_is_not_known(
    focal_length: FocalLength, guess: float
) -> None:
    """The last guess is that of a crop whose EXIF data are those of the whole photograph."""
    options = AbsolutePoseOptions(focal_length=focal_length)
    errors = []
    for seed in range(6):
        points2d, points3d, truth = matches(seed, num=160, outliers=0.5, noise=1.0)
        camera = unknown_camera(guess)
        found = estimate_pose(points2d, points3d, camera, options)
        assert found is not None
        assert found.reason is None
        assert found.warning is None
        assert camera.params[0] == guess  # the given camera is left as it was
        assert found.camera.params[0] == pytest.approx(1400, rel=0.02)
        error = found.camera.params[0] / 1400 - 1
        assert abs(error) < 5 * found.uncertainty.focal_length
        errors.append(abs(error))
        position = absolute_pose_errors({"q": found.cam_from_world}, {"q": truth}).position[0]
        assert position < 5 * found.uncertainty.position
    assert np.median(errors) < 0.005


def wall(seed: int, slant: float) -> tuple[np.ndarray, np.ndarray]:
    """Matches with a wall 10 units away, turned by ``slant`` degrees, in world coordinates."""
    rng = np.random.default_rng(seed)
    plane = np.column_stack([rng.uniform([-4, -3], [4, 3], (200, 2)), np.zeros(200)])
    turn = Rotation.from_euler("y", slant, degrees=True).as_matrix()
    points3d = plane @ turn.T + [0, 0, 10]
    points2d = np.asarray(CAMERA.img_from_cam(points3d)) - 0.5
    return points2d + rng.standard_normal(points2d.shape), points3d


def test_a_focal_length_that_matches_do_not_determine_is_not_accepted() -> None:
    """In front of a wall, a longer focal length is as good as a smaller distance."""
    points2d, points3d = wall(0, slant=0)
    found = estimate_pose(
        points2d, points3d, unknown_camera(), AbsolutePoseOptions(focal_length="unknown")
    )
    assert found is None or "focal length" in (found.reason or "")
    # A guess is used, with a warning.
    guessed = AbsolutePoseOptions(focal_length="guessed")
    found = estimate_pose(points2d, points3d, unknown_camera(1410.0), guessed)
    assert found is not None
    assert found.reason is None
    assert "intrinsics" in (found.warning or "")
    assert found.camera.params[0] == 1410
    # A slanted wall determines it, although P4Pf has no solution for a plane.
    points2d, points3d = wall(1, slant=40)
    found = estimate_pose(
        points2d, points3d, unknown_camera(), AbsolutePoseOptions(focal_length="unknown")
    )
    assert found is not None
    assert found.reason is None
    assert found.camera.params[0] == pytest.approx(1400, rel=0.03)


def test_the_uncertainty_of_a_pose_is_the_scatter_of_its_errors() -> None:
    position, rotation, expected = [], [], []
    for seed in range(40):
        points2d, points3d, truth = matches(seed, num=60, noise=1.0)
        found = estimate_pose(points2d, points3d, CAMERA)
        assert found is not None
        errors = absolute_pose_errors({"q": found.cam_from_world}, {"q": truth})
        position.append(errors.position[0])
        rotation.append(errors.rotation[0])
        expected.append((found.uncertainty.position, found.uncertainty.rotation))
        assert found.uncertainty.focal_length == 0
        assert found.uncertainty.median_error == pytest.approx(1.18, abs=0.4)
    means = np.sqrt(np.mean(np.square(expected), axis=0))
    assert np.sqrt(np.mean(np.square(position))) == pytest.approx(means[0], rel=0.3)
    assert np.sqrt(np.mean(np.square(rotation))) == pytest.approx(means[1], rel=0.3)


def unknown_scene(seed: int, num: int, depth: tuple[float, float]) -> tuple[np.ndarray, ...]:
    """Matches of a camera of any focal length, 40 % wrong, and the focal length."""
    rng = np.random.default_rng(seed)
    focal_length = rng.uniform(800, 3000)
    params = [focal_length, 803, 597, rng.uniform(-0.1, 0.05)]
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=1600, height=1200, params=params)
    points3d = np.column_stack([rng.uniform(-800, 800, num), rng.uniform(-600, 600, num)])
    z = rng.uniform(*depth, num)[:, None]
    points3d = np.hstack([points3d / focal_length * z, z])
    points2d = np.asarray(camera.img_from_cam(points3d)) - 0.5 + 1.5 * rng.standard_normal((num, 2))
    wrong = int(0.4 * num)
    points2d[:wrong] = rng.uniform([0, 0], [1600, 1200], (wrong, 2))
    return points2d, points3d, np.array(focal_length)


@pytest.mark.parametrize("depth", [(5.0, 20.0), (9.0, 11.0), (10.0, 10.0)])
def test_unknown_focal_lengths_are_right_or_not_accepted(depth: tuple[float, float]) -> None:
    """Also in shallow scenes and in front of a wall, with few matches."""
    errors = []
    for seed in range(12):
        for num in (20, 60, 200):
            points2d, points3d, focal_length = unknown_scene(seed, num, depth)
            options = AbsolutePoseOptions(focal_length="unknown")
            found = estimate_pose(points2d, points3d, unknown_camera(), options)
            if found is not None and found.reason is None:
                errors.append(abs(found.camera.params[0] / focal_length - 1))
    assert np.max(errors, initial=0) < 0.2
    if depth[0] < depth[1]:
        assert len(errors) > 24
        assert np.median(errors) < 0.02
    else:
        assert not errors
