"""Pairs of views with SIFT and upright SIFT: as the extractor sees them, matches, batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from featplug.matchers.lisrd import tile_weights
from featplug.methods import build_extractor, feature_conf
from featplug.networks.lisrd import LISRDSIFT
from featplug.training.data.homographies import rotation_angle, warp_points
from featplug.training.data.photographs import Photographs
from featplug.training.data.sift_pairs import (
    SIFTPairBatches,
    SIFTPairOptions,
    SIFTPairs,
    same_points,
    views_of_photograph,
)
from featplug.training.data.triplets import VIEWS
from featplug.training.data.view_pairs import HomographyPairs
from tests.scenes.pictures import write_photographs

OPTIONS = SIFTPairOptions(replace(VIEWS, batch_size=3), max_keypoints=150)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, [(400, 330)] * 2)
    return folder


@pytest.fixture(scope="module")
def pairs(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> SIFTPairs:
    path = tmp_path_factory.mktemp("pairs") / "pairs.h5"
    names = ["photo0.png", "photo1.png"]
    assert list(SIFTPairs.make(photographs, path, names, OPTIONS, num_workers=0)) == names
    return SIFTPairs(path)


def test_they_are_what_the_extractor_gives(
    pairs: SIFTPairs, photographs: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(LISRDSIFT().state_dict(), weights)
    model = {**feature_conf("lisrd-sift")["model"], "max_keypoints": 150, "weights": str(weights)}
    extractor = build_extractor(model)
    views = views_of_photograph(photographs, "photo1.png", OPTIONS)
    batch = SIFTPairBatches(pairs, ["photo1.png"], 3)[0]  # its three pairs, in their order
    for side in "01":
        features = extractor({"image": views[f"image{side}"]})
        for k in range(3):
            num = len(features["keypoints"][k])
            keypoints = batch[f"keypoints{side}"][k]
            assert 50 < num <= 150
            assert torch.equal(keypoints[:num], features["keypoints"][k])
            assert bool(keypoints[num:].isnan().all())
            described = batch[f"descriptors{side}"][k, :, :num]
            assert torch.equal(described.mT.flatten(0, 1), features["descriptors"][k])
            tiles = batch[f"tiles{side}"][k]
            at_keypoints = tile_weights(features["meta_grid"][k], 3, 3).argmax(0)
            assert torch.equal(tiles[:num], at_keypoints)
            assert bool((tiles[num:] == -1).all())


def test_matches_are_the_same_points(pairs: SIFTPairs, photographs: Path) -> None:
    views = views_of_photograph(photographs, "photo1.png", OPTIONS)
    batch = SIFTPairBatches(pairs, ["photo1.png"], 3)[0]
    warped = warp_points(batch["keypoints0"], views["homography"])
    for k in range(3):
        matched = batch["matches0"][k] >= 0
        index = batch["matches0"][k][matched]
        assert matched.sum() > 20
        assert len(index.unique()) == len(index)
        errors = (warped[k][matched] - batch["keypoints1"][k][index]).norm(dim=1)
        assert float(errors.max()) <= 3.001


def test_half_of_the_pairs_are_rotated(photographs: Path) -> None:
    many = HomographyPairs(Photographs(photographs, ["photo0.png"]), replace(VIEWS, batch_size=40))
    homographies = many.plan(0)["homography"].double().numpy()
    angles = [abs(rotation_angle(homography, (320, 240))) for homography in homographies]
    assert 10 <= sum(angle < 1e-5 for angle in angles) <= 30


def test_same_points_are_mutual_and_near() -> None:
    points0 = np.array([[0, 0], [1, 0], [50, 50], [np.nan, np.nan], [20, 20]])
    points1 = np.array([[50, 54], [0.9, 0], [21, 20], [np.nan, np.nan]])
    assert same_points(points0, points1, 3.0).tolist() == [-1, 1, -1, -1, 2]


def test_a_round_has_each_photograph_once_and_then_its_next_pair(pairs: SIFTPairs) -> None:
    batches = SIFTPairBatches(pairs, ["photo0.png", "photo1.png"], 2, seed=3)
    first, second = batches[0]["keypoints0"], batches[1]["keypoints0"]
    stored = [pairs.read(f"photo{number}.png", "keypoints0")[0] for number in (0, 1)]
    for round_, got in enumerate((first, second)):
        wanted = sorted(array[round_, 0].tolist() for array in stored)
        assert sorted(got[:, 0].tolist()) == wanted
    assert torch.equal(batches[1]["keypoints0"], second)


def test_a_missing_photograph_is_rejected(pairs: SIFTPairs) -> None:
    with pytest.raises(ValueError, match=r"pairs\.h5.*photo9"):
        SIFTPairBatches(pairs, ["photo9.png"], 1)
