"""MTLDesc's network: key table, golden maps, a literal float64 forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax
from torch import Tensor, nn

from featplug.networks.mtldesc import MTLDesc, normalize
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity

UNUSED = ("heatmap4.", "conv_avg.", "transfomer.conv_more.")


def seeded_state(network: nn.Module, symmetric: bool = False) -> dict[str, Tensor]:
    """Draw weights whose logits lie about 0; optionally the same seen in a mirror."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in network.state_dict().items():
        if not value.is_floating_point():
            state[key] = value
            continue
        drawn = torch.randn(value.shape, generator=generator)
        if value.ndim >= 2:
            if symmetric and value.ndim == 4:
                drawn = (drawn + drawn.flip(-1)) / 2**0.5
            drawn *= (2 / value[0].numel()) ** 0.5
            if key.startswith("heatmap"):
                drawn = 8 * (drawn - drawn.mean())
        elif "norm.weight" in key or key.endswith(("conv_more.1.weight", "running_var")):
            drawn = 1 + 0.1 * drawn.abs()
        else:
            drawn *= 0.1
        state[key] = drawn
    return state


def literal_forward(state: dict[str, Tensor], image: np.ndarray) -> list[np.ndarray]:
    """The released forward pass, written out in float64 without torch's layers."""
    weights = {key: value.double().numpy() for key, value in state.items()}

    def conv(x: np.ndarray, name: str, step: int = 1) -> np.ndarray:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        pad = step * (weight.shape[-1] // 2)
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        out = np.tile(bias[:, None, None], (1, *x.shape[1:]))
        for u, v in np.ndindex(weight.shape[2:]):
            rows = slice(u * step, u * step + x.shape[1])
            columns = slice(v * step, v * step + x.shape[2])
            out += np.tensordot(weight[:, :, u, v], padded[:, rows, columns], axes=1)
        return out

    def pool(x: np.ndarray) -> np.ndarray:
        height, width = (n // 2 * 2 for n in x.shape[1:])
        return np.max([x[:, u:height:2, v:width:2] for u in (0, 1) for v in (0, 1)], axis=0)

    def resize(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        for axis, length in enumerate(size, start=1):
            at = ((np.arange(length) + 0.5) * x.shape[axis] / length - 0.5).clip(0)
            low = at.astype(int)
            high = np.minimum(low + 1, x.shape[axis] - 1)
            part = (at - low).reshape((-1, 1) if axis == 1 else (1, -1))
            x = x.take(low, axis) * (1 - part) + x.take(high, axis) * part
        return x

    def mean_cells(x: np.ndarray, count: int) -> np.ndarray:
        for axis in (1, 2):
            ends = np.arange(count + 1) * x.shape[axis] / count
            lows, highs = np.floor(ends[:-1]).astype(int), np.ceil(ends[1:]).astype(int)
            parts = [range(*part) for part in zip(lows, highs, strict=True)]
            x = np.stack([x.take(part, axis).mean(axis) for part in parts], axis)
        return x

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(1, keepdims=True)
        x = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def transformer(x: np.ndarray) -> np.ndarray:
        patches = x.reshape(128, 4, 16, 4, 16).transpose(1, 3, 0, 2, 4).reshape(16, -1)
        embedding = weights["transfomer.embeddings.patch_embeddings.weight"].reshape(128, -1)
        tokens = patches @ embedding.T + weights["transfomer.embeddings.patch_embeddings.bias"]
        tokens = tokens + weights["transfomer.embeddings.position_embeddings"][0]
        for index in range(12):
            layer = f"transfomer.encoder.layer.{index}"
            normed = norm(tokens, f"{layer}.attention_norm")
            query, key, value = (
                linear(normed, f"{layer}.attn.{name}").reshape(16, 8, 16).transpose(1, 0, 2)
                for name in ("query", "key", "value")
            )
            mixed = softmax(query @ key.transpose(0, 2, 1) / 4, axis=-1) @ value
            mixed = mixed.transpose(1, 0, 2).reshape(16, 128)
            tokens = tokens + linear(mixed, f"{layer}.attn.out")
            hidden = linear(norm(tokens, f"{layer}.ffn_norm"), f"{layer}.ffn.fc1")
            hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
            tokens = tokens + linear(hidden, f"{layer}.ffn.fc2")
        return norm(tokens, "transfomer.encoder.encoder_norm").T.reshape(128, 4, 4)

    maps = []
    for block in (1, 2, 3, 4):
        x = pool(maps[-1]) if maps else image
        for name in "ab":
            x = np.maximum(conv(x, f"conv{block}{name}"), 0)
        maps.append(x)
    heads = ("heatmap1", "heatmap2", "heatmap3", "heatmap3")
    logits = sum(
        weights[f"fuse_weight_{rank}"] * resize(conv(x, head), image.shape[1:])
        for rank, (x, head) in enumerate(zip(maps, heads, strict=True), start=1)
    )
    cells = maps[2].shape[1:]
    columns = [resize(x, cells) for x in maps]
    hypercolumn = np.concatenate(columns)
    attention = np.logaddexp(0, conv(hypercolumn.mean(0, keepdims=True), "scalemap"))
    pooled = mean_cells(columns[3], 64)
    gate = np.maximum(conv(pooled, "mask"), 0)
    d = conv(hypercolumn, "conv_des") + resize(transformer(pooled), cells) * resize(gate, cells)
    steps = {1: 1, 2: 6, 3: 12, 4: 18}
    d = d + np.concatenate([conv(d, f"conv_des_{rank}", step) for rank, step in steps.items()])
    return [logits, d, attention]


def test_normalize() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(normalize(image), torch.tensor([-1.0, -0.6, 1.0]))


@pytest.mark.parametrize("size", [(8, 9), (48, 32), (37, 78)])
def test_forward_equals_literal_reference(size: tuple[int, int]) -> None:
    network = MTLDesc().eval()
    network.load_state_dict(seeded_state(network))
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    expected = literal_forward(network.state_dict(), image[0].numpy())
    with torch.no_grad():
        maps = network.double()(image)
        maps32 = network.float()(image.float())
    assert maps.logits.shape == (1, 1, *size)
    assert maps.descriptors.shape == (1, 128, size[0] // 4, size[1] // 4)
    for values, values32, right in zip(maps, maps32, expected, strict=True):
        largest = np.abs(right).max()
        np.testing.assert_allclose(values[0], right, rtol=0, atol=1e-11 * largest)
        np.testing.assert_allclose(values32[0], right, rtol=0, atol=1e-5 * largest)


def test_batch_equals_single_images() -> None:
    network = MTLDesc().eval()
    network.load_state_dict(seeded_state(network))
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        batch = network(images)
        for index in range(2):
            for values, single in zip(batch, network(images[index, None]), strict=True):
                torch.testing.assert_close(values[index], single[0], rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_weight_in_use_through_dropout() -> None:
    network = MTLDesc().train()
    network.load_state_dict(seeded_state(network))
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.manual_seed(0)
    maps = network(images)
    sum(values.square().mean() for values in maps).backward()
    for name, parameter in network.named_parameters():
        if name.startswith(UNUSED):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    assert not torch.equal(network(images).descriptors, maps.descriptors)


def test_gradient_is_that_of_finite_differences() -> None:
    network = MTLDesc().eval().double()
    network.load_state_dict(seeded_state(network))
    generator = torch.Generator().manual_seed(1)
    image = (torch.rand(1, 3, 16, 16, generator=generator) * 2 - 1).double().requires_grad_()
    direction = torch.randn(image.shape, generator=generator).double()

    def loss(pixels: Tensor) -> Tensor:
        return sum(values.square().mean() for values in network(pixels))

    (gradient,) = torch.autograd.grad(loss(image), image)
    with torch.no_grad():
        step = 1e-7 * direction
        numeric = (loss(image + step) - loss(image - step)) / 2e-7
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-4, atol=0)


def test_state_dict_is_the_official_one(golden_set: GoldenSet) -> None:
    state = MTLDesc().state_dict()
    shapes = golden_set.shapes("mtldesc/state_dict.csv")
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes
    assert list(state) == list(shapes)


@pytest.mark.parametrize("image", ["img0", "img1"])
def test_golden_maps(golden_set: GoldenSet, parity: Parity, image: str) -> None:
    network = MTLDesc().eval()
    network.load_state_dict(golden_set.torch_state("mtldesc"), strict=True)
    golden = golden_set.arrays(f"mtldesc/{image}")
    pixels = normalize(torch.from_numpy(golden["network_input_u8"]).permute(2, 0, 1))[None]
    with torch.no_grad():
        maps = [values[0].numpy() for values in network(pixels)]
        maps64 = [values[0].numpy() for values in network.double()(pixels.double())]
    expected = golden["descriptor_map"].astype(np.float64)
    half = golden["descriptor_map"].dtype == np.float16
    atol, name = (2e-3 * np.abs(expected).max(), " (float16)") if half else (5e-5, "")
    parity.compare("mtldesc", "logits", maps[0][0], golden["heatmap_logit"], 3e-5)
    parity.compare("mtldesc", f"descriptor map{name}", maps[1], expected, atol)
    parity.compare("mtldesc", "attention map", maps[2][0], golden["attention"], 5e-6)
    for name, values in {
        "heatmap_logit_float64_s8": maps64[0][0, ::8, ::8],
        "descriptor_map_float64_s6": maps64[1][:, ::6, ::6],
        "attention_float64_s3": maps64[2][0, ::3, ::3],
    }.items():
        label = name.partition("_float64")[0].replace("heatmap_logit", "logits").replace("_", " ")
        parity.compare("mtldesc", f"{label} in float64", values, golden[name], 1e-9)
