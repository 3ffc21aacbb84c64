"""Rigs: what a file of them has to say, and what becomes of them in databases and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from featplug.colmap.cameras import CameraOptions, ImageCameras, make_cameras
from featplug.colmap.model_files import read_model
from featplug.colmap.rigs import RigCamera, read_rigs
from featplug.io.exif import ExifCamera
from featplug.io.image_files import ImageHeader
from featplug.io.pair_lists import write_pairs
from featplug.stages.pairs import exhaustive
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, reconstruct
from pipelines.sfm_summary import summary
from tests.scenes.synthetic import SyntheticScene, write_synthetic_scene

REFERENCE = {"image_prefix": "left/", "ref_sensor": True}
RIGHT = {
    "image_prefix": "right/",
    "cam_from_rig_rotation": [1, 0, 0, 0],
    "cam_from_rig_translation": [-0.2, 0, 0],
}


def write(folder: Path, *rigs: list[dict[str, Any]]) -> Path:
    path = folder / "rig_config.json"
    path.write_text(json.dumps([{"cameras": cameras} for cameras in rigs]))
    return path


def test_images_are_of_cameras_and_frames_by_their_names(tmp_path: Path) -> None:
    rigs = read_rigs(write(tmp_path, [REFERENCE, RIGHT]))
    assert rigs.has_poses
    names = ["left/10.jpg", "left/9.jpg", "right/9.jpg", "right/a/1.jpg", "left/a/1.jpg", "x.jpg"]
    cameras = rigs.cameras_of(names)
    assert {name: cameras[name].image_prefix for name in names[:-1]} == {
        name: name.split("/")[0] + "/" for name in names[:-1]
    }
    assert "x.jpg" not in cameras
    assert rigs.sequences(names) == [
        [["left/9.jpg", "right/9.jpg"], ["left/10.jpg"]], [["right/a/1.jpg", "left/a/1.jpg"]],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "message"),
    [
        ({"cam_from_rig_translation": None}, "'right/' has a cam_from_rig_rotation without"),
        ({"cam_from_rig_rotation": [1, 0, 0]}, "'right/'.*got 3 and 3 numbers"),
        ({"cam_from_rig_rotation": [2, 0, 0, 0]}, "'right/': expected a quaternion of norm 1"),
        ({"ref_sensor": True}, "a rig has 2 cameras with ref_sensor"),
        ({"image_prefix": "left/"}, "two cameras have the prefix 'left/'"),
        ({"image_prefix": 3}, "image_prefix: expected text, got 3"),
        ({"camera_model_name": "PINHOLE"}, "camera_params without camera_model_name"),
        ({"camera_model_name": "PINHOL", "camera_params": [1]}, "no camera model 'PINHOL'"),
        ({"camera_model_name": "PINHOLE", "camera_params": [1]}, "has 1 parameters"),
    ],
)
def test_a_file_that_contradicts_itself_is_named(
    tmp_path: Path, right: dict[str, Any], message: str
) -> None:
    camera = {key: value for key, value in (RIGHT | right).items() if value is not None}
    with pytest.raises(ValueError, match=rf"rig_config.json.*{message}"):
        read_rigs(write(tmp_path, [REFERENCE, camera]))


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        read_rigs(tmp_path / "gone.json")
    for text, message in (("{}", "expected a list"), ("[]", "no rig"), ("[", "damaged")):
        (tmp_path / "rig_config.json").write_text(text)
        with pytest.raises(ValueError, match=rf"rig_config.json.*{message}"):
            read_rigs(tmp_path / "rig_config.json")
    moved = {**REFERENCE, "cam_from_rig_rotation": [1, 0, 0, 0]}
    for camera, message in (
        ({"image_prefix": "left/"}, "0 cameras with ref_sensor"),
        ({**moved, "cam_from_rig_translation": [0, 0, 0]}, "ref_sensor and cam_from_rig"),
    ):
        with pytest.raises(ValueError, match=message):
            read_rigs(write(tmp_path, [camera]))


@pytest.mark.parametrize(
    ("prefix", "names", "message"),
    [
        ("right/", ["left/1.jpg"], "no image begins with 'right/'"),
        ("lef", ["left/1.jpg"], "the prefixes 'left/' and 'lef' of two cameras"),
        ("right/", ["left/1.jpg", "right/2.jpg"], "images of one name"),
    ],
)
def test_images_that_do_not_fit_are_named(
    tmp_path: Path, prefix: str, names: list[str], message: str
) -> None:
    rigs = read_rigs(write(tmp_path, [REFERENCE, {"image_prefix": prefix}]))
    with pytest.raises(ValueError, match=rf"rig_config.json: .*{message}"):
        rigs.cameras_of(names)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    folder = tmp_path_factory.mktemp("rig") / "scene"
    return write_synthetic_scene(folder, 8, noise=0.3, num_cameras=3)


def true_rig(scene: SyntheticScene, with_poses: bool) -> list[dict[str, Any]]:
    (rig,) = scene.truth.rigs.values()
    cameras = []
    for number in sorted(scene.truth.cameras):
        sensor = scene.truth.cameras[number].sensor_id
        camera: dict[str, Any] = {"image_prefix": f"camera{number:06}/"}
        if rig.is_ref_sensor(sensor):
            camera["ref_sensor"] = True
        elif with_poses:
            pose = rig.sensor_from_rig(sensor)
            x, y, z, w = pose.rotation.quat
            camera["cam_from_rig_rotation"] = [w, x, y, z]
            camera["cam_from_rig_translation"] = pose.translation.tolist()
        cameras.append(camera)
    return cameras


def sfm(scene: SyntheticScene, rig: Path, outputs: Path, **options: Any) -> dict[str, Any]:
    return reconstruct(
        SfmOptions(
            scene.images,
            matches=scene.matches,
            rig=rig,
            outputs=outputs,
            extraction=FeatureOptions(features=scene.features),
            **options,
        )
    )


def rig_poses(model: pycolmap.Reconstruction) -> dict[str, np.ndarray]:
    """Poses in the rig by the folder of the camera's images."""
    (rig,) = model.rigs.values()
    folder = {image.camera_id: image.name.split("/")[0] for image in model.images.values()}
    return {folder[s.id]: pose.matrix() for s, pose in rig.non_ref_sensors.items() if pose}


@pytest.mark.parametrize("is_fixed", [True, False])
def test_known_poses_in_the_rig_hold_the_model_and_its_scale(
    scene: SyntheticScene, tmp_path: Path, is_fixed: bool
) -> None:
    path = write(tmp_path, true_rig(scene, with_poses=True))
    results = sfm(scene, path, tmp_path / "out", fix_rig=is_fixed)
    assert results["rigs"]["frames"] == 8
    assert results["rigs"]["poses"] == "given"
    assert "rigs: 3 cameras in 8 frames" in summary(results)
    assert [line.split()[:2] for line in results["cameras"]]
    model = read_model(tmp_path / "out" / "sparse" / "0")
    assert (model.num_rigs(), model.num_reg_frames(), model.num_reg_images()) == (1, 8, 24)
    assert (tmp_path / "out" / "sparse" / "0" / "rigs.bin").is_file()
    true = rig_poses(scene.truth)
    for folder, pose in rig_poses(model).items():
        np.testing.assert_allclose(pose, true[folder], atol=1e-9 if is_fixed else 0.02)

    # The poses in the rig give the model its scale.
    def extent(model: pycolmap.Reconstruction) -> float:
        frames = sorted(
            (min(model.images[d.id].name for d in frame.data_ids), frame)
            for frame in model.frames.values()
        )
        places = [
            -(f.rig_from_world.rotation.matrix().T @ f.rig_from_world.translation)
            for _, f in frames
        ]
        return float(np.linalg.norm(places[-1] - places[0]))

    assert extent(model) == pytest.approx(extent(scene.truth), rel=0.05)


@pytest.mark.parametrize("mapper", ["incremental", "global", "partitioned"])
def test_unknown_poses_in_the_rig_are_estimated(
    scene: SyntheticScene, tmp_path: Path, mapper: str
) -> None:
    is_in_clusters = mapper == "partitioned"
    if not is_in_clusters and not hasattr(pycolmap, f"{mapper}_mapping"):
        pytest.skip("this pycolmap has no such mapper")
    path = write(tmp_path, true_rig(scene, with_poses=False))
    clusters = {"cluster_images": 15, "cluster_overlap": 12} if is_in_clusters else {}
    results = sfm(scene, path, tmp_path / "out", mapper=mapper, **clusters)
    assert len(results.get("clusters", [])) == 2 * is_in_clusters
    assert results["rigs"]["poses"] == "estimated"
    model = read_model(tmp_path / "out" / "model")
    assert (model.num_rigs(), model.num_reg_frames(), model.num_reg_images()) == (1, 8, 24)
    true, made = rig_poses(scene.truth), rig_poses(model)
    assert len(made) == 2
    for folder, pose in made.items():
        np.testing.assert_allclose(pose[:, :3], true[folder][:, :3], atol=0.01)
    leftovers = {path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("tmp")}
    assert not leftovers


def test_a_camera_that_the_first_model_lacks_leaves_the_model_without_rigs(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    pairs = [pair for pair in exhaustive(scene.names) if "camera000003/" not in "".join(pair)]
    write_pairs(tmp_path / "pairs.txt", pairs)
    path = write(tmp_path, true_rig(scene, with_poses=False))
    results = sfm(scene, path, tmp_path / "out", pairs=str(tmp_path / "pairs.txt"))
    assert "of camera000003/ is not known" in results["rigs"]["problem"]
    assert "without rigs: " in summary(results)
    model = read_model(tmp_path / "out" / "model")
    assert (model.num_reg_frames(), model.num_reg_images()) == (16, 16)


def test_frames_are_sequences_and_intrinsics_of_the_file_are_kept(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    cameras = true_rig(scene, with_poses=True)
    params = [1280.0, 512.0, 384.0, 0.05]
    cameras[1] |= {"camera_model_name": "SIMPLE_RADIAL", "camera_params": params}
    path = write(tmp_path, cameras)
    results = sfm(scene, path, tmp_path / "out", pairs="sequential", overlap=1)
    assert results["metrics"]["selected_pairs"]["value"] == 8 * 3 + 7 * 9
    model = read_model(tmp_path / "out" / "model")
    by_folder = {
        image.name.split("/")[0]: model.cameras[image.camera_id].params.tolist()
        for image in model.images.values()
    }
    assert by_folder[cameras[1]["image_prefix"].rstrip("/")] == params
    assert by_folder[cameras[0]["image_prefix"].rstrip("/")] != params


def test_options_that_do_not_fit_cost_no_work(scene: SyntheticScene, tmp_path: Path) -> None:
    path = write(tmp_path, [REFERENCE, RIGHT])
    with pytest.raises(ValueError, match="no image begins with 'left/'"):
        sfm(scene, path, tmp_path / "out")
    path = write(tmp_path, true_rig(scene, with_poses=False))
    with pytest.raises(ValueError, match="--fix-rig has nothing to keep"):
        sfm(scene, path, tmp_path / "out", fix_rig=True)
    with pytest.raises(ValueError, match="add --rig FILE"):
        reconstruct(SfmOptions(scene.images, fix_rig=True, outputs=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_known_intrinsics_are_those_of_any_image_of_a_rig_camera(tmp_path: Path) -> None:
    """Whichever image the file of cameras names; two different ones are an error."""
    headers = {
        f"left/{i}.jpg": ImageHeader((640, 480), "JPEG", "RGB", ExifCamera(), 1, None)
        for i in range(3)
    }
    left = RigCamera("left/", ref_sensor=True)
    in_rig = dict.fromkeys(headers, left)

    def made(*lines: str) -> ImageCameras:
        path = tmp_path / "cameras.txt"
        path.write_text("\n".join(lines) + "\n")
        return make_cameras(CameraOptions(file=path), headers, in_rig)

    (camera,) = made("left/2.jpg SIMPLE_PINHOLE 640 480 600 320 240").cameras
    assert camera.focal_length_x == 600
    with pytest.raises(ValueError, match=r"left/.*different intrinsics"):
        made(
            "left/1.jpg SIMPLE_PINHOLE 640 480 600 320 240",
            "left/2.jpg SIMPLE_PINHOLE 640 480 700 320 240",
        )


def test_intrinsics_of_another_resolution_in_the_file_of_rigs_are_noticed() -> None:
    headers = {"left/0.jpg": ImageHeader((640, 480), "JPEG", "RGB", ExifCamera(), 1, None)}
    of_4k = RigCamera(
        "left/",
        ref_sensor=True,
        camera_model_name="PINHOLE",
        camera_params=[2000.0, 2000.0, 1920.0, 1080.0],
    )
    with pytest.raises(ValueError, match=r"left/.*outside.*640×480.*size"):
        make_cameras(CameraOptions(), headers, dict.fromkeys(headers, of_4k))
