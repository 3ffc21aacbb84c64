"""A − B, and what may be said about it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report.comparison import Difference, Side, compare_runs, parse_side
from benchmarks.report.evidence import paired_p_value
from benchmarks.report.gather import make_report
from benchmarks.report.runs import LoadedRun
from tests.benchmarks.report.conftest import make_run, matching_row, reconstruction_row
from tests.benchmarks.report.test_evidence import row_of


def run_of(name: str, values: Sequence[float], feature: str = "sift", first: int = 0) -> LoadedRun:
    rows = [reconstruction_row(feature, first + i, value) for i, value in enumerate(values)]
    return LoadedRun(Path(name), name, make_run("reconstruction", rows))


def points(differences: list[Difference]) -> Difference:
    return next(d for d in differences if d.metric == "sparse_points")


def test_p_values_are_those_of_the_paired_t_test() -> None:
    # Differences 1, 2, 3: t = 2 / (1 / √3) = 2 √3; with two degrees of freedom
    # p = 1 − t / √(2 + t²).
    t = 2 * 3**0.5
    p = paired_p_value(np.array([11.0, 22, 33]), np.array([10.0, 20, 30]))
    assert p == pytest.approx(1 - t / (2 + t**2) ** 0.5)
    assert paired_p_value(np.ones(2), np.zeros(2)) is None
    assert paired_p_value(np.ones(3), np.ones(3)) == 1.0
    assert paired_p_value(np.ones(3), np.zeros(3)) is None  # no spread: nothing to test with


def test_what_is_better_depends_on_the_metric() -> None:
    a, b = run_of("a", [101, 102.1, 103, 104]), run_of("b", [1, 2, 3, 4])
    comparison = compare_runs(a, b)
    verdicts = {d.metric: d.verdict for d in comparison.differences}
    assert verdicts["sparse_points"] == "A is better"
    assert verdicts["mean_reprojection_error"] == "B is better"
    assert points(comparison.differences).difference == pytest.approx(100.025)
    assert (comparison.name_a, comparison.name_b) == ("a", "b")


def test_only_seeds_that_both_have_are_tested() -> None:
    comparison = compare_runs(run_of("a", [5, 6, 7, 8]), run_of("b", [1, 3, 2, 4], first=2))
    found = points(comparison.differences)
    assert (found.num_pairs, found.num_seeds, found.tested) == (0, 2, "")
    assert found.verdict == "too few seeds (2 of 3)"
    assert found.difference == 4.0  # means are of all seeds


def test_p_values_are_adjusted_for_their_number() -> None:
    comparison = compare_runs(run_of("a", [11, 22, 33]), run_of("b", [10, 20, 30]))
    by_metric = {d.metric: d for d in comparison.differences}
    p = by_metric["sparse_points"].p_value
    assert p is not None
    # As many images are registered in all: p = 1. Of the three tests, two have the same p.
    assert by_metric["registered_images"].p_value == 1.0
    assert "images" not in by_metric  # tells nothing, and would only weaken the others
    assert by_metric["mean_reprojection_error"].p_value == pytest.approx(p)
    assert by_metric["sparse_points"].adjusted == pytest.approx(3 / 2 * p)
    assert points(comparison.differences).verdict == "no significant difference"


def test_one_feature_each_are_compared_though_they_differ() -> None:
    comparison = compare_runs(run_of("a", [2, 3]), run_of("b", [1, 1], feature="d2net"))
    assert points(comparison.differences).series == "sift − d2net"


def test_what_only_one_has_is_named_and_nothing_in_common_is_rejected() -> None:
    both = [reconstruction_row(name, 0, 1) for name in ("sift", "doap")]
    a = LoadedRun(Path("a"), "a", make_run("reconstruction", both))
    comparison = compare_runs(a, run_of("b", [1]))
    assert (comparison.only_a, comparison.only_b) == (["doap on scene"], [])
    other = make_run("reconstruction", [reconstruction_row("sift", 0, 1, dataset="other")])
    with pytest.raises(ValueError, match="a and c"):
        compare_runs(a, LoadedRun(Path("c"), "c", other))


def test_what_has_no_pairs_or_seeds_is_not_tested() -> None:
    run = LoadedRun(Path("a"), "a", make_run("matching", [matching_row("sift", "all", 0.5)]))
    other = LoadedRun(Path("b"), "b", make_run("matching", [matching_row("sift", "all", 0.4)]))
    verdicts = {d.verdict for d in compare_runs(run, other).differences}
    assert verdicts == {"no pairs or seeds to test"}
    same = compare_runs(run_of("a", [5, 6, 7]), run_of("b", [4, 5, 6]))
    assert points(same.differences).verdict == "the same with each seed: nothing to test"


def test_pairs_that_both_have_are_tested(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0.2, 0.9, 80)
    a = row_of(tmp_path, "a", hardness + rng.normal(0, 0.02, 80))
    b = row_of(tmp_path, "b", hardness[:60] - 0.03 + rng.normal(0, 0.02, 60))
    run = LoadedRun(tmp_path, "run", make_run("matching", [a, b]))
    [difference] = [d for d in compare_runs(run, run, "a", "b").differences if d.metric == "mma_3"]
    assert difference.series == "a − b"
    assert difference.verdict == "A is better"
    assert difference.tested == "60 pairs"
    # Means are of the common pairs: the others are no difference of the methods.
    assert difference.difference == pytest.approx(0.03, abs=0.01)
    assert difference.mean_a != pytest.approx(a.metrics["mma_3"]["value"])
    assert difference.half is not None
    assert 0.002 < difference.half < 0.01
    [reverse] = [d for d in compare_runs(run, run, "b", "a").differences if d.metric == "mma_3"]
    assert reverse.verdict == "B is better"
    assert reverse.p_value == pytest.approx(difference.p_value)


def test_two_methods_of_any_runs_are_compared() -> None:
    both = [
        reconstruction_row(name, seed, value) for name in ("x", "y") for seed, value in ((0, 1),)
    ]
    run = LoadedRun(Path("a"), "a", make_run("reconstruction", both))
    comparison = compare_runs(run, run_of("b", [2], feature="z"), "y")
    assert (comparison.name_a, comparison.name_b) == ("a: y", "b")
    assert points(comparison.differences).series == "y − z"
    with pytest.raises(ValueError, match="a has no method 'w'; it has x, y"):
        compare_runs(run, run, "x", "w")


def test_one_of_two_matchers_is_named_as_in_the_table() -> None:
    rows = [
        replace(reconstruction_row("sift", 0, value), matcher=matcher)
        for value, matcher in ((1, "NN"), (5, "LG"))
    ]
    run = LoadedRun(Path("a"), "a", make_run("reconstruction", rows))
    comparison = compare_runs(run, run, "sift + LG", "sift + NN")
    assert points(comparison.differences).difference == 4
    with pytest.raises(ValueError, match=r"sift \+ NN, sift \+ LG"):
        compare_runs(run, run, "sift", "sift + NN")


def test_sides_are_folders_and_methods_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "peers").mkdir()
    (tmp_path / "c:old").mkdir()
    cases = {
        "peers": ("peers", None),
        "peers:aliked-n16+lightglue": ("peers", "aliked-n16+lightglue"),
        "peers:lisrd@colmap/sift": ("peers", "lisrd@colmap/sift"),
        "peers:my_file.py:Class+own:Other": ("peers", "my_file.py:Class+own:Other"),
        "c:old": ("c:old", None),
        "c:old:sift": ("c:old", "sift"),
    }
    for text, (folder, method) in cases.items():
        assert parse_side(f"{tmp_path}/{text}") == Side(tmp_path / folder, method)
    with pytest.raises(FileNotFoundError, match=r"gone:sift.*FOLDER:METHOD"):
        parse_side(f"{tmp_path}/gone:sift")
    with pytest.raises(ValueError, match="no method after the colon"):
        parse_side(f"{tmp_path}/peers:")


def test_the_report_compares_two_methods_of_one_run(runs: Path) -> None:
    folder = runs / "reconstruction"
    comparison = make_report([], (f"{folder}:doap", f"{folder}:sift")).comparison
    assert comparison is not None
    found = points(comparison.differences)
    assert (found.series, found.verdict) == ("doap − sift", "A is better")
    assert found.tested == "3 seeds"
    with pytest.raises(ValueError, match="several runs"):
        make_report([], (runs, folder))


def test_a_run_of_another_version_is_one_sentence(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    record = (runs / "reconstruction" / "results.json").read_text()
    later = record.replace('"schema_version": 2', '"schema_version": 99')
    assert later != record
    (tmp_path / "new" / "results.json").write_text(later)
    report = make_report([runs / "reconstruction", tmp_path / "new"])
    [problem] = [p for p in report.problems if "new" in p.subject]
    assert "99" in problem.reason
    with pytest.raises(ValueError, match=r"new cannot be compared: .*99"):
        make_report([], (runs / "reconstruction", tmp_path / "new"))


def test_two_runs_of_one_name_stay_distinguishable(runs: Path, tmp_path: Path) -> None:
    for parent in ("first", "second"):
        shutil.copytree(runs / "reconstruction", tmp_path / parent / "out")
    report = make_report([tmp_path], (tmp_path / "first/out", tmp_path / "second/out:doap"))
    assert [run.name for run in report.runs] == ["first/out", "second/out"]
    [table] = report.tables
    assert "doap (first/out)" in {line.series for line in table.lines}
    comparison = report.comparison
    assert comparison is not None
    assert (comparison.name_a, comparison.name_b) == ("first/out", "second/out: doap")
    assert {d.series for d in comparison.differences} == {"doap"}
