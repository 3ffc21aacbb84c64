"""The command line: hloc's argument names, one line for an error, no traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from featplug.cli.app import app
from featplug.cli.pair_commands import pairs_app
from featplug.io.pair_lists import read_pairs, write_pairs
from featplug.io.store import FeatureReader
from featplug.stages.pairs import exhaustive
from tests.conftest import REPOSITORY
from tests.scenes.pictures import write_textured_images
from tests.scenes.synthetic import SyntheticScene
from tests.stages.test_retrieve import write_features


def featplug(*arguments: object, weights: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    if weights is not None:
        environment["FEATPLUG_WEIGHTS"] = str(weights)
        environment["XDG_CACHE_HOME"] = str(weights)
    command = [sys.executable, "-m", "featplug", *map(str, arguments)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=REPOSITORY
    )


def pairs(*arguments: object) -> None:
    pairs_app.cli(prog="featplug pairs", args=list(map(str, arguments)))


def test_extract_and_match_with_hlocs_names(tmp_path: Path) -> None:
    names = write_textured_images(tmp_path / "images", 3)
    (tmp_path / "images" / "bad.jpg").write_bytes(b"\xff\xd8")
    run = featplug(
        "extract", "--conf", "sift", "--image_dir", tmp_path / "images", "--export_dir", tmp_path
    )
    assert run.returncode == 0, run.stderr
    *_, done, reason = run.stdout.strip().splitlines()
    assert "3 images extracted" in done
    assert done.endswith("1 skipped:")
    assert "Cannot read" in reason
    assert "bad.jpg" in reason
    with FeatureReader(tmp_path / "feats-featplug-sift.h5") as features:
        assert features.names() == names

    write_pairs(tmp_path / "pairs.txt", exhaustive(names))
    options = ["--conf", "NN-ratio", "--pairs", tmp_path / "pairs.txt"]
    options += ["--features", "feats-featplug-sift", "--export-dir", tmp_path]
    run = featplug("match", *options)
    assert run.returncode == 0, run.stderr
    assert "3 pairs matched" in run.stdout
    assert "nothing skipped" in run.stdout
    again = featplug("match", *options)
    assert "0 pairs matched" in again.stdout
    assert "3 were there" in again.stdout


def test_retrieve_and_pairs_with_hlocs_names(tmp_path: Path) -> None:
    names = write_features(tmp_path / "feats.h5")
    (tmp_path / "db.txt").write_text("\n".join(names[:30]))
    run = featplug(
        "retrieve", "--conf", "vlad", "--features", tmp_path / "feats.h5",
        "--export_dir", tmp_path, "--db_list", tmp_path / "db.txt",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "40 images described" in run.stdout
    descriptors = tmp_path / "feats_global-feats-featplug-vlad.h5"
    pairs(
        "retrieval", "--descriptors", descriptors, "--output", tmp_path / "loc.txt",
        "--num_matched", 2, "--query_prefix", "db/035", "db/036", "--db_list", tmp_path / "db.txt",
    )  # fmt: skip
    chosen = read_pairs(tmp_path / "loc.txt")
    assert [query for query, _ in chosen] == 2 * ["db/035.jpg"] + 2 * ["db/036.jpg"]
    assert {image for _, image in chosen} <= set(names[:30])


def test_pairs_of_a_model(synthetic_scene: SyntheticScene, tmp_path: Path) -> None:
    model, names = tmp_path / "model", synthetic_scene.names
    model.mkdir()
    synthetic_scene.truth.write(str(model))
    for command in ("covisibility", "poses"):
        output = tmp_path / f"{command}.txt"
        pairs(command, "--model", model, "--output", output, "--num_matched", 2)
        assert {name for name, _ in read_pairs(output)} <= set(names)
    output = tmp_path / "list.txt"
    pairs("exhaustive", "--features", synthetic_scene.features, "--output", output)
    assert read_pairs(output) == exhaustive(names)
    (tmp_path / "two.txt").write_text("\n".join(names[:2]))
    options = ["--features", synthetic_scene.features, "--output", output]
    pairs("exhaustive", "--ref_list", tmp_path / "two.txt", *options)
    assert read_pairs(output) == exhaustive(names, names[:2])
    pairs("sequential", "--overlap", 1, *options)
    assert len(read_pairs(output)) == len(names) - 1
    with pytest.raises(ValueError, match="Give a list of images or a feature file"):
        pairs("sequential", "--output", output)
    with pytest.raises(FileNotFoundError, match=r"no COLMAP model in .*gone"):
        pairs("poses", "--model", tmp_path / "gone", "--output", output, "--num_matched", 2)
    options = ["--model", model, "--num_matched", 2, "--output", tmp_path / "none.txt"]
    with pytest.raises(ValueError, match="no pair of images like that"):
        pairs("poses", "--rotation_threshold", 0, *options)
    assert not (tmp_path / "none.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "--image_dir", "/nowhere", "--export_dir", "x"], "no image folder /nowhere"),
        (["match", "--pairs", "gone.txt", "--features", "x.h5"], "no pair list gone.txt"),
        (["retrieve", "--features", "gone.h5", "--export_dir", "x"], "no file gone.h5"),
        (["weights", "import", "gone.pth"], "gone.pth"),
        (["weights", "fetch", "nothing"], "nothing"),
    ],
)
def test_bad_input_is_one_line(
    refusal: Callable[..., str], arguments: list[str], message: str
) -> None:
    assert message in refusal(app, "featplug", *arguments)


def test_missing_weights_name_the_place_and_the_command(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 1)
    run = featplug(
        "extract", "--conf", "d2net-ots", "--image_dir", tmp_path / "images",
        "--export_dir", tmp_path, weights=tmp_path / "none",
    )  # fmt: skip
    assert run.returncode == 2
    assert "https://dusmanu.com/files/d2-net/d2_ots.pth" in run.stderr
    assert "featplug weights fetch d2_ots" in run.stderr
    assert "Traceback" not in run.stderr


def test_weights_are_listed_and_verified(tmp_path: Path) -> None:
    listed = featplug("weights", "list", weights=tmp_path)
    assert listed.returncode == 0
    assert "d2_ots" in listed.stdout
    assert "Clear BSD" in listed.stdout
    verified = featplug("weights", "verify", weights=tmp_path)
    assert verified.returncode == 0
    assert len(re.findall(r"^featplug_\w+ +ok  shipped", verified.stdout, re.MULTILINE)) == 7


def test_doctor_tells_versions(tmp_path: Path) -> None:
    run = featplug("doctor", weights=tmp_path)
    assert run.returncode == 0
    assert "pycolmap" in run.stdout
    assert "WARN weights" in run.stdout
