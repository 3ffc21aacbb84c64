"""Extraction in parts: any share in any order, killed or not, ends as one file would."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featplug.io.h5file import OtherContentsError
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.manifest import make_manifest
from featplug.methods import resolve_conf
from featplug.shards.extract_parts import ExtractParts
from featplug.shards.part_stage import PartStage
from featplug.shards.run_parts import run_parts
from featplug.shards.share import Share
from featplug.stages.extract import ExtractOptions, extract_features

OPTIONS = ExtractOptions(device="cpu", max_keypoints=50)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(7):
        pixels = np.kron(rng.integers(0, 255, (12, 16), np.uint8), np.ones((8, 8), np.uint8))
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def store(images: Path, tmp_path: Path) -> Path:
    make_manifest(images, tmp_path / "store", 3)
    return tmp_path / "store"


def stage(store: Path, options: ExtractOptions = OPTIONS) -> ExtractParts:
    return ExtractParts(store, options.conf("sift"), options)


def assert_as_one_file(store: Path, images: Path, tmp_path: Path) -> None:
    whole = extract_features(resolve_conf("sift", max_keypoints=50), images, tmp_path / "whole")
    with open_features(stage(store).folder) as parts, open_features(whole.feature_path) as file:
        assert parts.names() == file.names()
        for name in file.names():
            expected, found = file.read(name), parts.read(name)
            assert expected.keys() == found.keys()
            for key, array in expected.items():
                np.testing.assert_array_equal(array, found[key])


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 0, 1, 0)])
def test_shares_in_any_order_end_as_one_file(
    images: Path, store: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    made = [run_parts(stage(store), Share(index, 2)).num_made for index in order]
    assert made == [2 - index if turn < 2 else 0 for turn, index in enumerate(order)]
    assert_as_one_file(store, images, tmp_path)


def test_a_damaged_a_lost_and_a_foreign_part_are_made_again(
    images: Path, store: Path, tmp_path: Path
) -> None:
    run_parts(stage(store))
    folder = stage(store).folder
    with open_features(folder) as parts:
        before = parts.file_id
    content = (folder / "part-00001.h5").read_bytes()
    (folder / "part-00000.h5").write_bytes(content[:-5000])
    (folder / "part-00002.h5").write_bytes(content)
    (folder / "part-00001.h5").unlink()
    assert run_parts(stage(store)).num_made == 3
    assert_as_one_file(store, images, tmp_path)
    with open_features(folder) as parts:
        assert parts.file_id == before  # what was made from the parts stays valid


def test_parts_of_other_options_are_not_mixed(store: Path) -> None:
    run_parts(stage(store))
    other = ExtractOptions(device="cpu", max_keypoints=40)
    with pytest.raises(OtherContentsError, match="max_keypoints = 50, this run has 40"):
        run_parts(stage(store, other))
    assert run_parts(stage(store, other), overwrite=True).num_made == 3


def test_a_photograph_that_changed_after_the_manifest_is_named(images: Path, store: Path) -> None:
    (images / "4.png").write_bytes((images / "5.png").read_bytes())
    with pytest.raises(ValueError, match=r"1 of 3 parts.*4\.png has changed.*shard make"):
        run_parts(stage(store))
    make_manifest(images, store, 3)
    assert run_parts(stage(store)).num_made == 1


def test_an_unreadable_photograph_is_reported_by_every_run(images: Path, store: Path) -> None:
    (images / "4.png").write_bytes(b"none")
    make_manifest(images, store, 3)
    for num_made in (3, 0):
        done = run_parts(stage(store))
        assert done.num_made == num_made
        assert list(done.skipped) == ["4.png"]


def test_a_stage_is_pickled_without_its_network(store: Path) -> None:
    made = stage(store)
    run_parts(made)
    again: PartStage = pickle.loads(pickle.dumps(made))
    assert "_feature" not in vars(again)
    assert run_parts(again).num_made == 0


@pytest.mark.parametrize("text", ["1", "2/2", "-1/2", "0/0", "a/b", "0/2/3"])
def test_a_share_that_is_none_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="must be I/N"):
        Share.parse(text)
