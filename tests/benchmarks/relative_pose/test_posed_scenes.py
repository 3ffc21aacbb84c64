"""Relative poses on PhotoTourism, IMC 2022 and ETH3D, whose scenes have rows and a mean."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pair_values import MEAN_OF_SCENES
from benchmarks.pairs.datasets import read_pairs
from benchmarks.record import Row, read_run
from benchmarks.relative_pose.__main__ import RelativePoseOptions, main
from benchmarks.relative_pose.pose_protocols import PROTOCOLS
from benchmarks.relative_pose.threshold_choice import read_tuning_set
from benchmarks.report.gather import make_report
from pipelines.datasets.demo import DemoOptions, PosedScenes, make_demo_world

WORLD = DemoOptions(seed=5, num_database=10, num_queries=1, image_size=240)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


def measure(folder: Path, outputs: Path) -> dict[str, Row]:
    options = RelativePoseOptions(
        folder,
        outputs=outputs,
        feature=("sift",),
        threshold=1.0,
        num_seeds=1,
        pictures=False,
        max_keypoints=1000,
    )
    main(options)
    return {row.part: row for row in read_run(outputs).rows}


def value(row: Row, name: str) -> float:
    return float(row.metrics[name]["value"])


@pytest.mark.parametrize(
    ("layout", "protocol"),
    [
        ("phototourism", "phototourism-stereo"),
        ("imc2022", "imc-2022"),
        ("eth3d_pairs", "eth3d-pairs"),
    ],
)
def test_scenes_of_the_demo_world(
    world: Path, tmp_path: Path, layout: PosedScenes, protocol: str
) -> None:
    rows = measure(make_demo_world(world, WORLD, layout), tmp_path)
    assert rows["all"].protocol == f"{protocol}+opencv-ransac"
    assert rows["all"].dataset == layout
    assert "town" in str(rows["all"].not_comparable)  # no scene of the data set
    assert value(rows["town"], "pose_auc_10") == value(rows["all"], "pose_auc_10") > 0
    assert ("pose_maa_10deg_5m" in rows["all"].metrics) == (layout != "phototourism")
    assert (MEAN_OF_SCENES in rows) == (layout != "eth3d_pairs")


def test_scenes_for_validation_choose_thresholds_for_the_others(
    world: Path, tmp_path: Path
) -> None:
    whole = make_demo_world(world, WORLD, "phototourism") / "town"
    folder = tmp_path / "scenes"
    shutil.copytree(whole, folder / "british_museum")
    shutil.copytree(whole, folder / "sacre_coeur")
    for path in (folder / "sacre_coeur" / "set_100" / "images").iterdir():
        with Image.open(path) as image:
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    protocols = [PROTOCOLS["phototourism-stereo"]]
    measured = read_pairs(folder, "phototourism")
    tuning = read_tuning_set(folder, measured, protocols)
    assert {pair.sequence for pair in tuning.pairs} == {"sacre_coeur"}
    shutil.rmtree(folder / "sacre_coeur")
    with pytest.raises(ValueError, match=r"no pair to choose thresholds on, such as .*reichstag"):
        read_tuning_set(folder, measured, protocols)
    shutil.copytree(whole, folder / "sacre_coeur")  # of the same photographs
    with pytest.raises(ValueError, match="choose thresholds on other images"):
        read_tuning_set(folder, read_pairs(folder, "phototourism"), protocols)


def test_the_mean_over_scenes_is_not_that_over_pairs(world: Path, tmp_path: Path) -> None:
    whole = make_demo_world(world, WORLD, "phototourism") / "town"
    folder = tmp_path / "scenes"
    for name in ("reichstag", "sacre_coeur"):  # for validation only
        shutil.copytree(whole, folder / name)
    path = folder / "sacre_coeur/set_100/new-vis-pairs/keys-th-0.1.npy"
    keys = np.load(path)
    np.save(path, keys[: len(keys) // 3])
    rows = measure(folder, tmp_path / "run")
    assert rows["all"].protocol == "phototourism-stereo-val+opencv-ransac"
    assert "1 of 3 sequences is missing" in str(rows["all"].not_comparable)
    for metric in ("pose_maa_10", "mean_matches"):
        scenes = [value(rows[name], metric) for name in ("reichstag", "sacre_coeur")]
        assert value(rows[MEAN_OF_SCENES], metric) == pytest.approx(np.mean(scenes))
    matches = value(rows["all"], "mean_matches")
    assert matches != pytest.approx(value(rows[MEAN_OF_SCENES], "mean_matches"))
    for count in ("failed_pairs", "pairs_without_pose"):
        assert value(rows[MEAN_OF_SCENES], count) == value(rows["all"], count)
    report = make_report([tmp_path / "run"])
    line = next(line for line in report.tables[0].lines if line.part == MEAN_OF_SCENES)
    cell = line.cells["pose_maa_10"]
    assert cell.basis == "pairs"
    assert cell.mean == pytest.approx(value(rows[MEAN_OF_SCENES], "pose_maa_10"))
