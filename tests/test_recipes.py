"""CONTRIBUTING.md's recipes, followed literally in a copy of the tree: no other file is edited.

The recipe for a data set is followed by ``tests/pipelines/datasets/test_third_data_set.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader
from tests.conftest import REPOSITORY
from tests.recipes import recipe_entry, recipe_files
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
        assert not (tree / path).exists()
        (tree / path).write_text(code, "utf-8")
    protocols = tree / "benchmarks/matching/protocols.py"
    head, end, tail = protocols.read_text("utf-8").partition("    )\n}\n")
    entry = recipe_entry("benchmarks/matching/protocols.py").strip()
    protocols.write_text(f"{head}{entry},\n{end}{tail}", "utf-8")
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
