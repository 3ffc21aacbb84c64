"""A list of methods through several benchmarks, to one table and one page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pairs import feature_pairs
from benchmarks.record import Problem, Row, Run, read_run
from benchmarks.suite import SuiteOptions, main, measure_suite, read_suite
from benchmarks.suite_table import suite_table
from featplug import __version__
from featplug.methods import feature_conf
from featplug.methods.method_names import parse_method
from tests.benchmarks.methods_of_others import write_own_methods
from tests.documented import metric
from tests.scenes.room_corner import write_room_corner
from tests.scenes.sequences import write_oxford


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    methods = write_own_methods(tmp_path)
    names = ["sift+NN-ratio", f"sift+{methods}:ByPlace", "no-such-feature"]
    path = tmp_path / "own.toml"
    path.write_text(f"title = 'Two of them'\nmax_keypoints = 300\nmethods = {names}\n")
    return path


def cells(table: str) -> dict[str, dict[str, str]]:
    """Method to the cells of its line, by their heads."""
    heads, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    )
    return {line[0].strip("`"): dict(zip(heads, line, strict=True)) for line in lines}


def test_one_command_measures_pairs_and_scenes(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_oxford(tmp_path / "oxford")
    write_room_corner(tmp_path / "corner", width=320)
    options = SuiteOptions(
        str(suite),
        dataset=tmp_path / "oxford",
        scenes=(tmp_path / "corner",),
        seeds=(0, 1),
        outputs=tmp_path / "out",
    )
    main(options)
    printed = capsys.readouterr().out
    assert "not measured: no-such-feature: There is no feature" in printed
    table = (tmp_path / "out" / "table.md").read_text()
    lines = cells(table)
    ratio, placed, unknown = lines
    assert lines[ratio]["matcher"] == "NN-ratio (ratio 0.8)"
    assert lines[placed]["matcher"].endswith(":ByPlace")
    matching = read_run(tmp_path / "out" / "matching")
    row = next(row for row in matching.rows if (row.feature, row.part) == (ratio, "all"))
    assert row.metrics["mean_keypoints"]["value"] <= 300
    assert lines[ratio]["Oxford affine: MMA 3 px"] == f"{row.metrics['mma_3']['value']:.3f}"
    right, wrong = (row.metrics[f"{name}_matches"]["value"] for name in ("right", "wrong"))
    assert lines[ratio]["Oxford affine: right / wrong per pair"] == f"{right:.0f} / {wrong:.0f}"
    assert lines[ratio]["corner: registered"].endswith(" of 6")
    assert lines[unknown]["corner: points"] == "not measured"
    assert "There is no feature 'no-such-feature'" in table
    assert f"featplug {__version__}, " in table.splitlines()[-1]
    assert "Two of them" in (tmp_path / "out" / "report.html").read_text()

    def measured_again(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(feature_pairs.MatchedFeatures, "read_pair", measured_again)
    monkeypatch.setattr("benchmarks.reconstruction.kept_models.map_scene", measured_again)
    main(options)
    assert (tmp_path / "out" / "table.md").read_text() == table


def test_a_benchmark_that_fails_costs_the_others_nothing(suite: Path, tmp_path: Path) -> None:
    write_oxford(tmp_path / "oxford")
    options = SuiteOptions(
        str(suite),
        dataset=tmp_path / "oxford",
        scenes=(tmp_path / "nowhere",),
        outputs=tmp_path / "out",
    )
    runs, problems = measure_suite(options)
    assert [run.benchmark for run in runs] == ["matching"]
    assert any("nowhere" in problem.reason for problem in problems)
    assert "corner" not in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("peers",), "--dataset"),
        (("pears", "--dataset", "."), "peers"),
        (("{0}/no.toml", "--dataset", "."), "no.toml"),
        (("{0}/bad.toml", "--dataset", "."), "bad.toml"),
        (("{0}/empty.toml", "--dataset", "."), "has no methods"),
        (("{0}/text.toml", "--dataset", "."), "methods"),
        (("{0}/key.toml", "--dataset", "."), "Did you mean 'max_keypoints'?"),
        (("{0}/zero.toml", "--dataset", "."), "zero.toml: max_keypoints must be 1 or more"),
        (("{0}/below.toml", "--dataset", "."), "below.toml: max_keypoints must be 1 or more"),
        (("peers", "--dataset", ".", "--max-keypoints", "0"), "--max-keypoints must be 1 or more"),
        (("peers", "--dataset", "{0}/nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_begun(
    tmp_path: Path, refusal: Callable[..., str], arguments: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "bad.toml").write_text("methods = [")
    (tmp_path / "empty.toml").write_text("methods = []")
    (tmp_path / "text.toml").write_text("methods = 'sift'")
    for name, entry in (("key", "max_keypoint = 5"), ("zero", "max_keypoints = 0")):
        (tmp_path / f"{name}.toml").write_text(f"methods = ['sift']\n{entry}")
    (tmp_path / "below.toml").write_text("methods = ['sift']\nmax_keypoints = -7")
    words = [word.format(tmp_path) for word in arguments]
    assert reason in refusal(main, "suite", *words, "--outputs", tmp_path / "out")


def test_the_methods_of_the_suites_are_names() -> None:
    suite = read_suite("peers")
    assert suite["max_keypoints"] == 2048
    for name in suite["methods"]:
        if not name.startswith("hloc/"):  # of hloc, which may not be installed
            feature_conf(parse_method(name).feature)
    assert len(set(suite["methods"])) == len(suite["methods"])


def model_row(seed: int, median: float, unit: str = "m") -> Row:
    metrics = {
        "images": metric(8, "images"),
        "registered_images": metric(8, "images"),
        "median_position_error": metric(median, unit),
        "max_position_error": metric(0.5, unit),
    }
    return Row("a|b", "scene", "lfe", seed=seed, matcher="NN", metrics=metrics)


def test_errors_in_other_units_than_metres_are_not_shown_as_millimetres() -> None:
    """A reference that is a COLMAP model has a unit of its own; .084 of it was shown as 0 mm."""
    rows = [model_row(seed, error, "reference units") for seed, error in ((0, 0.083), (1, 0.085))]
    table = suite_table(["a|b"], [Run("reconstruction", {}, {}, rows)])
    assert "scene: camera error in reference units, median / largest" in table
    assert "| 0.084 ± 0.001 / 0.50 |" in table
    small = suite_table(["a|b"], [Run("reconstruction", {}, {}, [model_row(0, 0.00042)])])
    assert "scene: camera error in mm, median / largest" in small
    assert "| 0.42 / 500 |" in small


def test_figures_are_means_over_seeds_with_their_spread() -> None:
    rows = [model_row(0, 0.01), model_row(1, 0.03)]
    run = Run("reconstruction", {}, {}, rows, [Problem("c", "no weights | none")])
    table = suite_table(["a|b", "c"], [run])
    assert r"| 20 ± 14 / 500 |" in table
    assert r"`a\|b`" in table
    assert "8 of 8" in table
    assert r"- c: no weights \| none" in table
    assert np.mean([line.replace(r"\|", "").count("|") for line in table.splitlines()[:4]]) == 7
