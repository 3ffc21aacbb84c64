"""The benchmark of localization: rows of each condition, and features that fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import localization
from benchmarks.localization import LocalizationBenchmark, main, measure, table
from benchmarks.record import Problem, Run, read_run
from pipelines.datasets.protocol import LocalizeOptions
from pipelines.localize import localize
from pipelines.run_options import FeatureOptions
from tests.documented import assert_documented
from tests.scenes.scanned_room import ScannedRoom


@pytest.fixture(scope="module")
def run(aachen_room: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    outputs = tmp_path_factory.mktemp("benchmark")
    return outputs, measure(
        LocalizationBenchmark(aachen_room, feature=("sift", "no-such", "sift"), outputs=outputs)
    )


def test_each_condition_is_a_row(run: tuple[Path, Run], aachen_room: Path) -> None:
    outputs, measured = run
    assert read_run(outputs) == measured
    assert_documented(outputs / "results.json")
    assert_documented(outputs / "sift" / "results.json")
    whole, day, night = measured.rows
    assert [row.part for row in measured.rows] == ["all", "day", "night"]
    assert {row.dataset for row in measured.rows} == {aachen_room.name} == set(measured.data)
    assert {row.protocol for row in measured.rows} == {"aachen"}
    assert day.metrics["recall_0.25m_2deg"] == {"value": 100.0, "unit": "%"}
    assert "recall_1m_5deg" in night.metrics, "the older thresholds"
    assert "day_queries" not in whole.metrics
    assert whole.metrics["sparse_points"]["value"] > 0
    assert whole.stages["localize"]["seconds"] >= 0
    assert whole.not_comparable is None
    assert measured.options["num_loc"] == 50
    assert day.stages == {}, "the stages are of all conditions together"
    assert (outputs / whole.pictures[0].path).is_file()
    assert whole.model is not None
    assert (outputs / whole.model).is_dir()
    (line,) = [line for line in table(measured.rows) if " day " in line]
    assert line.split()[:8] == ["sift", "day", "0", "2", "of", "2", "100.0", "%"]


def test_a_feature_that_fails_leaves_the_others(run: tuple[Path, Run]) -> None:
    _, measured = run
    assert {row.feature for row in measured.rows} == {"sift"}
    again, unknown = measured.problems
    assert again.subject == "sift, named again"
    assert unknown.subject == "no-such"
    assert "There is no feature 'no-such'" in unknown.reason


def test_stages_of_an_earlier_run_have_no_times(run: tuple[Path, Run], aachen_room: Path) -> None:
    outputs, _ = run
    again = measure(LocalizationBenchmark(aachen_room, outputs=outputs, seeds=(3, 0)))
    assert [row.seed for row in again.rows if row.part == "all"] == [3, 0]
    for row in again.rows:
        is_whole = row.part == "all"
        assert "extract" not in row.stages
        assert ("localize" in row.stages) == is_whole
        assert bool(row.model and row.pictures) == (is_whole and row.seed == 0)


def test_a_file_with_more_keypoints_than_requested_is_rejected(
    run: tuple[Path, Run], aachen_room: Path, tmp_path: Path
) -> None:
    features = min((run[0] / "sift").rglob("feats-*.h5"), key=lambda path: len(path.name))
    again = measure(
        LocalizationBenchmark(
            aachen_room, outputs=tmp_path, features=(f"sift={features}",), max_keypoints=10
        )
    )
    assert not again.rows
    (problem,) = again.problems
    assert str(features) in problem.reason
    assert "--max-keypoints" in problem.reason


def test_a_scanned_room_is_one_row(
    scanned_room: ScannedRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = scanned_room
    # Its pictures are blank: features and matches are given.
    given = {"extraction": FeatureOptions(features=room.features), "matches": room.matches}
    monkeypatch.setattr(
        localization,
        "localize",
        lambda options, progress: localize(replace(options, **given), progress),
    )
    benchmark = LocalizationBenchmark(
        room.folder, "inloc", pairs=room.pairs, outputs=tmp_path / "out"
    )
    (row,) = measure(benchmark).rows
    assert_documented(tmp_path / "out" / "sift" / "results.json")
    assert (row.part, row.protocol, row.dataset) == ("all", "inloc", room.folder.name)
    assert row.metrics["recall_0.25m_10deg"]["value"] == 100
    assert row.stages["scan"]["peak_memory_mib"] > 0
    assert row.not_comparable == f"pairs {room.pairs} instead of the pipeline's own"
    assert table([row])[1].split()[:6] == ["sift", "all", "0", "4", "of", "4"]


def test_what_does_not_fit_is_rejected(
    tmp_path: Path, aachen_room: Path, refusal: Callable[..., str]
) -> None:
    prog = "python -m benchmarks.localization"
    line = refusal(main, prog, "--dataset", tmp_path / "none", "--outputs", tmp_path / "out")
    assert "none" in line
    line = refusal(
        main, prog, "--dataset", aachen_room, "--pipeline", "inloc", "--protocol", "local-features"
    )
    assert "--pipeline aachen" in line
    line = refusal(main, prog, "--dataset", aachen_room, "--weights", "doap", "official")
    assert "weights for doap, which is not among the methods" in line
    line = refusal(main, prog, "--dataset", aachen_room, "--pipeline", "inlok")
    assert "Did you mean 'inloc'?" in line
    assert LocalizationBenchmark(Path("demo")).dataset_name == "demo-town"


def test_torch_running_out_of_memory_leaves_the_others(
    aachen_room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    def fail(options: LocalizeOptions, progress: bool) -> None:
        raise RuntimeError(f"out of memory: {options.extraction.feature}\nmore")

    monkeypatch.setattr(localization, "localize", fail)
    line = refusal(
        main,
        "python -m benchmarks.localization",
        *("--dataset", aachen_room, "--outputs", tmp_path, "--feature", "sift", "sift-opencv"),
    )
    assert "Nothing could be measured" in line
    assert read_run(tmp_path).problems == [
        Problem(name, f"out of memory: {name}") for name in ("sift", "sift-opencv")
    ]
