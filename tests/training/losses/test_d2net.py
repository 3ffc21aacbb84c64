"""D2-Net's loss: golden values and gradients, a literal formula, degenerate maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.training.data.correspondences import PosedDepth, find_correspondences
from featplug.training.losses.d2net import (
    D2NetLossOptions,
    detection_weighted_triplet_loss,
    soft_detection_scores,
)
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.training.losses import compare_gradient, compare_value

ANY_COUNT = D2NetLossOptions(min_correspondences=1)
NEAR = D2NetLossOptions(safe_radius=1, min_correspondences=1)


def seeded_features(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)


def seeded_cells(num_cells: int, num_targets: int) -> Tensor:
    """Draw the cell of image 1 for each of image 0, a third of them without."""
    generator = torch.Generator().manual_seed(5)
    cells = torch.randint(num_targets, (2, num_cells), generator=generator)
    return cells.masked_fill(torch.rand(2, num_cells, generator=generator) < 0.33, -1)


# ---------------------------------------------------------------- soft detection


def test_scores_equal_literal_formula() -> None:
    features = seeded_features(4, 5)
    for actual, image in zip(
        soft_detection_scores(features),
        features.clamp(min=0).numpy(),
        strict=True,
    ):
        exp = np.exp(image / image.max())
        padded = np.pad(exp, ((0, 0), (1, 1), (1, 1)), constant_values=1.0)
        scores = np.zeros((4, 5))
        for i in range(4):
            for j in range(5):
                alpha = exp[:, i, j] / padded[:, i : i + 3, j : j + 3].sum((1, 2))
                beta = image[:, i, j] / max(image[:, i, j].max(), 1e-300)
                scores[i, j] = (alpha * beta).max()
        np.testing.assert_allclose(actual, scores / scores.sum(), rtol=1e-12)


def test_scores_where_nothing_is_positive() -> None:
    features = seeded_features(5, 5)
    features[0] = -features[0].abs()
    features[1, :, 1:4, 2] = 0
    features.requires_grad_()
    scores = soft_detection_scores(features)
    assert scores[0].abs().max() == 0
    assert scores[1, 1:4, 2].abs().max() == 0
    (scores * seeded_features(5, 5)[:, 0]).sum().backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad[1].abs().max() > 0


def test_gradcheck_of_scores() -> None:
    assert torch.autograd.gradcheck(soft_detection_scores, seeded_features(4, 3).requires_grad_())


# ---------------------------------------------------------------- loss


def test_loss_equals_literal_formula() -> None:
    features0, features1 = seeded_features(4, 5), seeded_features(6, 4, seed=1)
    scores0, scores1 = (soft_detection_scores(f) for f in (features0, features1))
    cells1 = seeded_cells(20, 24)
    losses = []
    for item in range(2):
        a, b = (f[item].flatten(1).T.numpy() for f in (features0, features1))
        a, b = (d / np.linalg.norm(d, axis=1, keepdims=True) for d in (a, b))
        total, norm = 0.0, 0.0
        for i, k in enumerate(cells1[item].tolist()):
            if k < 0:
                continue
            distance0 = [
                np.sum((a[j] - b[k]) ** 2)
                for j in range(20)
                if max(abs(j // 5 - i // 5), abs(j % 5 - i % 5)) > 2
            ]
            distance1 = [
                np.sum((b[j] - a[i]) ** 2)
                for j in range(24)
                if max(abs(j // 4 - k // 4), abs(j % 4 - k % 4)) > 2
            ]
            hardest = min(distance0 + distance1, default=np.inf)
            weight = (scores0[item].flatten()[i] * scores1[item].flatten()[k]).item()
            total += weight * max(0, 0.8 + np.sum((a[i] - b[k]) ** 2) - hardest)
            norm += weight
        losses.append(total / norm)
    arguments = (features0, features1, scores0, scores1, cells1)
    actual = detection_weighted_triplet_loss(
        *arguments, D2NetLossOptions(margin=0.8, safe_radius=2, min_correspondences=1)
    )
    np.testing.assert_allclose(actual, np.mean(losses), rtol=1e-12)
    counts = (cells1 >= 0).sum(1)
    assert counts[0] != counts[1]
    one = detection_weighted_triplet_loss(
        *arguments,
        D2NetLossOptions(margin=0.8, safe_radius=2, min_correspondences=int(counts.max())),
    )
    np.testing.assert_allclose(one, losses[counts.argmax()], rtol=1e-12)


def test_gradcheck_of_loss() -> None:
    cells1 = seeded_cells(9, 9)

    def loss(features0: Tensor, features1: Tensor) -> Tensor:
        scores = (soft_detection_scores(f) for f in (features0, features1))
        return detection_weighted_triplet_loss(features0, features1, *scores, cells1, NEAR)

    inputs = [seeded_features(3, 3, seed).requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


def test_swapping_the_images_of_a_bijection() -> None:
    features0, features1 = seeded_features(6, 6), seeded_features(6, 6, seed=1)
    scores0, scores1 = (soft_detection_scores(f) for f in (features0, features1))
    cells1 = torch.stack([torch.randperm(36), torch.arange(36)])
    loss = detection_weighted_triplet_loss(
        features0, features1, scores0, scores1, cells1, ANY_COUNT
    )
    swapped = detection_weighted_triplet_loss(
        features1, features0, scores1, scores0, cells1.argsort(1), ANY_COUNT
    )
    assert loss > 0
    torch.testing.assert_close(swapped, loss)


@pytest.mark.parametrize("case", ["identical", "no match", "one match", "one cell", "zero"])
def test_gradients_stay_finite(case: str) -> None:
    size = 1 if case == "one cell" else 6
    features = torch.full((1, 4, size, size), float(case != "zero")).requires_grad_()
    cells1 = torch.arange(size**2)[None].clone()
    if case == "no match":
        cells1[:] = -1
    elif case == "one match":
        cells1[:, 1:] = -1
    scores = soft_detection_scores(features)
    loss = detection_weighted_triplet_loss(features, features.flip(1), scores, scores, cells1, NEAR)
    loss.backward()
    assert torch.isfinite(features.grad).all()
    expected = 1 if case in ("identical", "one match") else 0
    torch.testing.assert_close(loss.item(), float(expected))


# ---------------------------------------------------------------- golden files


@pytest.fixture(scope="module")
def golden(golden_set: GoldenSet) -> dict[str, np.ndarray]:
    return golden_set.arrays("losses/d2net")


def golden_view(golden: dict[str, np.ndarray], index: int) -> PosedDepth:
    depth, intrinsics, pose, crop = (
        torch.from_numpy(golden[f"{name}{index}"])[None]
        for name in ("depth", "intrinsics", "pose", "bbox")
    )
    return PosedDepth(depth, intrinsics, pose, crop.flip(1))


def test_golden_loss(golden: dict[str, np.ndarray], parity: Parity) -> None:
    features = [
        torch.from_numpy(golden[f"dense_features{index}"])[None].requires_grad_()
        for index in (1, 2)
    ]
    sizes = [tuple(f.shape[2:]) for f in features]
    found = find_correspondences(golden_view(golden, 1), golden_view(golden, 2), *sizes)
    kept = (found.cells1[0] >= 0).nonzero()[:, 0]
    system = "losses: d2net"
    parity.compare(system, "cells of image 1", kept, golden["corr_ids"], 0)
    cells = torch.stack([found.cells1[0, kept] // sizes[1][1], found.cells1[0, kept] % sizes[1][1]])
    parity.compare(system, "cells of image 2", cells, golden["corr_cell2"], 0)
    for index, positions in ((1, found.positions0), (2, found.positions1)):
        actual = positions[0, kept].flip(1).T
        parity.compare(system, "positions (px)", actual, golden[f"corr_pos{index}"], 2e-4)

    scores = [soft_detection_scores(f) for f in features]
    for index in (0, 1):
        expected = golden[f"soft_scores{index + 1}"]
        parity.compare(
            system, "soft scores", scores[index][0].detach(), expected, 1e-5 * expected.max()
        )
    loss = detection_weighted_triplet_loss(*features, *scores, found.cells1)
    loss.backward()
    compare_value(parity, "d2net", "triplet", loss, golden["loss"])
    for index in (0, 1):
        expected = golden[f"grad_dense_features{index + 1}"]
        compare_gradient(parity, "d2net", "features", features[index].grad[0], expected)
