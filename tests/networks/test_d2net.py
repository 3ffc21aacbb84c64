"""D2-Net's network: key table, golden feature maps, a literal float64 forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featplug.networks.d2net import (
    CELL_CENTRE,
    CELL_SIZE,
    TRAINING_CELL_SIZE,
    D2Net,
    normalize_caffe,
)
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity


def seeded_state(network: nn.Module, symmetric: bool = False) -> dict[str, Tensor]:
    """Draw weights that respond to texture; optionally the same seen in a mirror."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in network.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator)
        if value.ndim == 4:
            drawn = drawn + drawn.flip(-1) if symmetric else drawn
            drawn -= drawn.mean((2, 3), keepdim=True)  # else one channel is strongest everywhere
            drawn *= (2 / value[0].numel()) ** 0.5 / drawn.std()
        else:
            drawn *= 5
        state[key] = drawn
    return state


def seeded_image(height: int, width: int, seed: int = 0) -> Tensor:
    """Draw an image 3×height×width in [0, 1] of noise with a grain of two pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 3, height // 2 + 2, width // 2 + 2), generator=generator)
    return nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]


def official_state(shared: Path) -> dict[str, Tensor]:
    """ImageNet weights in the authors' container, rounded to float16."""
    file = shared / "weights" / "vgg16_imagenet_d2net_fp16.pth"
    return torch.load(file, weights_only=True)["model"]


def literal_forward(state: dict[str, Tensor], image: np.ndarray, use_relu: bool) -> np.ndarray:
    """Table 4 of the paper's supplement, written out in float64 without torch's layers."""

    def conv(x: np.ndarray, index: int, step: int = 1, relu: bool = True) -> np.ndarray:
        name = f"dense_feature_extraction.model.{index}"
        weight, bias = state[f"{name}.weight"].double().numpy(), state[f"{name}.bias"].double()
        padded = np.pad(x, ((0, 0), (step, step), (step, step)))
        height, width = x.shape[1:]
        out = np.tile(bias.numpy()[:, None, None], (1, height, width))
        for u in range(3):
            for v in range(3):
                window = padded[:, u * step : u * step + height, v * step : v * step + width]
                out += np.tensordot(weight[:, :, u, v], window, axes=1)
        return np.maximum(out, 0) if relu else out

    def corners(x: np.ndarray, stride: int) -> list[np.ndarray]:
        height = (x.shape[1] - 2) // stride * stride + 1
        width = (x.shape[2] - 2) // stride * stride + 1
        return [
            x[:, u : u + height : stride, v : v + width : stride] for u in (0, 1) for v in (0, 1)
        ]

    x = np.max(corners(conv(conv(image, 0), 2), stride=2), axis=0)
    x = np.max(corners(conv(conv(x, 5), 7), stride=2), axis=0)
    x = np.mean(corners(conv(conv(conv(x, 10), 12), 14), stride=1), axis=0)
    return conv(conv(conv(x, 17, 2), 19, 2), 21, 2, relu=use_relu)


def test_normalize_caffe() -> None:
    image = torch.tensor([255, 51, 0]).view(3, 1, 1) / 255  # red, green, blue
    expected = torch.tensor([0 - 103.939, 51 - 116.779, 255 - 123.68])
    torch.testing.assert_close(normalize_caffe(image).flatten(), expected)
    assert image[0] == 1  # the input is left alone


@pytest.mark.parametrize(
    ("size", "use_relu"),
    [((8, 8), True), ((11, 30), False), ((33, 47), True), ((36, 25), False)],
)
def test_forward_equals_literal_reference(size: tuple[int, int], use_relu: bool) -> None:
    network = D2Net(use_relu)
    network.load_state_dict(seeded_state(network))
    image = normalize_caffe(seeded_image(*size))
    expected = literal_forward(network.state_dict(), image.double().numpy(), use_relu)
    with torch.no_grad():
        features = network(image[None])[0].numpy()
    assert features.shape == (512, size[0] // 4 - 1, size[1] // 4 - 1)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_cell_centres_lie_at_3_5() -> None:
    # With mirror-symmetric kernels, cell j mirrors to cell w-1-j when the width is a multiple of
    # 4: j's centre c + 4j and its mirror image add up to the width minus 1 for c = 3.5 only.
    network = D2Net()
    network.load_state_dict(seeded_state(network, symmetric=True))
    images = normalize_caffe(seeded_image(20, 40))[None]
    with torch.no_grad():
        features, mirrored = network(images), network(images.flip(-1))
    torch.testing.assert_close(mirrored.flip(-1), features, rtol=1e-4, atol=1e-2)
    assert features.shape[-1] == 9
    last = CELL_CENTRE + CELL_SIZE * (features.shape[-1] - 1)
    assert CELL_CENTRE + last == images.shape[-1] - 1


def test_training_architecture_is_vgg16() -> None:
    network = D2Net(use_relu=False, cell_size=TRAINING_CELL_SIZE)
    state = seeded_state(network)
    network.load_state_dict(state)
    assert list(state) == list(D2Net().state_dict())
    images = normalize_caffe(seeded_image(34, 44))[None]
    expected, last = images, len(state) // 2 - 1
    pools = (1, 3, 6)  # after conv1_2, conv2_2 and conv3_3
    for number, (weight, bias) in enumerate(zip(*[iter(state.values())] * 2, strict=True)):
        expected = nn.functional.conv2d(expected, weight, bias, padding=1)
        expected = expected if number == last else expected.relu()
        expected = nn.functional.max_pool2d(expected, 2) if number in pools else expected
    assert expected.shape == (1, 512, 4, 5)
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-3)


def test_gradients_reach_every_weight() -> None:
    network = D2Net(use_relu=False)
    network.load_state_dict(seeded_state(network))
    network(normalize_caffe(seeded_image(16, 16))[None]).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_state_dict_is_the_official_one(golden_set: GoldenSet) -> None:
    state = D2Net().state_dict()
    shapes = golden_set.shapes("d2net/state_dict.csv")
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes
    assert list(state) == list(shapes)


@pytest.mark.parametrize("name", ["ots_norelu", "rule_relu"])
def test_golden_feature_map(
    request: pytest.FixtureRequest, golden_set: GoldenSet, parity: Parity, name: str
) -> None:
    golden = golden_set.arrays(f"d2net/dense_{name}")
    network = D2Net(use_relu=name == "rule_relu")
    if name == "rule_relu":
        state = golden_set.torch_state("d2net")
    else:
        state = official_state(request.getfixturevalue("shared"))
    network.load_state_dict(state, strict=True)
    image = torch.from_numpy(golden["image"]).permute(2, 0, 1).double() / 255
    image = normalize_caffe(image[None]).float()
    expected = golden["dense_features"].astype(np.float32) * golden["dense_scale"]
    with torch.no_grad():
        features = network(image)[0].numpy()
        features64 = network.double()(image.double())[0, :, ::4, ::4].numpy()
    largest = np.nanmax(np.abs(expected))
    parity.compare("d2net", f"feature map, {name}", features, expected, atol=1e-3 * largest)
    expected = golden["dense_features_float64_s4"]
    parity.compare(
        "d2net", f"feature map in float64, {name}", features64, expected, atol=1e-7 * largest
    )
