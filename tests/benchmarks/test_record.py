"""What a benchmark writes is what the report reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.record import Curve, Picture, Problem, Row, Run, read_run, write_run
from tests.documented import metric


def a_run() -> Run:
    row = Row(
        feature="sift",
        dataset="oxford",
        protocol="mma-2048",
        seed=1,
        metrics={"mma_3": metric(0.5, "fraction")},
        curves={"mma": Curve([1.0, 2.0], [0.2, 0.5], "threshold (px)", "MMA")},
        stages={"extract": {"seconds": 1.0, "peak_memory_mib": 10.0}},
        pictures=[Picture("a.png", "matches")],
        model="models/sift",
    )
    return Run(
        "matching", {"dataset": "x"}, {"oxford": {"path": "x"}}, [row], [Problem("doap", "no")]
    )


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    run = a_run()
    write_run(tmp_path, run)
    assert read_run(tmp_path) == run == read_run(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, r"results.json has schema version 99"),
        ({"rows": None}, r"results.json: rows: expected a list, got null"),
        ({"rows": [{"feature": "sift"}]}, r"results.json: rows\[0\].dataset is missing"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_run(tmp_path, a_run())
    path = tmp_path / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_run(tmp_path)


def test_records_of_the_first_version_are_read(tmp_path: Path) -> None:
    write_run(tmp_path, a_run())
    path = tmp_path / "results.json"
    record = json.loads(path.read_text())
    assert record.pop("schema_version") == 2
    path.write_text(json.dumps(record | {"format": 1}))
    assert read_run(tmp_path) == a_run()


def test_other_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        read_run(tmp_path)
    (tmp_path / "results.json").write_text('{"pipeline": "sfm"}')
    with pytest.raises(ValueError, match=r"results.json"):
        read_run(tmp_path)
    (tmp_path / "results.json").write_text('{"pipeline": ')
    with pytest.raises(ValueError, match=r"results.json"):
        read_run(tmp_path)
