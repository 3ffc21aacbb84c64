"""Which features and seeds are measured."""

from __future__ import annotations

import pytest

from benchmarks.choices import SeedOptions, asked_for, choose_features, problem_of
from benchmarks.record import Problem


def test_each_known_feature_is_measured_once_in_the_order_given() -> None:
    features, problems = choose_features(("doap", "sift", "no", "doap", "doap"))
    assert features == ["doap", "sift"]
    assert problems[0] == Problem("doap, named again", "each feature is measured once")
    assert [problem.subject for problem in problems] == ["doap, named again", "no"]
    assert choose_features(("module:function",), check=None) == (["module:function"], [])
    with pytest.raises(ValueError, match="feature"):
        choose_features(())
    with pytest.raises(ValueError, match="doap"):
        choose_features(("sift",), {"doap": "official"})


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


def test_a_failure_is_told_in_one_line() -> None:
    error = RuntimeError("out of memory\nraised at some line")
    assert problem_of("doap", error) == Problem("doap", "out of memory")
    assert problem_of("doap", ValueError()).reason == "ValueError()"


def test_only_what_was_asked_for_deviates() -> None:
    assert asked_for(max_keypoints=None, matcher=None) is None
    assert asked_for(max_keypoints=500, matcher=None, mapper="global") == (
        "max_keypoints 500, mapper global asked for, in place of the protocol's"
    )
