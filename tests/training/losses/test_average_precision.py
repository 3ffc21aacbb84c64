"""DOAP's loss: golden values, exact AP by enumeration, gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.training.data.patch_batches import affinity_of_groups
from featplug.training.losses.average_precision import (
    average_precision_loss,
    euclidean_distances,
    hamming_distances,
    relaxed_average_precision,
    squared_distances,
    tie_aware_average_precision,
)
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity

GROUPS = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3])


def seeded_features(dim: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(GROUPS), dim, generator=generator, dtype=torch.float64)


def literal_histogram_ap(distances: np.ndarray, affinity: np.ndarray, width: float) -> list[float]:
    """The formula for one query and bin at a time."""
    precisions = []
    for query, row in enumerate(affinity):
        counts = np.zeros((2, round(distances.max() / width) + 3))
        for item, relation in enumerate(row):
            if item == query or relation == 0:
                continue
            for d in range(counts.shape[1]):
                part = max(0.0, 1 - abs(distances[query, item] - d * width) / width)
                counts[0, d] += part
                counts[1, d] += part * (relation > 0)
        total, before, before_positive = 0.0, 0.0, 0.0
        for count, positive in counts.T:
            ratio = (2 * before_positive + positive + 1) / (2 * before + count + 1)
            total += positive * ratio
            before, before_positive = before + count, before_positive + positive
        num_positives = ((row > 0) & (np.arange(len(row)) != query)).sum()
        precisions.append(total / max(num_positives, 1))
    return precisions


@pytest.mark.parametrize("num_bins", [1, 7, 25])
def test_equals_literal_formula(num_bins: int) -> None:
    affinity = affinity_of_groups(GROUPS)
    affinity[0, 5] = affinity[5, 0] = affinity[3, 1] = 0
    distances = squared_distances(seeded_features())
    precision, has_positives = relaxed_average_precision(distances, affinity, num_bins, 4.0)
    expected = literal_histogram_ap(distances.numpy(), affinity.numpy(), 4 / num_bins)
    np.testing.assert_allclose(precision, expected, atol=1e-12)
    assert has_positives.tolist() == [True] * 7 + [False]


def test_both_ends_of_the_histogram() -> None:
    # The positive of query 0 is at the last centre exactly, after a distractor at the first.
    distances = torch.tensor([[9.0, 4.0, 0.0], [4.0, 9.0, 4.0], [0.0, 4.0, 9.0]]).double()
    affinity = torch.tensor([[0, 1, -1], [1, 0, -1], [-1, -1, 0]])
    precision, _ = relaxed_average_precision(distances.requires_grad_(), affinity, 4, 4.0)
    # For query 1 both are in the last bin: (0 + 1 + 1) / (0 + 2 + 1) of the simplified form.
    torch.testing.assert_close(precision, torch.tensor([2 / 4, 2 / 3, 0.0]).double())
    gradient = torch.autograd.grad(precision[0], distances)[0]
    nearer = distances.detach().clone()
    nearer[0, 1] -= 1e-6
    moved, _ = relaxed_average_precision(nearer, affinity, 4, 4.0)
    slope = (precision[0] - moved[0]) / 1e-6
    torch.testing.assert_close(gradient[0, 1], slope.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("distance", ["squared", "euclidean", "hamming"])
def test_gradcheck(distance: str) -> None:
    features = seeded_features().requires_grad_()
    affinity = affinity_of_groups(GROUPS)

    def loss(x: Tensor) -> Tensor:
        return average_precision_loss(x, affinity, distance, num_bins=6)

    assert torch.autograd.gradcheck(loss, features)


def test_an_unknown_distance() -> None:
    with pytest.raises(ValueError, match=r"cosine.*squared, euclidean or hamming"):
        average_precision_loss(seeded_features(), affinity_of_groups(GROUPS), "cosine")


def test_batch_equals_singles_and_order_does_not_matter() -> None:
    affinity = affinity_of_groups(GROUPS)
    order = torch.randperm(len(GROUPS), generator=torch.Generator().manual_seed(1))
    features = seeded_features()
    pair = torch.stack([features, features.flip(0)])
    distances = squared_distances(pair)
    both, _ = relaxed_average_precision(distances, affinity.expand(2, -1, -1), 10, 4.0)
    for index in range(2):
        single, _ = relaxed_average_precision(distances[index], affinity, 10, 4.0)
        torch.testing.assert_close(both[index], single)
    loss = average_precision_loss(features, affinity)
    shuffled = average_precision_loss(features[order], affinity[order][:, order])
    torch.testing.assert_close(shuffled, loss)


def test_perfect_ranking() -> None:
    # Groups at opposite ends of the space; the histogram of one bin per end is exact.
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    affinity = affinity_of_groups(torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(average_precision_loss(features, affinity), torch.tensor(-1.0))


@pytest.mark.parametrize("distance", ["squared", "euclidean", "hamming"])
@pytest.mark.parametrize("case", ["identical", "no positives", "all ignored", "one item", "zero"])
def test_gradients_stay_finite(distance: str, case: str) -> None:
    features = torch.ones(1 if case == "one item" else 5, 8) * (case != "zero")
    affinity = torch.ones(len(features), len(features), dtype=torch.int8)
    if case == "no positives":
        affinity.neg_()
    elif case == "all ignored":
        affinity.zero_()
    features.requires_grad_()
    loss = average_precision_loss(features, affinity, distance)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()
    if case in ("no positives", "all ignored", "one item"):
        assert loss == 0
        assert features.grad.abs().max() == 0


@pytest.mark.parametrize("seed", range(4))
def test_tie_aware_average_precision_is_the_mean_over_orders(seed: int) -> None:
    generator = np.random.default_rng(seed)
    distances = generator.integers(0, 3, 6)
    affinity = generator.choice([-1, 0, 1, 1], 6)
    precisions = []
    for order in itertools.permutations(np.flatnonzero(affinity)):
        if (np.diff(distances[list(order)]) >= 0).all():
            hits = affinity[list(order)] > 0
            ranks = np.flatnonzero(hits) + 1
            precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    actual = tie_aware_average_precision(torch.from_numpy(distances), torch.from_numpy(affinity))
    np.testing.assert_allclose(actual, np.mean(precisions), rtol=1e-12)


def test_tie_aware_average_precision_in_rows() -> None:
    distances = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    affinity = torch.tensor([[-1, 1, 1], [1, 1, 1], [-1, -1, 0]])
    actual = tie_aware_average_precision(distances, affinity)
    torch.testing.assert_close(actual, torch.tensor([(1 / 2 + 2 / 3) / 2, 1, 0]).double())


# ---------------------------------------------------------------- golden files


@pytest.fixture(scope="module")
def golden(golden_set: GoldenSet) -> dict[str, np.ndarray]:
    return golden_set.arrays("doap/ap_loss")


def test_golden_ties(golden: dict[str, np.ndarray], parity: Parity) -> None:
    names = [key.removesuffix("_relevant") for key in golden if key.endswith("_relevant")]
    assert len(names) > 1
    for name in names:
        affinity = torch.from_numpy(2 * golden[f"{name}_relevant"] - 1)
        actual = tie_aware_average_precision(
            torch.from_numpy(golden[f"{name}_distances"]), affinity
        )
        expected = golden[f"{name}_ap"][None]
        parity.compare("losses: doap", "exact AP with ties", actual[None], expected, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_golden_relaxed_ap(
    golden: dict[str, np.ndarray], parity: Parity, dtype: torch.dtype
) -> None:
    affinity = torch.from_numpy(golden["affinity"])
    atol, precision_name = (1e-10, "float64") if dtype == torch.float64 else (1e-6, "float32")
    names = [key.removesuffix("_mean_ap") for key in golden if key.endswith("_mean_ap")]
    names = [name for name in names if not name.endswith("_grad")]
    assert len(names) > 1
    for name in names:
        kind, variant, bins = name.split("_")
        num_bins = int(bins.removeprefix("b"))
        features = torch.from_numpy(golden["features"]).to(dtype)
        distance = "hamming" if kind == "binary" else {"euclid": "euclidean"}.get(variant, variant)
        compute, largest = {
            "euclidean": (euclidean_distances, 2),
            "squared": (squared_distances, 4),
            "hamming": (hamming_distances, features.shape[1]),
        }[distance]
        actual, has_positives = relaxed_average_precision(
            compute(features), affinity, num_bins, largest
        )
        actual = torch.where(has_positives, actual, -1)
        label = f"{kind} {variant}, {precision_name}"
        parity.compare("losses: doap", f"AP, {label}", actual, golden[f"{name}_ap"], atol)
        features.requires_grad_()
        loss = average_precision_loss(features, affinity, distance, num_bins)
        loss.backward()
        expected = golden[f"{name}_mean_ap"][None]
        parity.compare("losses: doap", f"mean AP, {label}", -loss.detach()[None], expected, atol)
        expected = golden[f"{name}_grad_mean_ap"]
        parity.compare("losses: doap", f"gradient, {label}", -features.grad, expected, atol)
        expected = golden[f"{name}_grad_fd"]
        parity.compare(
            "losses: doap", f"gradient by differences, {label}", -features.grad, expected, 1e-6
        )
