"""Features from photographs to a table, and what a second run does."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pycolmap
import pytest

from benchmarks.reconstruction import kept_models
from benchmarks.reconstruction.__main__ import main
from benchmarks.reconstruction.evaluate_scene import run_benchmark
from benchmarks.reconstruction.options import ReconstructionOptions
from benchmarks.record import Run, read_run
from featplug.colmap.cameras import CameraOptions
from tests.documented import assert_documented
from tests.scenes.room_corner import write_room_corner

PROG = "python -m benchmarks.reconstruction"


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with true poses and a photograph that cannot be read."""
    folder = tmp_path_factory.mktemp("scenes") / "corner"
    write_room_corner(folder, width=320)
    (folder / "images" / "99.jpg").write_bytes(b"\xff\xd8 not a photograph")
    return folder


@pytest.fixture(scope="module")
def options(corner: Path, tmp_path_factory: pytest.TempPathFactory) -> ReconstructionOptions:
    """Two features, one that is not known, two seeds, and a scene that is not there."""
    return ReconstructionOptions(
        scenes=(corner, corner.parent / "nowhere"),
        feature=("sift", "shift", "sift-opencv", "sift"),
        outputs=tmp_path_factory.mktemp("outputs"),
        seeds=(0, 7),
        max_keypoints=400,
    )


@pytest.fixture(scope="module")
def run(options: ReconstructionOptions) -> Run:
    return run_benchmark(options)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of models that are made, which from now on fails."""
    seeds: list[int] = []

    def fail(scene: Any, options: Any, *_: object) -> Any:
        seeds.append(options.seed)
        raise ValueError("mapped again")

    monkeypatch.setattr(kept_models, "map_scene", fail)
    return seeds


def test_there_is_a_row_for_each_feature_and_seed(run: Run, options: ReconstructionOptions) -> None:
    assert read_run(options.outputs) == run
    assert_documented(options.outputs / "results.json")
    assert [(row.feature, row.seed) for row in run.rows] == [
        ("sift", 0), ("sift", 7), ("sift-opencv", 0), ("sift-opencv", 7)
    ]  # fmt: skip
    for row in run.rows:
        assert (row.dataset, row.protocol) == ("corner", "local-feature-evaluation")
        assert (row.matcher, row.not_comparable) == (
            "NN-ratio (ratio 0.8)",
            "1 of its images could not be used; max_keypoints 400 instead of the feature's own",
        )
        assert set(row.stages) == {"extract", "pairs", "match", "verify", "map"}
        assert row.metrics["images"]["value"] == 7
        assert row.metrics["registered_images"]["value"] == 6
        assert row.metrics["mean_keypoints"]["value"] <= 400
        assert row.metrics["verified_pairs"]["value"] <= row.metrics["matched_pairs"]["value"] == 15
        assert row.metrics["median_position_error"]["unit"] == "m"
        assert row.metrics["median_position_error"]["value"] < 0.03  # seen from 3 m away
        assert row.metrics["mean_rotation_error"]["value"] < 3


def test_the_figures_are_those_of_the_models(run: Run, options: ReconstructionOptions) -> None:
    for row in run.rows:
        assert row.model is not None
        model = pycolmap.Reconstruction(str(options.outputs / row.model))
        tracks = [len(point.track.elements) for point in model.points3D.values()]
        figures = {name: entry["value"] for name, entry in row.metrics.items()}
        assert figures["sparse_points"] == len(tracks)
        assert figures["observations"] == sum(tracks)
        assert figures["mean_track_length"] == pytest.approx(np.mean(tracks))
        assert figures["mean_observations_per_image"] == pytest.approx(sum(tracks) / 6)


def test_the_same_pairs_are_drawn_for_all_features(
    run: Run, options: ReconstructionOptions
) -> None:
    drawn = {row.feature: row.pictures for row in run.rows if row.pictures}
    assert list(drawn) == ["sift", "sift-opencv"]
    named = [[picture.pair for picture in pictures] for pictures in drawn.values()]
    assert named[0] == named[1]
    assert named[0][0] != named[0][1]
    for pictures in drawn.values():
        for picture in pictures:
            assert 15 <= picture.counts["inliers"] <= picture.counts["matches"] <= 400
            assert cv2.imread(str(options.outputs / picture.path)).shape[1] > 600


def test_each_failure_is_reported_once(run: Run) -> None:
    reported = {problem.subject: problem.reason for problem in run.problems}
    assert len(reported) == len(run.problems) == 4
    assert reported["sift, named again"] == "each method is measured once"
    assert "There is no feature 'shift'" in reported["shift"]
    assert "99.jpg" in reported["corner/99.jpg"]
    (nowhere,) = (reason for subject, reason in reported.items() if subject.endswith("nowhere"))
    assert "scene folder" in nowhere


def test_a_second_run_makes_nothing_again(
    run: Run, options: ReconstructionOptions, mapped: list[int]
) -> None:
    files = sorted(options.outputs.rglob("*.h5"))
    before = [arrays(file) for file in files]
    again = run_benchmark(options)
    unmarked = [dataclasses.replace(row, reused=[]) for row in again.rows]
    assert unmarked == run.rows  # what the stages cost as well
    assert [set(row.reused) for row in again.rows] == [set(row.stages) for row in run.rows]
    assert again.problems == run.problems
    assert mapped == []
    assert [arrays(file) for file in files] == before


def arrays(path: Path) -> dict[str, bytes]:
    """The contents of a file of ours, without the times of photographs that it remembers."""
    found: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
        return found | {"provenance": bytes(file.attrs["featplug"])}


def copied(options: ReconstructionOptions, folder: Path) -> ReconstructionOptions:
    """The same for sift alone, in a copy of the output folder."""
    shutil.copytree(options.outputs, folder)
    return dataclasses.replace(
        options, outputs=folder, feature=("sift",), scenes=options.scenes[:1]
    )


def test_only_what_was_made_the_same_way_is_used_again(
    run: Run, options: ReconstructionOptions, tmp_path: Path, mapped: list[int]
) -> None:
    own = copied(options, tmp_path / "out")
    folder = own.outputs / "corner" / "sift-n400"
    (folder / "seed-7" / "made_from.json").unlink()  # as a kill leaves it
    (folder / "costs.json").unlink()
    partly = run_benchmark(own)
    assert mapped == [7]
    assert [row.seed for row in partly.rows] == [0]
    assert set(partly.rows[0].stages) == {"pairs", "verify", "map"}  # what made the others is gone
    run_benchmark(dataclasses.replace(own, seeds=(), num_seeds=2))
    assert mapped == [7, 1]
    run_benchmark(dataclasses.replace(own, camera=CameraOptions("single")))
    assert mapped == [7, 1, 0, 7]


def test_other_photographs_are_rejected(
    run: Run, options: ReconstructionOptions, corner: Path, tmp_path: Path, mapped: list[int]
) -> None:
    own = copied(options, tmp_path / "out")
    scene = Path(shutil.copytree(corner, tmp_path / "corner"))
    shutil.copyfile(scene / "images" / "01.png", scene / "images" / "00.png")
    changed = run_benchmark(dataclasses.replace(own, scenes=(scene,)))
    assert changed.rows == []
    (problem,) = changed.problems
    assert problem.subject == "sift on corner"
    assert str(scene / "images" / "00.png") in problem.reason
    assert "--overwrite" in problem.reason


def test_the_table_is_printed(
    run: Run, options: ReconstructionOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    main(options)
    printed = capsys.readouterr().out
    assert "corner: 7 images, mean ± standard deviation over the seeds 0, 7" in printed
    assert re.search(r"^sift-opencv +\d+ +15 ", printed, re.MULTILINE)
    assert "shift: There is no feature 'shift'" in printed
    assert "--dense" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1", "1"], "The seed 1 is given twice."),
        (["--seeds", "1", "--num-seeds", "2"], "Give --seeds or --num-seeds, not both."),
        (["--num-seeds", "0"], "--num-seeds must be above 0"),
        (["--weights", "doap", "x"], "weights for doap, which is not among the methods"),
        (["--matcher", "NN"], "no matcher 'NN'"),
        (["--feature", "shift"], "Nothing could be measured; the reasons are above and in"),
    ],
)
def test_bad_requests_are_one_line_and_exit_code_2(
    corner: Path,
    tmp_path: Path,
    refusal: Callable[..., str],
    arguments: list[str],
    message: str,
) -> None:
    line = refusal(main, PROG, "--scenes", corner, "--outputs", tmp_path / "out", *arguments)
    assert message in line


def test_scenes_of_one_name_are_rejected(
    corner: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    other = shutil.copytree(corner, tmp_path / "corner")
    line = refusal(main, PROG, "--scenes", corner, other, "--outputs", tmp_path / "out")
    assert "are both named corner; rename one of the folders" in line


def test_missing_dense_points_are_reported_where_they_cannot_be_made(
    run: Run, options: ReconstructionOptions, tmp_path: Path
) -> None:
    if pycolmap.has_cuda:
        pytest.skip("this pycolmap can make dense points")
    dense = run_benchmark(dataclasses.replace(copied(options, tmp_path / "out"), dense=True))
    assert len(dense.rows) == 2
    (problem,) = (p for p in dense.problems if p.subject == "dense points")
    assert "COLMAP with CUDA" in problem.reason
