"""Models of methods of other people, and of files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.published import compare
from benchmarks.reconstruction.evaluate_scene import run_benchmark
from benchmarks.reconstruction.options import ReconstructionOptions
from benchmarks.record import Row
from tests.benchmarks.methods_of_others import write_own_methods
from tests.scenes.room_corner import write_room_corner


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "corner"
    write_room_corner(folder, width=320)
    return folder


def measured(corner: Path, outputs: Path, **options: object) -> dict[str, Row]:
    given = ReconstructionOptions(scenes=(corner,), outputs=outputs, seeds=(0,), **options)  # type: ignore[arg-type]
    run = run_benchmark(given)
    assert not run.problems
    return {row.feature: row for row in run.rows}


def test_a_matcher_of_a_file_makes_a_model_of_its_own(corner: Path, tmp_path: Path) -> None:
    methods = write_own_methods(tmp_path)
    names = "sift", f"sift+{methods}:ByPlace"
    rows = measured(corner, tmp_path / "out", feature=names, max_keypoints=400)
    assert [rows[name].matcher for name in names] == ["NN-ratio (ratio 0.8)", f"{methods}:ByPlace"]
    assert len({rows[name].model for name in names}) == 2
    for row in rows.values():
        assert row.metrics["registered_images"]["value"] > 3
        assert row.model is not None
        assert (tmp_path / "out" / row.model).is_dir()
    own = replace(rows[names[1]], dataset="fountain-P11")
    assert not compare("reconstruction", own), "papers have no numbers of it"


def test_files_stand_in_for_methods(corner: Path, tmp_path: Path) -> None:
    own = measured(corner, tmp_path / "own", feature=("sift",), max_keypoints=400)["sift"]
    features, matches = sorted((tmp_path / "own").rglob("feats-*.h5"), key=lambda p: len(p.name))
    features = Path(shutil.copy(features, tmp_path / "features.h5"))
    matches = Path(shutil.copy(matches, tmp_path / "matches.h5"))
    rows = measured(
        corner,
        tmp_path / "given",
        features=(f"sift={features}", f"other={features}"),
        matches=(f"other={matches}",),
    )
    assert set(rows) == {"sift", "other"}
    for row in rows.values():
        names = "registered_images", "mean_keypoints", "inlier_matches"
        assert [row.metrics[n] for n in names] == [own.metrics[n] for n in names]
    assert str(rows["other"].matcher).endswith("matches.h5")


def test_a_file_with_more_keypoints_than_requested_is_rejected(
    corner: Path, tmp_path: Path
) -> None:
    """All of its keypoints were used, in a folder whose name and record had the number."""
    measured(corner, tmp_path / "own", feature=("sift",), max_keypoints=100)
    features = min((tmp_path / "own").rglob("feats-*.h5"), key=lambda p: len(p.name))
    given = {"features": (f"sift={features}",)}
    row = measured(corner, tmp_path / "given", **given, max_keypoints=100)["sift"]
    assert row.metrics["mean_keypoints"]["value"] == 100
    options = ReconstructionOptions(
        scenes=(corner,), outputs=tmp_path / "fewer", max_keypoints=50, features=given["features"]
    )
    run = run_benchmark(options)
    assert not run.rows
    (problem,) = run.problems
    assert str(features) in problem.reason
    assert "--max-keypoints" in problem.reason


def test_a_matcher_of_images_makes_a_model(corner: Path, tmp_path: Path) -> None:
    name = f"{write_own_methods(tmp_path)}:Corners"
    (row,) = measured(corner, tmp_path / "out", feature=(name,)).values()
    assert row.metrics["registered_images"]["value"] > 3
    assert row.matcher == name
    assert row.methods[0]["class"] == "own_methods.py:Corners"
    again = measured(corner, tmp_path / "out", matcher=name)
    assert again[name].stages == row.stages  # what they cost when they were made
