"""Exports of a reconstruction: with the run, later, and where they fail."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featplug.cli.command_line import run_command
from featplug.colmap.cameras import CameraOptions
from featplug.colmap.model_files import read_model
from featplug.io.image_folder import list_images
from pipelines.sfm import SfmOptions, main, reconstruct


@pytest.fixture(scope="module")
def outputs(room_corner: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a run, inside the folder of its photographs, with two exports."""
    images = tmp_path_factory.mktemp("scene") / "images"
    shutil.copytree(room_corner / "images", images)
    command = ["sfm", "--images", str(images), "--outputs", str(images / "out")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*command, "--export", "gsplat", "--export", "nerfstudio"])
        run_command(main, prog="python -m pipelines.sfm")
    return images / "out"


def test_a_run_leaves_the_exports_that_were_asked_for(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = read_model(outputs / "sparse" / "0")
    splat = read_model(outputs / "gsplat" / "sparse" / "0")
    assert splat.num_points3D() == model.num_points3D()
    for image in splat.images.values():
        with Image.open(outputs / "gsplat" / "images" / image.name) as opened:
            assert opened.size == (image.camera.width, image.camera.height)
        errors = [
            np.linalg.norm(image.project_point(splat.points3D[seen.point3D_id].xyz) - seen.xy)
            for seen in image.get_observation_points2D()
        ]
        assert np.median(errors) < 1
    frames = json.loads((outputs / "nerfstudio" / "transforms.json").read_text())["frames"]
    assert len(frames) == model.num_reg_images()
    assert all((outputs / "nerfstudio" / frame["file_path"]).is_file() for frame in frames)
    assert not (outputs / "undistorted").exists()
    assert len(list_images(outputs.parent)) == 6, "exports are no photographs of the next run"


def test_exports_of_an_earlier_model_go(
    outputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = Path(shutil.copytree(outputs, tmp_path / "copy", symlinks=True))
    reconstruct(SfmOptions(outputs.parent, outputs=copy, export=("undistorted",)))
    assert (copy / "undistorted" / "sparse" / "images.bin").is_file()
    assert not (copy / "gsplat").exists()
    assert not (copy / "nerfstudio").exists()
    assert f"{copy / 'gsplat'} is of the earlier model" in caplog.text
    assert "--export nerfstudio" in caplog.text


def test_an_export_that_fails_leaves_the_model_and_names_the_command(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("the disk is full.")

    monkeypatch.setattr("pipelines.exports.export_scene", fail)
    options = SfmOptions(outputs.parent, outputs=tmp_path, export=("gsplat",))
    with pytest.raises(ValueError, match=r"disk is full\. .*featplug export gsplat"):
        reconstruct(options)
    assert read_model(tmp_path / "sparse" / "0").num_reg_images() == 6
    assert (tmp_path / "report.html").is_file()


def test_cameras_that_cannot_be_exported_are_rejected_before_the_work(
    room_corner: Path, tmp_path: Path
) -> None:
    options = SfmOptions(
        room_corner / "images",
        camera=CameraOptions("single", "FULL_OPENCV"),
        export=("nerfstudio",),
        outputs=tmp_path / "out",
    )
    with pytest.raises(ValueError, match=r"--camera\.model FULL_OPENCV.*gsplat"):
        reconstruct(options)
    assert not (tmp_path / "out").exists()


def test_exports_do_not_change_the_name_of_the_output_folder(room_corner: Path) -> None:
    plain = SfmOptions(room_corner / "images")
    assert SfmOptions(room_corner / "images", export=("gsplat",)).output_dir == plain.output_dir


def test_an_existing_run_is_exported_later(
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refusal: Callable[..., str],
) -> None:
    from featplug.cli.exchange_commands import EXPORTS

    arguments = ["--model", str(outputs), "--output", str(tmp_path / "splat")]
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    run_command(EXPORTS["gsplat"], prog="featplug export gsplat")
    points = read_model(outputs / "sparse" / "0").num_points3D()
    assert f"6 images, {points} points" in capsys.readouterr().out
    line = refusal(EXPORTS["gsplat"], "featplug export gsplat", *arguments)
    assert str(tmp_path / "splat") in line
    assert "--overwrite" in line
    line = refusal(
        EXPORTS["nerfstudio"], "featplug export nerfstudio", "--model", tmp_path, "--output", "x"
    )
    assert str(tmp_path) in line
    assert "featplug sfm" in line
    assert not os.path.lexists("x")
