"""Runs are found and read, those of pipelines too; what cannot be read does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.runs import command_line, find_runs, load_runs
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, reconstruct
from tests.benchmarks.report.conftest import make_run, reconstruction_row, write_record
from tests.documented import assert_documented
from tests.scenes.synthetic import SyntheticScene


def test_folders_in_a_folder_are_found_and_what_a_run_keeps_is_its_own(tmp_path: Path) -> None:
    for name in ("a/seed-0", "b", "b/inside"):
        write_record(tmp_path / name, {})
    assert find_runs([tmp_path]) == ([tmp_path / "a" / "seed-0", tmp_path / "b"], [])
    assert find_runs([tmp_path / "b", tmp_path / "b" / "results.json"]) == ([tmp_path / "b"], [])
    (tmp_path / "empty").mkdir()
    for folder, reason in (("empty", "empty"), ("gone", "gone")):
        with pytest.raises(FileNotFoundError, match=reason):
            find_runs([tmp_path / folder])


def test_links_and_a_closed_folder_do_not_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(tmp_path / "a" / "b", {})
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "closed").mkdir()
    list_folder = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return list_folder(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    write_record(tmp_path / "elsewhere" / "run", {})
    (tmp_path / "all" / "x").mkdir(parents=True)
    for name in ("a", "closed"):
        (tmp_path / name).rename(tmp_path / "all" / name)
    (tmp_path / "all" / "x" / "link").symlink_to(tmp_path / "elsewhere")
    folders, problems = find_runs([tmp_path / "all"])
    assert folders == [tmp_path / "all" / "a" / "b"]
    up, closed, link = (problem.reason for problem in problems)
    assert "all/a/up is a link that leads out" in up
    assert "all/closed: Permission denied" in closed
    assert "all/x/link is a link that leads out" in link


def test_runs_of_other_versions_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    good = {"schema_version": 2, **asdict(make_run("matching", []))}
    folders = [
        write_record(tmp_path / "good" / "run", good),
        write_record(tmp_path / "newer" / "run", {**good, "schema_version": 99}),
        write_record(tmp_path / "pipeline", {"pipeline": "sfm", "data": {}}),
    ]
    loaded, problems = load_runs(folders)
    assert [entry.name for entry in loaded] == ["good/run"]
    assert [problem.subject for problem in problems] == ["newer/run", "pipeline"]
    assert "schema version 99" in problems[0].reason
    assert "pipeline/results.json: options is missing" in problems[1].reason
    with pytest.raises(ValueError, match=r"schema version 99"):
        load_runs(folders[1:])


def test_a_pipeline_with_conditions_becomes_a_row_of_each(
    tmp_path: Path, pipeline_record: dict[str, Any]
) -> None:
    [loaded], _ = load_runs([write_record(tmp_path / "run", pipeline_record)])
    run = loaded.run
    assert run.benchmark == "localization"
    values = {
        row.part: {name: entry["value"] for name, entry in row.metrics.items()} for row in run.rows
    }
    assert values == {
        "all": {"sparse_points": 100},
        "day": {"queries": 4, "recall_0.25m_2deg": 75.0},
        "night": {"recall_0.25m_2deg": 50.0},
    }
    assert {(row.dataset, row.seed, row.feature) for row in run.rows} == {("demo-town", 3, "sift")}
    assert [problem.subject for problem in run.problems] == ["a.jpg", "b.jpg"]
    assert "1 more" in run.problems[1].reason
    assert command_line(run) == [
        *("python", "-m", "pipelines.aachen", "--dataset", "demo", "--feature", "sift"),
        *("--max-keypoints", "500", "--seed", "3", "--hloc-logs"),
    ]


def test_a_reconstruction_by_the_pipeline_is_read_with_its_model(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.txt"
    names = synthetic_scene.names
    pairs.write_text("".join(f"{a} {b}\n" for a in names for b in names if a < b))
    outputs = tmp_path / "out"
    results = reconstruct(
        SfmOptions(
            synthetic_scene.images,
            extraction=FeatureOptions(features=synthetic_scene.features),
            matcher="NN-mutual",
            pairs=str(pairs),
            matches=synthetic_scene.matches,
            outputs=outputs,
        )
    )
    [loaded], problems = load_runs([outputs])
    assert_documented(outputs / "results.json")
    [row] = loaded.run.rows
    assert not problems
    assert (row.feature, row.dataset) == ("feats", "synthetic")
    assert row.metrics == results["metrics"]
    assert row.model is not None
    assert (outputs / row.model / "images.bin").exists()


def test_commands_are_written_as_they_are_typed() -> None:
    run = make_run("matching", [reconstruction_row("sift", 0, 1.0)])
    assert command_line(run) == ["python", "-m", "benchmarks.matching", "--dataset", "it's here"]
    run.command = ["/usr/lib/benchmarks/report/benchmarks/speed.py", "-x"]
    assert command_line(run) == ["python", "-m", "benchmarks.speed", "-x"]
    run.command = ["own-script", "--seed", "1"]
    assert command_line(run) == ["own-script", "--seed", "1"]
