"""A − B, and what may be said about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report.comparison import Difference, compare_runs, paired_p_value
from benchmarks.report.runs import LoadedRun
from tests.benchmarks.report.conftest import make_run, reconstruction_row


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
    assert found.num_pairs == 2
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
