"""The command line: hloc's argument names, one line for an error, no traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from featplug.pairs import exhaustive, write_pairs
from featplug.store import FeatureReader
from tests.conftest import REPOSITORY
from tests.worlds import write_textured_images


def featplug(*arguments: object, weights: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    if weights is not None:
        environment["FEATPLUG_WEIGHTS"] = str(weights)
        environment["XDG_CACHE_HOME"] = str(weights)
    command = [sys.executable, "-m", "featplug", *map(str, arguments)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=REPOSITORY
    )


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "--image_dir", "/nowhere", "--export_dir", "x"], "no image folder /nowhere"),
        (["match", "--pairs", "gone.txt", "--features", "x.h5"], "no pair list gone.txt"),
        (["weights", "import", "gone.pth"], "gone.pth"),
        (["weights", "fetch", "nothing"], "nothing"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str) -> None:
    run = featplug(*arguments)
    assert run.returncode == 2
    (line,) = run.stderr.strip().splitlines()
    assert line.startswith("featplug: ")
    assert message in line


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
