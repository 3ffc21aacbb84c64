"""Photographs to a model, by the command and by the function."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.cli.command_line import run_command
from featplug.colmap.cameras import CameraOptions
from featplug.colmap.model_files import read_model
from featplug.io.artifact import _RACY_SECONDS
from featplug.io.folder_lock import locked_folder
from featplug.io.pair_lists import read_pairs, write_pairs
from featplug.io.results import write_results
from featplug.io.store import FeatureReader
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, main, reconstruct
from pipelines.sfm_summary import summary
from tests.conftest import REPOSITORY
from tests.scenes.pictures import write_textured_images


def run_sfm(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.sfm", *map(str, arguments)]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def outputs(room_corner: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of the room."""
    folder = tmp_path_factory.mktemp("outputs")
    # Of photographs that changed moments ago no times are recorded; a later run would add them.
    time.sleep(_RACY_SECONDS)
    run = run_sfm(
        "--images",
        room_corner / "images",
        "--reference",
        room_corner / "cameras",
        "--outputs",
        folder,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"registered images +6 images", run.stdout)
    for stage in ("extract", "match", "map"):
        # With rate and time left; in a file not more often than every half minute.
        assert re.search(rf"{stage}: 100%.*6?/.*<.*(image|pair)", run.stderr)
        assert run.stderr.count(f"{stage}:") <= 3
    return folder


def test_the_model_has_the_true_poses(outputs: Path, room_corner: Path) -> None:
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
    assert set(results["stages"]) == {"extract", "pairs", "match", "verify", "map"}
    assert results["options"]["seed"] == 0
    assert results["feature"] == "sift"
    assert "6 photographs share 1 camera" in results["cameras"][0]
    assert results["cameras"][0] in summary(results)


def test_everything_promised_is_there(outputs: Path) -> None:
    model = pycolmap.Reconstruction(str(outputs / "model"))
    results = json.loads((outputs / "results.json").read_text())
    assert model.num_points3D() == results["metrics"]["sparse_points"]["value"]
    assert "timer.cc" in (outputs / "colmap.log").read_text()
    header = (outputs / "points.ply").read_bytes()[:200]
    assert f"element vertex {model.num_points3D()}".encode() in header
    assert all("featplug" in path.name for path in outputs.glob("*.h5"))


def test_a_rejected_run_keeps_the_earlier_runs_config(
    outputs: Path, room_corner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (outputs / "config.toml").read_bytes()
    arguments = ["--images", str(room_corner / "images"), "--outputs", str(outputs)]
    monkeypatch.setattr(sys, "argv", ["sfm", *arguments, "--max-keypoints", "70"])
    with pytest.raises(SystemExit) as ended:
        run_command(main, prog="python -m pipelines.sfm")
    assert ended.value.code == 2
    assert (outputs / "config.toml").read_bytes() == before


def test_a_second_run_uses_what_is_there(outputs: Path, room_corner: Path) -> None:
    files = sorted(outputs.glob("*.h5"))
    assert len(files) == 2
    before = [path.read_bytes() for path in files]
    options = SfmOptions(room_corner / "images", outputs=outputs, reference=room_corner / "cameras")
    results = reconstruct(options)
    assert results["metrics"]["registered_images"]["value"] == 6
    assert [path.read_bytes() for path in files] == before
    assert results["reused"] == {"extract": 6, "match": 15}
    assert json.loads((outputs / "results.json").read_text()) == results


@pytest.mark.slow
def test_pairs_of_a_file_a_known_camera_and_the_global_mapper(
    room_corner: Path, tmp_path: Path
) -> None:
    if not hasattr(pycolmap, "global_mapping"):
        pytest.skip("this pycolmap has no global mapper")
    names = [f"{i:02}.png" for i in range(6)]
    pairs = [(a, b) for a in names for b in names if a < b]
    write_pairs(tmp_path / "pairs.txt", [*pairs, ("00.png", "gone.png")])
    options = SfmOptions(
        room_corner / "images",
        pairs=str(tmp_path / "pairs.txt"),
        mapper="global",
        camera=CameraOptions("single", "PINHOLE", "528,528,240,180"),
        outputs=tmp_path / "out",
        reference=room_corner / "cameras",
    )
    results = reconstruct(options)
    assert results["metrics"]["registered_images"]["value"] == 6
    assert results["metrics"]["median_position_error"]["value"] < 0.01
    assert results["metrics"]["median_rotation_error"]["value"] < 0.5
    assert list(results["data"]["skipped"]) == ["gone.png"]
    assert results["cameras"] == ["6 photographs share 1 camera: all images; intrinsics given"]
    model = pycolmap.Reconstruction(str(tmp_path / "out" / "model"))
    (camera,) = model.cameras.values()
    np.testing.assert_array_equal(camera.params, [528, 528, 240, 180])


@pytest.mark.slow
def test_pairs_by_retrieval(outputs: Path, room_corner: Path, tmp_path: Path) -> None:
    options = SfmOptions(
        room_corner / "images",
        extraction=FeatureOptions(features=outputs / "feats-featplug-sift.h5"),
        matcher="NN-ratio",
        pairs="retrieval",
        num_matched=3,
        outputs=tmp_path,
    )
    results = reconstruct(options)
    assert results["metrics"]["registered_images"]["value"] == 6
    assert 9 <= len(read_pairs(tmp_path / "pairs-retrieval.txt")) < 15
    assert results["retrieval_conf"]["model"]["name"] == "vlad"
    assert [w["origin"] for w in results["weights"]] == ["learnt"]
    with pytest.raises(ValueError, match="no retrieval 'bow'; there are netvlad, vlad"):
        reconstruct(dataclasses.replace(options, retrieval="bow"))


def copy_images(room_corner: Path, target: Path) -> Path:
    shutil.copytree(room_corner / "images", target)
    return target


@pytest.mark.slow
def test_a_bad_photograph_is_left_out_and_told(room_corner: Path, tmp_path: Path) -> None:
    images = copy_images(room_corner, tmp_path / "images")
    (images / "99.jpg").write_bytes(b"\xff\xd8 not a photograph")
    os.mkfifo(images / "97.jpg")
    Image.new("L", (480, 360)).save(images / "98.png")
    results = reconstruct(SfmOptions(images, pairs="sequential", outputs=tmp_path / "out"))
    assert sorted(results["data"]["skipped"]) == ["97.jpg", "99.jpg"]
    assert results["metrics"]["images"]["value"] == 9
    assert results["metrics"]["registered_images"]["value"] == 6
    with FeatureReader(tmp_path / "out" / "feats-featplug-sift.h5") as features:
        assert len(features.keypoints("98.png")) == 0


def test_a_deleted_photograph_is_no_longer_part_of_the_scene(
    outputs: Path, room_corner: Path, tmp_path: Path
) -> None:
    images = copy_images(room_corner, tmp_path / "images")
    shutil.copytree(outputs, tmp_path / "out")
    (images / "05.png").unlink()
    results = reconstruct(SfmOptions(images, outputs=tmp_path / "out"))
    assert results["metrics"]["images"]["value"] == 5
    assert results["metrics"]["registered_images"]["value"] == 5


def test_given_features_of_another_photograph_are_left_out(
    outputs: Path, room_corner: Path, tmp_path: Path
) -> None:
    images = copy_images(room_corner, tmp_path / "images")
    shutil.copy(images / "00.png", images / "05.png")
    features = outputs / "feats-featplug-sift.h5"
    extraction = FeatureOptions(features=features)
    given = SfmOptions(images, extraction=extraction, matcher="NN-ratio", outputs=tmp_path / "out")
    results = reconstruct(given)
    assert list(results["data"]["skipped"]) == ["05.png"]
    reason = results["data"]["skipped"]["05.png"]
    assert all(text in reason for text in (str(images / "05.png"), str(features), "extract"))
    assert results["metrics"]["registered_images"]["value"] == 5


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_failed_rerun_leaves_the_earlier_results(
    outputs: Path, room_corner: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(outputs, tmp_path / "out"))
    write_pairs(tmp_path / "pairs.txt", [("00.png", "01.png")])
    poor = SfmOptions(room_corner / "images", pairs=str(tmp_path / "pairs.txt"), outputs=folder)

    def fail(database: Path, image_dir: Path, folder: Path, *_: object) -> None:
        (folder / "sparse").mkdir()
        (folder / "colmap.log").write_text("why")
        raise ValueError("no parallax.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.sfm.map_images", fail)
        with pytest.raises(ValueError, match=r"parallax; .*unfinished/colmap.log says more"):
            reconstruct(poor)
    after = contents(folder)
    assert after.pop("unfinished/colmap.log") == b"why"
    assert contents(outputs).items() <= after.items()
    assert not (folder / "unfinished" / "sparse").exists()
    assert read_model(folder / "model").num_reg_images() == 6


def test_a_camera_that_does_not_fit_is_found_before_the_work_and_costs_nothing(
    outputs: Path, room_corner: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    """As it was reported: these options deleted the model of the run before."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("00.png", "01.png", "02.png", "03.png"):
        shutil.copy(room_corner / "images" / name, images)
    first = ["--images", images, "--outputs", tmp_path / "out", "--max-keypoints", 600]
    assert run_sfm(*first).returncode == 0
    before = contents(tmp_path / "out")
    assert {"sparse/0/images.bin", "points.ply", "results.json", "config.toml"} <= before.keys()
    camera = ["--camera.model", "SIMPLE_PINHOLE", "--camera.params", "f,384,256"]
    line = refusal(main, "python -m pipelines.sfm", *first, *camera)
    assert "f,384,256" in line
    assert "SIMPLE_PINHOLE" in line
    assert contents(tmp_path / "out") == before


def test_a_run_of_other_images_is_rejected(
    outputs: Path, room_corner: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    folder = Path(shutil.copytree(outputs, tmp_path / "out"))
    before = contents(folder)
    write_textured_images(tmp_path / "others", 3)
    for number, path in enumerate(sorted((tmp_path / "others").iterdir())):
        path.rename(path.with_name(f"{number:02}.png"))
    others = ["--images", tmp_path / "others", "--outputs", folder]
    line = refusal(main, "python -m pipelines.sfm", *others)
    assert str(room_corner / "images") in line
    assert str(tmp_path / "others") in line
    assert "--outputs" in line
    (folder / "run.json").unlink()  # which earlier versions did not write
    assert refusal(main, "python -m pipelines.sfm", *others) == line
    assert contents(folder) == before
    write_results(folder / "results.json", {"schema_version": 2, "benchmark": "speed"})
    line = refusal(main, "python -m pipelines.sfm", *others)
    assert "holds a run of speed" in line


def test_a_killed_first_run_is_recognised(room_corner: Path, tmp_path: Path) -> None:
    options = SfmOptions(room_corner / "images", outputs=tmp_path / "out")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.run.extract_features", stop)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(options)
    write_textured_images(tmp_path / "others", 2)
    with pytest.raises(ValueError, match="--outputs"):
        reconstruct(dataclasses.replace(options, images=tmp_path / "others"))


def test_a_run_of_other_options_says_what_it_replaces(
    outputs: Path, room_corner: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(outputs, tmp_path / "out"))
    reference = room_corner / "cameras"
    options = SfmOptions(room_corner / "images", reference=reference, outputs=folder)
    reconstruct(options)
    assert not caplog.messages
    reconstruct(dataclasses.replace(options, camera=CameraOptions("single")))
    (message,) = caplog.messages
    assert str(folder) in message
    assert "camera.mode = auto, this run has single" in message


def test_a_folder_in_use_is_rejected_and_left_alone(
    outputs: Path, room_corner: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(outputs, tmp_path / "out"))
    before = contents(folder)
    with locked_folder(folder):
        run = run_sfm("--images", room_corner / "images", "--outputs", folder, "--seed", 1)
    assert run.returncode == 2
    assert f"{folder} is in use by another process" in run.stderr.splitlines()[-1]
    assert contents(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--feature", "mtldesc", "--weights", "gone.safetensors"],
        ["--matcher", "hloc/nowhere"],
        ["--pairs", "retrieval", "--retrieval", "netvlad"],
    ],
)
def test_what_is_missing_is_found_before_a_folder_is_made(
    room_corner: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[..., str],
    arguments: list[str],
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    refusal(main, "python -m pipelines.sfm", "--images", room_corner / "images", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_features_and_matches_of_others_can_be_used(shared: Path, tmp_path: Path) -> None:
    """hloc's own files in place of our extraction and matching."""
    folder = shared / "golden" / "hloc"
    options = SfmOptions(
        folder / "images",
        extraction=FeatureOptions(features=folder / "feats-sift.h5"),
        matches=folder / "feats-sift_matches-NN-mutual-ratio.8_pairs-db.h5",
        pairs=str(folder / "pairs-db.txt"),
        outputs=tmp_path,
    )
    results = reconstruct(options)
    assert results["metrics"]["images"]["value"] == 11
    # The half-pixel error of hloc's SIFT and its float16 keypoints are in the file.
    assert 2 <= results["metrics"]["registered_images"]["value"] <= 9
    assert results["metrics"]["verified_pairs"]["value"] > 5
    assert len(results["data"]["not_registered"]) >= 2  # the queries are in no pair
    own = dataclasses.replace(options, matches=None, outputs=tmp_path / "own")
    with pytest.raises(ValueError, match="--features needs --matcher"):
        reconstruct(own)
    matched = reconstruct(dataclasses.replace(own, matcher="NN-ratio"))
    assert matched["metrics"]["matched_pairs"] == results["metrics"]["matched_pairs"]
    unlisted = reconstruct(
        dataclasses.replace(options, pairs="exhaustive", outputs=tmp_path / "all")
    )
    for metric in ("selected_pairs", "matched_pairs", "verified_pairs"):
        assert unlisted["metrics"][metric] == results["metrics"][metric]
    assert unlisted["matcher_conf"] is None
    with pytest.raises(FileNotFoundError, match=r"gone.h5"):
        reconstruct(dataclasses.replace(options, matches=Path("gone.h5")))
    other = dataclasses.replace(options, images=folder / "images" / "db", outputs=tmp_path / "db")
    with pytest.raises(ValueError, match=r"No image of .*, which has for example 'db/0000.jpg'"):
        reconstruct(other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "nowhere"], "There is no image folder nowhere."),
        (["--images", "{few}"], "needs two images or more"),
        (["--images", "{apart}"], "None of the . matched pairs shows two views.*damaged.jpg"),
        (["--images", "{room}", "--feature", "shift"], "no feature 'shift'; there are sift"),
        (["--images", "{room}", "--matcher", "NN"], "no matcher 'NN'; there are NN-mutual"),
        (["--images", "{room}", "--pairs", "gone.txt"], "no pair list gone.txt"),
        (["--images", "{room}", "--pairs", "exhaustiv"], "list exhaustiv.*'exhaustive'"),
        (["--images", "{room}", "--reference", "gone"], "no reference folder gone"),
        (["--images", "{room}", "--camera.params", "1,2"], "SIMPLE_RADIAL needs 4 finite"),
        (["--images", "{mixed}", "--camera.mode", "single"], "mode single.*'big.jpg' has 99×66"),
        (["--images", "{few}", "--camera.params", "9,999,6,0"], "params.*outside '000.png'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(
    room_corner: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[..., str],
    arguments: list[str],
    message: str,
) -> None:
    write_textured_images(tmp_path / "few", 1)
    write_textured_images(tmp_path / "apart", 3)
    (tmp_path / "apart" / "damaged.jpg").write_bytes(b"no photograph")
    write_textured_images(tmp_path / "mixed", 2)
    Image.new("RGB", (99, 66)).save(tmp_path / "mixed" / "big.jpg")
    places = {name: tmp_path / name for name in ("few", "apart", "mixed")}
    places["room"] = room_corner / "images"
    given = [argument.format(**places) for argument in arguments]
    monkeypatch.chdir(tmp_path)
    line = refusal(main, "python -m pipelines.sfm", *given, "--outputs", tmp_path / "out")
    assert re.search(message, line)
