"""MTLDesc's losses: golden values and gradients, a literal formula, degenerate batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.training.losses.mtldesc import (
    MTLDescLossOptions,
    attention_weighted_triplet_loss,
    keypoint_loss,
)
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.training.losses import compare_gradient, compare_value


def seeded_batch(num_points: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.rand(2, num_points, *shape, generator=generator, dtype=torch.float64)

    return {
        "descriptors0": F.normalize(rand(5) - 0.5, dim=2),
        "descriptors1": F.normalize(rand(5) - 0.5, dim=2),
        "attention0": rand() + 0.5,
        "attention1": rand() + 0.5,
        "valid": rand() > 0.2,
        "excluded": rand(num_points) > 0.8,
    }


def test_equals_literal_formula() -> None:
    batch = {key: value.numpy() for key, value in seeded_batch().items()}
    expected = []
    for item in range(2):
        a = batch["descriptors0"][item] * batch["attention0"][item][:, None]
        b = batch["descriptors1"][item] * batch["attention1"][item][:, None]
        total, norm = 0.0, 0.0
        for i in np.flatnonzero(batch["valid"][item]):
            negatives = [
                np.linalg.norm(a[i] - b[j])
                for j in range(len(b))
                if j != i and not batch["excluded"][item, i, j]
            ]
            weight = np.exp(batch["attention0"][item, i] / 3)
            total += weight * max(0, np.linalg.norm(a[i] - b[i]) - min(negatives) + 0.7)
            norm += weight
        expected.append(total / norm)
    actual = attention_weighted_triplet_loss(
        **seeded_batch(), options=MTLDescLossOptions(temperature=3, margin=0.7)
    )
    np.testing.assert_allclose(actual, np.mean(expected), rtol=1e-12)


def test_gradcheck() -> None:
    batch = seeded_batch()
    inputs = [batch.pop(f"{name}{i}") for name in ("descriptors", "attention") for i in (0, 1)]

    def loss(*values: Tensor) -> Tensor:
        return attention_weighted_triplet_loss(*values, batch["valid"], batch["excluded"])

    assert torch.autograd.gradcheck(loss, [value.requires_grad_() for value in inputs])
    heatmap = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    labels = (heatmap.roll(1) > 1).double()
    assert torch.autograd.gradcheck(
        lambda x: keypoint_loss(x, labels, torch.ones_like(x).tril()), heatmap.requires_grad_()
    )


def test_order_of_points_does_not_matter() -> None:
    batch = seeded_batch()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    shuffled = {key: value[:, order] for key, value in batch.items()}
    shuffled["excluded"] = shuffled["excluded"][:, :, order]
    torch.testing.assert_close(
        attention_weighted_triplet_loss(**shuffled), attention_weighted_triplet_loss(**batch)
    )


@pytest.mark.parametrize("case", ["identical", "none valid", "one point", "huge attention"])
def test_gradients_stay_finite(case: str) -> None:
    num_points = 1 if case == "one point" else 4
    inputs = [torch.ones(2, num_points, 3), torch.ones(2, num_points, 3)]
    inputs += [torch.ones(2, num_points), torch.ones(2, num_points)]
    if case == "huge attention":
        inputs[2][0, 0] = 1e4
    for value in inputs:
        value.requires_grad_()
    valid = torch.full((2, num_points), case != "none valid")
    excluded = torch.zeros(2, num_points, num_points, dtype=torch.bool)
    loss = attention_weighted_triplet_loss(
        *inputs, valid, excluded, MTLDescLossOptions(temperature=1)
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value.grad).all() for value in inputs)
    if case in ("none valid", "one point"):
        assert loss == 0


def test_keypoint_loss_without_valid_pixels_and_at_saturation() -> None:
    logits = torch.tensor([[[200.0, -200.0]], [[-200.0, 200.0]]], requires_grad=True)
    labels = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    valid = torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]]])
    loss = keypoint_loss(logits, labels, valid)
    loss.backward()
    assert abs(loss.item()) < 0.01  # all right in the first image, nothing known in the second
    assert torch.isfinite(logits.grad).all()


# ---------------------------------------------------------------- golden files


@pytest.fixture(scope="module")
def golden(golden_set: GoldenSet) -> dict[str, np.ndarray]:
    return golden_set.arrays("losses/mtldesc")


@pytest.mark.parametrize("temperature", [15, 1])
def test_golden_triplet_loss(
    golden: dict[str, np.ndarray], parity: Parity, temperature: int
) -> None:
    names = ("desp_0", "desp_1", "w_0", "w_1")
    inputs = [torch.from_numpy(golden[name]).requires_grad_() for name in names]
    loss = attention_weighted_triplet_loss(
        *inputs[:2],
        *(attention[..., 0] for attention in inputs[2:]),
        torch.from_numpy(golden["valid_mask"]),
        torch.from_numpy(golden["not_search_mask"]),
        MTLDescLossOptions(temperature=temperature),
    )
    loss.backward()
    label = f"T = {temperature}"
    compare_value(parity, "mtldesc", f"triplet, {label}", loss, golden[f"loss_T{temperature}"])
    for name, value in zip(names, inputs, strict=True):
        expected = golden[f"grad_{name}_T{temperature}"]
        compare_gradient(parity, "mtldesc", f"{name}, {label}", value.grad, expected)


def test_golden_keypoint_loss(golden: dict[str, np.ndarray], parity: Parity) -> None:
    logits = torch.from_numpy(golden["heatmap_pred"]).requires_grad_()
    labels, valid = (torch.from_numpy(golden[f"heatmap_{name}"]) for name in ("gt", "valid"))
    loss = keypoint_loss(logits, labels, valid)
    loss.backward()
    compare_value(parity, "mtldesc", "keypoints", loss, golden["point_loss"])
    compare_gradient(parity, "mtldesc", "heat map", logits.grad, golden["grad_heatmap_pred"])
