"""Writes TensorFlow's frozen graphs and checkpoints, for the tests of what reads them."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from featplug.weights.converters.tensorflow_files import TABLE_MAGIC, masked_crc32c

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bool": 10, "float16": 19}


def varint(value: int) -> bytes:
    out = b""
    value = int(value) % 2**64
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(index: int, value: int) -> bytes:
    return varint(index << 3) + varint(value)


def chunk(index: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(index << 3 | 2) + varint(len(content)) + content


def shape_message(shape: Iterable[int]) -> bytes:
    return b"".join(chunk(2, number(1, size)) for size in shape)


def tensor_message(array: np.ndarray) -> bytes:
    shape = chunk(2, shape_message(array.shape))
    return number(1, DTYPES[array.dtype.name]) + shape + chunk(4, array.tobytes())


def node(
    name: str, op: str, inputs: Iterable[str] = (), attributes: Mapping[str, bytes] | None = None
) -> bytes:
    """A node of a graph, as a field of GraphDef; attributes are whole AttrValues."""
    content = chunk(1, name) + chunk(2, op) + b"".join(chunk(3, value) for value in inputs)
    for key, value in (attributes or {}).items():
        content += chunk(5, chunk(1, key) + chunk(2, value))
    return chunk(1, content)


def constant(name: str, array: np.ndarray) -> bytes:
    kind = number(6, DTYPES[array.dtype.name])
    return node(name, "Const", (), {"dtype": kind, "value": chunk(8, tensor_message(array))})


def float_attribute(value: float) -> bytes:
    return varint(4 << 3 | 5) + struct.pack("<f", value)


def frozen_graph(
    arrays: Mapping[str, np.ndarray], epsilon: float = 1e-5, scope: str = "", fused: bool = True
) -> bytes:
    """Variables as constants read through identities, as TensorFlow 1 freezes them."""
    out = [node(f"{scope}input", "Placeholder", (), {"dtype": number(6, 1)})]
    for name, array in arrays.items():
        out.append(constant(scope + name, array))
        out.append(node(f"{scope}{name}/read", "Identity", [scope + name], {"T": number(6, 1)}))
        layer, _, leaf = (scope + name).rpartition("/")
        if leaf == "moving_variance" and fused:
            inputs = [f"{scope}input", "gamma", "beta"]
            inputs += [f"{layer}/{value}/read" for value in ("moving_mean", "moving_variance")]
            attributes = {"epsilon": float_attribute(epsilon), "is_training": number(5, 0)}
            out.append(node(f"{layer}/FusedBatchNormV3", "FusedBatchNormV3", inputs, attributes))
        elif leaf == "moving_variance":
            out.append(constant(f"{layer}/batchnorm/add/y", np.array(epsilon, np.float32)))
    return b"".join(out) + chunk(4, number(1, 27))


def table(entries: Mapping[str, bytes], per_block: int = 16, restart_interval: int = 4) -> bytes:
    """A LevelDB table: sorted keys with prefix compression, restarts, an index, checksums."""

    def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
        out, restarts, previous = b"", [], b""
        for index, (key, value) in enumerate(pairs):
            shared = 0
            if index % restart_interval == 0:
                restarts.append(len(out))
            else:
                same = [a == b for a, b in zip(previous, key, strict=False)]
                shared = same.index(False) if False in same else len(same)
            out += varint(shared) + varint(len(key) - shared) + varint(len(value))
            out += key[shared:] + value
            previous = key
        out += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)) + b"\0"
        return out + struct.pack("<I", masked_crc32c(out))

    pairs = sorted((key.encode(), value) for key, value in entries.items())
    out, handles = b"", []
    for start in range(0, len(pairs), per_block):
        content = block(pairs[start : start + per_block])
        last = pairs[start : start + per_block][-1][0]
        handles.append((last, varint(len(out)) + varint(len(content) - 5)))
        out += content
    footer = b""
    for content in (block([]), block(handles)):
        footer += varint(len(out)) + varint(len(content) - 5)
        out += content
    return out + footer.ljust(40, b"\0") + TABLE_MAGIC


def bundle(
    arrays: Mapping[str, np.ndarray], others: Mapping[str, bytes] | None = None
) -> tuple[bytes, bytes]:
    """Index and data of a checkpoint; others are entries that are no numbers."""
    data = b""
    entries = {"": number(1, 1) + chunk(3, number(1, 1))}
    for name, array in sorted(arrays.items()):
        content = array.tobytes()
        entries[name] = (
            number(1, DTYPES[array.dtype.name])
            + chunk(2, shape_message(array.shape))
            + (number(4, len(data)) if data else b"")
            + number(5, len(content))
            + varint(6 << 3 | 5)
            + struct.pack("<I", masked_crc32c(content))
        )
        data += content
    return table({**entries, **(others or {})}), data


def write_checkpoint(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write a checkpoint with what an optimiser adds to it; give its ``.index``."""
    slots = {
        f"{key}/Momentum": np.zeros_like(value)
        for key, value in arrays.items()
        if key.endswith("bias")
    }
    rest = {
        "global_step": np.array(400_000, np.int64),
        "loss/scale_temperature": np.array(1.5, np.float32),
    }
    index, data = bundle({**arrays, **slots, **rest})
    (folder / f"{name}.index").write_bytes(index)
    (folder / f"{name}.data-00000-of-00001").write_bytes(data)
    return folder / f"{name}.index"


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
