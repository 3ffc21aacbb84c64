"""Recordings of models, read back by Rerun: a point is where the recorded photograph shows it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM
from featplug.colmap.model_files import read_model
from featplug.colmap.rerun_recording import RecordingOptions, export_recording
from featplug.metrics.poses import camera_centres, model_poses
from tests.colmap.test_scene_exports import POINTS, brightness_offset, write_scene

NAMES = ["a.jpg", "sub/b.png", "c d.jpg"]


@pytest.fixture
def chunk() -> Any:
    """Rerun's own reader."""
    return pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed")


def read_back(chunk: Any, path: Path) -> dict[str, dict[str, list[Any]]]:
    """Entity to its components, each with the values of all rows in the order of the timeline."""
    entities: dict[str, dict[str, list[Any]]] = {}
    for part in chunk.RrdReader(path).stream():
        columns = part.to_record_batch().to_pydict()
        order = np.argsort(columns.get("image", [0]), kind="stable")
        for name, values in columns.items():
            of_entity = entities.setdefault(part.entity_path, {})
            of_entity.setdefault(name, []).extend(values[i] for i in order)
    return entities


def projected(entity: dict[str, list[Any]], row: int, points: np.ndarray) -> np.ndarray:
    """Points as the recorded pinhole of a row sees them, in pixels."""
    world_from_cam = np.array(entity["Transform3D:mat3x3"][row]).reshape(3, 3).T
    centre = np.array(entity["Transform3D:translation"][row][0])
    matrix = np.array(entity["Pinhole:image_from_camera"][row]).reshape(3, 3).T
    seen = (points - centre) @ world_from_cam @ matrix.T
    return seen[:, :2] / seen[:, 2:]


@pytest.mark.parametrize("camera", ["SIMPLE_PINHOLE", "OPENCV", "OPENCV_FISHEYE"])
@pytest.mark.parametrize("side", [300, 1024])
def test_photographs_show_the_points_where_their_pinholes_do(
    tmp_path: Path, chunk: Any, camera: str, side: int
) -> None:
    scene = write_scene(tmp_path / "scene", NAMES, [camera])
    options = RecordingOptions(scene, tmp_path / "model.rrd", resize_max=side)
    done = export_recording(options)
    assert (done.num_images, done.num_photographs, done.num_points) == (3, 3, len(POINTS))
    entities = read_back(chunk, options.output)
    points = entities["/world/points/0"]
    found = np.array(points["Points3D:positions"][0])
    np.testing.assert_allclose(found[np.lexsort(found.T)], POINTS[np.lexsort(POINTS.T)], atol=1e-6)
    assert set(points["Points3D:colors"][0]) == {0xFAF0E6FF}
    image = entities["/world/image"]
    assert [text[0] for text in entities["/name"]["TextDocument:text"]] == sorted(NAMES)
    for row in range(len(NAMES)):
        with Image.open(io.BytesIO(bytes(image["EncodedImage:blob"][row][0]))) as opened:
            assert max(opened.size) <= side
            assert list(opened.size) == image["Pinhole:resolution"][row][0]
            pixels = np.asarray(opened.convert("L"))
        for at in projected(image, row, POINTS):
            assert brightness_offset(pixels, at) < 0.3
    for row, name in enumerate(sorted(NAMES)):
        escaped = name.replace("/", "\\/").replace(" ", "\\ ")
        fixed = entities[f"/world/cameras/{escaped}"]
        np.testing.assert_allclose(
            projected(fixed, 0, POINTS) / fixed["Pinhole:resolution"][0][0],
            projected(image, row, POINTS) / image["Pinhole:resolution"][row][0],
            atol=2e-3,
        )


def test_true_poses_of_another_frame_are_next_to_the_cameras(tmp_path: Path, chunk: Any) -> None:
    scene = write_scene(tmp_path / "scene", NAMES, ["SIMPLE_PINHOLE"])
    model = read_model(scene / "sparse" / "0")
    for number, image_id in enumerate(model.reg_image_ids()):  # their centres lie on a line
        frame = model.images[image_id].frame
        pose = frame.rig_from_world
        pose.translation += np.array([0, 0.4 * (number == 0), 0.1 * number])
        frame.rig_from_world = pose
    model.write(str(scene / "sparse" / "0"))
    turn = pycolmap.Rotation3d(
        np.array([0.1, 0.2, 0.3, 0.9]) / np.linalg.norm([0.1, 0.2, 0.3, 0.9])
    )
    poses = model_poses(model)
    model.transform(pycolmap.Sim3d(3.0, turn, np.array([5.0, 6.0, 7.0])))
    truth = model_poses(model) | {"unknown.jpg": np.eye(3, 4)}
    options = RecordingOptions(scene, tmp_path / "model.rrd")
    assert export_recording(options, truth).num_true_poses == 4
    entities = read_back(chunk, options.output)
    for name in ("a.jpg", "c\\ d.jpg"):
        shown, true = (entities[f"/world/{kind}/{name}"] for kind in ("cameras", "true_poses"))
        for key in ("Transform3D:translation", "Transform3D:mat3x3"):
            np.testing.assert_allclose(true[key][0], shown[key][0], atol=1e-5)
    ends = np.array(entities["/world/position_errors"]["LineStrips3D:strips"][0])
    centres = camera_centres(np.stack([poses[name] for name in sorted(NAMES)]))
    np.testing.assert_allclose(ends, np.stack([centres, centres], axis=1), atol=1e-5)


def test_coordinates_far_from_the_origin_keep_their_digits(tmp_path: Path, chunk: Any) -> None:
    scene = write_scene(tmp_path / "scene", NAMES, ["SIMPLE_PINHOLE"])
    model = read_model(scene / "sparse" / "0")
    far = np.array([500_000.0, 5_400_000.0, 300.0])
    model.transform(pycolmap.Sim3d(1.0, pycolmap.Rotation3d(), far))
    model.write(str(scene / "sparse" / "0"))
    options = RecordingOptions(scene, tmp_path / "model.rrd")
    export_recording(options)
    entities = read_back(chunk, options.output)
    text = entities["/offset"]["TextDocument:text"][0][0]
    offset = np.array([float(word) for word in text.partition(": ")[2].split(", ")])
    found = np.array(entities["/world/points/0"]["Points3D:positions"][0]) + offset - far
    np.testing.assert_allclose(found[np.lexsort(found.T)], POINTS[np.lexsort(POINTS.T)], atol=1e-5)


def test_photographs_that_cannot_be_used_are_left_out(tmp_path: Path, chunk: Any) -> None:
    scene = write_scene(tmp_path / "scene", NAMES, ["SIMPLE_PINHOLE"])
    (scene / "images" / "a.jpg").write_bytes(b"no image")
    Image.new("RGB", (30, 20)).save(scene / "images" / "sub" / "b.png")
    options = RecordingOptions(scene, tmp_path / "model.rrd")
    done = export_recording(options)
    assert list(done.skipped) == ["a.jpg", "sub/b.png"]
    assert "30×20" in done.skipped["sub/b.png"]
    assert "--image-dir" in done.skipped["sub/b.png"]
    entities = read_back(chunk, options.output)
    assert [text[0] for text in entities["/name"]["TextDocument:text"]] == ["c d.jpg"]
    assert "/world/cameras/a.jpg" in entities


def export(*arguments: str | Path) -> None:
    run_command(PROGRAM, "featplug", ["export", "rerun", *map(str, arguments)])


def test_the_command_works_without_photographs_and_replaces_nothing(
    tmp_path: Path, chunk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_scene(tmp_path / "scene", NAMES, ["EQUIRECTANGULAR"])
    (scene / "images").rename(tmp_path / "elsewhere")
    output = tmp_path / "model.rrd"
    export("--model", scene, "--output", output)
    assert "3 cameras, 0 photographs, 5 points" in capsys.readouterr().out
    entities = read_back(chunk, output)
    assert "Pinhole:resolution" not in entities["/world/cameras/a.jpg"]
    before = output.read_bytes()
    for arguments, remedy in (
        (("--output", output), "--overwrite"),
        (("--output", tmp_path / "model.bin"), "--output"),
        (("--output", output, "--image-dir", tmp_path / "none", "--overwrite"), "--image-dir"),
        (("--output", output, "--resize-max", "0", "--overwrite"), "--resize-max"),
    ):
        with pytest.raises(SystemExit) as ended:
            export("--model", scene, *arguments)
        assert ended.value.code == 2
        assert remedy in capsys.readouterr().err
    assert output.read_bytes() == before
    export(
        "--model", scene, "--output", output, "--overwrite", "--image_dir", tmp_path / "elsewhere"
    )
    printed = capsys.readouterr().out
    assert "3 cameras, 0 photographs" in printed
    assert "EQUIRECTANGULAR" in printed


def test_the_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_scene(tmp_path / "scene", NAMES, ["SIMPLE_PINHOLE"])
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(SystemExit) as ended:
        export("--model", scene, "--output", tmp_path / "model.rrd")
    assert ended.value.code == 2
    assert "pip install featplug[rerun]" in capsys.readouterr().err
    assert not (tmp_path / "model.rrd").exists()
