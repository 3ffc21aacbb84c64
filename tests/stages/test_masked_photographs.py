"""Masks in the stages: keypoints and points outside them only, and what a changed mask renews."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from featplug.base import Extractor, PairMatcher
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader, GlobalDescriptorReader
from featplug.methods import retrieval_conf
from featplug.stages.extract import ExtractSummary, extract_features
from featplug.stages.match import match_features
from featplug.stages.match_images import match_images
from featplug.stages.retrieve import global_descriptors
from tests.scenes.pictures import textured_image, write_textured_images
from tests.scenes.turned import write_turned

WIDTH, HEIGHT = 160, 120
NAMES = [f"{i:03}.png" for i in range(3)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_textured_images(tmp_path / "images", 3, width=WIDTH, height=HEIGHT)
    return tmp_path / "images"


def write_mask(folder: Path, name: str, left: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Write a mask that is black to the left of a column."""
    mask = np.full(size[::-1], 255, np.uint8)
    mask[:, :left] = 0
    folder.mkdir(exist_ok=True)
    Image.fromarray(mask).save(folder / f"{name}.png")


def keypoints(done: ExtractSummary) -> dict[str, np.ndarray]:
    with FeatureReader(done.feature_path) as reader:
        return {name: reader.keypoints(name) for name in done.names}


def test_keypoints_are_those_that_the_mask_leaves(images: Path, tmp_path: Path) -> None:
    write_mask(tmp_path / "masks", NAMES[0], left=80)
    whole = extract_features("sift", images, tmp_path / "whole")
    masked = extract_features("sift", images, tmp_path / "masked", masks=tmp_path / "masks")
    with FeatureReader(whole.feature_path) as a, FeatureReader(masked.feature_path) as b:
        before, after = a.read(NAMES[0]), b.read(NAMES[0])
        keep = before["keypoints"][:, 0] >= 79.5
        assert 0 < keep.sum() < len(keep)
        for key in ("keypoints", "scores", "scales", "oris"):
            np.testing.assert_array_equal(after[key], before[key][keep])
        np.testing.assert_array_equal(after["descriptors"], before["descriptors"][:, keep])
        np.testing.assert_array_equal(a.keypoints(NAMES[1]), b.keypoints(NAMES[1]))
    assert masked.num_keypoints == whole.num_keypoints - int((~keep).sum())


def test_masks_are_of_the_stored_image(tmp_path: Path) -> None:
    upright = textured_image(1, width=WIDTH, height=HEIGHT)
    write_turned(tmp_path / "images" / "x.png", upright, 6)
    write_mask(tmp_path / "masks", "x.png", left=60, size=(HEIGHT, WIDTH))
    done = extract_features("sift", tmp_path / "images", tmp_path, masks=tmp_path / "masks")
    found = keypoints(done)["x.png"]
    assert len(found) > 20
    assert found[:, 0].min() >= 59.5


def test_bad_masks_leave_out_their_images_only(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = tmp_path / "masks"
    write_mask(masks, NAMES[0], left=80, size=(80, 60))
    write_mask(masks, NAMES[1], left=WIDTH)
    with caplog.at_level(logging.WARNING):
        done = extract_features("sift", images, tmp_path, masks=masks)
    assert list(done.skipped) == [NAMES[0]]
    for part in (f"{NAMES[0]}.png", "80×60", "160×120"):
        assert part in done.skipped[NAMES[0]]
    assert [len(each) > 0 for each in keypoints(done).values()] == [False, True]
    (line,) = [record.getMessage() for record in caplog.records if NAMES[1] in record.getMessage()]
    assert str(masks) in line


class Pair(Extractor):
    """Two keypoints, with an array whose axis of keypoints nobody knows."""

    default_conf: ClassVar[dict[str, Any]] = {}

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        points = torch.tensor([[10.0, 10.0], [150.0, 10.0]])
        return {
            "keypoints": points,
            "scores": torch.ones(2),
            "descriptors": torch.ones(4, 2),
            "words": torch.ones(2),
        }


def test_arrays_of_unknown_axes_cannot_be_masked(images: Path, tmp_path: Path) -> None:
    conf = {
        "output": "feats-featplug-pair",
        "model": {"name": f"{__name__}:Pair"},
        "preprocessing": {},
    }
    write_mask(tmp_path / "masks", NAMES[0], left=80)
    done = extract_features(conf, images, tmp_path, masks=tmp_path / "masks")
    assert list(done.skipped) == [NAMES[0]]
    assert "keypoint_axes" in done.skipped[NAMES[0]]
    assert "words" in done.skipped[NAMES[0]]


def test_a_changed_mask_renews_its_image_and_what_is_made_from_it(
    images: Path, tmp_path: Path
) -> None:
    masks, pairs = tmp_path / "masks", tmp_path / "pairs.txt"
    write_pairs(pairs, combinations(NAMES, 2))
    conf = retrieval_conf("vlad")
    conf["model"]["num_clusters"] = 4

    def run(**options: Any) -> tuple[tuple[int, int, int], dict[str, np.ndarray]]:
        done = extract_features("sift", images, tmp_path, **options)
        matched = match_features("NN-mutual", pairs, done.feature_path)
        described = global_descriptors(
            conf, export_dir=tmp_path, features=done.feature_path, database_may_change=True
        )
        found = keypoints(done)
        with MatchReader(matched.match_path) as reader:
            for pair in combinations(NAMES, 2):
                matches, _ = reader.read(*pair)
                found[" ".join(pair)] = matches
                assert (matches < [len(found[name]) for name in pair]).all()
        with GlobalDescriptorReader(described.descriptor_path) as reader:
            found |= {f"vlad {name}": reader.read_one(name) for name in NAMES}
        return (done.num_extracted, matched.num_matched, described.num_described), found

    counts, whole = run()
    assert counts == (3, 3, 3)
    write_mask(masks, NAMES[0], left=80)
    counts, first = run(masks=masks)
    assert counts == (1, 2, 1)
    assert run(masks=masks)[0] == (0, 0, 0)
    write_mask(masks, NAMES[0], left=100)
    counts, second = run(masks=masks)
    assert counts == (1, 2, 1)
    write_mask(masks, NAMES[1], left=40)
    assert run(masks=masks)[0] == (1, 2, 1)
    counts, again = run()
    assert counts == (2, 3, 2)
    for key in whole:
        np.testing.assert_array_equal(again[key], whole[key], err_msg=key)
    renewed = {key for key in whole if whole[key].shape != first[key].shape}
    assert renewed <= {key for key in whole if NAMES[0] in key}
    assert (second[NAMES[0]][:, 0] >= 99.5).all()


class Grid(PairMatcher):
    """Matches a grid of points to itself."""

    preprocessing: ClassVar[dict[str, Any]] = {"grayscale": True, "resize_max": None}

    def match_images(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        y, x = torch.meshgrid(torch.arange(5, 115, 10), torch.arange(5, 155, 10), indexing="ij")
        points = torch.stack([x.flatten(), y.flatten()], dim=1).float()
        return {"keypoints0": points, "keypoints1": points, "scores": torch.ones(len(points))}


def test_image_matchers_have_points_that_both_masks_leave(images: Path, tmp_path: Path) -> None:
    masks, pairs = tmp_path / "masks", tmp_path / "pairs.txt"
    write_pairs(pairs, combinations(NAMES, 2))
    conf = {
        "output": "matches-featplug-grid",
        "model": {"name": f"{__name__}:Grid"},
        "preprocessing": Grid.preprocessing,
    }

    def run(**options: Any) -> tuple[int, Mapping[str, np.ndarray]]:
        done = match_images(conf, pairs, images, tmp_path, **options)
        with FeatureReader(done.feature_path) as reader, MatchReader(done.match_path) as matches:
            found = {name: reader.keypoints(name) for name in NAMES}
            for pair in combinations(NAMES, 2):
                of_pair, _ = matches.read(*pair)
                points0, points1 = (found[n][of_pair[:, i]] for i, n in enumerate(pair))
                np.testing.assert_array_equal(points0, points1)
                found[" ".join(pair)] = points0
        return done.num_matched, found

    assert run()[0] == 3
    write_mask(masks, NAMES[0], left=80)
    num_matched, found = run(masks=masks)
    assert num_matched == 2
    assert found[NAMES[0]][:, 0].min() >= 79.5
    assert found[NAMES[1]][:, 0].min() == 5
    assert found[f"{NAMES[0]} {NAMES[1]}"][:, 0].min() >= 79.5
    assert run(masks=masks)[0] == 0
    assert run()[0] == 2
