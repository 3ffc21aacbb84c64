"""NetVLAD's networks for place recognition, from the MATLAB files that hloc uses.

A file holds a MatConvNet SimpleNN whose layers were turned to structs: VGG16's thirteen
convolutions, NetVLAD, and the whitening.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featplug.io.limits import MAX_BYTES
from featplug.networks.netvlad import VGG16NetVLAD
from featplug.weights.converters.matlab_files import nested, read_matconvnet, to_tensor


def netvlad(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert a file such as ``Pitts30K_struct.mat``.

    Two conventions differ: MatConvNet keeps the cluster centres with the opposite sign, and the
    whitening's inputs run over the clusters first and the dimensions last.

    Returns:
        The state dict of a :class:`featplug.networks.netvlad.VGG16NetVLAD`.

    Raises:
        ValueError: the file is damaged or holds no such network.
    """
    net = read_matconvnet(path, max_bytes)
    try:
        return _convert(net, net["layers"])
    except ValueError as error:
        raise ValueError(
            f"{path} is not a network of NetVLAD: {error}; give the authors' file."
        ) from error


def _convert(net: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Tensor]:
    weighted = [arrays for layer in layers if (arrays := _weights(layer))]
    with torch.device("meta"):
        network = VGG16NetVLAD()
    convolutions = [
        f"backbone.{i}" for i, m in enumerate(network.backbone) if isinstance(m, nn.Conv2d)
    ]
    if [len(arrays) for arrays in weighted] != [2] * (len(convolutions) + 2):
        raise ValueError(
            f"{len(weighted)} layers have weights, and not {len(convolutions)} of VGG16, "
            "NetVLAD's and the whitening"
        )
    *vgg, (assignment, centres), (whitening, whitening_bias) = weighted
    state = {}
    for name, (filters, bias) in zip(convolutions, vgg, strict=True):
        if filters.ndim != 4:
            raise ValueError(f"a convolution's filters have {filters.ndim} axes and not 4")
        state[f"{name}.weight"] = to_tensor(filters.transpose(3, 2, 0, 1))
        state[f"{name}.bias"] = to_tensor(bias.ravel())
    num_dims, num_clusters = assignment.shape[-2:]
    if assignment.size != num_dims * num_clusters or centres.size != assignment.size:
        raise ValueError("NetVLAD's layer does not hold two matrices of one size")
    state["vlad.conv.weight"] = to_tensor(assignment.reshape(num_dims, num_clusters).T)[
        ..., None, None
    ]
    state["vlad.centroids"] = to_tensor(-centres.reshape(num_dims, num_clusters).T)
    if whitening.size != whitening.shape[-1] * assignment.size:
        raise ValueError(f"the whitening does not take NetVLAD's {assignment.size} numbers")
    by_dim = whitening.reshape(num_dims, num_clusters, -1)
    state["whitening.weight"] = to_tensor(by_dim.transpose(2, 1, 0).reshape(by_dim.shape[2], -1))
    state["whitening.bias"] = to_tensor(whitening_bias.ravel())
    state["mean"] = _mean(net)
    return state


def _weights(layer: dict[str, Any]) -> list[np.ndarray]:
    """Return the arrays of a layer, none for one without weights."""
    weights = layer.get("weights")
    arrays = weights if isinstance(weights, list) else []
    return [a for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind in "fiu" and a.size]


def _mean(net: dict[str, Any]) -> Tensor:
    """Return the grey value of each channel that is subtracted from all pixels."""
    mean = nested(net, "meta", "normalization", "averageImage")
    if not isinstance(mean, np.ndarray) or mean.shape[-1:] != (3,):
        raise ValueError("it does not say what grey values are subtracted (averageImage)")
    return to_tensor(mean.reshape(-1, 3)[0])
