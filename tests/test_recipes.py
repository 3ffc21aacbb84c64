"""CONTRIBUTING.md's recipes, followed literally in a copy of the tree: no other file is edited.

The recipe for a data set is followed by ``tests/pipelines/datasets/test_third_data_set.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader
from tests.conftest import REPOSITORY
from tests.hloc.conftest import hloc_folder  # noqa: F401
from tests.recipes import recipe_entries, recipe_files
from tests.scenes.room_corner import write_room_corner
from tests.scenes.sequences import write_hpatches

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree in which the recipes were followed."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("featplug", "pipelines", "benchmarks", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / folder, tree / folder, ignore=ignored)
    (tree / "weights").symlink_to(REPOSITORY / "weights")
    for file in ("pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / file, tree)
    for path, code in recipe_files().items():
        if "/" not in path:  # which needs no copy of the tree
            continue
        assert not (tree / path).exists()
        (tree / path).write_text(code, "utf-8")
    protocols = tree / "benchmarks/matching/protocols.py"
    head, end, tail = protocols.read_text("utf-8").partition("    )\n}\n")
    entries = [entry.strip() for entry in recipe_entries("benchmarks/matching/protocols.py")]
    assert len(entries) == 2
    added = "".join(f"{entry},\n" for entry in entries)
    protocols.write_text(f"{head}{added}{end}{tail}", "utf-8")
    return tree


def run(tree: Path, *arguments: str) -> str:
    """Run a Python module of the tree; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_contract_tests_cover_the_new_feature_and_matcher(tree: Path) -> None:
    files = ["tests/extractors/test_harris.py", "tests/matchers/test_other_methods.py"]
    printed = run(tree, "pytest", "-p", "no:cacheprovider", *files)
    assert "passed" in printed


def test_the_new_feature_and_matcher_are_listed(tree: Path) -> None:
    listed = json.loads(run(tree, "featplug", "list", "--json"))
    assert {"harris", "NN-mutual-l1"} <= {entry["name"] for entry in listed}


def test_every_command_takes_them(tree: Path, tmp_path: Path) -> None:
    write_room_corner(tmp_path, num_images=2, width=320)
    outputs = ["--export_dir", str(tmp_path)]
    images = ["--image_dir", str(tmp_path / "images")]
    run(tree, "featplug", "extract", "--conf", "harris", *images, *outputs)
    features = tmp_path / "feats-featplug-harris.h5"
    with FeatureReader(features) as reader:
        names = reader.names()
        assert all(len(reader.keypoints(name)) > 100 for name in names)
    pairs = tmp_path / "pairs.txt"
    write_pairs(pairs, [(names[0], names[1])])
    arguments = ["--pairs", str(pairs), "--features", str(features), *outputs]
    run(tree, "featplug", "match", "--conf", "NN-mutual-l1", *arguments)
    with MatchReader(
        tmp_path / f"{features.stem}_matches-featplug-NN-mutual-l1_pairs.h5"
    ) as reader:
        assert len(reader.read(names[0], names[1])[0]) > 100


def test_the_protocol_measures_it(tree: Path, tmp_path: Path) -> None:
    write_hpatches(tmp_path / "hpatches", "v_plane")
    arguments = ["--dataset", str(tmp_path / "hpatches"), "--outputs", str(tmp_path / "run")]
    selected = ["--protocol", "mma-small", "--feature", "harris"]
    run(tree, "benchmarks.matching", *selected, *arguments)
    rows = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))["rows"]
    assert {row["protocol"] for row in rows} == {"mma-small"}
    assert max(row["metrics"]["mma_3"]["value"] for row in rows) > 0.3


def test_the_pairs_of_a_layout_are_measured(tree: Path, tmp_path: Path) -> None:
    write_hpatches(tmp_path / "hpatches", "v_plane")
    planes, sequence = tmp_path / "planes", tmp_path / "hpatches" / "v_plane"
    planes.mkdir()
    for place, number in enumerate(("1", "2")):
        with Image.open(sequence / f"{number}.ppm") as image:
            image.save(planes / f"wall.{place}.png")
    shutil.copy(sequence / "H_1_2", planes / "wall.H.txt")
    arguments = ["--dataset", str(planes), "--outputs", str(tmp_path / "run"), "--feature", "sift"]
    run(tree, "benchmarks.matching", *arguments)
    rows = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))["rows"]
    assert {(row["dataset"], row["protocol"]) for row in rows} == {("planes", "planes-mma")}
    assert max(row["metrics"]["mma_3"]["value"] for row in rows) > 0.3


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a feature, a matcher and a file of methods, 20 lines each at most."""
    folder = tmp_path_factory.mktemp("own")
    for path, code in recipe_files().items():
        if "/" not in path:
            assert sum(bool(line.strip()) for line in code.splitlines()) <= 20
            (folder / path).write_text(code, "utf-8")
    write_room_corner(folder / "room", num_images=3, width=320)
    write_hpatches(folder / "hpatches", "v_plane")
    return folder


OWN = "my_feature.py:Corners+my_matcher.py:CrossCheck"


def run_here(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a command of featplug in a folder, outside the tree; return its results."""
    outputs = folder / "outputs" / str(time.time_ns())
    command = [sys.executable, "-m", "featplug", *arguments, "--outputs", str(outputs)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results: dict[str, Any] = json.loads((outputs / "results.json").read_text("utf-8"))
    return results


def test_own_classes_reconstruct(own: Path) -> None:
    results = run_here(own, "sfm", "--images", "room/images", "--feature", OWN)
    assert results["metrics"]["registered_images"]["value"] == 3
    assert results["matcher"] == "my_matcher.py:CrossCheck"
    classes = {record["class"]: len(record["sha256"]) for record in results["methods"]}
    assert classes == {"my_feature.py:Corners": 64, "my_matcher.py:CrossCheck": 64}


def test_an_own_matcher_of_images_reconstructs(own: Path) -> None:
    results = run_here(own, "sfm", "--images", "room/images", "--feature", "my_pairs.py:Pairs")
    assert results["metrics"]["registered_images"]["value"] == 3
    assert results["metrics"]["sparse_points"]["value"] > 50


def test_own_confs_of_a_file_reconstruct(own: Path) -> None:
    named = ["--methods", "methods.toml", "--feature", "corners-fine"]
    results = run_here(
        own, "sfm", "--images", "room/images", *named, "--option", "max_keypoints=500"
    )
    assert results["metrics"]["registered_images"]["value"] == 3
    assert results["feature_conf"]["model"]["quality"] == 0.001
    assert results["metrics"]["mean_keypoints"]["value"] == 500
    assert results["matcher_conf"]["model"]["max_distance"] == 0.5


def test_own_classes_localize(own: Path, aachen_room: Path) -> None:
    results = run_here(own, "aachen", "--dataset", str(aachen_room), "--feature", OWN)
    assert results["metrics"]["sparse_points"]["value"] > 100
    assert results["metrics"]["day_recall_0.5m_5deg"]["value"] == 100


def test_own_classes_are_measured(own: Path) -> None:
    data = ["--dataset", "hpatches", "--protocol", "mma-d2net"]
    rows = run_here(own, "bench", "matching", *data, "--feature", OWN, "sift")["rows"]
    mma = {row["feature"]: row["metrics"]["mma_3"]["value"] for row in rows}
    assert mma.keys() == {OWN, "sift"}
    assert mma[OWN] > 0.5


def test_own_classes_are_measured_by_reconstruction(own: Path) -> None:
    scene = ["--scenes", "room", "--num-seeds", "1"]
    rows = run_here(own, "bench", "reconstruction", *scene, "--feature", OWN)["rows"]
    assert {row["metrics"]["registered_images"]["value"] for row in rows} == {3}


def test_own_classes_are_confs_of_hloc(own: Path, hloc_folder: Path) -> None:  # noqa: F811
    """In hloc itself, where it is; tests/hloc does so with a stand-in."""
    path = os.pathsep.join([str(REPOSITORY), str(hloc_folder)])
    command = ["featplug.hloc", "--also", OWN, "extract_features", "--conf", OWN]
    arguments = ["--image_dir", "room/images", "--export_dir", "."]
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run(
        [sys.executable, "-m", *command, *arguments], cwd=own, env=environment, check=True
    )
    (features,) = own.glob("feats-featplug-hloc-my_feature=Corners-*.h5")
    with FeatureReader(features) as reader:
        assert len(reader.names()) == 3
