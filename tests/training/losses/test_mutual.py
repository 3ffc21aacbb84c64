"""The loss of mutual nearest neighbours: its limit, its scale, and what it does without truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featplug.training.losses.mutual import mutual_loss, mutual_scores


def random_pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities of 40 and 50 keypoints of which 20 have a counterpart, mostly found."""
    generator = torch.Generator().manual_seed(seed)
    similarities = torch.randn(40, 50, generator=generator, dtype=torch.float64)
    is_right = torch.zeros(40, 50, dtype=torch.bool)
    is_right[torch.arange(20), torch.arange(20)] = True
    return similarities + 2.5 * is_right, is_right


@pytest.mark.parametrize("seed", range(3))
def test_at_temperature_0_scores_are_those_of_mutual_nearest_neighbours(seed: int) -> None:
    similarities, is_right = random_pair(seed)
    array = similarities.numpy()
    forward, back = array.argmax(1), array.argmax(0)
    mutual = back[forward] == np.arange(len(array))
    found = is_right.numpy()[np.arange(len(array)), forward] & mutual
    assert 0 < found.sum() < mutual.sum()
    precision, recall = mutual_scores(similarities, is_right, 1e-6)
    np.testing.assert_allclose(precision, found.sum() / mutual.sum(), atol=1e-6)
    np.testing.assert_allclose(recall, found.sum() / 20, atol=1e-6)


def test_the_scale_of_similarities_does_not_matter() -> None:
    similarities, is_right = random_pair()
    torch.testing.assert_close(
        mutual_scores(similarities, is_right, 0.1),
        mutual_scores(1000 * similarities - 7, is_right, 0.1),
    )


def test_keypoints_without_counterpart_leave_each_other() -> None:
    """The wrong pair that is mutual has to go; the right ones have nothing to gain."""
    similarities = torch.full((3, 3), -1.0)
    similarities.diagonal().fill_(1.0)
    is_right = torch.eye(3, dtype=torch.bool)
    is_right[2, 2] = False
    similarities.requires_grad_()
    mutual_loss(similarities, is_right, 0.2).backward()
    assert similarities.grad is not None
    assert similarities.grad[2, 2] > 0
    assert similarities.grad[:2, 2].max() <= 0
    assert similarities.grad[2, 2] == similarities.grad.abs().max()


def test_the_gradient_is_that_of_the_loss_at_a_fixed_scale() -> None:
    similarities, is_right = random_pair()
    scale = similarities.std(correction=0)

    def loss(values: torch.Tensor) -> torch.Tensor:
        logits = values / (0.3 * scale)
        mutual = logits.softmax(0) * logits.softmax(1)
        right = mutual[is_right].sum()
        return -(right / mutual.sum()).log() - 0.5 * (right / 20).log()

    expected = torch.autograd.functional.jacobian(loss, similarities)
    similarities.requires_grad_()
    mutual_loss(similarities, is_right, 0.3, recall_weight=0.5).backward()
    torch.testing.assert_close(similarities.grad, expected)


@pytest.mark.parametrize("similarities", [torch.zeros(4, 5), torch.randn(4, 5)])
def test_without_right_pairs_it_is_0_and_so_is_its_gradient(similarities: torch.Tensor) -> None:
    similarities = similarities.clone().requires_grad_()
    loss = mutual_loss(similarities, torch.zeros(4, 5, dtype=torch.bool), 0.1)
    loss.backward()
    assert loss == 0
    assert similarities.grad is not None
    assert (similarities.grad == 0).all()
