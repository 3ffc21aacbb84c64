"""DoG-HardNet: which pixels a descriptor sees."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.extractors.contract import ExtractorContract
from tests.extractors.places import corners


class TestDoGHardNet(ExtractorContract):
    method = "dog_hardnet"


def test_descriptors_turn_and_move_with_the_picture(drawn_weights: Path) -> None:
    """Any network gives the same descriptor of the same patch, found at its frame."""
    extractor = TestDoGHardNet().build("dog-hardnet", drawn_weights)
    picture = corners(301, 301)
    keypoints = {
        "keypoints": torch.tensor([[140.0, 120.0], [150.3, 160.7]]),
        "scores": torch.ones(2),
        "scales": torch.tensor([2.0, 3.0]),
        "oris": torch.tensor([10.0, 200.0]),
    }
    x, y = keypoints["keypoints"].t()
    turned = {
        **keypoints,
        "keypoints": torch.stack([300 - y, x], 1),
        "oris": keypoints["oris"] + 90,
    }
    with torch.no_grad():
        first = extractor.describe(picture, keypoints)["descriptors"]
        second = extractor.describe(picture.rot90(-1, (1, 2)), turned)["descriptors"]
        upright = extractor.describe(
            picture.rot90(-1, (1, 2)), {**turned, "oris": keypoints["oris"]}
        )
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)
    assert (first - upright["descriptors"]).abs().max() > 0.05
