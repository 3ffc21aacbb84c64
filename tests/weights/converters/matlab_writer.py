"""MATLAB files as MATLAB writes them, in both versions, and MatConvNet networks in both forms."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import savemat
from scipy.io.matlab import MatlabObject

VERSIONS = ("5", "7.3")
FORMS = ("dagnn", "simplenn")

L2NET_STRIDES = (1, 1, 2, 1, 2, 1)
"""Of the first six convolutions."""


_NUMBERS = itertools.count()


class StructArray(list):
    """A MATLAB struct array: dicts with the same keys. A plain list is a cell array."""


class HandleObject:
    """An object of a MATLAB class, such as the options of a loss."""


def write_mat(path: Path, version: str, variables: Mapping[str, Any]) -> Path:
    """Write dicts (structs), lists, text and arrays."""
    if version == "5":
        converted = {name: _v5(value) for name, value in variables.items()}
        savemat(path, converted, do_compression=True)
        return path
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            _write_hdf5(file, name, value)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def _v5(value: Any) -> Any:
    if isinstance(value, StructArray):
        array = np.empty((1, len(value)), [(name, object) for name in value[0]])
        for i, element in enumerate(value):
            array[0, i] = tuple(_v5(field) for field in element.values())
        return array
    if isinstance(value, dict):
        return {name: _v5(field) for name, field in value.items()}
    if isinstance(value, list):
        array = np.empty((1, len(value)), object)
        for i, element in enumerate(value):
            array[0, i] = _v5(element)
        return array
    if isinstance(value, HandleObject):
        return MatlabObject(np.zeros((1, 1), [("nbins", object)]), "APoptions")
    return value


def _write_hdf5(parent: h5py.Group, name: str, value: Any) -> h5py.HLObject:
    if isinstance(value, StructArray):
        item = parent.create_group(name)
        for field in value[0]:
            _write_references(item, field, [element[field] for element in value])
        kind = "struct"
    elif isinstance(value, dict):
        item = parent.create_group(name)
        for field, content in value.items():
            _write_hdf5(item, field, content)
        kind = "struct"
    elif isinstance(value, HandleObject):
        item = parent.create_dataset(name, data=np.array([[0xDD000000, 2, 1, 1, 1, 1]], np.uint32))
        item.attrs["MATLAB_object_decode"] = np.int32(3)
        kind = "APoptions"
    elif isinstance(value, list):
        item = _write_references(parent, name, value)
        kind = "cell"
    elif isinstance(value, str):
        codes = np.array([[ord(letter)] for letter in value], np.uint16)
        item = parent.create_dataset(name, data=codes if value else _dimensions(0, 0))
        item.attrs["MATLAB_int_decode"] = np.int32(2)
        kind = "char"
    else:
        value = np.asarray(value)
        value = value.reshape((1,) * (2 - value.ndim) + value.shape)
        item = parent.create_dataset(
            name, data=value.T if value.size else _dimensions(*value.shape)
        )
        kind = {"f4": "single", "f8": "double"}.get(value.dtype.str[1:], value.dtype.name)
    if isinstance(value, str | list | np.ndarray) and len(value) == 0:
        item.attrs["MATLAB_empty"] = np.uint8(1)
    item.attrs["MATLAB_class"] = np.bytes_(kind)
    return item


def _dimensions(*shape: int) -> np.ndarray:
    """What an empty array holds instead of values."""
    return np.array(shape, np.uint64)


def _write_references(parent: h5py.Group, name: str, values: Sequence[Any]) -> h5py.Dataset:
    if not values:
        return parent.create_dataset(name, data=_dimensions(0, 0))
    pool = parent.file.require_group("#refs#")
    references = np.empty((len(values), 1), h5py.ref_dtype)
    for i, value in enumerate(values):
        references[i, 0] = _write_hdf5(pool, f"r{next(_NUMBERS)}", value).ref
    return parent.create_dataset(name, data=references, dtype=h5py.ref_dtype)


# ---------------------------------------------------------------- networks


def seeded_params(seed: int = 0) -> dict[str, np.ndarray]:
    """Draw L2-Net's parameters, with ``conv7b`` and ``bn7b`` for 256 outputs."""
    generator = np.random.default_rng(seed)
    params = {}
    channels = 1
    for name, width in zip(
        (*"123456", "7", "7b"), (32, 32, 64, 64, 128, 128, 128, 256), strict=True
    ):
        size = 8 if name[0] == "7" else 3
        shape = (size, size, channels, width)
        deviation = (2 / (size * size * channels)) ** 0.5
        params[f"conv{name}.filters"] = generator.normal(0, deviation, shape)
        params[f"conv{name}.bias"] = generator.normal(0, 0.1, width)
        params[f"bn{name}.gamma"] = generator.normal(1, 0.1, width)
        params[f"bn{name}.beta"] = generator.normal(0, 0.1, width)
        moments = [generator.normal(0, 0.1, width), generator.uniform(0.5, 1.5, width)]
        params[f"bn{name}.moments"] = np.stack(moments, axis=1)
        channels = 128 if size == 8 else width
    return {name: value.astype(np.float32) for name, value in params.items()}


def trunk_layers(params: Mapping[str, np.ndarray], last: str = "7") -> list[dict[str, Any]]:
    """L2-Net's layers with the parameters of the golden rule.

    Args:
        params: ``convK.filters``, ``convK.bias``, ``bnK.gamma``, ``bnK.beta``, ``bnK.moments``.
        last: number of the last convolution in ``params``, ``7`` or ``7b``.
    """
    layers = []
    for number in (*"123456", last):
        pad, stride = (0, 1) if number == last else (1, L2NET_STRIDES[int(number) - 1])
        conv = {"kind": "conv", "stride": stride, "pad": pad}
        conv["weights"] = [params[f"conv{number}.{leaf}"] for leaf in ("filters", "bias")]
        bn = {"kind": "bn"}
        bn["weights"] = [params[f"bn{number}.{leaf}"] for leaf in ("gamma", "beta", "moments")]
        layers += [conv, bn] if number == last else [conv, bn, {"kind": "relu"}]
    return [*layers[:-2], {"kind": "dropout"}, *layers[-2:]]


_DAG_TYPES = {"conv": "Conv", "bn": "BatchNorm", "relu": "ReLU", "pool": "Pooling"}


def network(
    form: str,
    trunk: Sequence[dict[str, Any]],
    localisation: Sequence[dict[str, Any]] = (),
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the variable ``net`` as DagNN's ``saveobj`` or a SimpleNN has it.

    Args:
        form: one of :data:`FORMS`; a SimpleNN has no localisation network.
        trunk: layers with ``kind``, ``weights`` and options.
        localisation: layers of a spatial transformer, ending in its six numbers.
        meta: of the network.
    """
    meta = {"inputSize": np.array([[32.0, 32.0, 1.0]]), **(meta or {})}
    if form == "simplenn":
        return {"layers": [*_simple_layers(trunk), {"type": "loss", "name": "loss"}], "meta": meta}
    layers: list[dict[str, Any]] = []
    params: list[dict[str, Any]] = []
    variable = "input"
    if localisation:
        theta = _dag_layers(localisation, "loc_", variable, "theta", layers, params)
        grid = {"Ho": 32.0, "Wo": 32.0}
        layers.append(_dag_layer("grid", "dagnn.AffineGridGenerator", [theta], "grid", grid))
        inputs = [variable, "grid"]
        layers.append(_dag_layer("st", "models.PaddedBilinear", inputs, "xST", {}))
        variable = "xST"
    logits = _dag_layers(trunk, "", variable, "logits", layers, params)
    loss = {"loss": "APloss", "opt": HandleObject()}
    layers.append(_dag_layer("loss", "APloss", [logits, "labels"], "objective", loss))
    names = ["input", *(layer["outputs"][0] for layer in layers)]
    return {
        "vars": StructArray({"name": name, "precious": np.array(0.0)} for name in names),
        "params": StructArray(params),
        "layers": StructArray(layers),
        "meta": meta,
    }


def _simple_layers(layers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    types = {"bn": "bnorm"}
    return [
        {
            "type": types.get(layer["kind"], layer["kind"]),
            **{key: _value(value) for key, value in layer.items() if key != "kind"},
        }
        for layer in layers
    ]


def _dag_layers(
    chain: Sequence[dict[str, Any]],
    prefix: str,
    variable: str,
    output: str,
    layers: list[dict[str, Any]],
    params: list[dict[str, Any]],
) -> str:
    counts: dict[str, int] = {}
    for i, layer in enumerate(chain):
        kind = layer["kind"]
        counts[kind] = counts.get(kind, 0) + 1
        name = f"{prefix}{kind}{counts[kind]}"
        block = {k: _value(v) for k, v in layer.items() if k not in ("kind", "weights")}
        weights = layer.get("weights", [])
        if kind == "conv":
            shape = weights[0].shape + (1,) * (4 - weights[0].ndim)
            block |= {"size": np.array([shape], float), "hasBias": np.array(len(weights) == 2)}
            block["opts"] = ["cuDNN"]
        names = [f"{name}_{k}" for k in range(len(weights))]
        params += [
            {"name": key, "value": _value(weight), "learningRate": np.array(1.0)}
            for key, weight in zip(names, weights, strict=True)
        ]
        following = output if i == len(chain) - 1 else f"{name}_out"
        dag_type = layer.get("type", f"dagnn.{_DAG_TYPES.get(kind, 'DropOut')}")
        layers.append(_dag_layer(name, dag_type, [variable], following, block, names))
        variable = following
    return variable


def _dag_layer(
    name: str,
    kind: str,
    inputs: list[str],
    output: str,
    block: dict[str, Any],
    params: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "inputs": inputs,
        "outputs": [output],
        "params": list(params),
        "block": block or {"opts": []},
    }


def _value(value: Any) -> Any:
    """As MATLAB keeps it: numbers are double matrices, vectors are columns."""
    if isinstance(value, list):
        return [_value(element) for element in value]
    if isinstance(value, int | float | tuple):
        return np.atleast_2d(np.array(value, float))
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return value[:, None]
    return value


# ---------------------------------------------------------------- a localisation network


def localisation_layers(seed: int = 0) -> list[dict[str, Any]]:
    """Three convolutions from 42×42 to six numbers near the identity's.

    With asymmetric padding, both kinds of pooling, a dilation, a normalisation and a convolution
    without bias.
    """
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        deviation = (2 / np.prod(shape[:-1])) ** 0.5
        return generator.normal(0, deviation, shape).astype(np.float32)

    moments = np.stack([draw(12), 0.5 + generator.random(12)], 1).astype(np.float32)
    identity = np.array([1, 0, 0, 1, 0, 0], np.float32) + 0.1 * draw(6)
    return [
        {"kind": "conv", "weights": [draw(5, 3, 1, 8)], "pad": (2, 1, 0, 1), "stride": (2, 1)},
        {"kind": "relu", "leak": 0.0},
        {"kind": "pool", "method": "max", "poolSize": (3, 2), "stride": 2, "pad": (0, 1, 1, 0)},
        {"kind": "conv", "weights": [draw(3, 3, 8, 12), draw(12)], "dilate": (1, 2), "pad": 1},
        {"kind": "bn", "weights": [1 + 0.1 * draw(12), draw(12), moments]},
        {"kind": "relu"},
        {"kind": "pool", "method": "avg", "poolSize": 3, "stride": (2, 3), "pad": (1, 0, 0, 1)},
        {"kind": "conv", "weights": [0.05 * draw(5, 6, 12, 6), identity]},
    ]
