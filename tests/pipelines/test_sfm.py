"""Photographs to a model, by the command and by the function."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug import colmap
from featplug.colmap import CameraOptions
from featplug.pairs import write_pairs
from featplug.store import FeatureReader
from pipelines.sfm import reconstruct
from tests.conftest import REPOSITORY
from tests.worlds import write_room_corner, write_textured_images


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("room") / "corner"
    write_room_corner(folder)
    return folder


def run_sfm(*arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.sfm", *map(str, arguments)]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def outputs(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of the room."""
    folder = tmp_path_factory.mktemp("outputs")
    run = run_sfm("--images", room / "images", "--reference", room / "cameras", "--outputs", folder)
    assert run.returncode == 0, run.stderr
    assert re.search(r"registered images +6 images", run.stdout)
    assert "extract" in run.stderr  # progress
    return folder


def test_the_model_has_the_true_poses(outputs: Path, room: Path) -> None:
    results = json.loads((outputs / "results.json").read_text())
    metrics = {name: entry["value"] for name, entry in results["metrics"].items()}
    assert metrics["images"] == metrics["registered_images"] == metrics["reference_images"] == 6
    assert metrics["sparse_points"] > 300
    assert metrics["mean_reprojection_error"] < 0.6
    # The room is 2 units large and seen from 3 away.
    assert metrics["median_position_error"] < 0.02
    assert metrics["median_rotation_error"] < 1.0
    assert metrics["verified_pairs"] <= metrics["matched_pairs"] == 15
    assert all(entry["unit"] for entry in results["metrics"].values())
    assert set(results["stages"]) == {"extract", "match", "verify", "map"}
    assert results["options"]["seed"] == 0
    assert results["feature"]["name"] == "sift"


def test_everything_promised_is_there(outputs: Path) -> None:
    model = pycolmap.Reconstruction(str(outputs / "model"))
    results = json.loads((outputs / "results.json").read_text())
    assert model.num_points3D() == results["metrics"]["sparse_points"]["value"]
    assert "timer.cc" in (outputs / "colmap.log").read_text()
    header = (outputs / "points.ply").read_bytes()[:200]
    assert f"element vertex {model.num_points3D()}".encode() in header
    assert all("featplug" in path.name for path in outputs.glob("*.h5"))


def test_a_second_run_uses_what_is_there(outputs: Path, room: Path) -> None:
    results = reconstruct(room / "images", outputs=outputs, reference=room / "cameras")
    assert results["metrics"]["registered_images"]["value"] == 6
    assert results["stages"]["match"]["seconds"] < results["stages"]["map"]["seconds"] + 5
    before = (outputs / "results.json").read_text()
    assert json.loads(before) == results


def test_pairs_of_a_file_a_known_camera_and_the_global_mapper(room: Path, tmp_path: Path) -> None:
    if not colmap.has_global_mapping():
        pytest.skip("this pycolmap has no global mapper")
    names = [f"{i:02}.png" for i in range(6)]
    write_pairs(tmp_path / "pairs.txt", [(a, b) for a in names for b in names if a < b])
    results = reconstruct(
        room / "images",
        pair_selection=str(tmp_path / "pairs.txt"),
        mapper="global",
        camera=CameraOptions("single", "PINHOLE", "528,528,240,180"),
        outputs=tmp_path / "out",
        reference=room / "cameras",
    )
    assert results["metrics"]["registered_images"]["value"] == 6
    assert results["metrics"]["median_position_error"]["value"] < 0.01
    assert results["metrics"]["median_rotation_error"]["value"] < 0.5
    model = pycolmap.Reconstruction(str(tmp_path / "out" / "model"))
    (camera,) = model.cameras.values()
    np.testing.assert_array_equal(camera.params, [528, 528, 240, 180])


def test_a_bad_photograph_is_left_out_and_told(room: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in (room / "images").iterdir():
        (images / path.name).symlink_to(path)
    (images / "99.jpg").write_bytes(b"\xff\xd8 not a photograph")
    Image.new("L", (480, 360)).save(images / "98.png")
    results = reconstruct(images, pair_selection="sequential", outputs=tmp_path / "out")
    assert list(results["data"]["skipped"]) == ["99.jpg"]
    assert results["metrics"]["images"]["value"] == 8
    assert results["metrics"]["registered_images"]["value"] == 6
    with FeatureReader(tmp_path / "out" / "feats-featplug-sift.h5") as features:
        assert len(features.keypoints("98.png")) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "nowhere"], "There is no image folder nowhere."),
        (["--images", "{few}"], "needs two images or more, there is 1"),
        (["--images", "{apart}"], "None of the . matched pairs shows two views of one scene"),
        (["--images", "{room}", "--feature", "shift"], "no feature 'shift'; there are sift"),
        (["--images", "{room}", "--matcher", "NN"], "no matcher 'NN'; there are NN-mutual"),
        (["--images", "{room}", "--pairs", "gone.txt"], "no pair list gone.txt"),
        (["--images", "{room}", "--reference", "gone"], "no reference folder gone"),
        (["--images", "{room}", "--camera.params", "1,2"], "cannot make cameras"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(
    room: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write_textured_images(tmp_path / "few", 1)
    write_textured_images(tmp_path / "apart", 3)
    places = {"few": tmp_path / "few", "apart": tmp_path / "apart", "room": room / "images"}
    given = [argument.format(**places) for argument in arguments]
    run = run_sfm(*given, "--outputs", tmp_path / "out", cwd=tmp_path)
    assert run.returncode == 2
    last = run.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("python -m pipelines.sfm: ")
    assert re.search(message, last)
    assert "Traceback" not in run.stderr
