"""Means, spreads and bests are of the rows that belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.record import Row
from benchmarks.report.labels import method_titles, metric_label, metric_order
from benchmarks.report.result_tables import Line, Table, make_tables, runner_up
from benchmarks.report.runs import LoadedRun
from featplug.io.metric_table import format_value
from tests.benchmarks.report.conftest import make_run, matching_row, reconstruction_row
from tests.documented import metric


def tables_of(*runs: list[Row], benchmark: str = "reconstruction", **change: object) -> list[Table]:
    return make_tables(
        [
            LoadedRun(Path(f"run-{i}"), f"run-{i}", make_run(benchmark, rows, **change))
            for i, rows in enumerate(runs)
        ]
    )


def best(table: Table, name: str) -> list[str]:
    return [line.series for line in table.lines if name in line.cells and line.cells[name].is_best]


def test_seeds_become_mean_and_standard_deviation_even_from_several_runs() -> None:
    rows = [reconstruction_row("sift", seed, points) for seed, points in enumerate((1, 2, 6))]
    [table] = tables_of(rows[:2], rows[2:])
    [line] = table.lines
    cell = line.cells["sparse_points"]
    assert (cell.mean, line.num_seeds) == (3.0, 3)
    assert cell.spread == pytest.approx(7**0.5)
    [single] = tables_of(rows[:1])
    assert single.lines[0].cells["sparse_points"].spread is None


def verdicts(table: Table, name: str) -> dict[str, str]:
    return {line.series: line.cells[name].verdict for line in table.lines if name in line.cells}


def test_the_best_is_better_than_all_others_by_a_test_over_seeds() -> None:
    rows = [
        reconstruction_row(name, seed, points)
        for name, of_seeds in (("a", (5, 6, 5)), ("b", (9, 10, 10)), ("c", (7, 8, 7.5)))
        for seed, points in enumerate(of_seeds)
    ]
    [table] = tables_of(rows)
    assert verdicts(table, "sparse_points") == {"a": "worse", "b": "best", "c": "worse"}
    assert best(table, "sparse_points") == ["b"]
    assert best(table, "mean_reprojection_error") == ["a"]
    assert best(table, "images") == []  # says nothing about quality
    assert any("± is the standard deviation over 3 seeds" in text for text in table.caveats)
    assert any(text.startswith("Bold is better") for text in table.caveats)
    label = table.metrics["sparse_points"]
    second = runner_up(table.lines, "sparse_points", label)
    assert second is not None
    assert second.series == "c"


def test_a_tie_is_not_bold() -> None:
    rows = [
        reconstruction_row(name, seed, points)
        for name, of_seeds in (("a", (5, 6, 5)), ("b", (10, 9, 11)), ("c", (9, 11, 9.5)))
        for seed, points in enumerate(of_seeds)
    ]
    [table] = tables_of(rows)
    assert verdicts(table, "sparse_points") == {"a": "worse", "b": "tie", "c": "tie"}
    assert best(table, "sparse_points") == []
    # These differ by a test, but are equal as shown.
    close = [
        reconstruction_row(name, seed, points)
        for name, of_seeds in (("a", (5.1, 6.01, 5.1)), ("b", (5.15, 6.07, 5.14)))
        for seed, points in enumerate(of_seeds)
    ]
    [table] = tables_of(close)
    assert verdicts(table, "sparse_points") == {"a": "tie", "b": "tie"}


def test_without_pairs_and_seeds_nothing_is_bold() -> None:
    rows = [reconstruction_row(name, 0, points) for name, points in (("a", 5), ("b", 9))]
    [table] = tables_of(rows)
    assert verdicts(table, "sparse_points") == {"a": "undecided", "b": "undecided"}
    assert any(text.startswith("Nothing is bold") for text in table.caveats)
    assert any(text.startswith("Figures have no ±") for text in table.caveats)
    [alone] = tables_of(rows[:1])
    assert verdicts(alone, "sparse_points") == {"a": "not compared"}
    assert not any("bold" in text for text in alone.caveats)


def test_runs_with_other_weights_are_no_seeds_of_each_other() -> None:
    rows = [
        replace(
            reconstruction_row("doap", seed, points), weights=[{"name": "doap", "sha256": sha256}]
        )
        for seed, (points, sha256) in enumerate(((1000, "a"), (2000, "b")))
    ]
    [table] = tables_of(rows[:1], rows[1:])
    assert [line.series for line in table.lines] == ["doap (run-0)", "doap (run-1)"]


def test_what_is_wrong_with_one_seed_is_wrong_with_the_mean() -> None:
    rows = [reconstruction_row("sift", seed, 5) for seed in (0, 1)]
    rows[1] = replace(rows[1], not_comparable="An image is missing.")
    [table] = tables_of(rows)
    assert table.lines[0].mean_row().not_comparable == "An image is missing."


def test_the_best_is_of_each_part() -> None:
    rows = [
        matching_row(name, part, value + seed * step, seed=seed)
        for part, values in (("viewpoint", (0.2, 0.4)), ("illumination", (0.9, 0.3)))
        for name, value, step in zip("ab", values, (0.01, 0.011), strict=True)
        for seed in range(3)
    ]
    [table] = tables_of(rows, benchmark="matching")
    assert table.parts == ["illumination", "viewpoint"]
    found = [(line.part, line.series) for line in table.lines if line.cells["mma_3"].is_best]
    assert found == [("illumination", "a"), ("viewpoint", "b")]


def test_rows_of_one_feature_that_are_no_seeds_of_each_other_are_separate() -> None:
    row = reconstruction_row("sift", 0, 5)
    with_matchers = [reconstruction_row("sift", 0, 5, matcher=name) for name in ("NN", "LG")]
    cases: list[tuple[list[Table], list[str]]] = [
        (tables_of(with_matchers), ["sift + NN", "sift + LG"]),
        (tables_of([row], [row]), ["sift (run-0)", "sift (run-1)"]),
    ]
    for [table], names in cases:
        assert [line.series for line in table.lines] == names
    runs = [
        LoadedRun(Path(name), name, make_run("reconstruction", [rows], options=options))
        for name, rows, options in (
            ("a", row, {"max_keypoints": 500, "seed": 0}),
            ("b", reconstruction_row("sift", 1, 5), {"max_keypoints": 900, "seed": 1}),
        )
    ]
    [table] = make_tables(runs)
    assert [line.series for line in table.lines] == ["sift (a)", "sift (b)"]


def test_many_parts_are_not_all_in_the_first_table() -> None:
    rows = [matching_row("sift", part, 0.5) for part in ("zz", "all", "a", "b", "c", "viewpoint")]
    [table] = tables_of(rows, benchmark="matching")
    assert table.main_parts == ["all", "viewpoint"]
    assert table.parts == ["all", "viewpoint", "a", "b", "c", "zz"]


def test_tables_are_in_the_order_of_the_benchmarks() -> None:
    tables = make_tables(
        [
            LoadedRun(Path("m"), "m", make_run("matching", [matching_row("a", "all", 0.1)])),
            LoadedRun(Path("r"), "r", make_run("reconstruction", [reconstruction_row("a", 0, 1)])),
        ]
    )
    assert [table.benchmark for table in tables] == ["reconstruction", "matching"]


def test_published_numbers_are_shown_in_their_own_unit() -> None:
    metrics = {"mma_3": metric(0.5, "matches within 3 px, mean over pairs")}
    row = Row("d2net", "hpatches", "mma-d2net", metrics=metrics)
    [table] = tables_of([row], benchmark="matching")
    for entry in table.published:
        line: Line = entry.line
        assert line.series == "d2net"
        per_cent = entry.comparison.published.unit == "%"
        assert entry.comparison.ours == pytest.approx(50.0 if per_cent else 0.5)
        assert (entry.label.unit == "%") == per_cent


def test_metrics_are_ordered_named_and_written_as_in_papers() -> None:
    names = ["own", "match_score", "mma_10", "recall_5m_10deg", "mma_1", "recall_0.25m_2deg"]
    assert metric_order(names) == [
        *("mma_1", "mma_10", "recall_0.25m_2deg", "recall_5m_10deg", "match_score", "own")
    ]
    assert metric_label("recall_0.25m_2deg").title == "within 0.25\N{NO-BREAK SPACE}m, 2°"
    assert metric_label("mean_position_error", "m").unit == "m"
    assert metric_label("own_thing", "furlongs").title == "own thing"
    assert metric_label("fpr95").better == "lower"
    written = [format_value(v, d, s) for v, d, s in ((14722, 0, False), (-0.5, 2, True))]
    assert written == ["14,722", "\N{MINUS SIGN}0.50"]
    assert format_value(-0.0001, 2, True) == "0.00"


def test_classes_of_files_are_shown_without_their_folders() -> None:
    names = ["/a/own.py:Net", "sift+../b/m.py:M", "hloc/sift", "x/own.py:A", "y/own.py:A"]
    assert method_titles(names) == {
        "/a/own.py:Net": "own.py:Net",
        "sift+../b/m.py:M": "sift+m.py:M",
        "hloc/sift": "hloc/sift",
        "x/own.py:A": "x/own.py:A",
        "y/own.py:A": "y/own.py:A",
    }


def test_the_matcher_of_each_line_is_shown() -> None:
    rows = [
        replace(matching_row("sift", "all", 0.5), matcher="NN-ratio (ratio 0.8)"),
        replace(matching_row("doap", "all", 0.6), matcher="/a/own.py:M"),
    ]
    [table] = tables_of(rows, benchmark="matching")
    assert [line.matcher for line in table.lines] == ["NN-ratio (ratio 0.8)", "own.py:M"]
    assert table.has_matchers()
    [without] = tables_of([matching_row("sift", "all", 0.5)], benchmark="patches")
    assert not without.has_matchers()
