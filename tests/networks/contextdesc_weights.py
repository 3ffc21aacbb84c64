"""ContextDesc's weights for tests: the rule's variables, or seeded ones, as TensorFlow has them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from featplug.networks.caffe_resnet import CaffeResNet50
from featplug.networks.contextdesc import ContextDesc
from tests.golden.golden_set import GoldenSet


def rule_variables(golden_set: GoldenSet, *graphs: str) -> dict[str, np.ndarray]:
    """Variables of the graphs ``loc``, ``aug``, ``reg`` by the golden rule."""
    arrays: dict[str, np.ndarray] = {}
    for graph in graphs:
        shapes = golden_set.shapes("contextdesc/variables.csv", graph=graph)
        arrays |= golden_set.rule.tf_vars(f"contextdesc_{graph}", shapes, golden_set.tag)
    return arrays


def seeded_state(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Weights under which values neither vanish nor grow from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator)
        if key.endswith("num_batches_tracked"):
            drawn = torch.tensor(0)
        elif value.ndim > 1:
            drawn *= (2 / value[0].numel()) ** 0.5
        elif key.endswith("running_var") or (key.endswith("bn.weight") and value.ndim == 1):
            drawn = 1 + 0.1 * drawn.clamp(-3, 3)
        else:
            drawn *= 0.1
        state[key] = drawn
    return state


@cache
def seeded_networks() -> tuple[ContextDesc, CaffeResNet50]:
    """Both networks with seeded weights, in evaluation."""
    networks = ContextDesc(), CaffeResNet50()
    for network in networks:
        network.load_state_dict(seeded_state(network))
        network.eval()
    return networks


# TensorFlow's name of each layer of the local and the augmentation network, written out.
LAYERS = {
    **{f"local.conv{n}": f"conv{n}" for n in range(7)},
    **{f"matchability.conv{n}": f"kpt_m/kpt_m_conv{n}" for n in range(3)},
    "matchability.conv3": "kpt_m/kpt_m",
    "matchability.fc": "kpt_m/fc_1",
    "visual_context.conv1": "vis_context/conv1",
    "visual_context.bn1": "vis_context/conv1_bn",
    "visual_context.conv2": "vis_context/conv2",
    "visual_context.bn2": "vis_context/conv2_bn",
    **{f"visual_context.fuse.{n}": f"vis_context/fuse_photo_context_{n}" for n in range(3)},
    "geometric_context.dim_control": "geo_context/dim_control",
    **{f"geometric_context.units.{n}.bn": f"geo_context/cn{n}_bn1" for n in range(1, 5)},
    **{f"geometric_context.units.{n}.conv": f"geo_context/cn{n}_conv1" for n in range(1, 5)},
    "geometric_context.context_trans": "geo_context/context_trans",
}
LEAVES = {
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
    "weight": "kernel",
    "bias": "bias",
}


def resnet_variables(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Turn a state dict of the regional network into TensorFlow's variables."""
    norms = {**LEAVES, "weight": "gamma", "bias": "beta"}
    arrays = {}
    for key, value in state.items():
        layer, _, leaf = key.removeprefix("blocks.").rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        if layer.endswith("bn"):
            layer = layer.removesuffix(".bn").replace(".", "_")
            layer = "bn_conv1" if layer == "conv1" else f"bn{layer.removeprefix('res')}"
            arrays[f"{layer}/{norms[leaf]}"] = value.numpy()
        else:
            array = value.numpy().transpose(2, 3, 1, 0) if value.ndim == 4 else value.numpy()
            arrays[f"{layer.replace('.', '_')}/{LEAVES[leaf]}"] = np.ascontiguousarray(array)
    return arrays


def as_variables(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Turn a state dict of ContextDesc into TensorFlow's variables."""
    arrays = {}
    for key, value in state.items():
        layer, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        is_own_norm = layer in LAYERS
        scope = LAYERS[layer] if is_own_norm else f"{LAYERS[layer.removesuffix('.bn')]}/bn"
        array = value.numpy()
        if array.ndim == 2:
            array = array.T if layer == "matchability.fc" else array.T[None, None]
        elif array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        arrays[f"{scope}/{LEAVES[leaf]}"] = np.ascontiguousarray(array)
    return arrays
