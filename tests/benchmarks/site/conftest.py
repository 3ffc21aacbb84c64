"""Runs to show and to send: two with values of pairs, one with hostile names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pair_values import PairValues, write_pair_values
from benchmarks.record import Row, Run, write_run
from tests.benchmarks.report.conftest import make_run, matching_row
from tests.benchmarks.report.conftest import runs as runs
from tests.report.conftest import model as model

HOME = "/home/anna maria/work"
"""Folder of the machine of a run that is sent."""


def weights(name: str, origin: str = "official", sha256: str = "ab" * 32) -> dict[str, str]:
    """A weights file as records have it."""
    return {"name": name, "origin": origin, "sha256": sha256}


def sent_rows(accuracy: float = 0.5) -> list[Row]:
    """Rows of three methods, of which one is a class in a file."""
    return [
        matching_row(
            "sift", "all", accuracy, matcher="NN-ratio (ratio 0.8)", pair_values="pairs/sift.csv"
        ),
        matching_row(
            "lisrd",
            "all",
            accuracy + 0.1,
            matcher="lisrd",
            weights=[weights("featplug_lisrd", "featplug")],
            pair_values="pairs/lisrd.csv",
        ),
        matching_row(f"{HOME}/my file.py:Mine+NN-mutual", "all", accuracy + 0.2),
    ]


def pair_values(mean: float) -> PairValues:
    """Values of ten pairs, whose MMA at 3 px has a mean."""
    return PairValues(
        [("wall/img1.ppm", f"wall/img{i}.ppm") for i in range(2, 12)],
        [""] * 10,
        ["wall"] * 10,
        {"mma_3": mean + np.linspace(-0.1, 0.1, 10)},
    )


def write_sendable_run(folder: Path, accuracy: float = 0.5, **change: object) -> Path:
    """Write a run whose record is full of its machine's folders."""
    fields = {
        "options": {"dataset": f"{HOME}/data/oxford", "max_keypoints": 2048, "outputs": "out"},
        "data": {"oxford": {"path": f"{HOME}/data/oxford", "fingerprint": "e509"}},
        "command": [f"{HOME}/benchmarks/matching/__main__.py", "--dataset", f"{HOME}/data/oxford"],
        "environment": {"featplug": "0.2.0", "processor": "x86_64"},
    }
    run: Run = make_run("matching", sent_rows(accuracy), **{**fields, **change})
    folder.mkdir(parents=True)
    write_run(folder, run)
    (folder / "config.toml").write_text(
        f'# made in {HOME}\ncommand = "bench matching"\ndataset = "{HOME}/data/oxford"\n', "utf-8"
    )
    for name, right in (("sift", accuracy), ("lisrd", accuracy + 0.1)):
        write_pair_values(folder / "pairs" / f"{name}.csv", pair_values(right * 0.3))
    return folder


@pytest.fixture
def sendable(tmp_path: Path) -> Path:
    """Folder of a run."""
    return write_sendable_run(tmp_path / "my run")
