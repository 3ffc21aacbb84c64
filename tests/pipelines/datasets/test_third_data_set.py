"""CONTRIBUTING.md's recipe for a data set, followed: Landmarks, and all that it gets."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from scipy.spatial.transform import Rotation

from benchmarks.localization import LocalizationBenchmark, measure
from benchmarks.report.runs import load_runs
from featplug.cli.command_line import Unprefixed, run_command
from featplug.localization.queries import read_poses, write_queries
from featplug.metrics.poses import camera_centres
from pipelines import localize
from pipelines.datasets.aachen import Aachen
from pipelines.datasets.pipeline_names import find_options
from pipelines.run_options import FeatureOptions
from tests.pipelines.localization_contract import LocalizationContract
from tests.recipes import import_recipe

pytestmark = pytest.mark.slow

_FOLDER = tempfile.TemporaryDirectory()
recipe = import_recipe("pipelines/datasets/landmarks.py", Path(_FOLDER.name))
LandmarksOptions = recipe.LandmarksOptions


# What a file in pipelines would be.


def main(options: Unprefixed[LandmarksOptions], check: bool = False) -> None:
    """Localize the test photographs of a scene of landmarks with any feature."""
    localize.run(options, check)


# The test of the data set.


@pytest.fixture(scope="module")
def scene(aachen_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room's corner in the layout of the recipe."""
    room = Aachen(aachen_room)
    folder = tmp_path_factory.mktemp("landmarks") / "Corner"
    shutil.copytree(room.image_dir, folder)
    shutil.copytree(room.model_dir, folder / "model_train")
    queries = [query for of_condition in room.queries().values() for query in of_condition]
    write_queries(folder / "query_list_with_intrinsics.txt", queries)
    lines = ["Visual Landmark Dataset V1", "ImageFile, Camera Position [X Y Z W P Q R]", ""]
    for name, pose in read_poses(aachen_room / "ground_truth.txt").items():
        x, y, z, w = Rotation.from_matrix(pose[:, :3]).as_quat()
        lines.append(" ".join([name, *map(repr, map(float, [*camera_centres(pose), w, x, y, z]))]))
    (folder / "dataset_test.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def measured(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the benchmark, which finds the data set by its name, makes of the scene."""
    outputs = tmp_path_factory.mktemp("outputs")
    options = LocalizationBenchmark(
        dataset=scene, pipeline="landmarks", max_keypoints=800, num_loc=6, outputs=outputs
    )
    (row,) = measure(options).rows
    assert (row.protocol, row.dataset, row.part) == ("landmarks", "Corner", "all")
    assert row.metrics["localized_queries"]["value"] == 4
    assert row.metrics["recall_0.5m_5deg"]["value"] == 100
    assert row.metrics["median_position_error"]["value"] < 0.05
    assert row.metrics["sparse_points"]["value"] > 300
    return outputs


def test_a_data_set_is_found_by_its_name() -> None:
    assert find_options("landmarks") is LandmarksOptions
    with pytest.raises(ValueError, match=r"'oxford'; .*aachen.*cambridge.*inloc.*landmarks"):
        find_options("oxford")


def test_the_report_takes_its_runs(measured: Path) -> None:
    ((loaded,), problems) = load_runs([measured / "sift"])
    assert not problems
    assert (loaded.run.benchmark, loaded.run.rows[0].dataset) == ("localization", "Corner")


def test_the_command(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dataset", str(scene), "--outputs", str(tmp_path), "--check"]
    monkeypatch.setattr(sys, "argv", ["landmarks", *arguments])
    run_command(main, prog="python -m pipelines.landmarks")
    assert capsys.readouterr().out == f"{scene} is complete.\n"


class TestLandmarks(LocalizationContract):
    @pytest.fixture
    def options(self, measured: Path, scene: Path, tmp_path: Path) -> LandmarksOptions:
        features = FeatureOptions(features=measured / "sift" / "feats-featplug-sift.h5")
        return LandmarksOptions(
            scene, extraction=features, matcher="NN-ratio", outputs=tmp_path / "out"
        )
