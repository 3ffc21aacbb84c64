"""Which methods and seeds are measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.choices import (
    FileOptions,
    SeedOptions,
    deviation,
    problem_of,
    start_methods,
    start_run,
)
from benchmarks.record import Problem


@dataclass(frozen=True)
class Options(FileOptions):
    benchmark = "any"


def test_each_known_method_is_measured_once_in_the_order_given() -> None:
    methods, run = start_methods(Options(feature=("doap", "sift", "no", "doap", "doap")))
    assert [method.name for method in methods] == ["doap", "sift"]
    assert run.benchmark == "any"
    assert run.options["feature"] == ["doap", "sift", "no", "doap", "doap"]
    assert run.problems[0] == Problem("doap, named again", "each method is measured once")
    assert [problem.subject for problem in run.problems] == ["doap, named again", "no"]
    names, run = start_run(Options(feature=("module:function",)), str)
    assert (names, run.problems) == (["module:function"], [])
    assert start_run(Options(), str)[0] == ["sift"]
    with pytest.raises(ValueError, match="doap"):
        start_run(Options(weights=(("doap", "official"),)), str)


def test_a_matcher_is_for_the_methods_that_have_none() -> None:
    methods, _ = start_methods(Options(feature=("sift", "sift+NN-mutual")), "NN-ratio")
    assert [method.matcher_name() for method in methods] == ["NN-ratio", "NN-mutual"]
    (method,), _ = start_methods(Options(), "NN-ratio")
    assert (method.name, method.matcher) == ("sift", "NN-ratio")


def test_files_stand_in_for_methods(tmp_path: Path) -> None:
    for name in ("a.h5", "b=c.h5", "m.h5"):
        (tmp_path / name).touch()
    files = (f"mine+NN-mutual={tmp_path}/a.h5", f"sift={tmp_path}/b=c.h5", f"no={tmp_path}/a.h5")
    options = Options(feature=("doap",), features=files, matches=(f"sift={tmp_path}/m.h5",))
    methods, run = start_methods(options)
    shown = [(m.name, m.feature, m.matcher, m.features, m.matches) for m in methods]
    assert shown == [
        ("doap", "doap", None, None, None),
        ("mine+NN-mutual", None, "NN-mutual", tmp_path / "a.h5", None),
        ("sift", "sift", None, tmp_path / "b=c.h5", tmp_path / "m.h5"),
    ]
    (problem,) = run.problems
    assert problem.subject == "no"
    assert "no+MATCHER=FILE" in problem.reason
    assert len(start_methods(Options(features=files[2:]), "NN-mutual")[0]) == 1


@pytest.mark.parametrize(
    ("entries", "remedy"),
    [
        (("features.h5",), "NAME=FILE"),
        (("sift=",), "NAME=FILE"),
        (("sift={0}", "sift={0}"), "name of its own"),
        (("sift={0}.no",), "There is no file"),
    ],
)
def test_files_without_names_are_rejected(
    tmp_path: Path, entries: tuple[str, ...], remedy: str
) -> None:
    (tmp_path / "a.h5").touch()
    with pytest.raises((ValueError, FileNotFoundError), match=remedy):
        start_methods(Options(features=tuple(e.format(tmp_path / "a.h5") for e in entries)))


def test_a_class_of_a_file_is_a_method(tmp_path: Path) -> None:
    file = tmp_path / "own_features.py"
    file.write_text(
        "from featplug.base import Extractor\n\n"
        "class Own(Extractor):\n    def extract(self, image):\n        ...\n"
    )
    (method,), run = start_methods(Options(feature=(f"{file}:Own",)))
    assert not run.problems
    assert method.word.startswith("own_features=Own")
    file.write_text("raise RuntimeError('not today')\n")
    methods, run = start_methods(Options(feature=(f"{file}:Own", "sift")))
    assert [method.name for method in methods] == ["sift"]
    assert [problem.reason for problem in run.problems] == ["not today"]


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
    assert problem_of("doap", ValueError()).reason == "ValueError"


def test_only_requested_options_deviate() -> None:
    assert deviation(max_keypoints=(None, 2048), pairs=("exhaustive", "exhaustive")) is None
    assert deviation(max_keypoints=(500, 2048), mapper=("global", "incremental")) == (
        "max_keypoints 500 instead of 2048, mapper global instead of incremental"
    )
