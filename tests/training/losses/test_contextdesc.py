"""ContextDesc's losses: golden values and gradients, literal formulas, degenerate sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.training.losses.contextdesc import (
    NPairLoss,
    n_pair_loss,
    neighbor_accuracy,
    quadruplet_loss,
)
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.training.losses import compare_gradient, compare_value


def seeded_pairs(num_points: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors of two images in which half of the points are similar, and inliers."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, num_points, 4)
    descriptors0, noise = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    inliers = torch.rand(2, num_points, generator=generator) > 0.3
    descriptors1 = descriptors0 * (torch.arange(num_points) % 2)[:, None] + noise
    return F.normalize(descriptors0, dim=2), F.normalize(descriptors1, dim=2), inliers


def test_n_pair_loss_equals_literal_formula() -> None:
    descriptors0, descriptors1, inliers = seeded_pairs()
    means = []
    for a, b, mask in zip(descriptors0.numpy(), descriptors1.numpy(), inliers, strict=True):
        exp = np.exp(3 * (a @ b.T))
        rows, columns = exp / exp.sum(1, keepdims=True), exp / exp.sum(0)
        losses = [-(np.log(rows[i, i]) + np.log(columns[i, i])) / 2 for i in range(len(a))]
        means.append(np.mean(np.array(losses)[mask.numpy()]))
    actual = n_pair_loss(descriptors0, descriptors1, inliers, 3.0)
    np.testing.assert_allclose(actual, np.mean(means), rtol=1e-12)


def test_quadruplet_loss_equals_literal_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    m0, m1 = (2 * torch.randn(2, 6, generator=generator).double() for _ in range(2))
    inliers = torch.rand(2, 6, generator=generator) > 0.3
    losses, accuracies = [], []
    for a, b, mask in zip(m0.tolist(), m1.tolist(), inliers, strict=True):
        hinges = [
            max(0.0, 1 - (a[i] - a[j]) * (b[i] - b[j]))
            for i in mask.nonzero()[:, 0].tolist()
            for j in mask.nonzero()[:, 0].tolist()
            if i != j
        ]
        losses.append(np.mean(hinges))
        accuracies.append(np.mean(np.array(hinges) == 0))
    loss, accuracy = quadruplet_loss(m0, m1, inliers)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-12)
    np.testing.assert_allclose(accuracy, np.mean(accuracies), rtol=1e-6)
    assert 0 < accuracy < 1


def test_matching_accuracy_counts_both_directions() -> None:
    # 0 → 0 ← 0 and 0 → 1: point 1 of the second image lies nearer to point 0 of the first.
    descriptors0 = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    descriptors1 = torch.tensor([[[1.0, 0.0], [0.8, 0.6]]])
    # Point 1 finds its match, which finds point 0.
    torch.testing.assert_close(neighbor_accuracy(descriptors0, descriptors1), torch.tensor(0.75))
    first = torch.tensor([[True, False]])
    assert neighbor_accuracy(descriptors0, descriptors1, first) == 1


def test_gradcheck() -> None:
    descriptors0, descriptors1, inliers = seeded_pairs()
    inputs = [d.requires_grad_() for d in (descriptors0, descriptors1)]
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b, t: n_pair_loss(a, b, inliers, t), [*inputs, temperature]
    )
    matchabilities = [d.detach()[..., 0].clone().requires_grad_() for d in inputs]
    assert torch.autograd.gradcheck(lambda a, b: quadruplet_loss(a, b, inliers)[0], matchabilities)


def test_order_of_points_and_of_images_does_not_matter() -> None:
    descriptors0, descriptors1, inliers = seeded_pairs()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    for function in (n_pair_loss, neighbor_accuracy):
        value = function(descriptors0, descriptors1, inliers)
        shuffled = function(descriptors0[:, order], descriptors1[:, order], inliers[:, order])
        torch.testing.assert_close(shuffled, value)
        torch.testing.assert_close(function(descriptors1, descriptors0, inliers), value)


def test_temperature_is_learned() -> None:
    descriptors0, _, inliers = seeded_pairs()
    loss_function = NPairLoss().double()
    assert [name for name, _ in loss_function.named_parameters()] == ["temperature"]
    loss = loss_function(descriptors0, descriptors0, inliers)
    torch.testing.assert_close(loss, n_pair_loss(descriptors0, descriptors0, inliers))
    loss.backward()
    assert loss_function.temperature.grad < 0  # sharper is better where all matches are right


@pytest.mark.parametrize("case", ["identical", "no inliers", "one point"])
def test_gradients_stay_finite(case: str) -> None:
    num_points = 1 if case == "one point" else 5
    inliers = torch.full((2, num_points), case != "no inliers")
    losses = (
        n_pair_loss,
        lambda a, b, mask: quadruplet_loss(a[..., 0], b[..., 0], mask)[0],
    )
    for function in losses:
        inputs = [torch.ones(2, num_points, 4).requires_grad_() for _ in range(2)]
        loss = function(*(F.normalize(value, dim=2) for value in inputs), inliers)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(value.grad).all() for value in inputs)
        if case == "no inliers":
            assert loss == 0


# ---------------------------------------------------------------- golden files


@pytest.fixture(scope="module")
def golden(golden_set: GoldenSet) -> dict[str, np.ndarray]:
    return golden_set.arrays("losses/contextdesc")


def golden_pairs(golden: dict[str, np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    anchors, positives, inliers = (
        torch.from_numpy(golden[name]) for name in ("feat_anc", "feat_pos", "inlier_mask")
    )
    return anchors.requires_grad_(), positives, inliers


def compare_accuracy(parity: Parity, accuracy: Tensor, expected: float, batch: int) -> None:
    """Compare with the authors' figure, which divides the errors by the batch size once more."""
    compare_value(parity, "contextdesc", "accuracy", 1 - (1 - accuracy) / batch, expected)


@pytest.mark.parametrize("temperature", [1, 8])
def test_golden_n_pair_loss(
    golden: dict[str, np.ndarray], parity: Parity, temperature: int
) -> None:
    anchors, positives, inliers = golden_pairs(golden)
    loss_function = NPairLoss()
    torch.nn.init.constant_(loss_function.temperature, temperature)
    label = f"temperature {temperature}"
    for key, mask in (("LOG", inliers), ("LOG_nomask", None)):
        name = f"{key}_temp{temperature}"
        loss = loss_function(anchors, positives, mask)
        compare_value(parity, "contextdesc", f"N-pair, {label}", loss, golden[f"loss_{name}"])
        accuracy = neighbor_accuracy(anchors, positives, mask)
        compare_accuracy(parity, accuracy, golden[f"acc_{name}"], len(anchors))
    name = f"LOG_temp{temperature}"
    loss_function(anchors, positives, inliers).backward()
    expected = golden[f"grad_anc_{name}"]
    compare_gradient(parity, "contextdesc", f"descriptors, {label}", anchors.grad, expected)
    compare_gradient(
        parity,
        "contextdesc",
        f"temperature, {label}",
        loss_function.temperature.grad[None],
        golden[f"grad_temperature_{name}"][None],
    )


def test_golden_l2_net(golden: dict[str, np.ndarray], parity: Parity) -> None:
    anchors, positives, inliers = golden_pairs(golden)
    loss = n_pair_loss(anchors, positives, inliers)
    compare_value(parity, "contextdesc", "L2NET", loss, golden["loss_L2NET"])
    accuracy = neighbor_accuracy(anchors, positives, inliers)
    compare_accuracy(parity, accuracy, golden["acc_L2NET"], len(anchors))


def test_golden_quadruplets(golden: dict[str, np.ndarray], parity: Parity) -> None:
    matchabilities = [
        torch.from_numpy(golden[f"kpt_m{k}"][..., 0]).requires_grad_() for k in (0, 1)
    ]
    num_points = matchabilities[0].shape[1]
    inliers = torch.arange(num_points) < torch.from_numpy(golden["inlier_num"])[:, None]
    loss, accuracy = quadruplet_loss(*matchabilities, inliers)
    compare_value(parity, "contextdesc", "quadruplets", loss, golden["quad_loss"])
    compare_value(
        parity, "contextdesc", "accuracy of quadruplets", accuracy, golden["quad_accuracy"]
    )
    loss.backward()
    for k, values in enumerate(matchabilities):
        expected = golden[f"grad_kpt_m{k}"][..., 0]
        compare_gradient(parity, "contextdesc", "matchability", values.grad, expected)
