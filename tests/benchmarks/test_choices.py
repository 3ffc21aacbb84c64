"""Which features and seeds are measured."""

from __future__ import annotations

import pytest

from benchmarks.choices import asked_for, choose_features, choose_seeds, problem_of
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
    assert choose_seeds((), None, default=3) == (0, 1, 2)
    assert choose_seeds((), 2, default=3) == (0, 1)
    assert choose_seeds((7, 0), None, default=3) == (7, 0)
    for seeds, num, message in (
        ((1,), 2, "--seeds or --num-seeds, not both"),
        ((1, 1), None, "The seed 1 is given twice"),
        ((), 0, "--num-seeds must be above 0, not 0"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_seeds(seeds, num, default=3)


def test_a_failure_is_told_in_one_line() -> None:
    error = RuntimeError("out of memory\nraised at some line")
    assert problem_of("doap", error) == Problem("doap", "out of memory")
    assert problem_of("doap", ValueError()).reason == "ValueError()"


def test_only_what_was_asked_for_deviates() -> None:
    assert asked_for(max_keypoints=None, matcher=None) is None
    assert asked_for(max_keypoints=500, matcher=None, mapper="global") == (
        "max_keypoints 500, mapper global asked for, in place of the protocol's"
    )
