"""Photographs localized one by one, as a batch localizes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

import featplug
from featplug.localization.queries import read_poses, read_queries
from featplug.metrics.poses import camera_centres
from featplug.stages.extract import extract_features

NUM_RETRIEVED = 4


@pytest.fixture(scope="module")
def localizer(localized_room: Path) -> featplug.Localizer:
    return featplug.Localizer(localized_room, device="cpu")


@pytest.fixture(scope="module")
def cameras(aachen_room: Path) -> dict[str, pycolmap.Camera]:
    queries = read_queries(aachen_room / "queries" / "*_with_intrinsics.txt")
    return {query.name: query.camera for query in queries}


def image_of(aachen_room: Path, name: str) -> Path:
    return aachen_room / "images_upright" / name


def test_poses_are_those_of_the_pipeline(
    localizer: featplug.Localizer,
    localized_room: Path,
    aachen_room: Path,
    cameras: dict[str, pycolmap.Camera],
) -> None:
    logs = json.loads((localized_room / "logs.json").read_text())["loc"]
    truth = read_poses(aachen_room / "ground_truth.txt")
    assert len(logs) == 4
    for name, entry in logs.items():
        found = localizer.localize(image_of(aachen_room, name), cameras[name], NUM_RETRIEVED)
        np.testing.assert_array_equal(found.cam_from_world, entry["cam_from_world"])
        (attempt,) = entry["attempts"]
        assert found.retrieved == attempt["db"]
        assert found.num_inliers == len(found.points2d) == entry["num_inliers"]
        assert found.is_localized
        assert found.confidence > 0.5
        centres = camera_centres(np.stack([found.cam_from_world, truth[name]]))
        assert np.linalg.norm(centres[0] - centres[1]) < 0.05


def test_a_file_an_array_and_features_give_the_same(
    localizer: featplug.Localizer, aachen_room: Path, cameras: dict[str, pycolmap.Camera]
) -> None:
    name, camera = next(iter(cameras.items()))
    path = image_of(aachen_room, name)
    array = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    poses = [
        localizer.localize(image, camera).cam_from_world
        for image in (str(path), array, localizer.extract(path))
    ]
    assert poses[0] is not None
    # OpenCV's decoder may differ from Pillow's in the last bit.
    np.testing.assert_allclose(poses[1], poses[0], atol=1e-3)
    np.testing.assert_array_equal(poses[2], poses[0])


def test_without_memory_the_poses_are_the_same(
    localizer: featplug.Localizer,
    localized_room: Path,
    aachen_room: Path,
    cameras: dict[str, pycolmap.Camera],
) -> None:
    reading = featplug.Localizer(localized_room, device="cpu", memory_gib=1e-9)
    name, camera = next(iter(cameras.items()))
    path = image_of(aachen_room, name)
    np.testing.assert_array_equal(
        reading.localize(path, camera).cam_from_world,
        localizer.localize(path, camera).cam_from_world,
    )


def test_a_photograph_of_nothing_is_not_localized(localizer: featplug.Localizer) -> None:
    for image in (np.zeros((480, 640, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)):
        found = localizer.localize(image)
        assert not found.is_localized
        assert found.reason
        assert found.cam_from_world is None
        assert found.confidence == 0
        assert len(found.points2d) == len(found.points3d) == 0


def test_a_prior_position_selects_the_database_images(
    localizer: featplug.Localizer,
    localized_room: Path,
    aachen_room: Path,
    cameras: dict[str, pycolmap.Camera],
) -> None:
    name, camera = next(iter(cameras.items()))
    path = image_of(aachen_room, name)
    everywhere = localizer.localize(path, camera)
    model = pycolmap.Reconstruction(localized_room / "sfm" / "model")
    centres = {image.name: image.projection_center() for image in model.images.values()}
    near = centres[everywhere.retrieved[0]]
    distances = {other: np.linalg.norm(centre - near) for other, centre in centres.items()}
    radius = float(sorted(distances.values())[2]) + 1e-6
    found = localizer.localize(path, camera, near=near, radius=radius)
    assert set(found.retrieved) == {n for n, distance in distances.items() if distance <= radius}
    assert found.is_localized
    far = localizer.localize(path, camera, near=near + 1000, radius=1.0)
    assert not far.is_localized
    assert far.retrieved == []
    with pytest.raises(ValueError, match="radius"):
        localizer.localize(path, camera, near=near)


def test_a_camera_of_another_size_is_an_error(
    localizer: featplug.Localizer, aachen_room: Path, cameras: dict[str, pycolmap.Camera]
) -> None:
    name, camera = next(iter(cameras.items()))
    other = pycolmap.Camera(
        model="PINHOLE", width=camera.width + 1, height=camera.height, params=[500, 500, 300, 200]
    )
    with pytest.raises(ValueError, match="camera"):
        localizer.localize(image_of(aachen_room, name), other)


def test_a_model_with_its_feature_file(
    localizer: featplug.Localizer,
    localized_room: Path,
    aachen_room: Path,
    cameras: dict[str, pycolmap.Camera],
) -> None:
    given = featplug.Localizer(
        localized_room / "sfm" / "model",
        features=localized_room / "feats-featplug-sift.h5",
        device="cpu",
    )
    name, camera = next(iter(cameras.items()))
    path = image_of(aachen_room, name)
    np.testing.assert_array_equal(
        given.localize(path, camera).cam_from_world, localizer.localize(path, camera).cam_from_world
    )


def test_what_does_not_belong_together_is_an_error(
    localized_room: Path, aachen_room: Path, tmp_path: Path
) -> None:
    model, features = localized_room / "sfm" / "model", localized_room / "feats-featplug-sift.h5"
    with pytest.raises(FileNotFoundError, match="output folder"):
        featplug.Localizer(tmp_path)
    with pytest.raises(ValueError, match="features"):
        featplug.Localizer(model)
    with pytest.raises(ValueError, match=r"feats-featplug-sift\.h5 was made with"):
        featplug.Localizer(model, "mtldesc", features=features, device="cpu")
    with pytest.raises(ValueError, match=r"feats-featplug-sift\.h5 was made with"):
        featplug.Localizer(model, featplug.load("sift", max_keypoints=700), features=features)
    other = tmp_path / "feats-featplug-sift.h5"
    fewer = featplug.load("sift", max_keypoints=700, device="cpu")
    names = [image.name for image in pycolmap.Reconstruction(model).images.values()]
    extract_features(fewer, aachen_room / "images_upright", feature_path=other, image_list=names)
    with pytest.raises(ValueError, match="keypoints"):
        featplug.Localizer(model, features=other, device="cpu")
    damaged = tmp_path / "run"
    shutil.copytree(localized_room, damaged, ignore=shutil.ignore_patterns("*.h5", "*.png"))
    (damaged / "results.json").write_text("{}")
    with pytest.raises(ValueError, match=r"results\.json"):
        featplug.Localizer(damaged)
