"""Writes PyTorch checkpoints whose storages and tensors announce any sizes."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION


@dataclass(frozen=True)
class Announced:
    """A tensor of float32 as it is pickled."""

    key: str
    numel: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        arguments = (self.offset, self.shape, self.stride, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, (_Stored(self.key, self.numel), *arguments)


@dataclass(frozen=True)
class _Stored:
    key: str
    numel: int


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _Stored):
            return None
        return ("storage", torch.FloatStorage, value.key, "cpu", value.numel, *self.views)

    views: tuple[Any, ...] = ()


def pickled(contents: Any, is_legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=2)
    pickler.views = (None,) if is_legacy else ()
    pickler.dump(contents)
    return buffer.getvalue()


def write_zip(
    path: Path,
    contents: Any,
    records: Mapping[str, bytes],
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Write today's form; contents may be the pickle itself."""
    program = contents if isinstance(contents, bytes) else pickled(contents)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        for key, content in records.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")
    return path


def write_legacy(path: Path, contents: Any, records: Mapping[str, bytes]) -> Path:
    """Write the form before PyTorch 1.6; contents may be the pickle itself."""
    program = contents if isinstance(contents, bytes) else pickled(contents, is_legacy=True)
    system = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": {}}
    with path.open("wb") as file:
        for value in (MAGIC_NUMBER, PROTOCOL_VERSION, system):
            file.write(pickled(value))
        file.write(program + pickled(list(records)))
        for content in records.values():
            file.write(struct.pack("<q", len(content) // 4) + content)
    return path
