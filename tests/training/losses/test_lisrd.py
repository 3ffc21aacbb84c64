"""LISRD's losses: golden values and gradients, a literal formula, degenerate samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.training.losses.lisrd import (
    Changes,
    LISRDLossOptions,
    lisrd_loss,
    rotation_factor,
    sample_descriptors,
    sample_meta_factors,
    triplet_loss,
    variant_loss,
)
from featplug.training.losses.negatives import excluded_negatives
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.training.losses import compare_gradient, compare_value

HEADS = (
    "rot_var_illum_var",
    "rot_invar_illum_var",
    "rot_var_illum_invar",
    "rot_invar_illum_invar",
)
ROTATED = Changes(torch.tensor([True, False]), torch.tensor([False, False]), torch.ones(2))


def seeded_batch(num_items: int = 2, num_points: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def unit(dim: int) -> Tensor:
        shape = (num_items, 4, num_points, dim)
        return F.normalize(torch.randn(shape, generator=generator, dtype=torch.float64), dim=3)

    return {
        "descriptors0": unit(3),
        "descriptors1": unit(3),
        "descriptors2": unit(3),
        "metas0": unit(6),
        "metas1": unit(6),
        "keypoints0": 40 * torch.rand(num_items, num_points, 2, generator=generator),
        "keypoints1": 40 * torch.rand(num_items, num_points, 2, generator=generator),
        "valid": torch.rand(num_items, num_points, generator=generator) > 0.2,
    }


def literal_triplet_loss(
    batch: dict[str, np.ndarray], item: int, heads: list[int], is_l2: bool = False
) -> float:
    """Equations 2, 3 and 7 for one pair of points at a time."""

    def distance(i: int, j: int) -> float:
        squared = [
            2 - 2 * batch["descriptors0"][item, h, i] @ batch["descriptors1"][item, h, j]
            for h in heads
        ]
        if is_l2:
            squared = np.sqrt(squared)
        weights = [np.exp(batch["metas0"][item, h, i] @ batch["metas1"][item, h, j]) for h in heads]
        return np.dot(weights, squared) / np.sum(weights)

    def is_far(i: int, j: int) -> bool:
        return all(
            np.linalg.norm(batch[key][item, i] - batch[key][item, j]) > 8
            for key in ("keypoints0", "keypoints1")
        )

    points = np.flatnonzero(batch["valid"][item])
    losses = []
    for i in points:
        others = [j for j in points if is_far(i, j)]
        negatives = [distance(i, j) for j in others] + [distance(j, i) for j in others]
        losses.append(max(0.0, 1 + distance(i, i) - min(negatives, default=4)))
    return np.mean(losses)


def literal_variant_loss(
    batch: dict[str, np.ndarray], item: int, head: int, factor: float
) -> float:
    anchor, invariant, variant = (batch[f"descriptors{k}"][item, head] for k in range(3))
    points = np.flatnonzero(batch["valid"][item])
    return np.mean(
        [
            max(0.0, factor + 2 * anchor[i] @ invariant[i] - 2 * anchor[i] @ variant[i])
            for i in points
        ]
    )


def total(
    batch: dict[str, Tensor], changes: Changes, accumulate: bool = False, metas: bool = True
) -> dict[str, Tensor]:
    return lisrd_loss(
        [batch[f"descriptors{k}"] for k in range(3)],
        (batch["metas0"], batch["metas1"]) if metas else None,
        (batch["keypoints0"], batch["keypoints1"]),
        batch["valid"],
        changes,
        LISRDLossOptions(accumulate=accumulate),
    )


def excluded_of(batch: dict[str, Tensor]) -> Tensor:
    return excluded_negatives([batch["keypoints0"], batch["keypoints1"]], batch["valid"], 8.0)


@pytest.mark.parametrize("accumulate", [False, True])
def test_total_equals_literal_formula(accumulate: bool) -> None:
    batch = seeded_batch(num_items=4)
    is_rotated = torch.tensor([True, False, True, False])
    is_relit = torch.tensor([False, True, True, False])
    factor = torch.tensor([0.3, 0.0, 0.9, 0.0], dtype=torch.float64)
    actual = total(batch, Changes(is_rotated, is_relit, factor), accumulate)

    arrays = {key: value.numpy() for key, value in batch.items()}
    losses = []
    for item in range(4):
        losses.append(literal_triplet_loss(arrays, item, [3]))
        for choice in range(0 if accumulate else item, item + 1):
            for head, is_variant, f in (
                (0, is_rotated[choice] or is_relit[choice], 1),
                (1, is_relit[choice], 1),
                (2, is_rotated[choice], factor[choice].item()),
            ):
                if is_variant:
                    losses.append(literal_variant_loss(arrays, item, head, f))
                else:
                    losses.append(literal_triplet_loss(arrays, item, [head]))
    assert len(losses) == (34 if accumulate else 16)
    meta = np.mean([literal_triplet_loss(arrays, item, [0, 1, 2, 3]) for item in range(4)])
    np.testing.assert_allclose(actual["local_loss"], np.mean(losses), rtol=1e-12)
    np.testing.assert_allclose(actual["meta_loss"], meta, rtol=1e-12)
    np.testing.assert_allclose(actual["loss"], np.mean(losses) + meta, rtol=1e-12)


def test_triplets_of_distances_equal_literal_formula() -> None:
    batch = seeded_batch()
    arrays = {key: value.numpy() for key, value in batch.items()}
    sides = [batch[f"descriptors{k}"].requires_grad_() for k in (0, 1)]
    metas = (batch["metas0"], batch["metas1"])
    excluded = excluded_of(batch)

    def loss(*descriptors: Tensor) -> Tensor:
        return triplet_loss(*descriptors, batch["valid"], excluded, metas, distance="l2")

    for item in range(2):
        expected = literal_triplet_loss(arrays, item, [0, 1, 2, 3], is_l2=True)
        assert loss(*sides)[item].item() == pytest.approx(expected, rel=1e-10)
    assert torch.autograd.gradcheck(loss, sides, fast_mode=True)
    with pytest.raises(ValueError, match=r"dot"):
        triplet_loss(*sides, batch["valid"], excluded, metas, distance="dot")


def test_gradcheck() -> None:
    batch = seeded_batch()
    names = ("descriptors0", "descriptors1", "descriptors2", "metas0", "metas1")
    changes = Changes(
        torch.tensor([True, False]), torch.tensor([False, True]), torch.tensor([0.5, 0.0]).double()
    )

    def loss(*values: Tensor) -> Tensor:
        changed = {**batch, **dict(zip(names, values, strict=True))}
        return total(changed, changes, accumulate=True)["loss"]

    inputs = [batch[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


def test_gradcheck_of_sampling() -> None:
    maps = torch.randn(1, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    keypoints = torch.tensor([[[3.2, 7.7], [31.0, 21.5], [39.9, 31.9], [0.0, 0.0]]]).double()
    assert torch.autograd.gradcheck(
        lambda x: sample_descriptors(x, keypoints, (32, 40)), maps.requires_grad_()
    )


def test_sampling_reads_the_cell_of_half_a_pixel_less() -> None:
    maps = torch.randn(1, 1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    keypoints = torch.tensor([[[20.0, 36.0], [-9.0, 3.0]]])  # cell 20/8 − ½ = 2, 36/8 − ½ = 4
    sampled = sample_descriptors(maps, keypoints, (48, 64))[0, 0]
    torch.testing.assert_close(sampled[0], F.normalize(maps[0, 0, :, 4, 2], dim=0))
    assert sampled[1].abs().max() == 0


def test_meta_factors_have_the_products_of_sampled_meta_descriptors() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 4, 16, 3, 3, generator=generator).double() for _ in range(2)]
    keypoints = [60 * torch.rand(2, 7, 2, generator=generator).double() - 5 for _ in range(2)]
    keypoints[1][0, 0] = -30  # beyond all tiles
    size = (40, 50)
    factors = sample_meta_factors(*maps, *keypoints, size)
    assert factors[0].shape == factors[1].shape == (2, 4, 7, 9)
    sampled = [sample_descriptors(m, k, size) for m, k in zip(maps, keypoints, strict=True)]
    torch.testing.assert_close(factors[0] @ factors[1].mT, sampled[0] @ sampled[1].mT)


def test_order_of_points_does_not_matter_and_images_swap() -> None:
    batch = seeded_batch(num_points=12)
    excluded = excluded_of(batch)
    names = ("descriptors0", "descriptors1")
    metas = (batch["metas0"], batch["metas1"])
    loss = triplet_loss(*(batch[n] for n in names), batch["valid"], excluded, metas)
    assert (loss > 0).all()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = triplet_loss(
        *(batch[n][:, :, order] for n in names),
        batch["valid"][:, order],
        excluded[:, order][:, :, order],
        (metas[0][:, :, order], metas[1][:, :, order]),
    )
    swapped = triplet_loss(
        *(batch[n] for n in reversed(names)), batch["valid"], excluded, metas[::-1]
    )
    torch.testing.assert_close(shuffled, loss)
    torch.testing.assert_close(swapped, loss)


def test_rotation_factor() -> None:
    angles = torch.tensor([0.0, -np.pi / 8, np.pi / 4, 1.5])
    torch.testing.assert_close(rotation_factor(angles), torch.tensor([0, 0.5, 1, 1]))


@pytest.mark.parametrize("case", ["identical", "none valid", "one valid", "one point", "zero"])
def test_gradients_stay_finite(case: str) -> None:
    batch = seeded_batch(num_points=1 if case == "one point" else 4)
    batch["valid"] = torch.ones_like(batch["valid"])
    if case == "none valid":
        batch["valid"][:] = False
    elif case == "one valid":
        batch["valid"][:, 1:] = False
    maps = torch.randn(2, 4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    if case == "identical":
        maps = torch.ones_like(maps)
    elif case == "zero":
        maps = torch.zeros_like(maps)
    maps.requires_grad_()
    for k in range(3):
        positions = batch["keypoints0" if k == 0 else "keypoints1"]
        batch[f"descriptors{k}"] = sample_descriptors(maps, positions, (48, 48))
    positions = (batch["keypoints0"], batch["keypoints1"])
    batch["metas0"], batch["metas1"] = sample_meta_factors(maps, maps, *positions, (48, 48))
    losses = total(batch, ROTATED)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert torch.isfinite(maps.grad).all()
    if case == "none valid":
        assert losses["loss"] == 0


def test_without_meta_descriptors() -> None:
    batch = seeded_batch()
    with_metas, losses = (total(batch, ROTATED, metas=metas) for metas in (True, False))
    assert losses["meta_loss"] == 0
    assert losses["loss"] == losses["local_loss"] == with_metas["local_loss"]


# ---------------------------------------------------------------- golden files


@pytest.fixture(scope="module")
def golden(golden_set: GoldenSet) -> dict[str, np.ndarray]:
    return golden_set.arrays("losses/lisrd")


class GoldenBatch:
    """The maps of the three images, which the gradients go to, and what is sampled from them."""

    def __init__(self, golden: dict[str, np.ndarray]) -> None:
        def stack(names: list[str]) -> Tensor:
            return torch.from_numpy(np.stack([golden[n] for n in names], 1)).requires_grad_()

        self.raw = [stack([f"raw_{head}{k}" for head in HEADS]) for k in range(3)]
        self.meta = [stack([f"{head}_meta_desc{k}" for head in HEADS]) for k in (0, 1)]
        size = tuple(8 * n for n in self.raw[0].shape[3:])
        self.keypoints = [torch.from_numpy(golden[f"keypoints{k}"]).flip(2) for k in range(3)]
        self.valid = torch.from_numpy(golden["valid_mask"])
        self.descriptors = [
            sample_descriptors(maps, positions, size)
            for maps, positions in zip(self.raw, self.keypoints, strict=True)
        ]
        self.metas = sample_meta_factors(*self.meta, *self.keypoints[:2], size)
        self.excluded = excluded_negatives(self.keypoints[:2], self.valid != 0, 8.0)


def test_golden_terms(golden: dict[str, np.ndarray], parity: Parity) -> None:
    batch = GoldenBatch(golden)
    is_valid = batch.valid != 0
    heads = [[d[:, h : h + 1] for d in batch.descriptors] for h in range(len(HEADS))]
    invariant = triplet_loss(*heads[3][:2], is_valid, batch.excluded)
    meta = triplet_loss(*batch.descriptors[:2], is_valid, batch.excluded, batch.metas)
    factor = torch.from_numpy(golden["rot_angle"])
    of_rotation = variant_loss(*(d[:, 0] for d in heads[0]), is_valid, factor)
    of_light = variant_loss(*(d[:, 0] for d in heads[1]), is_valid)
    for item in range(len(factor)):
        for name, key, losses in (
            ("invariant", "invar_loss", invariant),
            ("variant, rotation", "var_loss_gap_rot", of_rotation),
            ("variant, light", "var_loss_gap_one", of_light),
            ("meta", "meta_loss", meta),
        ):
            compare_value(parity, "lisrd", name, losses[item], golden[f"{key}_{item}"])

    gradient = torch.autograd.grad(invariant[0], batch.raw[0], retain_graph=True)[0][0, 3]
    expected = golden["grad_invar0_raw_rot_invar_illum_invar0"]
    compare_gradient(parity, "lisrd", "maps, invariant", gradient, expected)
    of_raw, of_meta = torch.autograd.grad(meta[0], [batch.raw[0], batch.meta[0]])
    expected = golden["grad_meta0_raw_rot_var_illum_var0"]
    compare_gradient(parity, "lisrd", "maps, meta loss", of_raw[0, 0], expected)
    expected = golden["grad_meta0_meta_rot_var_illum_var0"]
    compare_gradient(parity, "lisrd", "meta descriptors, meta loss", of_meta[0, 0], expected)


def test_golden_total(golden: dict[str, np.ndarray], parity: Parity) -> None:
    batch = GoldenBatch(golden)
    flags = ("rot_invariant", "light_invariant", "rot_angle")
    losses = lisrd_loss(
        batch.descriptors,
        batch.metas,
        batch.keypoints[:2],
        batch.valid,
        Changes(*(torch.from_numpy(golden[key]) for key in flags)),
        LISRDLossOptions(accumulate=True),
    )
    for name, key in (("local_loss", "local"), ("meta_loss", "meta"), ("loss", "loss")):
        compare_value(parity, "lisrd", f"total, {name}", losses[name], golden[f"full_{key}"])
