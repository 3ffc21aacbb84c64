"""What a benchmark writes is what the report reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.console import conclude
from benchmarks.record import (
    Curve,
    Picture,
    Problem,
    Row,
    Run,
    benchmark_folder,
    read_run,
    write_run,
)
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


def _measure(folder: Path, run: Run, *, is_killed: bool = False) -> None:
    with benchmark_folder(folder, run) as place:
        write_run(place, run)
        assert read_run(place) == run  # what there is can be read while it runs
        if is_killed:
            raise KeyboardInterrupt


def test_a_record_stays_until_another_run_is_finished(tmp_path: Path) -> None:
    first, second = a_run(), a_run()
    second.problems.append(Problem("d2net", "other"))
    with pytest.raises(KeyboardInterrupt):
        _measure(tmp_path, first, is_killed=True)
    assert read_run(tmp_path) == first  # of a first run, as far as it came
    with pytest.raises(KeyboardInterrupt):
        _measure(tmp_path, second, is_killed=True)
    assert read_run(tmp_path) == first
    assert read_run(tmp_path / "unfinished") == second
    _measure(tmp_path, second)
    assert read_run(tmp_path) == second
    assert not (tmp_path / "unfinished").exists()


def test_a_run_that_measures_nothing_replaces_no_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _measure(tmp_path, a_run())
    nothing = Run("matching", {}, {}, problems=[Problem("sift", "no images")])
    _measure(tmp_path, nothing)
    assert read_run(tmp_path) == a_run()
    with pytest.raises(ValueError, match=r"unfinished/results.json"):
        conclude(nothing, tmp_path)
    assert read_run(tmp_path / "unfinished") == nothing
    assert "no images" in capsys.readouterr().out


def test_the_folder_of_another_command_is_rejected(tmp_path: Path) -> None:
    _measure(tmp_path, a_run())
    with pytest.raises(ValueError, match=f"{tmp_path} holds a run of matching.*--outputs"):
        _measure(tmp_path, Run("speed", {}, {}))
    assert read_run(tmp_path) == a_run()
