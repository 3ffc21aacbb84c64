"""The speed benchmark: what it reports, not how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.speed.__main__ import CASES, main
from benchmarks.speed.measure import Setup, measure
from tests.worlds import write_textured_images


def fails(setup: Setup) -> dict[str, object]:
    raise RuntimeError("on purpose")


def test_the_report_has_figures_and_ratios_of_one_run(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 3)
    main(tmp_path / "images", outputs=tmp_path / "out", cases=("match",), repeats=2)
    report = json.loads((tmp_path / "out" / "speed.json").read_text())
    runs = report["cases"]["match"]["runs"]
    assert set(runs) == {"featplug", "products"}  # no hloc was given
    assert [run["pairs"] for run in runs["featplug"]] == [3, 3]
    assert all(run["peak_memory_mib"] > 0 for run in runs["products"])
    assert report["cases"]["match"]["ratios"]["products"] > 0
    assert report["environment"]["libraries"]["torch"]


def test_a_failed_measurement_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="measurement fails failed"):
        measure(fails, Setup(tmp_path, None, tmp_path, None, None))


def test_every_case_has_ours() -> None:
    assert all("featplug" in peers for peers in CASES.values())


def test_an_unknown_case_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no case 'sift'; there are sfm, match"):
        main(tmp_path, cases=("sift",))
