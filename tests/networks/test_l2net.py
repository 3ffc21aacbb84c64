"""DOAP's network: golden files, a literal float64 evaluation of any layers, the state dict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from featplug.networks.l2net import (
    DOAP,
    Layer,
    l2_net,
    layer_names,
    normalise_patches,
    output_shape,
    transform_patches,
)
from featplug.weights.converters.doap import doap
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.weights.converters.matlab_writer import (
    localisation_layers,
    network,
    seeded_params,
    trunk_layers,
    write_mat,
)


def noise_patches(num: int, size: int, seed: int = 0) -> np.ndarray:
    """Grey values with a grain of two pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, num, size // 2, size // 2), generator=generator)
    fine = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    return 255 * fine[0].double().numpy()


def seeded_doap(num_outputs: int = 128, transformer: bool = False) -> DOAP:
    """A network with drawn weights."""
    torch.manual_seed(0)
    localisation = [
        Layer("conv", (1, 8), (7, 7), (2, 2), bias=True),
        Layer("relu"),
        Layer("maxpool", size=(2, 2), stride=(2, 2)),
        Layer("conv", (8, 6), (9, 9), bias=True),
    ]
    built = DOAP(
        l2_net(num_outputs), localisation if transformer else (), 42 if transformer else 32
    )
    for module in built.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of all that was seen
    if built.localisation is not None:
        identity = built.localisation.conv2
        nn.init.normal_(identity.weight, std=0.01)
        with torch.no_grad():
            identity.bias.copy_(torch.tensor([1.0, 0, 0, 1, 0, 0]))
    # Statistics as after a training, so that outputs depend on the patch and not on the biases.
    with torch.no_grad():
        built.train()(torch.from_numpy(noise_patches(64, built.patch_size, seed=99)).float())
    return built.eval()


# ---------------------------------------------------------------- a literal float64 evaluation


def literal_chain(layers: Sequence[dict[str, Any]], maps: np.ndarray) -> np.ndarray:
    """MatConvNet's layers by their definition, window by window, on H×W×C."""
    for layer in layers:
        if layer["kind"] == "relu":
            maps = np.maximum(maps, 0)
        elif layer["kind"] == "bn":
            gamma, beta, moments = (w.astype(float) for w in layer["weights"])
            maps = (maps - moments[:, 0]) / moments[:, 1] * gamma + beta
        elif layer["kind"] in ("conv", "pool"):
            maps = literal_windows(layer, maps)
    return maps


def literal_windows(layer: dict[str, Any], maps: np.ndarray) -> np.ndarray:
    def option(name: str, count: int, default: int) -> list[int]:
        return np.broadcast_to(layer.get(name, default), count).tolist()

    is_conv = layer["kind"] == "conv"
    filters = layer["weights"][0].astype(float) if is_conv else None
    size = filters.shape[:2] if is_conv else option("poolSize", 2, 1)
    stride, dilation = option("stride", 2, 1), option("dilate", 2, 1)
    top, bottom, left, right = option("pad", 4, 0)
    height, width = maps.shape[:2]
    rows = (height + top + bottom - dilation[0] * (size[0] - 1) - 1) // stride[0] + 1
    columns = (width + left + right - dilation[1] * (size[1] - 1) - 1) // stride[1] + 1
    out = np.zeros((rows, columns, filters.shape[3] if is_conv else maps.shape[2]))
    for i, j in np.ndindex(rows, columns):
        values = []
        for u, v in np.ndindex(*size):
            y = i * stride[0] - top + u * dilation[0]
            x = j * stride[1] - left + v * dilation[1]
            if not (0 <= y < height and 0 <= x < width):
                continue
            values.append(maps[y, x] @ filters[u, v] if is_conv else maps[y, x])
        if is_conv:
            out[i, j] = np.sum(values, axis=0)
        else:
            out[i, j] = (np.max if layer["method"] == "max" else np.mean)(values, axis=0)
    if is_conv and len(layer["weights"]) == 2:
        out += layer["weights"][1]
    return out


def literal_sampling(patch: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """AffineGridGenerator and PaddedBilinear, pixel by pixel."""
    margin = int(np.floor(len(patch) / 2 + 0.5))
    padded = np.pad(patch, margin, mode="edge")
    a1, a2, a3, a4, a5, a6 = affine
    steps = np.linspace(-1, 1, size)
    out = np.zeros((size, size))
    for i, j in np.ndindex(size, size):
        v, u = steps[i], steps[j]
        y = ((a1 * v + a2 * u + a5) / 2 + 1) / 2 * (len(padded) - 1)
        x = ((a3 * v + a4 * u + a6) / 2 + 1) / 2 * (len(padded) - 1)
        for row, column in np.ndindex(2, 2):
            row, column = int(np.floor(y)) + row, int(np.floor(x)) + column
            if 0 <= row < len(padded) and 0 <= column < len(padded):
                out[i, j] += (1 - abs(y - row)) * (1 - abs(x - column)) * padded[row, column]
    return out


def test_network_with_transformer_equals_literal_evaluation(tmp_path: Path) -> None:
    params, localisation = seeded_params(), localisation_layers()
    net = network("dagnn", trunk_layers(params), localisation)
    state = doap(write_mat(tmp_path / "net.mat", "5", {"net": net}))
    built = DOAP.from_state(state).double().eval()
    built.load_state_dict(state)
    patches = noise_patches(3, 42)
    with torch.no_grad():
        normal = normalise_patches(torch.from_numpy(patches))
        affine = built.localisation(normal).flatten(1).numpy()
        found = built(torch.from_numpy(patches)).numpy()
    for k, patch in enumerate(patches):
        patch = (patch - patch.mean()) / patch.std(ddof=1)
        expected = literal_chain(localisation, patch[:, :, None]).ravel()
        np.testing.assert_allclose(affine[k], expected, rtol=0, atol=1e-12)
        assert np.abs(expected - [1, 0, 0, 1, 0, 0]).max() > 0.1
        sampled = literal_sampling(patch, expected, 32)
        logits = literal_chain(trunk_layers(params), sampled[:, :, None]).ravel()
        np.testing.assert_allclose(found[k], logits, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [42, 41, 7])
def test_transform_of_any_patch_size(size: int) -> None:
    patches = noise_patches(4, size + 1)[:, :size, :size]
    affine = np.array([[1, 0, 0, 1, 0, 0], [0.3, 0.9, -0.8, 0.4, 0.2, -0.5],
                       [2.5, 0, 0, 2.5, 0, 0], [1, 0, 0, 1, 3, 0]], float)  # fmt: skip
    found = transform_patches(torch.from_numpy(patches), torch.from_numpy(affine), 9)
    for patch, numbers, result in zip(patches, affine, found, strict=True):
        expected = literal_sampling(patch, numbers, 9)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10)


# ---------------------------------------------------------------- golden files


@pytest.fixture(scope="module")
def golden(golden_set: GoldenSet) -> dict[str, np.ndarray]:
    return golden_set.arrays("doap/l2net")


@pytest.fixture(scope="module")
def golden_networks(
    golden_set: GoldenSet, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, torch.dtype], DOAP]:
    """The networks with 128 and 256 outputs, in float32 and float64."""
    params = golden_set.matconvnet_params()
    networks = {}
    for last in ("7", "7b"):
        file = tmp_path_factory.mktemp("doap") / "net.mat"
        state = doap(write_mat(file, "5", {"net": network("dagnn", trunk_layers(params, last))}))
        for dtype in (torch.float32, torch.float64):
            networks[last, dtype] = DOAP.from_state(state).to(dtype).eval()
            networks[last, dtype].load_state_dict(state)
    return networks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_golden_arrays(
    golden: dict[str, np.ndarray],
    golden_networks: dict[tuple[str, torch.dtype], DOAP],
    parity: Parity,
    dtype: torch.dtype,
) -> None:
    real, binary = golden_networks["7", dtype], golden_networks["7b", dtype]
    single = dtype == torch.float32
    compared = {"patches32", "patches42", "affine"}

    def compare(name: str, found: Tensor, single_tolerance: float) -> None:
        precision, atol = ("", single_tolerance) if single else (" in float64", 1e-9)
        parity.compare("doap", name + precision, found.numpy(), golden[name], atol)
        compared.add(name)

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(golden[name]).to(dtype)

    with torch.no_grad():
        patches = tensor("patches32")
        logits = real(patches)
        compare("logits", logits, 1e-4)
        compare("descriptors", F.normalize(logits), 1e-5)

        num = patches[0].numel()
        population = normalise_patches(patches) * (num / (num - 1)) ** 0.5
        compare("descriptors_population_std", F.normalize(real.trunk(population).flatten(1)), 1e-5)

        logits = binary(patches)
        compare("logits_binary", logits, 1e-4)
        certain = np.abs(golden["logits_binary"]) > 1e-3
        bits = np.unpackbits(golden["bits"], axis=1).astype(bool)
        np.testing.assert_array_equal(logits.numpy()[certain] > 0, bits[certain])
        assert certain.mean() > 0.99
        compared.add("bits")

        sampled = transform_patches(normalise_patches(tensor("patches42")), tensor("affine"), 32)
        compare("st_patches", sampled, 1e-4)
        logits = real.trunk(sampled).flatten(1)
        compare("st_logits", logits, 1e-4)
        compare("st_descriptors", F.normalize(logits), 1e-5)
    assert compared == set(golden)


# ---------------------------------------------------------------- normalisation, state, errors


def test_normalised_patches_have_unit_sample_deviation() -> None:
    patches = torch.from_numpy(noise_patches(5, 32)).float()
    normal = normalise_patches(patches)
    assert normal.mean((1, 2)).abs().max() < 1e-6
    torch.testing.assert_close(normal.std((1, 2)), torch.ones(5))
    torch.testing.assert_close(normalise_patches(3 * patches - 7), normal, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 77.0, 0.1, 1e6 / 3])
def test_patch_without_contrast_becomes_zeros(value: float) -> None:
    patches = torch.full((2, 42, 42), value)
    assert normalise_patches(patches).abs().max() == 0
    assert torch.isfinite(seeded_doap(transformer=True)(patches)).all()


def test_l2_net_is_that_of_the_paper() -> None:
    layers = l2_net()
    parameters = sum(
        p.numel() for name, p in DOAP().named_parameters() if name.startswith("trunk.conv")
    )
    assert parameters == 1_335_136
    shapes = [output_shape(layers[:stop], (1, 32, 32)) for stop in (3, 6, 9, 12, 15, 18, 20)]
    assert shapes == [
        (32, 32, 32), (32, 32, 32), (64, 16, 16), (64, 16, 16), (128, 8, 8), (128, 8, 8),
        (128, 1, 1),
    ]  # fmt: skip
    assert layer_names(layers)[-3:] == ["relu6", "conv7", "bn7"]


@pytest.mark.parametrize("transformer", [False, True])
@pytest.mark.parametrize("num_outputs", [128, 256])
def test_state_dict_rebuilds_the_network(
    tmp_path: Path, num_outputs: int, transformer: bool
) -> None:
    built = seeded_doap(num_outputs, transformer)
    save_file(built.state_dict(), tmp_path / "net.safetensors")
    state = load_file(tmp_path / "net.safetensors")
    again = DOAP.from_state(state).eval()
    again.load_state_dict(state, strict=True)
    assert again.is_binary == (num_outputs == 256)
    patches = torch.from_numpy(noise_patches(3, built.patch_size)).float()
    with torch.no_grad():
        assert torch.equal(again(patches), built(patches))


def test_every_kind_of_layer_survives_the_state_dict() -> None:
    layers = [
        Layer("conv", (1, 4), (3, 5), (2, 1), (0, 1, 2, 3), (2, 3), bias=True),
        Layer("bn", (4, 4)),
        Layer("relu"),
        Layer("maxpool", size=(2, 3), stride=(1, 2), padding=(1, 0, 0, 1)),
        Layer("avgpool", size=(3, 2), stride=(2, 1), padding=(0, 1, 1, 0)),
    ]
    assert [Layer.decode(layer.encode()) for layer in layers] == layers


def replaced(key: str, value: Any) -> dict[str, Tensor]:
    state = seeded_doap(transformer=True).state_dict()
    return {**state, key: torch.tensor(value)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "missing sizes, trunk.layers"),
        (replaced("sizes", [1, 2, 3]), "sizes are not two whole numbers"),
        (replaced("sizes", [20, 32]), "conv2 is 9 pixels wide and gets 3"),
        (replaced("sizes", [42, 64]), "gives 128×9×9 and not one descriptor"),
        (replaced("sizes", [60, 32]), "localisation network gives 6×5×5 and not 6×1×1"),
        (replaced("trunk.layers", [[9] * 14]), "layer"),
        (replaced("trunk.layers", [[0] * 14]), "layer"),
        (replaced("trunk.layers", [[0, 1]]), "layer"),
        (replaced("trunk.layers", [Layer("bn", (3, 3)).encode()]), "takes 3 channels and gets 1"),
        (replaced("sizes", [42.0, 32.0]), "sizes are not two whole numbers"),
        (replaced("trunk.layers", 3), "trunk.layers is not a list of layers"),
        (replaced("trunk.layers", [1, 2]), "trunk.layers is not a list of layers"),
        (replaced("trunk.layers", [[0.5] * 14]), "trunk.layers is not a list of layers"),
    ],
)
def test_state_of_another_network_is_refused(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DOAP.from_state(state)


def test_gradients_reach_every_weight() -> None:
    built = seeded_doap(transformer=True).train()
    patches = torch.from_numpy(noise_patches(4, 42)).float()
    built(patches).square().mean().backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        # The normalisation takes off what a bias before it adds.
        module = name.removesuffix(".bias")
        if not (name.endswith(".bias") and isinstance(built.get_submodule(module), nn.Conv2d)):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("transformer", [False, True])
def test_result_does_not_depend_on_the_batch(transformer: bool) -> None:
    built = seeded_doap(transformer=transformer)
    patches = torch.from_numpy(noise_patches(5, built.patch_size)).float()
    with torch.no_grad():
        together = built(patches)
        single = torch.cat([built(patch[None]) for patch in patches])
    # The transformer turns rounding of its six numbers into shifts of the samples.
    torch.testing.assert_close(together, single, rtol=0, atol=2e-4 if transformer else 1e-5)
