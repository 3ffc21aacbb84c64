"""LISRD's networks: key table, golden maps, literal float64 forward passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featplug.networks.lisrd import HEADS, LISRD, LISRDSIFT
from featplug.networks.netvlad import NetVLAD
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.networks.test_d2net import seeded_image

DENSE = ["dense_div", "dense_nodiv", "dense_odd"]


def seeded_state(network: nn.Module) -> dict[str, Tensor]:
    """Draw weights that keep activations at order 1, with batch statistics and any signs."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in network.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator)
        if key.endswith("running_var"):
            drawn = 0.5 + drawn.square()
        elif value.ndim == 4:
            drawn *= (2 / value[0].numel()) ** 0.5 if "vlad" not in key else 5
        state[key] = drawn if value.is_floating_point() else value
    return state


def seeded_network() -> LISRD:
    network = LISRD()
    network.load_state_dict(seeded_state(network))
    return network.eval()


# ---------------------------------------------------------------- literal float64 references


def literal_netvlad(state: dict[str, np.ndarray], name: str, descriptors: np.ndarray) -> np.ndarray:
    """1024 of P×128 descriptors, by the definition: residuals weighted by soft assignment."""
    unit = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    logits = unit @ state[f"{name}.conv.weight"][:, :, 0, 0].T + state[f"{name}.conv.bias"]
    assignment = np.exp(logits - logits.max(1, keepdims=True))
    assignment /= assignment.sum(1, keepdims=True)
    clusters = []
    for k, centre in enumerate(state[f"{name}.centroids"]):
        residual = sum(a * (x - centre) for a, x in zip(assignment[:, k], unit, strict=True))
        clusters.append(residual / np.linalg.norm(residual))
    return np.concatenate(clusters) / np.sqrt(len(clusters))


def literal_forward(state: dict[str, np.ndarray], image: np.ndarray) -> list[np.ndarray]:
    """The four maps of 3×H×W, written out without torch's layers."""

    def layer(x: np.ndarray, conv: str, norm: str) -> np.ndarray:
        weight, bias = state[f"{conv}.weight"], state[f"{conv}.bias"]
        height, width = x.shape[1:]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        out = np.tile(bias[:, None, None], (1, height, width))
        for u, v in np.ndindex(3, 3):
            window = padded[:, u : u + height, v : v + width]
            out += np.tensordot(weight[:, :, u, v], window, axes=1)
        out = np.maximum(out, 0) - state[f"{norm}.running_mean"][:, None, None]
        out /= np.sqrt(state[f"{norm}.running_var"] + 1e-5)[:, None, None]
        return out * state[f"{norm}.weight"][:, None, None] + state[f"{norm}.bias"][:, None, None]

    def pool(x: np.ndarray) -> np.ndarray:
        x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
        return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4

    x = image
    for block in "1234":
        for index in "12":
            x = layer(x, f"_backbone._conv{block}_{index}", f"_backbone._bn{block}_{index}")
        x = pool(x) if block != "4" else x
    maps = []
    for rotation, illumination in (("", ""), ("in", ""), ("", "in"), ("in", "in")):
        name = f"illum_{illumination}var_rot_{rotation}var"
        hidden = layer(x, f"conv_{name}_1", f"bn_{name}_1")
        last = np.tensordot(state[f"conv_{name}_2.weight"][:, :, 0, 0], hidden, axes=1)
        maps.append(last + state[f"conv_{name}_2.bias"][:, None, None])
    return maps


def literal_resize(x: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Bilinear resize of one axis in which the borders stay where they are."""
    at = np.clip((np.arange(length) + 0.5) * x.shape[axis] / length - 0.5, 0, None)
    low = at.astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    weight = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
    return x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight


@pytest.mark.parametrize("size", [(24, 24), (31, 49), (56, 72)])
def test_forward_equals_literal_reference(size: tuple[int, int]) -> None:
    network = seeded_network()
    image = seeded_image(*size)
    state = {key: value.double().numpy() for key, value in network.state_dict().items()}
    expected = literal_forward(state, image.double().numpy())
    with torch.no_grad():
        maps, metas = network(image[None])
    assert metas.shape == (1, 4, 1024, 3, 3)
    for index, head in enumerate(HEADS):
        largest = np.abs(expected[index]).max()
        np.testing.assert_allclose(maps[index][0], expected[index], rtol=0, atol=1e-5 * largest)
        tiles = expected[index]
        height, width = (side // 3 for side in tiles.shape[1:])
        for axis, length in ((1, 3 * height), (2, 3 * width)):
            tiles = literal_resize(tiles, axis, length)
        for row, column in np.ndindex(3, 3):
            tile = tiles[:, row * height :, column * width :][:, :height, :width].reshape(128, -1)
            meta = literal_netvlad(state, f"vlad_{head}", tile.T)
            np.testing.assert_allclose(metas[0, index, :, row, column], meta, rtol=0, atol=1e-5)


@pytest.mark.parametrize("official_reshape", [False, True])
def test_sift_variant_equals_literal_reference(official_reshape: bool) -> None:
    network = LISRDSIFT(official_reshape)
    network.load_state_dict(seeded_state(network))
    state = {key: value.double().numpy() for key, value in network.state_dict().items()}
    generator = np.random.default_rng(0)
    descriptors = generator.integers(0, 256, (2, 40, 128)).astype(float)
    tiles = generator.choice([0, 1, 2, 5, 6, 8], 40)
    with torch.no_grad():
        metas = network(torch.from_numpy(descriptors).float()[None], torch.from_numpy(tiles)[None])[
            0
        ].numpy()
    assert metas.shape == (2, 1024, 3, 3)
    for index, name in enumerate(("vlad_sift", "vlad_upright_sift")):
        for tile in range(9):
            found = descriptors[index, tiles == tile]
            if official_reshape:
                found = found.reshape(128, -1).T
            meta = literal_netvlad(state, name, found) if len(found) else np.ones(1024)
            np.testing.assert_allclose(metas[index, :, tile // 3, tile % 3], meta, atol=1e-5)


def test_netvlad_keeps_sets_apart() -> None:
    vlad = NetVLAD()
    vlad.load_state_dict(seeded_state(vlad))
    sets = torch.randn(3, 7, 128, generator=torch.Generator().manual_seed(1))
    together = vlad(sets)
    for index in range(3):
        torch.testing.assert_close(together[index], vlad(100 * sets[index : index + 1])[0])


@pytest.mark.parametrize("official_reshape", [False, True])
def test_sift_variant_keeps_images_apart_and_ignores_padding(official_reshape: bool) -> None:
    network = LISRDSIFT(official_reshape)
    network.load_state_dict(seeded_state(network))
    descriptors = torch.rand(2, 2, 30, 128, generator=torch.Generator().manual_seed(0))
    tiles = torch.arange(60).view(2, 30) % 7
    tiles[1, 20:] = -1
    with torch.no_grad():
        together = network(descriptors, tiles)
        for index, num in enumerate((30, 20)):
            alone = network(descriptors[index : index + 1, :, :num], tiles[index : index + 1, :num])
            torch.testing.assert_close(together[index], alone[0])


# ---------------------------------------------------------------- modes and limits


def test_batch_equals_singles_with_and_without_gradients() -> None:
    network = seeded_network()
    images = torch.stack([seeded_image(40, 48, seed) for seed in (0, 1)])
    maps, metas = network(images)
    assert all(features.requires_grad for features in (*maps, metas))
    with torch.no_grad():
        for index in range(2):
            given = images[index : index + 1].clone()
            single_maps, single_metas = network(given)
            assert torch.equal(given[0], images[index])  # in place, but not on the input
            torch.testing.assert_close(single_metas[0], metas[index], rtol=0, atol=1e-5)
            for single, batch in zip(single_maps, maps, strict=True):
                torch.testing.assert_close(single[0], batch[index], rtol=0, atol=2e-4)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_reach_every_weight(training: bool) -> None:
    network = seeded_network().train(training)
    maps, metas = network(seeded_image(32, 40)[None])
    target = torch.randn(metas.shape, generator=torch.Generator().manual_seed(0))
    (sum(features.square().mean() for features in maps) + (metas * target).sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_training_updates_batch_statistics_without_gradients_too() -> None:
    network = seeded_network().train()
    before = network.state_dict()["_backbone._bn1_1.running_mean"].clone()
    with torch.no_grad():
        network(seeded_image(32, 40)[None])
    assert not torch.equal(network.state_dict()["_backbone._bn1_1.running_mean"], before)


def test_gradients_of_the_sift_variant() -> None:
    network = LISRDSIFT()
    descriptors = 255 * torch.rand(1, 2, 30, 128, generator=torch.Generator().manual_seed(0))
    metas = network(descriptors, torch.arange(30)[None] % 7)
    (metas * torch.randn(metas.shape)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_image_without_a_cell_for_each_tile_is_refused() -> None:
    with pytest.raises(ValueError, match=r"24×24.*90×23"):
        seeded_network()(torch.zeros(1, 3, 23, 90))


# ---------------------------------------------------------------- golden files


def test_state_dict_is_the_official_one(golden_set: GoldenSet) -> None:
    state = LISRD().state_dict()
    shapes = golden_set.shapes("lisrd/state_dict.csv")
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes
    assert list(state) == list(shapes)


def test_sift_variant_has_the_official_parameters() -> None:
    state = LISRDSIFT().state_dict()
    assert list(state) == [
        f"{vlad}.{key}"
        for vlad in ("vlad_sift", "vlad_upright_sift")
        for key in ("centroids", "conv.weight", "conv.bias")
    ]
    assert sum(value.numel() for value in state.values()) == 4112


@pytest.mark.parametrize("name", DENSE)
def test_golden_maps(golden_set: GoldenSet, parity: Parity, name: str) -> None:
    golden = golden_set.arrays(f"lisrd/{name}")
    network = LISRD().eval()
    network.load_state_dict(golden_set.torch_state("lisrd"), strict=True)
    image = torch.from_numpy(golden["image"]).permute(2, 0, 1).double()[None] / 255
    with torch.no_grad():
        maps, metas = network(image.float())
        maps64, metas64 = network.double()(image)
    compared = 0
    for index, head in enumerate(HEADS):
        for key, array, actual, atol in (
            (f"raw_{head}", "descriptor map", maps[index][0], 5e-5),
            (f"meta_{head}", "meta descriptors", metas[0, index], 2e-5),
            (
                f"raw_{head}_float64_s4",
                "descriptor map in float64",
                maps64[index][0, :, ::4, ::4],
                1e-9,
            ),
            (
                f"meta_{head}_float64_s16",
                "meta descriptors in float64",
                metas64[0, index, ::16],
                1e-9,
            ),
        ):
            if key in golden:
                parity.compare("lisrd", array, actual.numpy(), golden[key], atol)
                compared += 1
    assert compared == sum(key.startswith(("raw_", "meta_rot")) for key in golden)
