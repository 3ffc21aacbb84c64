"""The record of a run."""

from __future__ import annotations

import json
import mmap
import sys
import time
from pathlib import Path

import pytest

from featplug.io.results import StageRecorder, environment, write_results
from tests.documented import metric


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak")
def test_each_stage_has_its_own_peak_memory() -> None:
    recorder = StageRecorder()
    # Fresh pages from the system: an array could lie in memory that earlier tests left in the heap.
    with recorder.stage("large"), mmap.mmap(-1, 320 * 2**20) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1
    with recorder.stage("small"):
        time.sleep(0.02)
    large, small = recorder.stages["large"], recorder.stages["small"]
    assert large["peak_memory_mib"] > small["peak_memory_mib"] + 200
    assert small["seconds"] >= 0.02


def test_results_are_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(path, {"environment": environment(), "metrics": {"x": metric(1.5, "px")}})
    loaded = json.loads(path.read_text())
    assert loaded["metrics"]["x"] == {"value": 1.5, "unit": "px"}
    assert loaded["environment"]["libraries"]["torch"]
    with pytest.raises(ValueError, match=r"results\.json cannot hold"):
        write_results(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == loaded
