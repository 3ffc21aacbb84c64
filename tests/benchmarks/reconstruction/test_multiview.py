"""The multiview track of PhotoTourism: subsets of images, their models, and mean accuracies."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.reconstruction import kept_models
from benchmarks.reconstruction.evaluate_scene import run_benchmark
from benchmarks.reconstruction.multiview import mean_rows, subset_figures
from benchmarks.reconstruction.options import ReconstructionOptions
from benchmarks.reconstruction.scenes import find_scene
from benchmarks.reconstruction.subsets import Subset, read_subsets
from benchmarks.reconstruction.summary import run_lines
from benchmarks.record import Row, Run, read_run
from pipelines.datasets.demo import DemoOptions, make_demo_world
from pipelines.demo.pair_layouts import true_pairs
from pipelines.sfm import MatchedScene
from tests.documented import assert_documented

WORLD = DemoOptions(seed=5, num_database=24, num_queries=1, image_size=320)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_world(tmp_path_factory.mktemp("world"), WORLD, "phototourism") / "town"


def _options(scene: Path, outputs: Path, **options: Any) -> ReconstructionOptions:
    return ReconstructionOptions(
        (scene,), feature=("sift",), outputs=outputs, num_seeds=1, **options
    )


@pytest.fixture(scope="module")
def outputs(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multiview")
    run_benchmark(_options(scene, folder))
    return folder


@pytest.fixture(scope="module")
def run(outputs: Path) -> Run:
    return read_run(outputs)


def _figures(run: Run, part: str) -> dict[str, float]:
    (row,) = (row for row in run.rows if row.part == part)
    return {name: entry["value"] for name, entry in row.metrics.items()}


def test_the_layout_is_recognised_and_read(scene: Path) -> None:
    found = find_scene(scene)
    assert (found.name, found.images, found.has_subsets) == (
        "town",
        scene.resolve() / "set_100" / "images",
        True,
    )
    read = read_subsets(scene)
    assert [(s.name, len(s.images)) for s in read.subsets] == [
        ("5bag_000", 5), ("5bag_001", 5), ("10bag_000", 10)
    ]  # fmt: skip
    assert read.problems == []
    views = {f"{Path(v.name).stem}.jpg": v.cam_from_world for v in true_pairs(WORLD).by_day}
    assert set(read.cam_from_world) == {n for s in read.subsets for n in s.images}
    for name, pose in read.cam_from_world.items():
        np.testing.assert_array_equal(pose, views[name])
    assert len(read_subsets(scene, most=1).subsets) == 2


def _angles(scene: Path, model: Path, images: tuple[str, ...]) -> list[float]:
    """Return the errors of all pairs of images, in degrees."""
    made = pycolmap.Reconstruction(str(model)).images.values() if model.exists() else []
    found = {image.name: image.cam_from_world() for image in made if image.has_pose}
    true = read_subsets(scene).cam_from_world
    angles = []
    for a, b in combinations(images, 2):
        if not {a, b} <= set(found):
            angles.append(np.inf)
            continue
        pose = (found[b] * found[a].inverse()).matrix()
        turn = true[b][:, :3] @ true[a][:, :3].T
        shift = true[b][:, 3] - turn @ true[a][:, 3]
        rotation = Rotation.from_matrix(pose[:, :3] @ turn.T).magnitude()
        cosine = abs(pose[:, 3] @ shift) / np.linalg.norm(pose[:, 3]) / np.linalg.norm(shift)
        angles.append(np.degrees(max(rotation, np.arccos(min(cosine, 1)))))
    return angles


def test_figures_are_those_of_the_models(scene: Path, outputs: Path, run: Run) -> None:
    assert_documented(outputs / "results.json")
    assert {row.protocol for row in run.rows} == {"phototourism-multiview"}
    assert [row.part for row in run.rows] == ["all", "5 images", "10 images"]
    by_size: dict[int, list[float]] = {}
    registered: dict[int, list[float]] = {}
    for subset in read_subsets(scene).subsets:
        size = len(subset.images)
        (model,) = outputs.glob(f"town/*/seed-0/{subset.name}")
        angles = _angles(scene, model / "model", subset.images)
        assert len(angles) == size * (size - 1) / 2
        accuracy = [np.mean([angle < degree for angle in angles]) for degree in range(1, 11)]
        by_size.setdefault(size, []).append(float(np.mean(accuracy)))
        made = (model / "model").exists()
        num = pycolmap.Reconstruction(str(model / "model")).num_reg_images() if made else 0
        registered.setdefault(size, []).append(num / size)
    for size, values in by_size.items():
        figures = _figures(run, f"{size} images")
        assert figures["pose_maa_10"] == pytest.approx(np.mean(values), abs=1e-6)
        assert figures["registered_fraction"] == pytest.approx(np.mean(registered[size]))
    means = [np.mean(values) for values in by_size.values()]
    assert _figures(run, "all")["pose_maa_10"] == pytest.approx(np.mean(means), abs=1e-6)
    assert _figures(run, "10 images")["pose_maa_10"] > 0.2  # the world can be reconstructed


def test_rows_say_how_they_differ_from_the_authors(run: Run) -> None:
    (row,) = (row for row in run.rows if row.part == "all")
    assert "2 of 100 subsets of 5 images" in str(row.not_comparable)
    assert "0 of 25 subsets of 25 images" in str(row.not_comparable)
    assert {"extract", "match", "verify", "map"} <= set(row.stages)
    assert "pose_maa_10" in row.metrics
    lines = run_lines(run)
    assert any("mAA 10°" in line for line in lines)
    assert [line.split("  ")[0] for line in lines[2:]][:3] == [
        "sift",
        "sift, 5 images",
        "sift, 10 images",
    ]


def test_models_of_an_earlier_run_are_reused(
    scene: Path, outputs: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("mapped again")

    num_models = len(list(outputs.glob("town/*/seed-0/*/model")))
    assert num_models > 0
    if num_models == 3:
        monkeypatch.setattr("benchmarks.reconstruction.kept_models.map_scene", fail)
    again = run_benchmark(_options(scene, outputs))
    assert [row.metrics for row in again.rows] == [row.metrics for row in run.rows]


def test_unregistered_images_and_missing_models_are_failures() -> None:
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "d")
    true = {
        name: np.column_stack([Rotation.random(random_state=i).as_matrix(), rng.normal(size=3)])
        for i, name in enumerate(names)
    }
    subset = Subset("4bag_000", names)
    # The same cameras in another similarity frame: x_new = s R x + t.
    turn, scale, shift = Rotation.random(random_state=9).as_matrix(), 3.0, np.array([1.0, 2, 3])
    moved = {
        name: np.column_stack(
            [pose[:, :3] @ turn.T, scale * pose[:, 3] - pose[:, :3] @ turn.T @ shift]
        )
        for name, pose in true.items()
    }
    record: Any = {
        "metrics": {
            name: {"value": 2.0}
            for name in ("sparse_points", "mean_track_length", "mean_reprojection_error")
        }
    }
    whole = subset_figures(subset, moved, true, record)
    assert whole["pose_maa_10"] == whole["registered_fraction"] == 1
    assert whole["pose_auc_5"] == pytest.approx(1, abs=1e-6)
    del moved["d"]
    lacking = subset_figures(subset, moved, true, record)
    assert lacking["pose_maa_10"] == lacking["pose_maa_5"] == 3 / 6
    assert lacking["registered_fraction"] == 3 / 4
    nothing = subset_figures(subset, {}, true, None)
    assert nothing["pose_maa_10"] == nothing["pose_auc_10"] == nothing["registered_fraction"] == 0
    assert nothing["sets_without_model"] == 1
    assert "sparse_points" not in nothing


def test_subsets_without_a_model_are_one_problem_that_counts_them(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kept_models.map_scene

    def fail(matched: MatchedScene, *others: Any) -> Any:
        if len(matched.features.names) == 5:
            raise ValueError("COLMAP reconstructed nothing.")
        return made(matched, *others)

    monkeypatch.setattr(kept_models, "map_scene", fail)
    run = run_benchmark(_options(scene, tmp_path))
    (problem,) = run.problems
    assert problem.subject == "sift on town, seed 0"
    assert problem.reason.startswith("2 of 3 subsets have no model")
    assert "5bag_000: COLMAP reconstructed nothing" in problem.reason
    of_five, of_ten, whole = (_figures(run, p) for p in ("5 images", "10 images", "all"))
    assert of_five["pose_maa_10"] == of_five["registered_fraction"] == 0
    assert of_five["sets_without_model"] == 1
    assert whole["pose_maa_10"] == of_ten["pose_maa_10"] / 2 > 0


def test_a_method_without_any_model_has_rows_of_failures(
    scene: Path, outputs: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("COLMAP reconstructed nothing.")

    shutil.copytree(outputs, tmp_path / "copied")  # with its features and matches
    for model in tmp_path.glob("copied/town/*/seed-0"):
        shutil.rmtree(model)
    monkeypatch.setattr(kept_models, "map_scene", fail)
    failed = run_benchmark(_options(scene, tmp_path / "copied"))
    assert [row.part for row in failed.rows] == [row.part for row in run.rows]
    for row, other in zip(failed.rows, run.rows, strict=True):
        assert row.metrics["pose_maa_10"]["value"] == 0
        assert row.metrics["sets_without_model"]["value"] == 1
        assert (row.matcher, row.settings, row.weights, row.methods) == (
            other.matcher,
            other.settings,
            other.weights,
            other.methods,
        )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("images/day000.jpg\n", "expected 5 different images"),
        ("images/../day000.jpg\n" * 5, r"'\.\.'"),
        ("\n".join(f"images/lost{i}.jpg" for i in range(5)), "lost0"),
    ],
)
def test_bad_subsets_are_left_out_with_a_reason(
    scene: Path, tmp_path: Path, text: str, problem: str
) -> None:
    folder = Path(shutil.copytree(scene, tmp_path / "town"))
    path = folder / "set_100" / "sub_set" / "5bag_001.txt"
    path.write_text(text)
    read = read_subsets(folder)
    assert [subset.name for subset in read.subsets] == ["5bag_000", "10bag_000"]
    (found,) = read.problems
    assert found.subject == "set_100/sub_set/5bag_001.txt"
    with pytest.raises(ValueError, match=problem):
        raise ValueError(found.reason)


def test_a_missing_calibration_leaves_its_subsets_out(scene: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scene, tmp_path / "town"))
    name = Path(read_subsets(folder).subsets[1].images[0]).stem
    (folder / f"set_100/calibration/calibration_{name}.h5").unlink()
    read = read_subsets(folder)
    assert [subset.name for subset in read.subsets] == ["5bag_000"]
    assert all(f"calibration_{name}.h5" in problem.reason for problem in read.problems)
    for path in (folder / "set_100" / "calibration").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no subset of images that can be used; the first"):
        read_subsets(folder)


def test_pairs_with_few_common_points_are_not_matched(scene: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scene, tmp_path / "town")) / "set_100"
    whole = read_subsets(folder.parent)
    assert len(whole.matched) == len({pair for s in whole.subsets for pair in s.pairs})
    names = [line.removeprefix("images/") for line in (folder / "images.txt").read_text().split()]
    (folder / "visibility").mkdir()
    (folder / "visibility.txt").write_text("".join(f"visibility/{n}.txt\n" for n in names))
    first, second = whole.subsets[0].images[:2]
    for name in names:
        counts = [101 if {name, other} == {first, second} else 100 for other in names]
        (folder / "visibility" / f"{name}.txt").write_text("\n".join(map(str, counts)))
    assert read_subsets(folder.parent).matched == [(first, second)]
    (folder / "visibility" / f"{names[0]}.txt").write_text("1 2")
    with pytest.raises(ValueError, match=r"expected \d+ numbers of points"):
        read_subsets(folder.parent)


def test_the_mean_over_scenes_is_what_papers_report(run: Run, tmp_path: Path) -> None:
    def of_scene(name: str, add: float) -> list[Row]:
        return [
            replace(
                row,
                dataset=name,
                metrics={k: {**m, "value": m["value"] + add} for k, m in row.metrics.items()},
            )
            for row in run.rows
        ]

    rows = [*of_scene("london_bridge", 0), *of_scene("milan_cathedral", 1)]
    rows += of_scene("reichstag", 5)  # one scene for validation has no mean
    assert list(mean_rows(rows)) == ["phototourism"]
    means = mean_rows(rows)["phototourism"]
    assert [row.part for row in means] == [row.part for row in run.rows]
    for mean, row in zip(means, run.rows, strict=True):
        value = row.metrics["pose_maa_10"]["value"]
        assert mean.metrics["pose_maa_10"]["value"] == pytest.approx(value + 0.5)
        assert "without 7 of 9 scenes" in str(mean.not_comparable)
        assert "of 100 subsets" in str(mean.not_comparable)
    assert mean_rows(run.rows) == {}
    whole = replace(run, rows=[*rows, *means])
    for row in whole.rows:
        whole.data.setdefault(row.dataset, {"path": "."})
    assert "phototourism: mean over scenes" in run_lines(whole)
