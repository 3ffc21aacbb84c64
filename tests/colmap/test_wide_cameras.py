"""Fisheye lenses and panoramas, from features to poses of new images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from featplug.colmap.camera_rays import matched_rays, sees_all_around
from featplug.colmap.cameras import CameraOptions
from featplug.colmap.geometric_verification import weigh_geometry
from featplug.colmap.mapping import MapOptions
from featplug.colmap.model_files import read_model
from featplug.colmap.model_tables import create_camera
from featplug.colmap.pair_usage import pair_usage
from featplug.localization.absolute_pose import estimate_pose, project_points
from featplug.metrics.epipolar import line_distances, sampson_errors
from featplug.metrics.poses import aligned_pose_errors, model_poses, reconstruction_statistics
from featplug.stages.map import map_images
from featplug.stages.pairs import exhaustive
from featplug.stages.verify import VerifyOptions, verify_pairs
from tests.scenes.synthetic import SurroundingScene, write_surrounding_scene

CAMERAS = {
    "OPENCV_FISHEYE": [300, 310, 500, 380, 0.02, 0.003, -0.001, 0.0005],
    "RADIAL_FISHEYE": [300, 500, 380, 0.02, 0.003],
    "FOV": [350, 350, 500, 380, 0.95],
    "SIMPLE_FISHEYE": [300, 500, 380],
    "EUCM": [300, 300, 500, 380, 0.6, 1.1],
    "EQUIRECTANGULAR": [1600, 800],
}


def wide_camera(model: str) -> pycolmap.Camera:
    if model not in pycolmap.CameraModelId.__members__:
        pytest.skip(f"this pycolmap has no {model}")
    size = (1600, 800) if model == "EQUIRECTANGULAR" else (1000, 760)
    camera = create_camera(1, pycolmap.CameraModelId.__members__[model], 300.0, size)
    camera.params = CAMERAS[model]
    return camera


def make_scene(model: str, folder: Path) -> SurroundingScene:
    camera = wide_camera(model)
    return write_surrounding_scene(folder, camera, 180 if sees_all_around(camera) else 15)


@pytest.mark.parametrize("model", CAMERAS)
def test_images_are_mapped_and_a_new_one_is_localized(model: str, tmp_path: Path) -> None:
    scene = make_scene(model, tmp_path / "scene")
    names = sorted(scene.poses)
    params = None  # a panorama's are its size
    if model != "EQUIRECTANGULAR":
        params = ",".join(map(str, scene.camera.params))
    options = VerifyOptions(camera=CameraOptions(model=model, params=params))
    database, pairs = tmp_path / "database.db", exhaustive(names)
    files = scene.images, names, scene.features, scene.matches, pairs
    verified = verify_pairs(database, *files, options)
    assert verified.summary.num_verified_pairs == len(pairs)
    assert verified.summary.num_inlier_matches > 0.9 * 100 * len(pairs)
    mapped = map_images(
        database, scene.images, tmp_path, MapOptions(known_cameras=verified.cameras.known)
    )
    model_ = read_model(tmp_path / "model")
    statistics = reconstruction_statistics(model_)
    assert statistics.num_registered == len(names)
    assert statistics.mean_reprojection_error < 0.02
    errors = aligned_pose_errors(model_poses(mapped.model), scene.poses)
    assert errors.position.max() < 1e-3
    assert errors.rotation.max() < 0.02
    (camera,) = model_.cameras.values()
    assert camera.model.name == model
    np.testing.assert_allclose(camera.params, scene.camera.params)
    assert not pair_usage(database, model_).contradicted

    points2d, ids = scene.seen[names[0]]
    pose = estimate_pose(points2d - 0.5, scene.points3d[ids], camera)
    assert pose is not None
    assert pose.reason is None
    assert pose.num_inliers == len(ids)
    np.testing.assert_allclose(pose.cam_from_world, scene.poses[names[0]], atol=1e-4)


@pytest.mark.parametrize("model", CAMERAS)
def test_points_are_projected_where_the_camera_sees_them(model: str, tmp_path: Path) -> None:
    scene = make_scene(model, tmp_path / "scene")
    for name, (points2d, ids) in scene.seen.items():
        projected = project_points(scene.points3d, scene.poses[name], scene.camera)
        np.testing.assert_allclose(projected[ids], points2d - 0.5, atol=1e-6)
        depths = scene.points3d @ scene.poses[name][2, :3] + scene.poses[name][2, 3]
        is_seen = np.isfinite(projected).all(axis=1)
        assert is_seen.all() if sees_all_around(scene.camera) else not is_seen[depths <= 0].any()


def panorama_pair(
    tmp_path: Path,
) -> tuple[SurroundingScene, np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """A scene, the true essential matrix, the points and all matches of its first two images."""
    scene = make_scene("EQUIRECTANGULAR", tmp_path / "scene")
    pose0, pose1 = (pycolmap.Rigid3d(scene.poses[name]) for name in ("0.png", "1.png"))
    essential = pycolmap.essential_matrix_from_pose(pose1 * pose0.inverse())
    (points0, ids0), (points1, ids1) = scene.seen["0.png"], scene.seen["1.png"]
    _, indices0, indices1 = np.intersect1d(ids0, ids1, return_indices=True)
    matches = np.column_stack([indices0, indices1]).astype(np.uint32)
    return scene, essential, (points0, points1), matches


def test_errors_of_rays_are_angles(tmp_path: Path) -> None:
    """Points half a pixel off their place are off their epipolar plane by so much at most."""
    scene, essential, (points0, points1), matches = panorama_pair(tmp_path)
    cameras = scene.camera, scene.camera
    first, second = points0[matches[:, 0]], points1[matches[:, 1]]
    rays = matched_rays(cameras, (first, second))
    assert rays[0].shape == (len(matches), 3)
    assert sampson_errors(*rays, essential).max() < 1e-9
    moved = matched_rays(cameras, (first, second + np.array([0, 0.5])))
    angle = 0.5 * np.pi / scene.camera.height
    distances = line_distances(*moved, essential)
    assert 0.95 * angle < distances[1].max() <= angle * 1.0001
    # The correction of both ends at once is smaller than that of either.
    assert (sampson_errors(*moved, essential) <= np.minimum(*distances) + 1e-12).all()


def test_wrong_matches_of_panoramas_are_chance(tmp_path: Path) -> None:
    scene, essential, points, matches = panorama_pair(tmp_path)
    cameras = scene.camera, scene.camera
    geometry = pycolmap.TwoViewGeometry()
    geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
    geometry.E = essential
    geometry.inlier_matches = matches
    assert not weigh_geometry(geometry, cameras, points, matches, 4.0).is_chance
    wrong = matches.copy()
    wrong[:, 1] = np.random.default_rng(0).permutation(wrong[:, 1])
    geometry.inlier_matches = wrong
    assert weigh_geometry(geometry, cameras, points, wrong, 4.0).is_chance


def test_a_panorama_matches_a_photograph(tmp_path: Path) -> None:
    scene, essential, (points0, _), matches = panorama_pair(tmp_path)
    photograph = pycolmap.Camera(
        model="PINHOLE", width=800, height=600, params=[400, 400, 400, 300]
    )
    pose = scene.poses["1.png"]
    in_camera = scene.points3d @ pose[:, :3].T + pose[:, 3]
    ids = np.array(scene.seen["0.png"][1])[matches[:, 0]]
    ahead = in_camera[ids, 2] > 0.5
    places = np.asarray(photograph.img_from_cam(in_camera[ids][ahead]))
    cameras = scene.camera, photograph
    rays = matched_rays(cameras, (points0[matches[:, 0]][ahead], places))
    assert sampson_errors(*rays, essential).max() < 1e-9
