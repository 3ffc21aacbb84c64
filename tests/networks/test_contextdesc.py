"""ContextDesc's networks: golden values, interpolation, context normalisation, odd numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.extractors.contextdesc import quantise
from featplug.networks import contextdesc as module
from featplug.networks.contextdesc import (
    ContextDesc,
    context_normalise,
    interpolate_cells,
    normalise_positions,
)
from featplug.weights.converters.contextdesc import contextdesc
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.networks.contextdesc_weights import rule_variables, seeded_networks
from tests.weights.converters import tensorflow_writer as writer


@pytest.fixture(scope="module")
def rule_network(golden_set: GoldenSet, tmp_path_factory: pytest.TempPathFactory) -> ContextDesc:
    """The network with the rule's weights, through frozen graphs."""
    folder = tmp_path_factory.mktemp("graphs")
    for graph in ("loc", "aug"):
        content = writer.frozen_graph(rule_variables(golden_set, graph))
        (folder / f"{graph}.pb").write_bytes(content)
    network = ContextDesc()
    network.load_state_dict(contextdesc(folder / "loc.pb"))
    return network.eval()


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- golden files


@torch.no_grad()
def test_golden_local_features(
    golden_set: GoldenSet, rule_network: ContextDesc, parity: Parity
) -> None:
    golden = golden_set.arrays("contextdesc/local")
    patches = {
        "std": golden_set.arrays("contextdesc/sampler")["patches_nopyr"],
        "raw": golden["raw_patches"],
    }
    for name, given in patches.items():
        maps = rule_network.local.feature_maps(torch.from_numpy(given))
        logits = rule_network.matchability.logits(maps)[:, None]
        local, matchability = rule_network.describe_patches(torch.from_numpy(given))
        for array, actual, atol in (
            ("conv6", local, 1e-4),
            ("matchability", matchability[:, None], 3e-5),
            ("matchability_logit", logits, 1e-4),
        ):
            expected = golden[f"{name}_{array}"]
            parity.compare("contextdesc", f"{name}_{array}", actual.numpy(), expected, atol)


@pytest.mark.parametrize("case", ["resnet", "random"])
@torch.no_grad()
def test_golden_augmentation(
    golden_set: GoldenSet, rule_network: ContextDesc, parity: Parity, case: str
) -> None:
    golden = golden_set.arrays("contextdesc/augmented")
    cells = len(golden[f"{case}_regional_512"])
    if case == "resnet":
        regional = golden_set.arrays("contextdesc/regional")["res5c_even"]
    else:
        # The README gives 6×8 cells; another set may have others of about that shape.
        height = max(n for n in range(1, int(cells**0.5) + 1) if cells % n == 0)
        channels = golden_set.arrays("contextdesc/regional")["res5c_even"].shape[-1]
        shape = (height, cells // height, channels)
        regional = golden_set.rule.z("input:contextdesc:regional", shape, golden_set.tag)
    regional = torch.from_numpy(np.ascontiguousarray(regional.transpose(2, 0, 1)))
    positions, local = (torch.from_numpy(golden[key]) for key in ("kpt_xy", "local_feat"))
    matchability = torch.from_numpy(golden["matchability"][:, 0])
    augmented = rule_network(local, matchability, positions, regional)
    one_row = 1.5 / len(local)
    for array, actual, atol, outliers in (
        ("geometric_context", rule_network.geometric_context(matchability, positions), 1e-4, 0),
        (f"{case}_regional_512", rule_network.visual_context.cells(regional), 1e-4, 0),
        (
            f"{case}_visual_context",
            rule_network.visual_context(local, positions, regional),
            1e-4,
            one_row,
        ),
        (f"{case}_augmented", augmented, 5e-6, one_row),
        (f"{case}_augmented_uint8", quantise(augmented), 1, one_row),
    ):
        parity.compare("contextdesc", array, actual.numpy(), golden[array], atol, outliers)


def test_numbers_of_values_are_the_official_ones() -> None:
    numbers: dict[tuple[str, str], int] = {}
    for key, value in ContextDesc().state_dict().items():
        part = "counters" if "num_batches" in key else "running" if "running" in key else "learnt"
        index = key.split(".")[0], part
        numbers[index] = numbers.get(index, 0) + value.numel()
    learnt = {network: n for (network, part), n in numbers.items() if part == "learnt"}
    assert learnt == {
        "local": 1_334_560,
        "matchability": 1_053_731,
        "visual_context": 3_114_496,
        "geometric_context": 83_072,
    }
    assert [n for (_, part), n in numbers.items() if part == "running"] == [896, 384, 4864, 1024]


# ---------------------------------------------------------------- interpolation


def literal_interpolation(
    cells: np.ndarray, size: tuple[int, int], positions: np.ndarray, released: bool
) -> np.ndarray:
    """Equation 4, point by point in float64."""
    rows, columns = (np.linspace(-1, 1, n) if n > 1 else [-1] for n in size)
    grid = np.array([(x, y) for y in rows for x in columns])
    results = []
    for point in positions:
        distances = np.sqrt(((grid - point) ** 2).sum(1) + 1e-6)
        nearest = np.argsort(distances.round(12), kind="stable")[:3]
        weights = np.ones(len(nearest)) if released else 1 / distances[nearest]
        results.append(weights @ cells[nearest] / weights.sum())
    return np.array(results)


@pytest.mark.parametrize("interpolation", ["released", "inverse_distance"])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 2), (2, 1), (3, 1), (1, 40)])
def test_interpolation(interpolation: str, size: tuple[int, int]) -> None:
    cells = seeded(size[0] * size[1], 4).double()
    positions = seeded(50, 2, seed=1).double().clamp(-1, 1)
    positions[0] = torch.tensor([-1.0, -1.0])  # on a cell
    actual = interpolate_cells(cells, size, positions, interpolation)
    expected = literal_interpolation(
        cells.numpy(), size, positions.numpy(), interpolation == "released"
    )
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def test_of_equal_distances_the_first_cells_count() -> None:
    # The centre of a 4×4 grid is as far from four cells: 5, 6, 9, 10.
    cells = torch.arange(16.0)[:, None]
    at_centre = interpolate_cells(cells, (4, 4), torch.zeros(1, 2))
    assert at_centre.item() == pytest.approx((5 + 6 + 9) / 3)


def test_interpolation_in_chunks_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, positions = seeded(3, 20, 6), seeded(3, 31, 2, seed=1)
    whole = interpolate_cells(cells, (4, 5), positions)
    for image in range(3):
        single = interpolate_cells(cells[image], (4, 5), positions[image])
        torch.testing.assert_close(whole[image], single, rtol=0, atol=0)
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 7 * 20)
    torch.testing.assert_close(
        interpolate_cells(cells, (4, 5), positions), whole, rtol=0, atol=1e-6
    )


def test_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match="released or inverse_distance"):
        interpolate_cells(seeded(4, 2), (2, 2), seeded(3, 2), "bilinear")


# ---------------------------------------------------------------- context


def test_context_normalisation() -> None:
    features = seeded(2, 9, 3).double() * 5 + 7
    normalised = context_normalise(features)
    variance = features.var(1, correction=0, keepdim=True)
    expected = (features - features.mean(1, keepdim=True)) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(normalised, expected)
    assert context_normalise(features[:, :1]).abs().max() == 0


def test_positions_are_relative_to_the_centre() -> None:
    positions = normalise_positions(torch.tensor([[0.0, 0.0], [50, 40], [99, 79]]), (100, 80))
    torch.testing.assert_close(positions, torch.tensor([[-1.0, -1.0], [0, 0], [0.98, 0.975]]))


@pytest.mark.parametrize("num", [1, 2, 5])
@torch.no_grad()
def test_few_keypoints_and_cells(num: int) -> None:
    network = seeded_networks()[0]
    local, matchability = network.describe_patches(seeded(num, 32, 32))
    assert local.shape == (num, 128)
    assert (matchability.abs() < 1).all()
    for size in ((1, 1), (1, 2), (4, 3)):
        descriptors = network(
            local, matchability, seeded(num, 2), seeded(2048, *size), "inverse_distance"
        )
        assert descriptors.shape == (num, 128)
        torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(num))


@torch.no_grad()
def test_without_visual_context_only_its_term_is_missing() -> None:
    network = seeded_networks()[0]
    local, matchability, positions = seeded(6, 128), seeded(6).tanh(), seeded(6, 2)
    regional = seeded(2048, 3, 3)
    total = local + network.geometric_context(matchability, positions)
    geometric = torch.nn.functional.normalize(total)
    torch.testing.assert_close(network(local, matchability, positions, None), geometric)
    visual = network.visual_context(local, positions, regional)
    assert visual.min() >= 0
    both = torch.nn.functional.normalize(total + visual)
    torch.testing.assert_close(network(local, matchability, positions, regional), both)


@torch.no_grad()
def test_images_of_a_batch_do_not_mix() -> None:
    network = seeded_networks()[0]
    local, matchability, positions = seeded(2, 6, 128), seeded(2, 6), seeded(2, 6, 2)
    regional = seeded(2, 2048, 3, 4)
    batch = network(local, matchability, positions, regional)
    for image in range(2):
        single = network(local[image], matchability[image], positions[image], regional[image])
        torch.testing.assert_close(batch[image], single, rtol=0, atol=1e-6)


@torch.no_grad()
def test_patches_may_come_in_batches_and_any_contrast() -> None:
    network = seeded_networks()[0]
    patches = seeded(20, 32, 32)
    local, matchability = network.describe_patches(patches)
    first = network.describe_patches(100 * patches[:13] + 7)
    second = network.describe_patches(patches[13:])
    torch.testing.assert_close(torch.cat([first[0], second[0]]), local, rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), matchability, rtol=0, atol=1e-5)
    flat, _ = network.describe_patches(torch.full((1, 32, 32), 80.0))
    assert flat.isfinite().all()


def test_gradients_reach_every_weight_in_training() -> None:
    network = ContextDesc(16)
    network.train()
    local, matchability = network.describe_patches(seeded(12, 32, 32))
    descriptors = network(local, matchability, seeded(12, 2), seeded(16, 4, 4))
    (descriptors * seeded(12, 128)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_network_is_built_from_its_state() -> None:
    state = ContextDesc(1280).state_dict()
    assert ContextDesc.from_state(state).visual_context.conv1.in_features == 1280
    with pytest.raises(ValueError, match=r"visual_context\.conv1\.weight"):
        ContextDesc.from_state({"conv1.weight": torch.zeros(3)})


def test_quantisation_is_the_released_one() -> None:
    values = torch.tensor([-1.0, -0.5, -0.001, 0.0, 0.0078, 0.999, 1.0])
    assert quantise(values).tolist() == [0, 64, 127, 128, 128, 255, 0]
