"""Excluded negatives: near in any image, or not seen."""

from __future__ import annotations

import torch

from featplug.training.losses.negatives import excluded_negatives


def test_points_that_are_near_or_not_seen_are_excluded() -> None:
    positions = torch.tensor([[[0.0, 0.0], [16.0, 0.0], [0.0, 16.1], [500.0, 0.0]]])
    valid = torch.tensor([[True, True, True, False]])
    expected = [[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]]
    assert excluded_negatives([positions], valid, 16.0)[0].int().tolist() == expected


def test_points_that_are_near_in_one_image_are_excluded() -> None:
    apart = torch.tensor([[[0.0, 0.0], [99.0, 0.0]]])
    near = torch.tensor([[[0.0, 0.0], [3.0, 0.0]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    assert excluded_negatives([apart, near], valid, 4.0).all()
    assert torch.equal(excluded_negatives([apart], valid, 4.0)[0], torch.eye(2).bool())
