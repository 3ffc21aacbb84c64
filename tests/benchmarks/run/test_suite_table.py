"""The table of a suite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.record import Problem, Row, Run
from benchmarks.report.runs import LoadedRun
from benchmarks.run.suite_file import Block, Suite
from benchmarks.run.suite_table import suite_table, suite_text
from tests.documented import metric


def model_row(seed: int, median: float, unit: str = "m") -> Row:
    metrics = {
        "images": metric(8, "images"),
        "registered_images": metric(8, "images"),
        "median_position_error": metric(median, unit),
        "max_position_error": metric(0.5, unit),
    }
    return Row("a|b", "scene", "lfe", seed=seed, matcher="NN", metrics=metrics)


def matching_row(method: str, protocol: str, **values: float) -> Row:
    metrics = {name: metric(value, "fraction") for name, value in values.items()}
    return Row(method, "oxford", protocol, matcher="NN", metrics=metrics)


def loaded(*runs: Run) -> list[LoadedRun]:
    return [LoadedRun(Path(f"run{i}"), f"run{i}", run) for i, run in enumerate(runs)]


def heads(table: str) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]


def test_errors_in_other_units_than_metres_are_not_shown_as_millimetres() -> None:
    """A reference that is a COLMAP model has a unit of its own; .084 of it was shown as 0 mm."""
    rows = [model_row(seed, error, "reference units") for seed, error in ((0, 0.083), (1, 0.085))]
    table = suite_table(["a|b"], loaded(Run("reconstruction", {}, {}, rows)))
    assert "scene: camera error in reference units, median / largest" in table
    assert "| 0.084 ± 0.001 / 0.50 |" in table
    small = suite_table(["a|b"], loaded(Run("reconstruction", {}, {}, [model_row(0, 0.00042)])))
    assert "scene: camera error in mm, median / largest" in small
    assert "| 0.42 / 500 |" in small


def test_figures_are_means_over_seeds_with_their_spread() -> None:
    rows = [model_row(0, 0.01), model_row(1, 0.03)]
    table = suite_table(["a|b", "c"], loaded(Run("reconstruction", {}, {}, rows)))
    assert r"| 20 ± 14 / 500 |" in table
    assert r"`a\|b`" in table
    assert "8 of 8" in table
    assert np.mean([line.replace(r"\|", "").count("|") for line in table.splitlines()]) == 6


def test_protocols_are_named_where_heads_would_be_the_same_and_empty_columns_are_left_out() -> None:
    mma = Run("matching", {}, {}, [matching_row("a", "oxford-mma", mma_3=0.5)])
    first = ["method", "matcher", "settings"]
    assert heads(suite_table(["a"], loaded(mma))) == [*first, "Oxford affine: MMA 3 px"]
    precision = Run("matching", {}, {}, [matching_row("a", "oxford-ap", average_precision=0.25)])
    both = suite_table(["a"], loaded(mma, precision))
    assert heads(both)[3:] == [
        "Oxford affine, oxford-mma: MMA 3 px",
        "Oxford affine, oxford-ap: AP",
    ]
    assert both.splitlines()[2].endswith("| 0.500 | 0.250 |")


def test_poses_are_shown_at_three_thresholds_and_unknown_benchmarks_by_their_headlines() -> None:
    poses = {f"pose_auc_{n}": metric(n / 100, "fraction") for n in (5, 10, 20)}
    settings = {"max_keypoints": 2048, "matcher.filter_threshold": 0.1}
    row = Row("a", "demo", "pairs+poselib", matcher="NN", seed=0, metrics=poses)
    row = replace(row, estimator="poselib (1 px)", settings=settings)
    table = suite_table(["a"], loaded(Run("relative-pose", {}, {}, [row])))
    assert heads(table)[3] == "demo, poselib (1 px): AUC at 5° / 10° / 20°"
    assert "| NN | 2,048 keypoints, matcher filter threshold 0.1 |" in table
    assert "| 0.050 / 0.100 / 0.200 |" in table
    row = Row("a", "liberty", "phototour", metrics={"fpr95": metric(0.0712, "fraction")})
    assert "| 0.071 |" in suite_table(["a"], loaded(Run("patches", {}, {}, [row])))


def test_blocks_of_other_methods_have_their_own_table_and_reasons_are_below() -> None:
    def block(name: str, *methods: str) -> Block:
        return Block("matching", name, SimpleNamespace(feature=methods))

    suite = Suite(Path("s.toml"), "Two", [block("one", "a"), block("two", "b", "c")], [])
    failed = [Problem("c", "no weights | none")]
    runs = {
        "matching-one": Run("matching", {}, {}, [matching_row("a", "oxford-mma", mma_3=0.5)]),
        "matching-two": Run("matching", {}, {}, [matching_row("b", "oxford-mma", mma_3=1)], failed),
    }
    runs["matching-one"].environment["featplug"] = "0.0.7"
    text = suite_text(
        suite,
        dict(zip(runs, loaded(*runs.values()), strict=True)),
        [Problem("matching.three", "gone")],
        "featplug bench run s.toml",
        ["matching-one"],
    )
    assert text.startswith("# Two\n")
    assert text.index("## matching.one") < text.index("`a`") < text.index("## matching.two")
    assert "| `c` | – | – | not measured |" in text
    assert r"- c: no weights \| none" in text
    assert "- matching.three: gone" in text
    assert "standard deviation" not in text
    assert "matching-one was measured by an earlier call, by featplug 0.0.7." in text
    assert "matching-two was" not in text
    assert "`featplug bench run s.toml`; featplug " in text


def test_methods_of_files_and_the_default_one_have_lines() -> None:
    block = Block("matching", "one", SimpleNamespace(feature=("a",)))
    rows = [matching_row(name, "oxford-mma", mma_3=0.5) for name in ("a", "given", "sift")]
    runs = {"matching-one": loaded(Run("matching", {}, {}, rows))[0]}
    text = suite_text(Suite(Path("s.toml"), "One", [block], []), runs, [], "featplug bench run")
    assert all(f"| `{name}` | NN |" in text for name in ("a", "given", "sift"))


def test_bold_and_its_meaning_are_those_of_the_page() -> None:
    rows = [
        replace(matching_row(name, "oxford-mma", mma_3=value + step * seed), seed=seed)
        for name, value, step in (("good", 0.8, 0.001), ("bad", 0.2, 0.002))
        for seed in range(5)
    ]
    block = Block("matching", "one", SimpleNamespace(feature=("good", "bad")))
    runs = {"matching-one": loaded(Run("matching", {}, {}, rows))[0]}
    text = suite_text(Suite(Path("s.toml"), "One", [block], []), runs, [], "featplug bench run")
    assert "| **0.802 ± 0.002** |" in text
    assert "| 0.204 ± 0.003 |" in text
    assert "± is the standard deviation over 5 seeds. Bold is better than every other line" in text


def test_speed_has_units() -> None:
    row = Row("a", "photos", "speed", metrics={"seconds": metric(1.5, "s")})
    assert heads(suite_table(["a"], loaded(Run("speed", {}, {}, [row]))))[-1] == "photos: time in s"
