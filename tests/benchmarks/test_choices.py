"""Which features and seeds are measured."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from benchmarks.choices import BenchmarkOptions, SeedOptions, deviation, problem_of, start_run
from benchmarks.record import Problem


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    benchmark = "any"


def test_each_known_feature_is_measured_once_in_the_order_given() -> None:
    features, run = start_run(Options(feature=("doap", "sift", "no", "doap", "doap")))
    assert features == ["doap", "sift"]
    assert run.benchmark == "any"
    assert run.options["feature"] == ["doap", "sift", "no", "doap", "doap"]
    assert run.problems[0] == Problem("doap, named again", "each feature is measured once")
    assert [problem.subject for problem in run.problems] == ["doap, named again", "no"]
    features, run = start_run(Options(feature=("module:function",)), check=None)
    assert (features, run.problems) == (["module:function"], [])
    with pytest.raises(ValueError, match="--feature"):
        start_run(Options(feature=()))
    with pytest.raises(ValueError, match="doap"):
        start_run(Options(weights=(("doap", "official"),)))


def test_seeds_are_a_list_or_a_number() -> None:
    assert SeedOptions().chosen_seeds() == (0,)
    assert SeedOptions(num_seeds=2).chosen_seeds() == (0, 1)
    assert SeedOptions(seeds=(7, 0)).chosen_seeds() == (7, 0)
    for options, remedy in (
        (SeedOptions(seeds=(1,), num_seeds=2), "--seeds or --num-seeds"),
        (SeedOptions(seeds=(1, 1)), "seed 1"),
        (SeedOptions(num_seeds=0), "--num-seeds"),
    ):
        with pytest.raises(ValueError, match=remedy):
            options.chosen_seeds()


def test_a_failure_is_reported_in_one_line() -> None:
    error = RuntimeError("out of memory\nraised at some line")
    assert problem_of("doap", error) == Problem("doap", "out of memory")
    assert problem_of("doap", ValueError()).reason == "ValueError()"


def test_only_requested_options_deviate() -> None:
    assert deviation(max_keypoints=(None, 2048), pairs=("exhaustive", "exhaustive")) is None
    assert deviation(max_keypoints=(500, 2048), mapper=("global", "incremental")) == (
        "max_keypoints 500 instead of 2048, mapper global instead of incremental"
    )
