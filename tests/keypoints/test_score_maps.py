"""Maxima in windows: those of max_pool2d."""

from __future__ import annotations

import pytest
import torch

from featplug.keypoints.score_maps import window_maximum


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (40, 33)])
def test_the_same_as_a_pooling_layers(radius: int, size: tuple[int, int]) -> None:
    scores = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.max_pool2d(scores, 2 * radius + 1, stride=1, padding=radius)
    assert torch.equal(window_maximum(scores, radius), pooled)
