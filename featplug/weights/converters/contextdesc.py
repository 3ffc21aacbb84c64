"""Converters of ContextDesc's TensorFlow files.

The authors' archives hold frozen graphs (``loc.pb``, ``aug.pb``; ``reg.pb`` of the retrieval
model) and checkpoints (``model.ckpt-400000.index`` and its data file) of the same weights. A
converter takes the archive or any of these files and returns a state dict in our networks' names.
"""

import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import torch
from torch import Tensor, nn

from featplug.io.limits import MAX_BYTES, Budget, gunzip, map_file
from featplug.networks.caffe_resnet import CaffeResNet50
from featplug.networks.contextdesc import ContextDesc
from featplug.networks.conv_bn import EPSILON
from featplug.weights.checkpoints import check_head, damaged
from featplug.weights.converters.tensorflow_files import (
    MAX_FIELDS,
    TABLE_MAGIC,
    GraphNode,
    read_bundle,
    read_graph,
)

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_MEMBERS = 1000
_MAX_IDENTITIES = 10
"""Largest number of nodes through which a graph reads a variable; one, as TensorFlow writes it."""
# All that the reader of tar files raises on one with flipped or missing bytes.
_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
    tarfile.TarError,
)
_FUSED_EPSILON = 1e-4
"""Default of TensorFlow's FusedBatchNorm, where a graph does not say."""

# From a state dict's names of layers to TensorFlow's scopes; the first that fits is taken.
_SCOPES = (
    (r"local\.", ""),
    (r"matchability\.conv3", "kpt_m/kpt_m"),
    (r"matchability\.conv", "kpt_m/kpt_m_conv"),
    (r"matchability\.fc", "kpt_m/fc_1"),
    (r"visual_context\.bn(\d)", r"vis_context/conv\1_bn"),
    (r"visual_context\.fuse\.", "vis_context/fuse_photo_context_"),
    (r"visual_context\.", "vis_context/"),
    (r"geometric_context\.units\.(\d)\.(bn|conv)", r"geo_context/cn\1_\g<2>1"),
    (r"geometric_context\.", "geo_context/"),
    (r"blocks\.res(\w+)\.(\w+)\.bn", r"bn\1_\2"),
    (r"blocks\.(\w+)\.", r"\1_"),
    (r"conv1\.bn", "bn_conv1"),
)
_NORM_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_LEAVES = {"weight": "kernel", "bias": "bias"}


@dataclass
class _Variables:
    """Variables of a TensorFlow file."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    epsilons: dict[str, float] = field(default_factory=dict)
    """Epsilons that a graph adds to moving variances, by the names of these."""


def contextdesc(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert the weights of local and augmentation network.

    Args:
        path: an archive such as ``contextdesc_pp.tar``; ``loc.pb`` or ``aug.pb``, next to the
            other one; or ``model.ckpt-400000.index``, next to its data file.
        max_bytes: the largest size of each file, and of what it unpacks to.

    Raises:
        ValueError: a file is missing, damaged, or another system's.
    """
    with torch.device("meta"):
        network = ContextDesc()
    scopes = {"loc.pb": ("conv", "kpt_m/"), "aug.pb": ("vis_context/", "geo_context/")}
    return _convert(path, network, scopes, max_bytes)


def regional(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert the weights of the retrieval model, which computes the regional features.

    Args:
        path: ``retrieval_model.tar``, ``reg.pb``, or ``model.ckpt-550000.index``, next to its
            data file.
        max_bytes: the largest size of each file, and of what it unpacks to.

    Raises:
        ValueError: a file is missing, damaged, or another system's.
    """
    with torch.device("meta"):
        network = CaffeResNet50()
    return _convert(path, network, {"reg.pb": ("",)}, max_bytes)


def _convert(
    path: Path, network: nn.Module, scopes: Mapping[str, tuple[str, ...]], max_bytes: int
) -> dict[str, Tensor]:
    """Fill a network's state dict from a file.

    ``scopes`` are the beginnings of the variables' names in each frozen graph.
    """
    targets = network.state_dict()
    names = {key: _variable_name(key) for key in targets if not key.endswith("num_batches_tracked")}
    variables = _Files(path, max_bytes).read(tuple(scopes), tuple(names.values()))
    state = {key: torch.tensor(0) for key in targets}
    for starts in scopes.values():
        own = {key: name for key, name in names.items() if name.startswith(starts)}
        # Each graph may lie in a scope of its own.
        prefix = _prefix(variables.arrays, list(own.values()))
        missing = [name for name in own.values() if prefix + name not in variables.arrays]
        if len(missing) > len(own) / 2:
            raise ValueError(
                f"{path} does not hold the variables of {type(network).__name__} (such as "
                f"{missing[0]}), so it is another system's file."
            )
        if missing:
            more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
            raise ValueError(
                f"{path} lacks the variables {', '.join(missing[:2])}{more} of "
                f"{type(network).__name__}; download it again."
            )
        for key, name in own.items():
            state[key] = _tensor(variables, prefix + name, targets[key].ndim)
    return state


def _variable_name(key: str) -> str:
    """Return TensorFlow's name of a state dict's tensor."""
    layer, _, leaf = key.rpartition(".")
    is_norm = re.search(r"bn\d?$", layer) is not None
    for pattern, scope in _SCOPES:
        if re.match(pattern, layer):
            layer = re.sub("^" + pattern, scope, layer)
            break
    return f"{layer.replace('.', '/')}/{(_NORM_LEAVES if is_norm else _LEAVES)[leaf]}"


def _prefix(arrays: Mapping[str, np.ndarray], names: list[str]) -> str:
    """Return the scope that has the most of these variables, the outermost of equal ones."""
    prefixes = [
        name.removesuffix(names[0])
        for name in arrays
        if name == names[0] or name.endswith(f"/{names[0]}")
    ]

    def fit(prefix: str) -> tuple[int, int]:
        return sum(prefix + name in arrays for name in names), -len(prefix)

    return max(prefixes, key=fit, default="")


def _tensor(variables: _Variables, name: str, ndim: int) -> Tensor:
    """Turn a variable into PyTorch's axes: (out, in, height, width), or (out, in)."""
    array = variables.arrays[name].astype(np.float32)
    if name.endswith("/moving_variance"):
        # Both networks add an epsilon to the variance; ours is fixed, so correct the variance.
        array = array + np.float32(variables.epsilons.get(name, EPSILON) - EPSILON)
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
        if ndim == 2 and array.shape[2:] == (1, 1):
            array = array[:, :, 0, 0]
    elif array.ndim == 2:
        array = array.T
    return torch.from_numpy(np.ascontiguousarray(array))


# ---------------------------------------------------------------- files


class _Files:
    """Reads the variables of an archive, of graphs, or of a checkpoint."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._budget = Budget(max_bytes, MAX_FIELDS)

    def read(self, graphs: tuple[str, ...], names: tuple[str, ...]) -> _Variables:
        """Read the graphs of these names, or the variables of a checkpoint whose names end so."""
        path = self.path
        head, data = check_head(path, self.max_bytes), map_file(path)
        if data[-len(TABLE_MAGIC) :] == TABLE_MAGIC or path.suffix == ".index":
            prefix = path.name.removesuffix(".index")
            return self._checkpoint(
                str(path), data, lambda suffix: self._sibling(prefix + suffix), names
            )
        if path.suffix == ".pb":
            files = graphs if path.name in graphs else (path.name,)
            return self._graphs({name: self._sibling(name) for name in files})
        try:
            if head.startswith(_GZIP_MAGIC):
                unpacked = gunzip(path, self.max_bytes)
                members = self._members(unpacked, unpacked.getbuffer())
            else:
                with path.open("rb") as file:
                    members = self._members(file, data)
        except tarfile.ReadError as error:
            raise ValueError(
                f"{path} is not a file of ContextDesc; give the authors' .tar, a .pb of it, or the "
                ".index file of a checkpoint."
            ) from error
        except _DAMAGE as error:
            raise damaged(path, str(error) or type(error).__name__) from error
        return self._archive(members, graphs, names)

    def _sibling(self, name: str) -> memoryview:
        sibling = self.path.with_name(name)
        if not sibling.is_file():
            raise ValueError(
                f"{self.path.name} needs {name} next to it in {self.path.parent}; put it there."
            )
        check_head(sibling, self.max_bytes)
        return map_file(sibling)

    def _members(self, file: IO[bytes], data: memoryview) -> dict[str, memoryview]:
        """Return views of the files in an archive, by the last component of their names."""
        members: dict[str, memoryview] = {}
        budget = Budget(self.max_bytes, _MAX_MEMBERS)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                # One by one, since a negative size leads back to an earlier member.
                budget.take(member.size)
                name = PurePosixPath(member.name).name
                if not member.isreg() or member.issparse():
                    continue
                if name in members and name.rpartition(".")[2] in ("pb", "index"):
                    raise ValueError(f"it has two files {name}")
                members[name] = data[member.offset_data : member.offset_data + member.size]
                if len(members[name]) != member.size:
                    raise ValueError(f"it has only the beginning of {name}")
        return members

    def _archive(
        self, members: Mapping[str, memoryview], graphs: tuple[str, ...], names: tuple[str, ...]
    ) -> _Variables:
        """Read the graphs of an archive, or its checkpoint where it has no graphs."""

        def content(name: str) -> memoryview:
            if name not in members:
                raise ValueError(f"{self.path} lacks {name}; download it again.")
            return members[name]

        if set(graphs) <= set(members):
            return self._graphs({name: content(name) for name in graphs})
        index = next((name for name in members if name.endswith(".index")), None)
        if index is None:
            raise ValueError(
                f"{self.path} holds neither {' and '.join(graphs)} nor a checkpoint, so it is "
                "damaged or another system's file."
            )
        prefix = index.removesuffix(".index")
        return self._checkpoint(
            f"{index} of {self.path}",
            content(index),
            lambda suffix: content(prefix + suffix),
            names,
        )

    def _graphs(self, contents: Mapping[str, memoryview]) -> _Variables:
        """Read frozen graphs as one set of variables."""
        variables = _Variables()
        for name, content in contents.items():
            is_own = self.path.name == name
            file = str(self.path) if is_own else f"{name} of {self.path}"
            nodes = read_graph(content, file, self._budget)
            for node_name, node in nodes.items():
                if node.value is not None:
                    variables.arrays[node_name.removesuffix("/read")] = node.value
            variables.epsilons |= dict(_epsilons(nodes))
        return variables

    def _checkpoint(
        self,
        name: str,
        index: memoryview,
        read_data: Callable[[str], memoryview],
        names: tuple[str, ...],
    ) -> _Variables:
        """Read a checkpoint without the variables of an optimiser."""
        select = lambda key: key.endswith(names)  # noqa: E731
        return _Variables(read_bundle(index, read_data, name, select, self._budget))


def _epsilons(nodes: Mapping[str, GraphNode]) -> Iterable[tuple[str, float]]:
    """Yield the variance of each batch normalisation, and the epsilon that is added to it."""
    for name, node in nodes.items():
        if node.op.startswith("FusedBatchNorm") and len(node.inputs) >= 5:
            variance = node.inputs[4].removesuffix(":0")
            for _ in range(_MAX_IDENTITIES):
                read = nodes.get(variance)
                if read is None or read.op != "Identity" or not read.inputs:
                    break
                variance = read.inputs[0].removesuffix(":0")
            epsilon = node.attributes.get("epsilon", _FUSED_EPSILON)
            yield variance.removesuffix("/read"), epsilon
        elif name.endswith("/batchnorm/add/y") and node.value is not None and node.value.size == 1:
            layer = name.removesuffix("/batchnorm/add/y")
            yield f"{layer}/moving_variance", float(node.value.reshape(()))
