"""Methods that benchmarks measure: a matcher in a name is the method's, one by an option is not."""

from __future__ import annotations

from pathlib import Path

from benchmarks.localization import LocalizationBenchmark
from benchmarks.measured_method import find_method
from benchmarks.reconstruction.options import ReconstructionOptions


def test_only_a_matcher_that_the_name_does_not_tell_deviates_from_published_numbers() -> None:
    queries = LocalizationBenchmark(Path("queries"))
    scenes = ReconstructionOptions((Path("scene"),))
    for name, matcher, reason in (
        ("sift", None, None),
        ("sift+NN-mutual", None, None),
        ("sift+NN-mutual", "NN-ratio", None),
        ("sift", "NN-mutual", "matcher NN-mutual instead of the feature's own"),
    ):
        method = find_method(name, matcher)
        assert queries.deviation(method) == reason
        assert scenes.deviation(method) == reason
