"""Slurm's scripts: their own lines, run in a loop, in any order, twice, make a model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from featplug.io.parts.manifest import make_manifest
from featplug.shards.slurm import SUBMIT, SlurmOptions, slurm_scripts, write_slurm_scripts
from featplug.shards.status import store_status
from tests.scenes.room_corner import write_room_corner

FEATPLUG = f"{sys.executable} -m featplug"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_room_corner(tmp_path / "room", num_images=6, width=320)
    make_manifest(tmp_path / "room" / "images", tmp_path / "store", 3)
    return tmp_path / "store"


def run_job(script: Path, count: int | None = None) -> None:
    """Run the tasks of a script as Slurm does, the last one first; another number of them."""
    text = script.read_text()
    found = re.search(r"^#SBATCH --array=0-(\d+)$", text, re.MULTILINE)
    count = count or (int(found[1]) + 1 if found else 1)
    for task in reversed(range(count)):
        array = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(count)}
        done = subprocess.run(
            ["bash", str(script)],
            env={**os.environ, **array},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script.name}: {done.stdout}{done.stderr}"


@pytest.mark.slow
def test_the_scripts_own_lines_make_a_model(store: Path, tmp_path: Path) -> None:
    options = SlurmOptions(
        matcher="NN-ratio", retrieval="exhaustive", tasks=2, max_keypoints=400, featplug=FEATPLUG
    )
    *scripts, submit = write_slurm_scripts(store, options, tmp_path / "scripts")
    names = [path.name for path in scripts]
    assert names == ["1-extract.sh", "2-match.sh", "3-verify.sh", "4-map.sh"]
    for script in scripts[:-1]:
        run_job(script)
    made = {path: path.stat().st_mtime_ns for path in store.glob("*/part-*")}
    assert made
    for script in scripts[:-1]:
        run_job(script, count=1)
    assert {path: path.stat().st_mtime_ns for path in store.glob("*/part-*")} == made
    assert all(not state.missing and not state.damaged for state in store_status(store))
    run_job(scripts[-1])
    assert (store / "model" / "sparse" / "0" / "images.bin").is_file()
    assert os.access(submit, os.X_OK)
    assert submit.read_text().count("afterok") == 3


def test_retrieval_has_its_jobs_and_options_are_those_given(store: Path) -> None:
    options = SlurmOptions(
        feature="mtldesc",
        num_matched=7,
        tasks=9,
        sbatch=("time=1:00:00", "--mem=8G"),
        gpu_sbatch=("--gres=gpu:1",),
    )
    scripts = slurm_scripts(store, options)
    assert list(scripts) == [
        *("1-extract.sh", "2-vocabulary.sh", "3-describe.sh", "4-retrieve.sh", "5-match.sh"),
        *("6-verify.sh", "7-map.sh", SUBMIT),
    ]
    assert "#SBATCH --gres=gpu:1" in scripts["1-extract.sh"]
    assert "#SBATCH --gres=gpu:1" not in scripts["3-describe.sh"]
    assert "#SBATCH --array=0-1\n" in scripts["1-extract.sh"]  # no more tasks than shards
    assert all("#SBATCH --mem=8G" in text for name, text in scripts.items() if name != SUBMIT)
    assert "--shard 0/2" in scripts["2-vocabulary.sh"]
    assert "--conf mtldesc --shard" in scripts["5-match.sh"]
    matches = re.search(r"--matches (\S+)", scripts["6-verify.sh"])
    assert matches is not None
    assert f"verified-{Path(matches[1]).name}" in scripts["7-map.sh"]
    for name, text in scripts.items():
        if name != SUBMIT:
            assert (
                subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
            )


def test_what_does_not_fit(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--tasks must be 1 or more"):
        slurm_scripts(store, SlurmOptions(tasks=0))
    with pytest.raises(ValueError, match="mtldesk"):
        slurm_scripts(store, SlurmOptions(feature="mtldesk"))
    with pytest.raises(FileNotFoundError, match="featplug shard make"):
        slurm_scripts(tmp_path / "none", SlurmOptions())
