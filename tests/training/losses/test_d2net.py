"""D2-Net's loss: golden values and gradients, warped cells, a literal formula, degenerate maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.training.losses.d2net import (
    View,
    cell_centres,
    detection_weighted_triplet_loss,
    find_correspondences,
    homography_correspondences,
    nearest_cells,
    soft_detection_scores,
)
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.training.losses import compare_gradient, compare_value


def seeded_features(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)


def seeded_cells(num_cells: int, num_targets: int) -> Tensor:
    """Draw the cell of image 1 for each of image 0, a third of them without."""
    generator = torch.Generator().manual_seed(5)
    cells = torch.randint(num_targets, (2, num_cells), generator=generator)
    return cells.masked_fill(torch.rand(2, num_cells, generator=generator) < 0.33, -1)


def view(depth: float = 2.0, x: float = 0.0, size: tuple[int, int] = (64, 80)) -> View:
    """A camera x to the right of the world's origin that looks at a wall."""
    intrinsics = torch.tensor([[[40.0, 0, 40], [0, 40, 32], [0, 0, 1]]])
    cam_from_world = torch.eye(4)[None].clone()
    cam_from_world[0, 0, 3] = -x
    return View(torch.full((1, *size), depth), intrinsics, cam_from_world, torch.zeros(1, 2))


# ---------------------------------------------------------------- soft detection


@pytest.mark.parametrize("relative_to_max", [True, False])
def test_scores_equal_literal_formula(relative_to_max: bool) -> None:
    features = seeded_features(4, 5)
    for actual, image in zip(
        soft_detection_scores(features, relative_to_max=relative_to_max),
        features.clamp(min=0).numpy(),
        strict=True,
    ):
        exp = np.exp(image / image.max() if relative_to_max else image)
        border = 1.0 if relative_to_max else 0.0
        padded = np.pad(exp, ((0, 0), (1, 1), (1, 1)), constant_values=border)
        scores = np.zeros((4, 5))
        for i in range(4):
            for j in range(5):
                alpha = exp[:, i, j] / padded[:, i : i + 3, j : j + 3].sum((1, 2))
                beta = image[:, i, j] / max(image[:, i, j].max(), 1e-300)
                scores[i, j] = (alpha * beta).max()
        np.testing.assert_allclose(actual, scores / scores.sum(), rtol=1e-12)


def test_scores_of_activations_in_the_hundreds() -> None:
    features = 1000 * seeded_features(6, 6)
    scores = soft_detection_scores(features, relative_to_max=False)
    torch.testing.assert_close(scores.sum((1, 2)), torch.ones(2).double())


@pytest.mark.parametrize("relative_to_max", [True, False])
def test_scores_where_nothing_is_positive(relative_to_max: bool) -> None:
    features = seeded_features(5, 5)
    features[0] = -features[0].abs()
    features[1, :, 1:4, 2] = 0
    features.requires_grad_()
    scores = soft_detection_scores(features, relative_to_max=relative_to_max)
    assert scores[0].abs().max() == 0
    assert scores[1, 1:4, 2].abs().max() == 0
    (scores * seeded_features(5, 5)[:, 0]).sum().backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad[1].abs().max() > 0


@pytest.mark.parametrize("relative_to_max", [True, False])
def test_gradcheck_of_scores(relative_to_max: bool) -> None:
    assert torch.autograd.gradcheck(
        lambda x: soft_detection_scores(x, relative_to_max=relative_to_max),
        seeded_features(4, 3).requires_grad_(),
    )


# ---------------------------------------------------------------- correspondences


def test_nearest_cell_of_a_centre_is_the_cell() -> None:
    centres = cell_centres((3, 5), torch.zeros(1))
    assert centres[0].tolist() == [3.5, 3.5]
    assert centres[6].tolist() == [11.5, 11.5]
    assert nearest_cells(centres, (3, 5)).tolist() == list(range(15))
    outside = torch.tensor([[-0.6, 3.0], [40.1, 3.0], [3.0, -0.6], [3.0, 24.1], [torch.nan, 3.0]])
    assert nearest_cells(outside, (3, 5)).tolist() == [-1] * 5


def test_correspondences_of_a_sideways_motion() -> None:
    # 0.8 to the right at depth 2 and 40 px of focal length: 16 px to the left, two cells.
    found = find_correspondences(view(), view(x=0.8), (8, 10), (8, 10))
    expected = torch.arange(80).view(8, 10) - 2
    expected[:, :2] = -1
    assert found.cells1[0].tolist() == expected.flatten().tolist()
    moved = found.positions0 - torch.tensor([16.0, 0.0])
    torch.testing.assert_close(found.positions1, moved, rtol=0, atol=1e-4)


def test_correspondences_between_crops() -> None:
    view0, view1 = view(), view(x=0.8)
    view0 = view0._replace(depth=view0.depth[:, 8:, 16:], crop=torch.tensor([[16.0, 8.0]]))
    found = find_correspondences(view0, view1, (7, 8), (8, 10))
    expected = torch.arange(80).view(8, 10)[1:, :8]
    assert found.cells1[0].tolist() == expected.flatten().tolist()


def test_unknown_depths_and_occlusions_are_dropped() -> None:
    view0, view1 = view(), view()
    view0.depth[0, 3, 4] = 0  # beside the centre of the first cell
    view1.depth[0, :, 8:16] = 1.9  # something before the second column
    found = find_correspondences(view0, view1, (8, 10), (8, 10))
    expected = torch.arange(80).view(8, 10)
    expected[0, 0] = -1
    expected[:, 1] = -1
    assert found.cells1[0].tolist() == expected.flatten().tolist()
    behind = view()._replace(cam_from_world=torch.diag(torch.tensor([1.0, -1, -1, 1]))[None])
    assert (find_correspondences(view(), behind, (8, 10), (8, 10)).cells1 == -1).all()
    nothing = view(depth=0.0)
    assert (find_correspondences(nothing, view(), (8, 10), (8, 10)).cells1 == -1).all()


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
        *arguments, margin=0.8, safe_radius=2, min_correspondences=1
    )
    np.testing.assert_allclose(actual, np.mean(losses), rtol=1e-12)
    counts = (cells1 >= 0).sum(1)
    assert counts[0] != counts[1]
    one = detection_weighted_triplet_loss(
        *arguments, margin=0.8, safe_radius=2, min_correspondences=int(counts.max())
    )
    np.testing.assert_allclose(one, losses[counts.argmax()], rtol=1e-12)


def test_gradcheck_of_loss() -> None:
    cells1 = seeded_cells(9, 9)

    def loss(features0: Tensor, features1: Tensor) -> Tensor:
        scores = (soft_detection_scores(f) for f in (features0, features1))
        return detection_weighted_triplet_loss(
            features0, features1, *scores, cells1, safe_radius=1, min_correspondences=1
        )

    inputs = [seeded_features(3, 3, seed).requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


def test_swapping_the_images_of_a_bijection() -> None:
    features0, features1 = seeded_features(6, 6), seeded_features(6, 6, seed=1)
    scores0, scores1 = (soft_detection_scores(f) for f in (features0, features1))
    cells1 = torch.stack([torch.randperm(36), torch.arange(36)])
    loss = detection_weighted_triplet_loss(
        features0, features1, scores0, scores1, cells1, min_correspondences=1
    )
    swapped = detection_weighted_triplet_loss(
        features1, features0, scores1, scores0, cells1.argsort(1), min_correspondences=1
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
    loss = detection_weighted_triplet_loss(
        features, features.flip(1), scores, scores, cells1, safe_radius=1, min_correspondences=1
    )
    loss.backward()
    assert torch.isfinite(features.grad).all()
    expected = 1 if case in ("identical", "one match") else 0
    torch.testing.assert_close(loss.item(), float(expected))


# ---------------------------------------------------------------- golden files


@pytest.fixture(scope="module")
def golden(golden_set: GoldenSet) -> dict[str, np.ndarray]:
    return golden_set.arrays("losses/d2net")


def golden_view(golden: dict[str, np.ndarray], index: int) -> View:
    depth, intrinsics, pose, crop = (
        torch.from_numpy(golden[f"{name}{index}"])[None]
        for name in ("depth", "intrinsics", "pose", "bbox")
    )
    return View(depth, intrinsics, pose, crop.flip(1))


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


def test_cells_under_a_homography() -> None:
    # A cell to the left; of image 1 the last of three rows of cells shows nothing.
    homography = torch.tensor([[[1.0, 0, -8], [0, 1, 0], [0, 0, 1]]])
    valid = torch.ones(1, 24, 32, dtype=torch.bool)
    valid[:, 16:] = False
    found = homography_correspondences(homography, valid, (3, 4), (3, 4))
    assert found.cells1.view(3, 4).tolist() == [[-1, 0, 1, 2], [-1, 4, 5, 6], [-1] * 4]
    assert found.positions0[0, 5].tolist() == [11.5, 11.5]
    assert found.positions1[0, 5].tolist() == [3.5, 11.5]


def test_cells_of_the_dense_map_and_beyond_the_horizon() -> None:
    # The dense map's cells are 4 pixels wide and begin at the same pixel.
    homography = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [-0.05, 0, 1]]])
    valid = torch.ones(1, 32, 32, dtype=torch.bool)
    found = homography_correspondences(homography, valid, (7, 7), (7, 7), stride=4)
    assert found.positions0[0, 1].tolist() == [7.5, 3.5]
    assert found.positions1[0, 1].tolist() == pytest.approx([12.0, 5.6])
    assert found.cells1[0, 1] == 9  # the centre at (11.5, 7.5) is nearest
    assert (found.cells1.view(7, 7)[:, 5:] == -1).all()
    assert found.positions1.view(7, 7, 2)[:, 5:].isnan().all()
