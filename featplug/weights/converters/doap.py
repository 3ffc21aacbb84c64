"""Networks of MatConvNet, built from the layers that a MATLAB file lists.

Vedaldi and Lenc, "MatConvNet", ACM Multimedia 2015. A network is a DagNN, a struct array of layers
that name their variables and parameters, or a SimpleNN, a cell array of layers that hold their
weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featplug.io.limits import MAX_BYTES
from featplug.networks.l2net import (
    PATCH_SIZE,
    TRANSFORMER_PATCH_SIZE,
    Layer,
    check_layers,
    layer_names,
)
from featplug.weights.converters.matlab_files import nested, read_matconvnet, to_tensor

_KINDS = {
    "conv": "conv",
    "batchnorm": "bn",
    "bnorm": "bn",
    "relu": "relu",
    "pooling": "pool",
    "pool": "pool",
    "dropout": "dropout",
    "affinegridgenerator": "grid",
    "paddedbilinear": "sampler",
}
"""Kinds of layers by the last component of their type, in lower case; for DagNN and SimpleNN."""
_OUTPUTS = ("logits", "bn7")
"""Variables that the authors' code reads DOAP's descriptor from: the first that exists."""


@dataclass(frozen=True, eq=False)
class _Block:
    """One layer of a file, DagNN or SimpleNN."""

    name: str
    type: str
    options: dict[str, Any]
    weights: list[Any]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def kind(self) -> str | None:
        return _KINDS.get(self.type.rpartition(".")[2].lower())

    def lengths(self, option: str, count: int, default: int) -> tuple[int, ...]:
        """Return an option of ``count`` whole numbers, of which the file may have just one."""
        given = np.ravel(self.options.get(option, default))
        numbers = given.astype(int) if given.dtype.kind in "biuf" else given[:0]
        if len(numbers) not in (1, count):
            raise ValueError(f"{option} of the layer {self.name} is not 1 or {count} numbers")
        return tuple(np.broadcast_to(numbers, count).tolist())

    def pair(self, option: str, default: int = 1) -> tuple[int, int]:
        """Return an option that has a vertical and a horizontal number."""
        vertical, horizontal = self.lengths(option, 2, default)
        return vertical, horizontal

    def numbers(self, index: int, what: str) -> np.ndarray:
        """Return one of the layer's arrays of weights."""
        value = self.weights[index] if index < len(self.weights) else None
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or not value.size:
            raise ValueError(
                f"the layer {self.name} ({self.type}) has no {what}, so the file is not that of a "
                "trained network"
            )
        return value


def doap(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert a network of DOAP, such as ``HPatches_ST_LM_128d.mat``.

    The layers from the patch to the variable ``logits``, or else ``bn7``, are taken as the file
    lists them; later layers, such as the loss, are ignored.

    Returns:
        The state dict of a :class:`featplug.networks.l2net.DOAP`. Variances are float64: the
        squares of MatConvNet's deviations, which contain its epsilon, less PyTorch's epsilon.

    Raises:
        ValueError: the file is damaged, holds no such network, or has a layer of another kind.
    """
    net = read_matconvnet(path, max_bytes)
    try:
        return _convert(net, net["layers"])
    except ValueError as error:
        raise ValueError(
            f"{path} is not a network of DOAP: {error}; give the authors' file."
        ) from error


def _convert(net: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Tensor]:
    is_dag = any("block" in layer for layer in layers)
    localisation: list[_Block] = []
    sampled_size = 0
    if is_dag:
        trunk, localisation, sampled_size = _dag_chains(_dag_blocks(net, layers))
    else:
        trunk = _simple_chain(layers)
    trunk_layers, state = _convert_chain(trunk, "trunk")
    localisation_layers, localisation_state = _convert_chain(localisation, "localisation")
    default = TRANSFORMER_PATCH_SIZE if localisation else PATCH_SIZE
    patch_size = _image_size(net) or default
    try:
        check_layers(trunk_layers, localisation_layers, patch_size, sampled_size or patch_size)
    except ValueError:
        patch_size = default  # the recorded size is that of the training data, not the network's
        check_layers(trunk_layers, localisation_layers, patch_size, sampled_size or patch_size)
    sizes = torch.tensor([patch_size, sampled_size or patch_size])
    return {**localisation_state, **state, "sizes": sizes}


def _image_size(net: dict[str, Any]) -> int | None:
    """Return the side of the patches by the file's ``meta``, if present."""
    size = nested(net, "meta", "normalization", "imageSize")
    return int(np.ravel(size)[0]) if isinstance(size, np.ndarray) and size.size else None


def _dag_blocks(net: dict[str, Any], layers: list[dict[str, Any]]) -> list[_Block]:
    params = net.get("params")
    values = {
        param["name"]: param.get("value")
        for param in ([params] if isinstance(params, dict) else params or [])
        if isinstance(param, dict) and isinstance(param.get("name"), str)
    }
    return [
        _Block(
            name=str(layer.get("name")),
            type=str(layer.get("type")),
            options=layer["block"] if isinstance(layer.get("block"), dict) else {},
            weights=[values.get(name) for name in _texts(layer.get("params"))],
            inputs=_texts(layer.get("inputs")),
            outputs=_texts(layer.get("outputs")),
        )
        for layer in layers
    ]


def _texts(value: Any) -> tuple[str, ...]:
    """Return the names in a cell, or a single name."""
    items = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(item for item in items if isinstance(item, str))


def _dag_chains(blocks: list[_Block]) -> tuple[list[_Block], list[_Block], int]:
    """Walk back from the descriptor; the file's order need not be that of execution.

    Returns:
        The layers after the sampler or the input, those of the localisation network, and the side
        of the sampled patches, 0 without a transformer.
    """
    producers = {output: block for block in blocks for output in block.outputs}
    output = next((name for name in _OUTPUTS if name in producers), None)
    if output is None:
        raise ValueError(f"it has neither of the variables {' and '.join(_OUTPUTS)}")
    trunk, start = _walk_back(output, producers)
    sampler = producers.get(start)
    if sampler is None:
        return trunk, [], 0
    grids = [producers[name] for name in sampler.inputs if name in producers]
    if sampler.kind != "sampler" or [(g.kind, len(g.inputs)) for g in grids] != [("grid", 1)]:
        raise _unknown(sampler)
    (grid,) = grids
    height, width = (grid.lengths(option, 1, 0)[0] for option in ("Ho", "Wo"))
    if height != width or height < 1:
        raise ValueError(f"the layer {grid.name} samples {height}×{width} pixels, not a square")
    localisation, start = _walk_back(grid.inputs[0], producers)
    if start not in sampler.inputs:
        raise ValueError(f"the layer {sampler.name} does not sample the patch that is located")
    return trunk, localisation, height


def _walk_back(variable: str, producers: dict[str, _Block]) -> tuple[list[_Block], str]:
    """List the layers with one input that lead to a variable, and the variable before them."""
    chain: list[_Block] = []
    while variable in producers and len(producers[variable].inputs) == 1:
        if producers[variable] in chain:
            raise ValueError(f"the layer {chain[-1].name} reads what is computed from it")
        chain.append(producers[variable])
        variable = chain[-1].inputs[0]
    return chain[::-1], variable


def _simple_chain(layers: list[dict[str, Any]]) -> list[_Block]:
    """Return the layers of a SimpleNN up to the descriptor, without a loss or a scaling."""
    blocks = []
    for number, layer in enumerate(layers, start=1):
        weights = layer.get("weights")
        weights = weights if isinstance(weights, list) else []
        name = str(layer.get("name") or number)
        blocks.append(_Block(name, str(layer.get("type")), layer, weights))
    ends = [i for i, block in enumerate(blocks) if block.name in _OUTPUTS]
    ends = ends or [i for i, block in enumerate(blocks) if block.kind in ("conv", "bn")]
    if not ends:
        raise ValueError("it has no convolution")
    return blocks[: ends[-1] + 1]


def _convert_chain(blocks: Sequence[_Block], prefix: str) -> tuple[list[Layer], dict[str, Tensor]]:
    """Convert a chain of layers that starts from a patch of one channel."""
    layers: list[Layer] = []
    tensors: list[dict[str, Tensor]] = []
    channels = 1
    for block in blocks:
        if block.kind == "dropout":
            continue
        layer, weights = _convert_layer(block, channels)
        channels = layer.channels[1] or channels
        layers.append(layer)
        tensors.append(weights)
    if not layers:
        return [], {}
    state = {
        f"{prefix}.{name}.{key}": tensor
        for name, weights in zip(layer_names(layers), tensors, strict=True)
        for key, tensor in weights.items()
    }
    state[f"{prefix}.layers"] = torch.tensor([layer.encode() for layer in layers])
    return layers, state


def _convert_layer(block: _Block, channels: int) -> tuple[Layer, dict[str, Tensor]]:
    if block.kind == "conv":
        return _convert_conv(block, channels)
    if block.kind == "bn":
        return _convert_bn(block, channels)
    if block.kind == "relu":
        if np.any(block.options.get("leak", 0)):
            raise ValueError(f"the layer {block.name} ({block.type}) is leaky")
        return Layer("relu"), {}
    method = block.options.get("method", "max")
    if block.kind == "pool" and method in ("max", "avg"):
        window = "poolSize" if "poolSize" in block.options else "pool"
        return Layer(f"{method}pool", size=block.pair(window), **_steps(block)), {}
    raise _unknown(block)


def _convert_conv(block: _Block, channels: int) -> tuple[Layer, dict[str, Tensor]]:
    filters = block.numbers(0, "filters")
    if filters.ndim < 4 and filters.size % (np.prod(filters.shape[:2]) * channels) == 0:
        # MATLAB drops a last axis of 1 and other writers any, but the input has that many channels.
        filters = filters.reshape((*filters.shape[:2], channels, -1), order="F")
    if filters.ndim != 4 or filters.shape[2] != channels:
        shape = "×".join(map(str, filters.shape))
        raise ValueError(f"the filters of {block.name} are {shape} and get {channels} channels")
    height, width, _, num = filters.shape
    has_bias = bool(np.all(block.options.get("hasBias", True))) and _holds_numbers(block, 1)
    layer = Layer(
        "conv",
        (channels, num),
        (height, width),
        **_steps(block),
        dilation=block.pair("dilate"),
        bias=has_bias,
    )
    weights = {"weight": to_tensor(filters.transpose(3, 2, 0, 1))}
    if has_bias:
        weights["bias"] = _per_channel(block, 1, "bias", num)
    return layer, weights


def _convert_bn(block: _Block, channels: int) -> tuple[Layer, dict[str, Tensor]]:
    moments = block.numbers(2, "moments")
    if moments.shape != (channels, 2):
        shape = "×".join(map(str, moments.shape))
        raise ValueError(f"the moments of {block.name} are {shape} and not {channels}×2")
    sigma = moments[:, 1].astype(np.float64)
    norm = nn.BatchNorm2d(channels, device="meta")
    return Layer("bn", (channels, channels)), {
        "weight": _per_channel(block, 0, "gamma", channels),
        "bias": _per_channel(block, 1, "beta", channels),
        "running_mean": to_tensor(moments[:, 0]),
        "running_var": torch.from_numpy(sigma**2 - norm.eps),
        "num_batches_tracked": torch.tensor(0),
    }


def _holds_numbers(block: _Block, index: int) -> bool:
    return index < len(block.weights) and np.size(block.weights[index]) > 0


def _per_channel(block: _Block, index: int, what: str, channels: int) -> Tensor:
    values = block.numbers(index, what)
    if values.size != channels:
        raise ValueError(f"the {what} of {block.name} is {values.size} and not {channels} numbers")
    return to_tensor(values.ravel())


def _steps(block: _Block) -> dict[str, Any]:
    return {"stride": block.pair("stride"), "padding": block.lengths("pad", 4, 0)}


def _unknown(block: _Block) -> ValueError:
    return ValueError(f"the layer {block.name} is of type {block.type}, which it cannot have")
