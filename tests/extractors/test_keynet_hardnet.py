"""Key.Net with HardNet: where points of every level lie, and what a descriptor sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from featplug.base import Extractor
from tests.extractors.contract import ExtractorContract
from tests.extractors.places import corners, found, mirror_offset


class TestKeyNetHardNet(ExtractorContract):
    method = "keynet_hardnet"

    def picture(self) -> Tensor:
        return corners(200, 160)

    def network(self, checkpoint: str) -> nn.Module:
        network = super().network(checkpoint)
        if checkpoint == "keynet":  # drawn weights give no response to most pictures
            with torch.no_grad():
                network.last_conv[0].weight.abs_()
        return network


class Brightness(nn.Module):
    """A response that is the picture itself."""

    def forward(self, image: Tensor) -> Tensor:
        return image


@pytest.mark.parametrize(("x", "y"), [(160.2, 127.7), (150.6, 131.3)])
def test_a_blob_is_found_where_it_is_on_every_level(
    drawn_weights: Path, x: float, y: float
) -> None:
    rows, columns = torch.meshgrid(torch.arange(257.0), torch.arange(331.0), indexing="ij")
    blob = (-((columns - x) ** 2 + (rows - y) ** 2) / 150).exp()[None]
    errors = {}
    for official in (False, True):
        extractor = TestKeyNetHardNet().build(
            "keynet-hardnet", drawn_weights, official_coordinates=official
        )
        extractor.detector.model = Brightness()
        features = found(extractor, blob)
        pixels = features["scales"] * 12 / 22
        assert len(features["scales"].unique()) > 3
        errors[official] = (features["keypoints"] - torch.tensor([x, y])).abs().max(1)[0] / pixels
    assert errors[False].max() < 0.6  # a maximum is a whole pixel of its level
    assert errors[True].max() > errors[False].max()


def test_frames_turn_with_the_picture_from_x_to_y(drawn_weights: Path) -> None:
    """OriNet's angle is of the patch, so that any weights turn with the picture."""
    extractor = TestKeyNetHardNet().build("keynet-hardnet", drawn_weights)
    extractor.detector.model = Brightness()
    picture = corners(301, 301).mean(0, keepdim=True)
    first, turned = found(extractor, picture), found(extractor, picture.rot90(-1, (1, 2)))
    lafs = first["lafs"]
    radians = first["oris"].deg2rad()
    axis = torch.stack([radians.cos(), radians.sin()], 1) * first["scales"][:, None] * 12
    torch.testing.assert_close(lafs[:, :, 0], axis, atol=1e-2, rtol=1e-3)
    assert len(turned["scores"]) == pytest.approx(len(first["scores"]), rel=0.2)


def test_points_lie_where_they_are(official: Callable[..., Extractor], drawn_weights: Path) -> None:
    """With the weights of Key.Net where they are here; the descriptor does not matter."""
    official("keynet-hardnet")
    assert abs(mirror_offset(official("keynet-hardnet"), corners(320, 256))) < 0.2


def test_affine_frames_are_not_round(drawn_weights: Path) -> None:
    extractor = TestKeyNetHardNet().build("keynet-affnet-hardnet", drawn_weights)
    lafs = found(extractor, corners(200, 150))["lafs"]
    singular = torch.linalg.svdvals(lafs[:, :, :2])
    assert (singular[:, 0] / singular[:, 1]).max() > 1.01
