"""Aachen's queries, by the command and by the function, in small sets of its layout."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featplug.colmap.model_files import read_model
from featplug.io.pair_lists import read_pairs, write_pairs
from featplug.io.store import FeatureReader
from featplug.localization.queries import read_poses
from pipelines.aachen import main
from pipelines.datasets.aachen import AachenOptions
from pipelines.localize import localize, read_task, run
from pipelines.references import TriangulatedModel
from pipelines.run_options import FeatureOptions
from tests.conftest import REPOSITORY
from tests.pipelines.localization_contract import LocalizationContract
from tests.scenes.aachen_sets import convert_to_v1, write_strecha_set

FEW = FeatureOptions(max_keypoints=800, device="cpu")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pipelines.aachen", *map(str, arguments)]


def run_aachen(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command(*arguments), cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def outputs(aachen_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of the room."""
    folder = tmp_path_factory.mktemp("outputs")
    run = run_aachen(
        "--dataset", aachen_room, "--max_keypoints", 800, "--outputs", folder, "--hloc-logs"
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert re.search(r"day +2 of 2 +100.0 % +100.0 % +100.0 %", run.stdout)
    assert "0.25 m, 2°" in run.stdout
    assert re.search(r"thresholds until 2020 +0.5 m, 2° +1 m, 5° +5 m, 10°", run.stdout)
    return folder


def reusing(outputs: Path, dataset: Path, folder: Path, **changes: Any) -> AachenOptions:
    """Localize with the features that the command has made."""
    features = FeatureOptions(features=outputs / "feats-featplug-sift.h5", device="cpu")
    options = AachenOptions(dataset, extraction=features, matcher="NN-ratio", outputs=folder)
    return dataclasses.replace(options, **changes)


class TestAachen(LocalizationContract):
    @pytest.fixture
    def options(self, outputs: Path, aachen_room: Path, tmp_path: Path) -> AachenOptions:
        return reusing(outputs, aachen_room, tmp_path / "out")


def results_of(outputs: Path) -> dict[str, float]:
    results = json.loads((outputs / "results.json").read_text())
    return {name: entry["value"] for name, entry in results["metrics"].items()}


def test_the_poses_are_true(outputs: Path, aachen_room: Path) -> None:
    metrics = results_of(outputs)
    assert metrics["day_recall_0.25m_2deg"] == 100
    # The room is 2 units large, and the relit photographs are noisy.
    assert metrics["day_median_position_error"] < 0.02
    assert metrics["night_localized_queries"] == 2
    assert metrics["sparse_points"] > 300
    assert metrics["mean_reprojection_error"] < 1.0
    truth = read_poses(aachen_room / "ground_truth.txt")
    logs = json.loads((outputs / "logs.json").read_text())["loc"]
    assert set(logs) == set(truth)
    assert all(len(entry["attempts"][0]["db"]) == 6 for entry in logs.values())


def test_each_condition_has_a_submission(outputs: Path) -> None:
    lines = (outputs / "submission.txt").read_text().splitlines()
    assert len(lines) == 4
    parts = [(outputs / f"submission-{c}.txt").read_text() for c in ("day", "night")]
    assert sorted("".join(parts).splitlines()) == sorted(lines)
    assert all(line.startswith("day-") for line in parts[0].splitlines())


def test_everything_promised_is_there(outputs: Path) -> None:
    results = json.loads((outputs / "results.json").read_text())
    assert list(results["stages"]) == [
        "extract", "pairs", "match", "triangulate", "match_queries", "localize",
    ]  # fmt: skip
    assert results["data"]["version"] == "v1.1"
    assert results["data"]["not_localized"] == {}
    assert results["retrieval_conf"]["model"]["name"] == "vlad"
    assert all(entry["unit"] for entry in results["metrics"].values())
    assert (outputs / "localization.png").read_bytes().startswith(b"\x89PNG")
    assert (outputs / "submission.txt_logs.pkl").stat().st_size > 1000
    model = read_model(outputs / "sfm" / "model")
    assert model.num_points3D() == results["metrics"]["sparse_points"]["value"]


def test_a_second_run_uses_what_is_there_and_ends_the_same(
    outputs: Path, aachen_room: Path
) -> None:
    before = {path: path.read_bytes() for path in outputs.glob("*.h5")}
    poses = (outputs / "submission.txt").read_bytes()
    options = AachenOptions(aachen_room, extraction=FEW, outputs=outputs, num_workers=1)
    results = localize(options)
    assert results["reused"] == {
        "extract": 10, "match": 15, "triangulate": 6, "match_queries": 24,
    }  # fmt: skip
    assert {path: path.read_bytes() for path in before} == before
    assert (outputs / "submission.txt").read_bytes() == poses


@pytest.mark.slow
def test_a_killed_run_goes_on(outputs: Path, aachen_room: Path, tmp_path: Path) -> None:
    """Killed at several instants, the run ends with the poses of one that was left alone."""
    arguments = ("--dataset", aachen_room, "--max-keypoints", 800, "--outputs", tmp_path / "out")
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    awaited = ["feats-featplug-sift.h5", "unfinished/sfm/database.db"]
    for name in awaited:
        process = subprocess.Popen(
            command(*arguments), cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL
        )
        while not (tmp_path / "out" / name).exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "out" / "results.json").exists()
    options = AachenOptions(aachen_room, extraction=FEW, outputs=tmp_path / "out")
    results = localize(options)
    assert results["reused"]["extract"] > 0
    assert results["reused"]["match"] == 15
    expected = (outputs / "submission.txt").read_bytes()
    assert (tmp_path / "out" / "submission.txt").read_bytes() == expected


def test_v1_and_given_pairs_give_the_same_poses(
    outputs: Path, aachen_room: Path, tmp_path: Path
) -> None:
    """The NVM model in the place of COLMAP's, and hloc's order of pairs in the place of ours."""
    dataset = convert_to_v1(aachen_room, tmp_path / "aachen")
    shutil.copy(aachen_room / "ground_truth.txt", dataset)
    queries = read_pairs(outputs / "pairs-query.txt")
    database = read_pairs(outputs / "pairs-db.txt")
    turned = [pair[::-1] for pair in queries]
    write_pairs(tmp_path / "pairs.txt", [*turned, *queries[:3], *turned[:3], *database])
    features = outputs / "feats-featplug-sift.h5"
    options = AachenOptions(
        dataset,
        extraction=FeatureOptions(features=features, device="cpu"),
        matcher="NN-ratio",
        pairs=tmp_path / "pairs.txt",
        outputs=tmp_path / "out",
        covisibility_clustering=True,
    )
    results = localize(options)
    assert results["retrieval_conf"] is None
    assert results["data"]["version"] == "v1"
    assert read_pairs(tmp_path / "out" / "pairs-query.txt") == queries
    expected = read_poses(outputs / "submission.txt")
    for name, pose in read_poses(tmp_path / "out" / "submission.txt").items():
        np.testing.assert_allclose(pose, expected[name], atol=1e-3)


@pytest.mark.slow
def test_the_local_feature_protocol(outputs: Path, aachen_room: Path, tmp_path: Path) -> None:
    """Night queries alone, in a model of nothing but the images that they are paired with."""
    options = AachenOptions(
        aachen_room,
        protocol="local-features",
        extraction=FEW,
        num_loc=4,
        outputs=tmp_path / "out",
    )
    results = localize(options)
    assert results["data"]["conditions"] == ["night"]
    of_queries = read_pairs(tmp_path / "out" / "pairs-query.txt")
    assert len(of_queries) == 8
    assert all(query.startswith("query/night/") for query, _ in of_queries)
    used = {name for _, name in of_queries}
    of_database = read_pairs(tmp_path / "out" / "pairs-db.txt")
    assert {name for pair in of_database for name in pair} == used
    assert len((tmp_path / "out" / "submission.txt").read_text().splitlines()) == 2
    assert AachenOptions(protocol="local-features").num_retrieved == 20
    # The real dataset, which has no truth, comes with the benchmark's own list.
    bare = shutil.copytree(aachen_room, tmp_path / "bare")
    (bare / "ground_truth.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"image_pairs_to_match_v1_1.txt; get it from"):
        localize(dataclasses.replace(options, dataset=bare))
    write_pairs(bare / "image_pairs_to_match_v1_1.txt", [*of_queries, *of_database])
    again = localize(dataclasses.replace(options, dataset=bare))
    assert again["metrics"]["night_localized_queries"]["value"] == 2
    assert "night_recall_0.25m_2deg" not in again["metrics"]
    # A set with both has the list used, too.
    shutil.copy(aachen_room / "ground_truth.txt", bare)
    with_both = dataclasses.replace(options, dataset=bare)
    dataset = with_both.open()
    task = read_task(with_both, dataset)
    assert set(map(frozenset, task.given_pairs)) == set(map(frozenset, of_queries + of_database))
    # Of the thousands of images of the database, those alone are extracted that it names.
    model = TriangulatedModel(with_both, dataset)
    assert set(model.images(task.given_pairs)) == used
    of_all = TriangulatedModel(with_both, AachenOptions(bare).open())
    assert len(of_all.images(of_queries)) == 6
    assert set(of_all.images([*of_queries, *of_database])) == used


def test_a_reference_model_without_points_is_paired_by_its_poses(
    outputs: Path, aachen_room: Path, tmp_path: Path
) -> None:
    dataset = Path(shutil.copytree(aachen_room, tmp_path / "set"))
    model_dir = dataset / "3D-models" / "aachen_v_1_1"
    model = read_model(model_dir)
    for point_id in list(model.points3D):
        model.delete_point3D(point_id)
    model.write(str(model_dir))
    run(reusing(outputs, dataset, tmp_path / "out"), check=True)
    results = localize(reusing(outputs, dataset, tmp_path / "out", num_covis=3))
    assert results["data"]["not_localized"] == {}
    assert results["metrics"]["day_recall_0.25m_2deg"]["value"] == 100
    pairs = read_pairs(tmp_path / "out" / "pairs-db.txt")
    assert ("db/00.png", "db/01.png") in pairs
    assert len(pairs) < 15  # the nearest of the five others


def test_what_cannot_be_used_is_left_out_and_told(aachen_room: Path, tmp_path: Path) -> None:
    dataset = Path(shutil.copytree(aachen_room, tmp_path / "set"))
    images = dataset / "images_upright"
    gone, *_ = sorted((images / "query" / "night").rglob("*.png"))
    gone.unlink()
    (images / "db" / "00.png").write_bytes(b"not a photograph")
    day = dataset / "queries" / "day_time_queries_with_intrinsics.txt"
    lines = day.read_text().splitlines()
    day.write_text(lines[0].replace(" 400 300 ", " 500 300 ") + "\n" + lines[1] + "\n")
    options = AachenOptions(dataset, extraction=FEW, outputs=tmp_path / "out")
    results = localize(options)
    failed = results["data"]["not_localized"]
    name = f"query/night/phone/{gone.name}"
    assert set(failed) == {lines[0].split()[0], name}
    assert str(gone) in failed[name]
    assert "400×300 pixels, its camera in the lists 500×300" in failed[lines[0].split()[0]]
    assert list(results["data"]["skipped"]) == ["db/00.png"]
    assert results["metrics"]["database_images"]["value"] == 5
    # A failure counts, and has no line in the submission.
    assert results["metrics"]["day_recall_5m_10deg"]["value"] == 50
    assert len((tmp_path / "out" / "submission.txt").read_text().splitlines()) == 2
    logs = json.loads((tmp_path / "out" / "logs.json").read_text())["loc"]
    assert logs[name]["reason"] == failed[name]


def test_why_nothing_can_be_localized_is_told(
    outputs: Path, aachen_room: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(outputs, tmp_path / "out"))
    listed = (folder / "pairs-query.txt").read_bytes()
    first = next(iter(read_poses(aachen_room / "ground_truth.txt")))
    options = reusing(outputs, aachen_room, folder, pairs=tmp_path / "pairs.txt")
    write_pairs(tmp_path / "pairs.txt", [(first, "db/99.png"), ("db/00.png", "db/01.png")])
    with pytest.raises(ValueError, match=r"--num-loc or --pairs"):
        localize(options)
    assert (folder / "pairs-query.txt").read_bytes() == listed
    dataset = Path(shutil.copytree(aachen_room, tmp_path / "set"))
    shutil.rmtree(dataset / "images_upright" / "query")
    (dataset / "images_upright" / "db" / "00.png").unlink()
    with pytest.raises(ValueError, match=f"of the queries can be used; the first: .*/{first}"):
        localize(reusing(outputs, dataset, folder))
    dataset = Path(shutil.copytree(aachen_room, tmp_path / "without"))
    shutil.rmtree(dataset / "images_upright" / "db")
    with pytest.raises(ValueError, match=r"the database images can be used; .*/db/00\.png"):
        localize(reusing(outputs, dataset, folder))


def test_the_command_ends_with_one_line_and_exit_code_2(
    tmp_path: Path, refusal: Callable[..., str]
) -> None:
    line = refusal(main, "python -m pipelines.aachen", "--dataset", tmp_path / "nowhere")
    assert "There is no dataset" in line


@pytest.mark.slow
def test_fountain_by_day_and_relit(shared: Path, tmp_path: Path) -> None:
    """Real photographs, the reference model from true poses: all right by day, to a centimetre."""
    dataset = write_strecha_set(tmp_path, shared / "data" / "strecha" / "fountain-P11", 8, 768)
    options = AachenOptions(
        dataset,
        extraction=FeatureOptions(max_keypoints=2000, device="cpu"),
        outputs=tmp_path / "out",
    )
    results = localize(options)
    metrics = {name: entry["value"] for name, entry in results["metrics"].items()}
    assert metrics["day_queries"] == metrics["night_queries"] == 3
    assert metrics["day_recall_0.25m_2deg"] == 100
    assert metrics["day_median_position_error"] < 0.01
    assert metrics["day_median_rotation_error"] < 0.1
    assert metrics["night_recall_0.25m_2deg"] == 100
    assert metrics["night_median_position_error"] < 0.05
    with FeatureReader(tmp_path / "out" / "feats-featplug-sift.h5") as features:
        assert len(features.names()) == 5 + 2 * 3
