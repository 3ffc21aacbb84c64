"""Features as files of others: round trips, the Hub, torch.hub, and what is rejected."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import featplug
from featplug.api import Feature
from featplug.api.pretrained import CONF_FILE
from featplug.methods import matcher_of
from featplug.networks.l2net import DOAP
from featplug.networks.mtldesc import MTLDesc
from featplug.stages.extract import extract_features
from featplug.weights.checkpoints import read_metadata
from tests.conftest import REPOSITORY
from tests.scenes.pictures import textured_image, write_textured_images

IMAGE = textured_image(3, width=160, height=120)


def mtldesc(folder: Path, **options: object) -> Feature:
    torch.manual_seed(0)
    weights = folder / "drawn.safetensors"
    save_file(MTLDesc().state_dict(), weights, {"licence": "CC0-1.0"})
    return featplug.load(
        "mtldesc", weights=str(weights), detection_threshold=0.0, max_keypoints=40, **options
    )


def assert_same(a: Feature, b: Feature) -> None:
    ours, theirs = a.extract(IMAGE), b.extract(IMAGE)
    assert len(ours) > 5
    assert ours.arrays().keys() == theirs.arrays().keys()
    for key, value in ours.arrays().items():
        np.testing.assert_array_equal(value, theirs.arrays()[key])


@pytest.mark.parametrize("name", ["saved", "saved.safetensors"])
def test_a_feature_comes_back_from_a_folder_or_file(tmp_path: Path, name: str) -> None:
    feature = mtldesc(tmp_path)
    feature.save_pretrained(tmp_path / "shared" / name)
    (tmp_path / "drawn.safetensors").unlink()
    (tmp_path / "shared").rename(tmp_path / "elsewhere")
    again = featplug.from_pretrained(tmp_path / "elsewhere" / name)
    assert again.conf["model"]["max_keypoints"] == 40
    assert_same(feature, again)
    few = featplug.from_pretrained(str(tmp_path / "elsewhere" / name), max_keypoints=7)
    assert len(few.extract(IMAGE)) == 7
    again.save_pretrained(tmp_path / name)
    assert_same(feature, featplug.from_pretrained(tmp_path / name))


def test_weights_keep_hash_and_licence_so_that_files_of_features_are_the_same(
    tmp_path: Path,
) -> None:
    feature = mtldesc(tmp_path)
    feature.save_pretrained(tmp_path / "saved.safetensors")
    assert read_metadata(tmp_path / "saved.safetensors")["licence"] == "CC0-1.0"
    write_textured_images(tmp_path / "images", 1)
    path = tmp_path / "feats.h5"
    extract_features(feature, tmp_path / "images", feature_path=path)
    again = featplug.from_pretrained(tmp_path / "saved.safetensors")
    assert again.extractor.weights_records[0].sha256 == feature.extractor.weights_records[0].sha256
    assert extract_features(again, tmp_path / "images", feature_path=path).num_present == 1


def test_all_networks_of_a_feature_are_kept(tmp_path: Path) -> None:
    detector = mtldesc(tmp_path)
    torch.manual_seed(1)
    save_file(DOAP().state_dict(), tmp_path / "doap.safetensors")
    conf = featplug.load("doap@sift", weights=str(tmp_path / "doap.safetensors")).conf
    conf["model"]["detector"] = detector.conf["model"]
    feature = featplug.load(conf)
    with pytest.raises(ValueError, match=r"one\.safetensors takes one network.*2; give a folder"):
        feature.save_pretrained(tmp_path / "one.safetensors")
    feature.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        CONF_FILE,
        "weights.safetensors",
        "detector_weights.safetensors",
    }
    (tmp_path / "drawn.safetensors").unlink()
    (tmp_path / "doap.safetensors").unlink()
    assert_same(feature, featplug.from_pretrained(tmp_path / "saved"))


def test_a_feature_without_weights_is_a_folder(tmp_path: Path) -> None:
    feature = featplug.load("sift", max_keypoints=30)
    feature.save_pretrained(tmp_path / "saved")
    assert_same(feature, featplug.from_pretrained(tmp_path / "saved"))
    assert_same(feature, featplug.from_pretrained("sift", max_keypoints=30))
    with pytest.raises(ValueError, match="sift has 0; give a folder"):
        feature.save_pretrained(tmp_path / "saved.safetensors")


@pytest.mark.parametrize("matcher", [None, "colmap/bruteforce", "loftr"])
def test_methods_of_families_come_back(tmp_path: Path, matcher: str | None) -> None:
    name = "colmap/sift" if matcher is None else f"colmap/sift+{matcher}"
    feature = featplug.load(name, max_keypoints=30)
    feature.save_pretrained(tmp_path / "saved")
    again = featplug.from_pretrained(tmp_path / "saved")
    assert again.conf == {**feature.conf, "output": again.conf["output"]}
    assert_same(feature, again)


def test_a_feature_with_another_matcher_keeps_it(tmp_path: Path) -> None:
    feature = featplug.load("orb+NN-hamming-ratio")
    feature.save_pretrained(tmp_path / "saved")
    again = featplug.from_pretrained(tmp_path / "saved")
    assert matcher_of(again.conf, two_views=True) == "NN-hamming-ratio"


def test_a_conf_next_to_the_weights_or_a_training_run_names_the_feature(tmp_path: Path) -> None:
    feature = mtldesc(tmp_path)
    path = tmp_path / "drawn.safetensors"
    with pytest.raises(ValueError, match=r"drawn\.safetensors has no conf.*weights='drawn"):
        featplug.from_pretrained(path)
    model = {"name": "mtldesc", "detection_threshold": 0.0, "max_keypoints": 40}
    (tmp_path / "drawn.json").write_text(json.dumps({"model": model}))
    again = featplug.from_pretrained(path)
    assert_same(feature, again)
    assert again.conf["matcher"] == "mtldesc"
    (tmp_path / "drawn.json").unlink()
    save_file(load_file(path), path, {"system": "mtldesc"})
    trained = featplug.from_pretrained(path, detection_threshold=0.0, max_keypoints=40)
    assert_same(feature, trained)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"model": {"name": "tests.api.test_pretrained:Evil"}}, r"tests.*not registered"),
        ({"model": {"name": "evil.py:Evil"}}, r"evil.*not registered"),
        ({"model": {"name": "doap", "detector": {"name": "a:B"}}}, r"a:B.*not registered"),
        ({"model": {"name": "sift"}, "matcher": "a:B"}, r"matcher 'a:B'"),
        ({"model": {"name": "doap", "weights": "../x.safetensors"}}, r"next to it"),
        ({"model": {"name": "sift", "surplus": 1}}, r"'surplus'"),
        ({"model": "sift"}, r"featplug\.json.*model"),
        ({}, r"featplug\.json.*model"),
        ([], r"featplug\.json"),
    ],
)
def test_a_conf_of_others_runs_nothing_and_is_checked(
    tmp_path: Path, changed: object, problem: str
) -> None:
    (tmp_path / CONF_FILE).write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=problem):
        featplug.from_pretrained(tmp_path)


def test_weights_that_are_gone_are_named(tmp_path: Path) -> None:
    feature = mtldesc(tmp_path)
    (tmp_path / "drawn.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"drawn\.safetensors.*mtldesc.*gone.*load"):
        feature.save_pretrained(tmp_path / "saved")


def test_a_network_that_another_file_includes_needs_none(tmp_path: Path) -> None:
    feature = featplug.load("contextdesc", weights="featplug", max_keypoints=20)
    feature.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        CONF_FILE,
        "weights.safetensors",
    }
    assert_same(feature, featplug.from_pretrained(tmp_path / "saved"))


def test_a_class_of_the_users_own_is_not_written(tmp_path: Path) -> None:
    feature = featplug.load("sift")
    feature.conf["model"]["name"] = "mine.py:Mine"
    with pytest.raises(ValueError, match=r"saved.*mine\.py:Mine.*not registered"):
        feature.save_pretrained(tmp_path / "saved")


def test_missing_files_and_names_are_told_apart(tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere", "./nowhere", "nowhere.safetensors"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            featplug.from_pretrained(missing)
    with pytest.raises(ValueError, match="Did you mean 'sift'"):
        featplug.from_pretrained("sifd")
    with pytest.raises(ValueError, match=rf"{tmp_path.name} has no featplug\.json and 0"):
        featplug.from_pretrained(tmp_path)


class Hub(ModuleType):
    """Stands in for huggingface_hub: a cache of repositories."""

    def __init__(self, folder: Path) -> None:
        super().__init__("huggingface_hub")
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []

    def snapshot_download(self, name: str, revision: str | None, allow_patterns: Any) -> str:
        self.asked.append((name, revision))
        assert set(allow_patterns) == {CONF_FILE, "*.safetensors"}
        if not (self.folder / name).is_dir():
            raise OSError(f"404 Client Error: {name}")
        return str(self.folder / name)


def test_a_repository_of_the_hub_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature = mtldesc(tmp_path)
    feature.save_pretrained(tmp_path / "hub" / "me" / "my-mtldesc")
    hub = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert_same(feature, featplug.from_pretrained("hf://me/my-mtldesc"))
    assert_same(feature, featplug.from_pretrained("hf://me/my-mtldesc@v1.0"))
    assert hub.asked == [("me/my-mtldesc", None), ("me/my-mtldesc", "v1.0")]
    with pytest.raises(ValueError, match=r"hf://me/other cannot.*404.*give a folder"):
        featplug.from_pretrained("hf://me/other")
    with pytest.raises(ValueError, match=r"hf://me.*OWNER/NAME"):
        featplug.from_pretrained("hf://me")


def test_without_the_hubs_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"hf://me/mine needs.*pip install featplug\[hub\]"):
        featplug.from_pretrained("hf://me/mine")


def imported_by_features() -> set[str]:
    """Return the packages that loading a feature and its matcher imports."""
    code = (
        "import sys, featplug; featplug.load_matcher(feature=featplug.load('sift'));"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'featplug'"
        " and m.__file__), sep='\\n')"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    names: set[str] = set()
    for file in ended.stdout.splitlines():
        for node in ast.parse(Path(file).read_text("utf-8")).body:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"featplug"}


def test_torch_hub_has_every_feature(tmp_path: Path) -> None:
    repository = str(REPOSITORY)
    entries = torch.hub._import_module("hubconf", f"{repository}/hubconf.py")
    names = [name for name in dir(entries) if callable(getattr(entries, name))]
    assert {*featplug.list_features(), "featplug", "featplug_matcher"} == set(names)
    assert all(find_spec(name) for name in entries.dependencies)
    assert imported_by_features() == set(entries.dependencies)
    assert "Lowe" in entries.sift.__doc__
    for arguments in (("featplug", "sift"), ("sift",)):
        feature = torch.hub.load(repository, *arguments, source="local", max_keypoints=30)
        assert_same(feature, featplug.load("sift", max_keypoints=30))
    matcher = torch.hub.load(repository, "featplug_matcher", feature=feature, source="local")
    features = feature.extract(IMAGE)
    assert len(matcher.match(features, features)) > 5
    with pytest.raises(RuntimeError, match="surf"):
        torch.hub.load(repository, "surf", source="local")
