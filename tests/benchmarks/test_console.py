"""What the commands print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.console import conclude, mean_and_spread, short_number, table_lines
from benchmarks.record import Problem, Row, Run
from tests.documented import metric


def test_tables_are_aligned_and_have_no_empty_columns() -> None:
    assert table_lines(
        [
            ["feature", "part", "points", "dense", "seconds"],
            ["sift", "", "1,234", "–", "0.5"],
            ["lisrd-sift", "", "–", "–", "10.25"],
        ],
        "<<",
    ) == [
        "feature     points  seconds",
        "sift         1,234      0.5",
        "lisrd-sift       –    10.25",
    ]


def test_numbers_are_written_short() -> None:
    assert [short_number(value) for value in (0.123456, 12, 12965.4)] == ["0.1235", "12", "12,965"]
    assert short_number(-12965.0, "+") == "-12,965"
    assert mean_and_spread([9999, 10000, 10001], 0) == "10,000 ± 1"
    assert mean_and_spread([0.5, 0.5], 2) == mean_and_spread([0.5], 2) == "0.50"


def a_row(points: float, **entries: Any) -> Row:
    metrics = {"sparse_points": metric(points, "points"), "images": metric(11, "images")}
    protocol = "local-feature-evaluation"
    return Row("contextdesc", "fountain-P11", protocol, seed=1, metrics=metrics, **entries)


def test_a_run_is_compared_with_published_numbers_unless_it_deviates(
    capsys: pytest.CaptureFixture[str],
) -> None:
    deviating = a_row(4000, not_comparable="max_keypoints 500 asked for")
    conclude(Run("reconstruction", {}, {}, [a_row(17000), deviating]), Path("out"), ["a table"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a table"
    (compared,) = (" ".join(line.split()) for line in lines if "16,965" in line)
    assert compared.startswith("fountain-P11 contextdesc 1 sparse_points 17,000 16,965 +35 ")
    assert not [line for line in lines if "4000" in line]
    assert "not compared with published numbers: max_keypoints 500 asked for" in "\n".join(lines)
    assert len([line for line in lines if "Another version of COLMAP" in line]) == 1
    assert lines[-1] == "all figures are in out/results.json"


def test_a_run_without_rows_fails_once_its_problems_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run("matching", {}, {}, problems=[Problem("sifd", "There is no feature 'sifd'.")])
    with pytest.raises(ValueError, match=r"out/results\.json"):
        conclude(run, Path("out"))
    assert "not measured: sifd: There is no feature 'sifd'." in capsys.readouterr().out
