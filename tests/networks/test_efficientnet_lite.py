"""EfficientNet-Lite0: values of the package that ships its weights, padding, odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featplug.networks.efficientnet_lite import EfficientNetLite0, pad_same
from featplug.weights.converters.efficientnet import efficientnet_lite0, packaged_file
from tests.scenes.pictures import textured_image

# Of efficientnet-lite-pytorch 0.1.0 with the packaged weights, its padding that of the size given:
# the mean of the map, and the cell in row 1 and column 2 of three channels.
CHANNELS = [439, 958, 1259]
GOLDEN = {
    (96, 128): (0.133590, 5.75757, 5.16472, 6.0),
    (97, 130): (0.116051, 0.87633, 0.0, 4.8078),
}


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    try:
        path = packaged_file()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    network = EfficientNetLite0()
    network.load_state_dict(efficientnet_lite0(path))
    return network.eval()


def colours(height: int, width: int) -> torch.Tensor:
    """A coloured textured image 3×height×width, grey values 0 to 255."""
    grey = textured_image(3, width=width, height=height)
    return torch.from_numpy(np.stack([grey, grey[::-1], grey[:, ::-1]]).astype(np.float32))


@torch.no_grad()
@pytest.mark.parametrize("size", GOLDEN)
def test_golden_map(network: EfficientNetLite0, size: tuple[int, int]) -> None:
    features = network(network.standardise(colours(*size))[None])[0]
    assert features.shape == (1280, -(-size[0] // 32), -(-size[1] // 32))
    mean, *values = GOLDEN[size]
    assert float(features.mean()) == pytest.approx(mean, rel=1e-4)
    np.testing.assert_allclose(features[CHANNELS, 1, 2], values, atol=1e-4)


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "before", "after"),
    [
        (8, 3, 2, 0, 1),
        (7, 3, 2, 1, 1),
        (8, 5, 2, 1, 2),
        (7, 5, 2, 2, 2),
        (7, 5, 1, 2, 2),
        (1, 3, 2, 1, 1),
    ],
)
def test_same_padding(length: int, kernel: int, stride: int, before: int, after: int) -> None:
    padded = pad_same(torch.ones(1, 1, length, 4), kernel, stride)[0, 0, :, 2]
    assert padded.tolist() == [0.0] * before + [1.0] * length + [0.0] * after


@torch.no_grad()
def test_smallest_image() -> None:
    assert EfficientNetLite0().eval()(torch.zeros(1, 3, 1, 1)).shape == (1, 1280, 1, 1)
