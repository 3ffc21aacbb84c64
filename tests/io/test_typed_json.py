"""JSON of others: what is rejected, by which key, and which text is let through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record import Run, write_run
from featplug.io.results import read_results
from featplug.io.typed_json import MAX_TEXT, read_json
from pipelines.run_record import PipelineRecord
from tests.benchmarks.report.conftest import make_run, matching_row


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """A benchmark's record as JSON has it."""
    weights = [{"name": "own", "origin": "file", "sha256": "ab"}]
    stages = {"extract": {"seconds": 1.0, "peak_memory_mib": 2.0}}
    write_run(
        tmp_path,
        make_run("matching", [matching_row("sift", "all", 0.5, weights=weights, stages=stages)]),
    )
    return json.loads((tmp_path / "results.json").read_text("utf-8"))


def problem_of(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "results.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"results\.json") as caught:
        read_results(path, Run, PipelineRecord)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"\x93NUMPY\x00\x01", "UTF-8"),
        (b"\xff", "UTF-8"),
        (b"[]", "expected an object, got a list"),
        (b"3", "expected an object, got 3"),
        (b"null", "expected an object, got null"),
        (b'{"benchmark": NaN}', "NaN"),
        (b'{"benchmark": -Infinity}', "Infinity"),
        (b'{"benchmark": 1e999}', "benchmark: expected a number of at most"),
        (b'{"benchmark": 1' + b"0" * 5000 + b"}", "damaged"),
        (b'{"benchmark": "a", "benchmark": "b"}', "'benchmark'"),
        (b'{"benchmark": ' + b"[" * 100 + b"]" * 100 + b"}", "nested too deeply"),
        (b'{"benchmark": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
        (b'{"benchmark": "' + b"a" * (MAX_TEXT + 1) + b'"}', "at most 100,000 characters"),
        (b'{"rows": []}', "'benchmark' or 'pipeline'"),
        (b'{"benchmark": "a", "schema_version": 99}', "reads up to 2; use featplug"),
        (b'{"benchmark": "a", "schema_version": [2]}', "schema_version: expected a whole number"),
        (b'{"benchmark": "a", "schema_version": 9, "environment": 1}', "of a later version"),
    ],
)
def test_what_is_no_record_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in problem_of(tmp_path, content)


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        (["rows", 0, "feature"], 3, "rows[0].feature: expected text, got 3"),
        (["rows", 0, "seed"], "1", "rows[0].seed: expected a whole number, got '1'"),
        (["rows", 0, "seed"], True, "rows[0].seed: expected a whole number, got true or false"),
        (["rows", 0, "metrics", "mma_3"], 0.5, "rows[0].metrics.mma_3: expected an object"),
        (["rows", 0, "metrics", "mma_3", "value"], "=1", "mma_3.value: expected a number"),
        (["rows", 0, "metrics", "mma_3", "value"], None, "mma_3.value: expected a number"),
        (["rows", 0, "metrics", "mma_3", "value"], 1e300, "mma_3.value: expected a number of at"),
        (["rows", 0, "metrics", "mma_3", "unit"], "%", "mma_3.unit: expected 'fraction', got '%'"),
        (["rows", 0, "metrics", "mma_3", "unit"], {}, "mma_3.unit: expected text, got an object"),
        (["rows", 0, "curves", "MMA", "y"], [1.0], "curves.MMA: x has 10 numbers, y 1"),
        (["rows", 0, "curves", "MMA", "x", 2], "2", "curves.MMA.x[2]: expected a number"),
        (["rows", 0, "stages", "extract", "seconds"], -1, "seconds: expected a number of 0 or"),
        (["rows", 0, "weights", 0, "name"], [], "weights[0].name: expected text, got a list"),
        (["rows", 0, "pictures"], [{"path": 1, "title": ""}], "pictures[0].path: expected text"),
        (["rows", 0], [], "rows[0]: expected an object, got a list"),
        (["data", "scene"], {"fingerprint": ""}, "data.scene.path is missing"),
        (["rows", 0, "models"], [{"images": 2, "points": -1}], "points: expected a number of 0"),
        (["command"], ["a", 1], "command[1]: expected text, got 1"),
        (["problems"], {}, "problems: expected a list, got an object"),
        (["environment"], [], "environment: expected an object, got a list"),
    ],
)
def test_a_value_of_another_type_is_named_by_its_key(
    tmp_path: Path, record: dict[str, Any], keys: list[Any], value: Any, expected: str
) -> None:
    place: Any = record
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    reason = problem_of(tmp_path, json.dumps(record))
    assert expected in reason
    assert "make the run again" in reason


def test_every_key_is_needed_but_those_that_were_added(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    for key in (
        "settings",
        "reused",
        "models",
        "verified_pairs_by_inliers",
        "methods",
        "estimator",
        "pair_values",
    ):
        del record["rows"][0][key]
    (tmp_path / "results.json").write_text(json.dumps(record))
    assert read_results(tmp_path / "results.json", Run).rows[0].models == []
    for key in record:
        if key not in ("schema_version", "benchmark"):
            rest = {name: value for name, value in record.items() if name != key}
            assert f"{key} is missing" in problem_of(tmp_path, json.dumps(rest))
    for key in record["rows"][0]:
        rest = {name: value for name, value in record["rows"][0].items() if name != key}
        reason = problem_of(tmp_path, json.dumps({**record, "rows": [rest]}))
        assert f"rows[0].{key} is missing" in reason


def test_marks_of_an_editor_and_more_keys_are_no_damage(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    expected = read_results(tmp_path / "results.json", Run)
    record["later"] = record["rows"][0]["later"] = record["problems"] = []
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "results.json").write_text(json.dumps(record), encoding)
        assert read_results(tmp_path / "results.json", Run) == expected


def test_no_text_directs_a_terminal_or_ends_the_writing_of_a_page(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a\\u001b[2J": ["\\ud800", "b\\u0000\\tc\\n", "é"]}')
    assert read_json(path) == {"a\ufffd[2J": ["\ufffd", "b\ufffd\tc\n", "é"]}
    assert "\x1b" not in problem_of(tmp_path, '{"benchmark": "a", "data": {"\\u001b": 1}}')
