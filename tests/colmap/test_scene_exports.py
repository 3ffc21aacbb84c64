"""Scenes for splats and radiance fields: a 3D point is where the exported image shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.colmap.model_files import read_model
from featplug.colmap.scene_exports import SceneKind, check_cameras, export_scene, scene_folders

SIZE = 400, 300
PARAMS = {
    "SIMPLE_PINHOLE": (330, 205, 148),
    "SIMPLE_RADIAL": (330, 205, 148, -0.12),
    "OPENCV": (330, 335, 205, 148, -0.1, 0.02, 0.002, -0.003),
    "OPENCV_FISHEYE": (200, 201, 203, 149, 0.02, -0.003, 0.001, 0.0),
    "FULL_OPENCV": (330, 335, 205, 148, -0.1, 0.02, 0.002, -0.003, 0.01, 0, 0, 0),
    "EQUIRECTANGULAR": (400, 300),
}
POINTS = np.array(
    [[-0.9, -0.6, 4], [0.8, -0.5, 4.5], [0.1, 0.2, 3.5], [0.9, 0.7, 5], [-0.8, 0.6, 4]]
)


def write_scene(
    folder: Path, names: Sequence[str], camera_models: Sequence[str], orientation: int = 1
) -> Path:
    """Write a workspace of images with a bright spot at each point, as distorted cameras see it."""
    model = pycolmap.Reconstruction()
    for number, name in enumerate(camera_models, 1):
        params = np.array(PARAMS[name], float)
        camera = pycolmap.Camera(
            camera_id=number, model=name, width=SIZE[0], height=SIZE[1], params=params
        )
        model.add_camera_with_trivial_rig(camera)
    tracks: list[pycolmap.Track] = [pycolmap.Track() for _ in POINTS]
    for number, name in enumerate(names, 1):
        camera = model.cameras[min(number, len(camera_models))]
        step = number % 3 - 1
        turn = np.array([0.03 * step, -0.02 * step, 0.02, 1.0])
        turn /= np.linalg.norm(turn)
        pose = pycolmap.Rigid3d(
            pycolmap.Rotation3d(turn), np.array([0.1 * step, -0.05 * step, 0.2])
        )
        seen = np.array([camera.img_from_cam(pose * point) for point in POINTS]).reshape(-1, 2)
        image = pycolmap.Image(
            image_id=number, name=name, camera_id=camera.camera_id, keypoints=seen
        )
        model.add_image_with_trivial_frame(image, pose)
        for index, track in enumerate(tracks):
            track.add_element(number, index)
        _draw(folder / "images" / name, seen, orientation)
    for point, track in zip(POINTS, tracks, strict=True):
        model.add_point3D(point, track, np.array([250, 240, 230], np.uint8))
    (folder / "sparse" / "0").mkdir(parents=True)
    model.write(str(folder / "sparse" / "0"))
    return folder


def _draw(path: Path, spots: np.ndarray, orientation: int) -> None:
    """Draw round spots around points in COLMAP's pixels, and a dark frame."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    squared = ((x - spots[:, 0, None, None]) ** 2 + (y - spots[:, 1, None, None]) ** 2).min(0)
    grey = 20 + 230 * np.exp(-squared / (2 * 3.0**2))
    pixels = np.repeat(grey[..., None], 3, axis=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 97} if path.suffix != ".png" else {}
    if path.name.startswith("deep"):
        cv2.imwrite(str(path), (pixels * 257).astype(np.uint16))
    elif path.name.startswith("grey"):
        Image.fromarray(grey.astype(np.uint8)).save(path, exif=exif, **options)
    else:
        Image.fromarray(pixels.astype(np.uint8)).save(path, exif=exif, **options)


def brightness_offset(pixels: np.ndarray, at: np.ndarray) -> float:
    """Distance of a spot's centre from a point in COLMAP's pixels."""
    x0, y0 = np.floor(at).astype(int) - 9
    window = pixels[y0 : y0 + 19, x0 : x0 + 19].astype(float) - 20
    window[window < 25] = 0
    y, x = np.mgrid[y0 : y0 + 19, x0 : x0 + 19] + 0.5
    centre = np.array([(window * x).sum(), (window * y).sum()]) / window.sum()
    return float(np.linalg.norm(centre - at))


def assert_shown(images: Path, model: pycolmap.Reconstruction) -> None:
    """Each 3D point, projected by the model, is a spot of the exported image."""
    assert model.num_reg_images() > 0
    for image in model.images.values():
        with Image.open(images / image.name) as opened:
            assert opened.getexif().get(0x0112, 1) == 1, "something would turn it"
            assert opened.mode == "RGB"
            assert opened.size == (image.camera.width, image.camera.height)
            pixels = np.asarray(opened.convert("L"))
        for point in model.points3D.values():
            projected = image.project_point(point.xyz)
            assert brightness_offset(pixels, projected) < 0.3, image.name
        for seen in image.get_observation_points2D():
            expected = image.project_point(model.points3D[seen.point3D_id].xyz)
            np.testing.assert_allclose(seen.xy, expected, atol=0.01)


@pytest.mark.parametrize("kind", ["gsplat", "undistorted"])
@pytest.mark.parametrize("camera", ["SIMPLE_PINHOLE", "SIMPLE_RADIAL", "OPENCV", "OPENCV_FISHEYE"])
def test_points_are_where_undistorted_images_show_them(
    tmp_path: Path, kind: SceneKind, camera: str
) -> None:
    scene = write_scene(tmp_path / "scene", ["a.jpg", "b.png"], [camera])
    done = export_scene(kind, scene, tmp_path / "out")
    assert (done.num_images, done.num_points) == (2, len(POINTS))
    model = read_model(tmp_path / "out" / ("sparse/0" if kind == "gsplat" else "sparse"))
    assert {c.model.name for c in model.cameras.values()} <= {"PINHOLE", "SIMPLE_PINHOLE"}
    assert_shown(tmp_path / "out" / "images", model)
    has_stereo = (tmp_path / "out" / "stereo" / "patch-match.cfg").is_file()
    assert has_stereo == (kind == "undistorted")
    top = {path.name for path in (tmp_path / "out").iterdir()}
    assert top >= {"images", "sparse"}
    if kind == "gsplat":
        assert top == {"images", "sparse"}


@pytest.mark.parametrize("camera", ["SIMPLE_PINHOLE", "SIMPLE_RADIAL"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_turned_photographs_are_exported_as_their_stored_pixels(
    tmp_path: Path, camera: str, orientation: int
) -> None:
    names = ["a.jpg", "b.png", "c.webp"]
    scene = write_scene(tmp_path / "scene", names, [camera], orientation)
    export_scene("gsplat", scene, tmp_path / "gsplat")
    assert_shown(tmp_path / "gsplat" / "images", read_model(tmp_path / "gsplat" / "sparse" / "0"))
    export_scene("nerfstudio", scene, tmp_path / "nerfstudio")
    assert_reads_as_nerfstudio(tmp_path / "nerfstudio", scene)


def test_photographs_that_others_cannot_read_are_converted(tmp_path: Path) -> None:
    names = ["a.jpg", "a.avif", "deep.png", "grey.jpg", "scan.tiff", "day 1/a.jpg", "b.webp"]
    scene = write_scene(tmp_path / "scene", names, ["OPENCV"])
    export_scene("gsplat", scene, tmp_path / "out")
    model = read_model(tmp_path / "out" / "sparse" / "0")
    assert_shown(tmp_path / "out" / "images", model)
    exported = sorted(image.name for image in model.images.values())
    assert exported == sorted(
        ["a.jpg", "a.avif.jpg", "deep.png", "grey.jpg", "scan.png", "day 1_a.jpg", "b.jpg"]
    )
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == exported


def assert_reads_as_nerfstudio(folder: Path, scene: Path) -> None:
    """Project the points as nerfstudio does: OpenGL's axes, OpenCV's distortion."""
    contents = json.loads((folder / "transforms.json").read_text())
    assert contents["ply_file_path"] == "sparse_pc.ply"
    assert np.array(contents["applied_transform"]).shape == (3, 4)
    assert f"element vertex {len(POINTS)}".encode() in (folder / "sparse_pc.ply").read_bytes()
    assert len(contents["frames"]) == read_model(scene / "sparse" / "0").num_reg_images()
    for frame in contents["frames"]:
        given = {**contents, **frame}
        path = folder / frame["file_path"]
        with Image.open(path) as opened:
            assert opened.getexif().get(0x0112, 1) == 1
            assert opened.size == (given["w"], given["h"])
            pixels = np.asarray(opened.convert("L"))
        world_from_cam = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(np.linalg.det(world_from_cam[:3, :3]), 1)
        in_camera = (POINTS - world_from_cam[:3, 3]) @ world_from_cam[:3, :3]
        assert (in_camera[:, 2] < 0).all(), "points are in front, at negative z"
        rays = (in_camera * [1, -1, -1]).reshape(-1, 1, 3)
        matrix = np.array(
            [[given["fl_x"], 0, given["cx"]], [0, given["fl_y"], given["cy"]], [0, 0, 1]]
        )
        if given["camera_model"] == "OPENCV_FISHEYE":
            names = "k1", "k2", "k3", "k4"
            project = cv2.fisheye.projectPoints
        else:
            names = "k1", "k2", "p1", "p2"
            project = cv2.projectPoints
        distortion = np.array([given.get(name, 0.0) for name in names])
        zero = np.zeros(3)
        if given["camera_model"] == "OPENCV_FISHEYE":
            projected, _ = project(rays, zero, zero, matrix, distortion)
        else:
            projected, _ = project(rays, zero, zero, matrix, distortion)
        for at in projected.reshape(-1, 2):
            assert brightness_offset(pixels, at) < 0.3, frame["file_path"]


@pytest.mark.parametrize(
    "cameras",
    [["SIMPLE_PINHOLE"], ["SIMPLE_RADIAL"], ["OPENCV", "SIMPLE_RADIAL"], ["OPENCV_FISHEYE"]],
)
def test_nerfstudio_sees_the_points_where_the_photographs_show_them(
    tmp_path: Path, cameras: list[str]
) -> None:
    scene = write_scene(tmp_path / "scene", ["a.jpg", "sub/b.png", "grey.png"], cameras)
    export_scene("nerfstudio", scene, tmp_path / "out")
    assert_reads_as_nerfstudio(tmp_path / "out", scene)
    assert (tmp_path / "out" / "images" / "a.jpg").is_symlink()
    contents = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert ("fl_x" in contents) == (len(cameras) == 1)


@pytest.mark.parametrize(
    ("kind", "cameras", "named"),
    [
        ("nerfstudio", ["EQUIRECTANGULAR"], "EQUIRECTANGULAR"),
        ("gsplat", ["EQUIRECTANGULAR"], "EQUIRECTANGULAR"),
        ("undistorted", ["OPENCV", "EQUIRECTANGULAR"], "EQUIRECTANGULAR"),
        ("nerfstudio", ["FULL_OPENCV"], "FULL_OPENCV"),
        ("nerfstudio", ["OPENCV", "OPENCV_FISHEYE"], "fisheye"),
    ],
)
def test_cameras_that_cannot_be_exported_are_named_before_the_work(
    kind: SceneKind, cameras: list[str], named: str
) -> None:
    made = [
        pycolmap.Camera(model=name, width=400, height=300, params=np.array(PARAMS[name], float))
        for name in cameras
    ]
    with pytest.raises(ValueError, match=rf"^the-model .*{named}.*"):
        check_cameras(kind, made, "the-model")


def test_missing_and_resized_photographs_are_named_before_the_work(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene", ["a.jpg", "b.jpg"], ["OPENCV"])
    (scene / "images" / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"images lacks 1 .* b\.jpg; .*--image_dir"):
        export_scene("gsplat", scene, tmp_path / "out")
    Image.new("RGB", (200, 150)).save(scene / "images" / "b.jpg")
    with pytest.raises(ValueError, match=r"b\.jpg has 200×150.*400×300.*--image_dir"):
        export_scene("gsplat", scene, tmp_path / "out")
    (scene / "images").rename(scene / "others")
    with pytest.raises(FileNotFoundError, match="--image_dir"):
        export_scene("gsplat", scene / "sparse" / "0", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no COLMAP model"):
        scene_folders(tmp_path)
    assert not (tmp_path / "out").exists()


def test_an_export_is_replaced_only_on_request_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_scene(tmp_path / "scene", ["a.jpg"], ["OPENCV"])
    export_scene("gsplat", scene, tmp_path / "out")
    with pytest.raises(ValueError, match=r"out exists.*--overwrite"):
        export_scene("gsplat", scene, tmp_path / "out")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(pycolmap, "undistort_images", fail)
        with pytest.raises(ValueError, match="no space"):
            export_scene("gsplat", scene, tmp_path / "out", overwrite=True)
    assert_shown(tmp_path / "out" / "images", read_model(tmp_path / "out" / "sparse" / "0"))
    export_scene("undistorted", scene, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "stereo").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scene"]


def test_without_links_photographs_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows for users without the right to make links."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    scene = write_scene(tmp_path / "scene", ["a.jpg", "sub/b.webp"], ["OPENCV"], 6)
    monkeypatch.setattr(Path, "symlink_to", fail)
    export_scene("nerfstudio", scene, tmp_path / "out")
    assert_reads_as_nerfstudio(tmp_path / "out", scene)
    copied = sorted((tmp_path / "out" / "images").rglob("*.jpg"))
    assert [path.name for path in copied] == ["a.jpg", "b.jpg"]
    assert not any(path.is_symlink() for path in copied)


def test_a_name_that_leaves_the_folder_is_rejected(tmp_path: Path) -> None:
    """What is exported stays in the folder of the export."""
    model = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions())
    for image in model.images.values():
        image.name = f"../../{image.name}"
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    model.write(str(tmp_path / "sparse" / "0"))
    with pytest.raises(ValueError, match=r"\.\./"):
        export_scene("nerfstudio", tmp_path, tmp_path / "a" / "b" / "out")
