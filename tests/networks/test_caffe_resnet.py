"""The Caffe ResNet-50: golden maps, TensorFlow's padding, sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.networks.caffe_resnet import MEAN_RGB, CaffeResNet50, max_pool_same
from featplug.networks.conv_bn import ConvBN
from featplug.weights.converters.contextdesc import regional
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.networks.contextdesc_weights import rule_variables, seeded_networks
from tests.weights.converters import tensorflow_writer as writer


def prepared(image: np.ndarray) -> Tensor:
    """H×W×3 uint8 as the network wants it."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() - torch.tensor(MEAN_RGB).view(
        3, 1, 1
    )


@pytest.fixture(scope="module")
def rule_network(golden_set: GoldenSet, tmp_path_factory: pytest.TempPathFactory) -> CaffeResNet50:
    """The network with the rule's weights, through a frozen graph."""
    path = tmp_path_factory.mktemp("graph") / "reg.pb"
    path.write_bytes(writer.frozen_graph(rule_variables(golden_set, "reg")))
    network = CaffeResNet50()
    network.load_state_dict(regional(path))
    return network.eval()


@pytest.mark.parametrize("size", ["even", "odd"])
@torch.no_grad()
def test_golden_map(
    golden_set: GoldenSet, rule_network: CaffeResNet50, parity: Parity, size: str
) -> None:
    golden = golden_set.arrays("contextdesc/regional")
    features = rule_network(prepared(golden[f"image_{size}"]))[0].permute(1, 2, 0).numpy()
    parity.compare("contextdesc", f"res5c, {size}", features, golden[f"res5c_{size}"], 2e-2)


def test_number_of_values_is_the_official_one() -> None:
    state = CaffeResNet50().state_dict()
    values = [value.numel() for key, value in state.items() if "num_batches" not in key]
    assert (len(values), sum(values)) == (266, 23_561_216)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 8), (32, 33), (65, 40)])
@torch.no_grad()
def test_any_size_gives_a_map(size: tuple[int, int]) -> None:
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    features = seeded_networks()[1](image)
    assert features.shape == (1, 2048, -(-size[0] // 32), -(-size[1] // 32))
    assert features.isfinite().all()
    assert (features < 0).any()  # before the last rectification


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (5, 6), (6, 7), (9, 9), (4, 4)])
def test_pooling_is_tensorflows(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(1))
    padding = []
    for n in reversed(size):
        total = max((-(-n // 2) - 1) * 2 + 3 - n, 0)
        padding += [total // 2, total - total // 2]
    expected = F.max_pool2d(F.pad(x, padding, value=-torch.inf), 3, 2)
    assert expected.shape[2:] == (-(-size[0] // 2), -(-size[1] // 2))
    torch.testing.assert_close(max_pool_same(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_folded_normalisation_equals_the_layers_one_by_one(bias: bool, affine: bool) -> None:
    torch.manual_seed(0)
    layer = ConvBN(3, 5, 3, stride=2, padding=1, bias=bias, affine=affine).double()
    x = torch.randn(4, 3, 9, 8, dtype=torch.float64)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    for _ in range(5):
        layer(x * 2 + 1)  # trains the running statistics
    layer.eval()
    plain = F.conv2d(x, layer.weight, layer.bias, 2, 1)
    torch.testing.assert_close(layer(x), layer.bn(plain))
    assert not torch.allclose(layer(x), plain)
