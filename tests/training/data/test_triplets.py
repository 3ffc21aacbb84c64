"""LISRD's triplets: what changes between the images is what their labels say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from featplug.training.data.homographies import rotation_angle, warp_points
from featplug.training.data.photographs import Photographs
from featplug.training.data.photometric import Change, PhotometricOptions
from featplug.training.data.triplets import LISRDTripletOptions, LISRDTriplets, sift_keypoints
from tests.scenes.pictures import write_photographs

DARKER = PhotometricOptions(exposure=Change(0.2, 0.2))
OPTIONS = LISRDTripletOptions(
    batch_size=4, size=(96, 128), num_keypoints=90, light=DARKER, photometric=PhotometricOptions()
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    folder = tmp_path_factory.mktemp("photographs")
    return Photographs(folder, write_photographs(folder, [(200, 150), (180, 180), (300, 130)]))


def test_labels(photographs: Photographs) -> None:
    triplets = LISRDTriplets(photographs, OPTIONS)
    rotated, relit = [], []
    for step in range(8):
        batch = triplets[step]
        light = [batch[f"image{k}"].flatten(1).quantile(0.98, dim=1) for k in range(3)]
        rotated += batch["is_rotated"].tolist()
        relit += batch["is_relit"].tolist()
        for i in range(4):
            angles = [rotation_angle(batch[f"homography{k}"][i].numpy(), (128, 96)) for k in (1, 2)]
            assert abs(angles[1]) < 1e-5
            assert float(batch["angle"][i]) == pytest.approx(angles[0], abs=1e-5)
            if not batch["is_rotated"][i]:
                assert abs(angles[0]) < 1e-5
            ratio = max(float(light[1][i] / light[0][i]), float(light[0][i] / light[1][i]))
            assert (ratio > 1.5) == bool(batch["is_relit"][i])
            assert float(light[2][i] / light[0][i]) == pytest.approx(1, abs=0.25)
    assert 8 <= sum(rotated) <= 24
    assert 8 <= sum(relit) <= 24


def test_keypoints(photographs: Photographs) -> None:
    batch = LISRDTriplets(photographs, OPTIONS)[0]
    valid = batch["valid"]
    assert valid.shape == (4, 90)
    assert int(valid.sum(1).min()) > 10
    limits = torch.tensor([127.0, 95.0])
    for k in range(3):
        points = batch[f"keypoints{k}"]
        assert points.shape == (4, 90, 2)
        assert bool(((points >= 0) & (points <= limits))[valid].all())
        if k:
            warped = warp_points(batch["keypoints0"], batch[f"homography{k}"])
            torch.testing.assert_close(points[valid], warped[valid])
    padding = (batch["keypoints0"] == -1).all(-1)
    assert not (padding & valid).any()
    for k in (1, 2):
        assert bool((batch[f"keypoints{k}"][padding] == -1).all())


def test_never_rotated_never_relit(photographs: Photographs) -> None:
    options = replace(OPTIONS, no_rotation_probability=1.0, relit_probability=0.0)
    batch = LISRDTriplets(photographs, options)[0]
    assert not batch["is_rotated"].any()
    assert not batch["is_relit"].any()
    always = replace(OPTIONS, no_rotation_probability=0.0, relit_probability=1.0)
    batch = LISRDTriplets(photographs, always)[0]
    assert batch["is_rotated"].all()
    assert not batch["is_relit"].any()  # both are, alike


def test_same_step_same_batch(photographs: Photographs) -> None:
    first = LISRDTriplets(photographs, LISRDTripletOptions(batch_size=2, size=(96, 128)))[5]
    again = LISRDTriplets(photographs, LISRDTripletOptions(batch_size=2, size=(96, 128)))[5]
    for key, value in first.items():
        assert torch.equal(value, again[key])


def test_sift_keypoints_are_spread_and_single(photographs: Photographs) -> None:
    image = photographs.read(0)[0]
    points = sift_keypoints(image, 90, 3, 0.01)
    assert len(np.unique(points, axis=0)) == len(points) <= 90
    tiles = (points / (200 / 3, 50)).astype(int).clip(0, 2)
    _, counts = np.unique(tiles[:, 1] * 3 + tiles[:, 0], return_counts=True)
    assert counts.max() <= 10
    assert sift_keypoints(np.zeros((96, 128, 3), np.uint8), 90, 3, 0.01).shape == (0, 2)


def test_a_photograph_without_keypoints_has_no_valid_point(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((100, 140, 3), 90, np.uint8))
    batch = LISRDTriplets(Photographs(tmp_path, ["flat.png"]), replace(OPTIONS, batch_size=2))[0]
    assert not batch["valid"].any()
    assert bool((batch["keypoints1"] == -1).all())
