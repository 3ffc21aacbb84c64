"""NetVLAD's MATLAB files: converted, and the network compared with its formulas written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.networks.netvlad import VGG16_CHANNELS, VGG16NetVLAD
from featplug.weights.converters.netvlad import netvlad
from tests.weights.converters.matlab_writer import VERSIONS, write_mat

CHANNELS = tuple({0: 0, 64: 4, 128: 5, 256: 6, 512: 7}[width] for width in VGG16_CHANNELS)
DIM, CLUSTERS, OUTPUTS = 7, 3, 10
MEAN_RGB = np.array([123.68, 116.779, 103.939], np.float32)


def released_layers(seed: int = 0) -> list[dict[str, Any]]:
    """The layers of a released file, in order, with few channels."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        fan_in = np.prod(shape[:-1])
        return rng.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)

    def conv(name: str, *shape: int) -> dict[str, Any]:
        bias = 0.1 * draw(1, shape[-1])
        return {"type": "conv", "name": name, "weights": [draw(*shape), bias], "pad": np.ones(4)}

    layers: list[dict[str, Any]] = []
    previous = 3
    for i, width in enumerate(CHANNELS):
        if width == 0:
            layers.append({"type": "pool", "name": f"pool{i}", "method": "max", "pool": [2.0, 2.0]})
            continue
        layers.append(conv(f"conv{i}", 3, 3, previous, width))
        layers.append({"type": "relu", "name": f"relu{i}", "weights": []})
        previous = width
    core = {"type": "custom", "name": "vlad:core", "K": 3.0, "D": 7.0}
    core["weights"] = [8 * draw(1, 1, DIM, CLUSTERS), draw(1, 1, DIM, CLUSTERS)]
    return [
        *layers[:-1],  # conv5_3 is not rectified
        {"type": "normalize", "name": "preL2", "param": np.array([14, 1e-12, 1, 0.5])},
        core,
        {"type": "normalize", "name": "vlad:intranorm"},
        {"type": "custom", "name": "postL2"},
        conv("WPCA", 1, 1, DIM * CLUSTERS, OUTPUTS),
        {"type": "custom", "name": "finalL2"},
    ]


def write_network(path: Path, layers: list[dict[str, Any]], version: str = "5") -> Path:
    mean = np.broadcast_to(MEAN_RGB, (6, 6, 3)).copy()
    meta = {"normalization": {"averageImage": mean}, "netID": "tiny"}
    return write_mat(path, version, {"net": {"layers": layers, "meta": meta}})


def written_out(layers: list[dict[str, Any]], image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The paper's equations 1 to 4 in float64, in MatConvNet's layout of the weights.

    Returns:
        VLAD as a matrix DIM×CLUSTERS, and the whitened descriptor.
    """
    x = (255 * image - torch.tensor(MEAN_RGB, dtype=torch.float64)[:, None, None])[None]
    parameters = [
        [value.astype(float) for value in layer["weights"]]
        for layer in layers
        if layer.get("weights")
    ]
    *convolutions, (assignment, negative_centres), (whitening, whitening_bias) = parameters
    rest = iter(convolutions)
    rectified = False
    for width in CHANNELS:
        if rectified:  # before the next layer, so that the last one is not
            x = F.relu(x)
        if width == 0:
            x = F.max_pool2d(x, 2)
            continue
        filters, bias = map(torch.from_numpy, next(rest))
        x = F.conv2d(x, filters.permute(3, 2, 0, 1), bias[0], padding=1)
        rectified = True
    sums = np.zeros((DIM, CLUSTERS))
    for local in x[0].flatten(1).T.numpy():
        local = local / np.linalg.norm(local)
        logits = np.array([assignment[0, 0, :, k] @ local for k in range(CLUSTERS)])
        weights = np.exp(logits) / np.exp(logits).sum()
        for k in range(CLUSTERS):
            sums[:, k] += weights[k] * (local + negative_centres[0, 0, :, k])
    sums /= np.linalg.norm(sums, axis=0)
    sums /= np.linalg.norm(sums)
    # MATLAB's memory runs over the clusters first, for the array is 1×CLUSTERS×DIM there.
    flat = np.concatenate([sums[d] for d in range(DIM)])
    descriptor = flat @ whitening[0, 0] + whitening_bias[0]
    return sums, descriptor / np.linalg.norm(descriptor)


def load(state: dict[str, Tensor]) -> VGG16NetVLAD:
    network = VGG16NetVLAD(CHANNELS, CLUSTERS, OUTPUTS).double()
    network.load_state_dict({key: value.double() for key, value in state.items()}, strict=True)
    return network.eval()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_converted_network_computes_the_papers_formulas(tmp_path: Path, version: str) -> None:
    layers = released_layers()
    network = load(netvlad(write_network(tmp_path / "net.mat", layers, version)))
    image = torch.rand((3, 50, 68), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sums, descriptor = written_out(layers, image)
    with torch.no_grad():
        whitened = network(image[None])[0].numpy()
        plain = network(image[None], whiten=False)[0].numpy()
    np.testing.assert_allclose(plain.reshape(CLUSTERS, DIM), sums.T, atol=1e-10)
    np.testing.assert_allclose(whitened, descriptor, atol=1e-10)
    assert len(np.unique(abs(plain).round(3))) > 10


def test_the_names_and_shapes_are_the_networks_own(tmp_path: Path) -> None:
    state = netvlad(write_network(tmp_path / "net.mat", released_layers()))
    with torch.device("meta"):
        network = VGG16NetVLAD()
    assert state.keys() == network.state_dict().keys()
    assert all(value.dtype == torch.float32 for value in state.values())
    np.testing.assert_array_equal(state["mean"], MEAN_RGB)
    assert network.whitening.weight.shape == (4096, 32768)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers[:-2], "14 layers have weights, and not 13 of VGG16"),
        (lambda layers: [layer for layer in layers if layer["name"] != "vlad:core"], "14 layers"),
        (
            lambda layers: [
                *layers[:-2],
                {**layers[-2], "weights": released_layers()[0]["weights"]},
            ],
            "the whitening does not take NetVLAD's 21 numbers",
        ),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = write_network(tmp_path / "net.mat", change(released_layers()))
    with pytest.raises(ValueError, match=rf"net.mat.*NetVLAD: {message}"):
        netvlad(path)


def test_files_without_what_is_needed_are_refused(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "net.mat", "5", {"net": {"layers": released_layers()}})
    with pytest.raises(ValueError, match="averageImage"):
        netvlad(path)
    path = write_mat(tmp_path / "other.mat", "5", {"images": np.zeros((2, 2))})
    with pytest.raises(ValueError, match=r"other\.mat.*layers"):
        netvlad(path)
