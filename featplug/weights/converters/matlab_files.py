"""Reading MATLAB's files without MATLAB and without running code.

Version 5 is MATLAB's "MAT-File Format" (The MathWorks, level 5): nested elements of a type and a
length. SciPy's reader is not used, as it crashes the process on damaged files. Version 7.3 is HDF5:
arrays have reversed axes, cells and struct arrays are data sets of references, and text is a data
set of character codes.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from torch import Tensor

from featplug.io.hdf5_values import hard_linked, read_dataset
from featplug.io.limits import MAX_BYTES, Budget, inflate, map_file
from featplug.weights.checkpoints import check_head, damaged

# All that the readers raise on a file with flipped or missing bytes.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_mat(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read the variables of a MATLAB file, of version 5 or 7.3.

    Args:
        path: the file.
        max_bytes: the largest size of the file, and of what it unpacks to.

    Returns:
        Structs as dicts, struct arrays and cells as lists in MATLAB's order of elements, text as
        str, numbers as arrays with MATLAB's axes, and None for objects, function handles and
        sparse matrices. Arrays may be read-only views.

    Raises:
        ValueError: the file is damaged, of another kind or too large.
    """
    is_hdf5 = _is_version73(path, max_bytes)
    with _explaining_damage(path):
        if not is_hdf5:
            return _Version5(map_file(path), Budget(max_bytes)).variables()
        with h5py.File(path) as file:
            reader = _Version73(Budget(max_bytes, _MAX_VALUES))
            return {key: reader.value(file, key) for key in file if not key.startswith("#")}


def read_mat_array(path: Path, name: str, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """Read the array of one variable, without unpacking the others.

    Returns:
        The array with MATLAB's axes, which may be a read-only view of the file.

    Raises:
        ValueError: the file is damaged or of another kind, or has no such array.
    """
    is_hdf5 = _is_version73(path, max_bytes)
    with _explaining_damage(path):
        if is_hdf5:
            with h5py.File(path) as file:
                array = (
                    _Version73(Budget(max_bytes, _MAX_VALUES)).value(file, name)
                    if name in file
                    else None
                )
        else:
            array = _Version5(map_file(path), Budget(max_bytes)).variable(name)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} has no array {name}; download it again.")
    return array


def mat_array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a file's arrays without reading them; detects half downloads.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    is_hdf5 = _is_version73(path, MAX_BYTES)
    with _explaining_damage(path):
        if is_hdf5:
            with h5py.File(path) as file:
                items = {key: hard_linked(file, key) for key in file}
                return {k: v.shape[::-1] for k, v in items.items() if isinstance(v, h5py.Dataset)}
        return _Version5(map_file(path), Budget()).shapes()


def read_matconvnet(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a network of MatConvNet, whose ``layers`` are a list of dicts.

    Raises:
        ValueError: the file is damaged or holds no such network.
    """
    contents = read_mat(path, max_bytes)
    net = contents.get("net", contents)
    if net is None or list(contents) == ["None"]:  # version 5 does not name its objects
        raise ValueError(
            f"{path} keeps its network as a MATLAB object; save it as a struct, "
            "`net = net.saveobj(); save(file, 'net')`."
        )
    layers = nested(net, "layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        held = ", ".join(list(contents)[:3]) or "nothing"
        raise ValueError(
            f"{path} has no layers of a MatConvNet network (it holds {held}), so it is another "
            "system's file."
        )
    return net


def nested(value: Any, *keys: str) -> Any:
    """Return a field of nested structs, None where one of them does not exist."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def to_tensor(values: np.ndarray) -> Tensor:
    """Return an array as a contiguous float32 tensor, a copy of a read-only one."""
    return torch.from_numpy(np.require(values, np.float32, ["C", "W"]))


def _is_version73(path: Path, max_bytes: int) -> bool:
    head = check_head(path, max_bytes)
    is_hdf5 = h5py.is_hdf5(path)
    if not is_hdf5 and head.startswith(b"MATLAB 7.3"):
        raise damaged(path, "its HDF5 part is missing")
    if not is_hdf5 and not head.startswith(b"MATLAB 5.0"):
        raise ValueError(
            f"{path} is not a MATLAB file of version 5 or 7.3; give the authors' .mat file, or a "
            ".safetensors file."
        )
    return is_hdf5


@contextmanager
def _explaining_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise damaged(path, str(error) or "it ends too soon") from error


# ---------------------------------------------------------------- version 5

_MATRIX, _COMPRESSED = 14, 15
# Types of elements with numbers or text in them.
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
    16: "u1", 17: "u2", 18: "u4",
}  # fmt: skip
_CELL, _STRUCT, _CHAR, _OPAQUE = 1, 2, 4, 17
# Classes of numeric arrays, whose elements may be stored in a smaller type.
_CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
_HEADER_SIZE = 128
_PEEK = 4096
"""Bytes at the start of a variable that surely hold its shape and name."""


class _Version5:
    """A file of version 5; its arrays are views of it, or of the variables it unpacks to."""

    def __init__(self, data: memoryview, budget: Budget) -> None:
        if len(data) < _HEADER_SIZE:
            raise ValueError("it ends within its head")
        self._data = data
        self._order: Literal["<", ">"] = ">" if data[126:128] == b"MI" else "<"
        self._budget = budget

    def variables(self) -> dict[str, Any]:
        named = {}
        for kind, content in self._elements(self._data[_HEADER_SIZE:]):
            name, value = self._matrix(self._unpacked(kind, content))
            if name:  # the one without holds the data of objects
                named[name] = value
        return named

    def variable(self, requested: str) -> Any:
        """Return one variable, or None where none has this name; unpacks no other."""
        for kind, content in self._elements(self._data[_HEADER_SIZE:]):
            _, name, _ = self._description(kind, content)
            if name == requested:
                return self._matrix(self._unpacked(kind, content))[1]
        return None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array of numbers."""
        described = [self._description(*e) for e in self._elements(self._data[_HEADER_SIZE:])]
        return {name: shape for _, name, shape in described if shape is not None}

    def _unpacked(self, kind: int, content: memoryview) -> memoryview:
        """Return the content of a variable, unpacked if it is compressed."""
        if kind == _COMPRESSED:
            size, _, _ = self._description(kind, content)
            self._budget.take(size)
            ((kind, content),) = self._elements(inflate(content, size))
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} is not a variable")
        return content

    def _description(
        self, kind: int, content: memoryview
    ) -> tuple[int, str, tuple[int, ...] | None]:
        """Return a variable's size in bytes, its name and, of an array of numbers, its shape."""
        size, start = len(content), 0
        if kind == _COMPRESSED:
            content = memoryview(zlib.decompressobj().decompress(content[:_PEEK], _PEEK))
            kind, size = struct.unpack_from(f"{self._order}2I", content)
            size, start = size + 8, 8
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} is not a variable")
        elements = self._elements(content[start:])
        array_class = int(self._numbers(*next(elements))[0]) & 0xFF
        if array_class == _OPAQUE:
            return size, "", None
        shape = tuple(self._numbers(*next(elements)).tolist())
        name = self._text(*next(elements))
        return size, name, shape if array_class in _CLASSES else None

    def _elements(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield type and content of the elements that data consists of."""
        while data:
            kind, size = struct.unpack_from(f"{self._order}2I", data)
            start, end = 8, 8 + size
            if kind >> 16:  # the short form has both in the first word and four bytes of content
                kind, size = kind & 0xFFFF, kind >> 16
                start, end = 4, 4 + size
            self._budget.take()
            if end > len(data) or (start == 4 and size > 4):
                raise ValueError(f"{size} bytes are announced, {len(data) - start} present")
            yield kind, data[start:end]
            aligned = end if kind == _COMPRESSED else -(-end // 8) * 8
            data = data[aligned:]

    def _matrix(self, data: memoryview) -> tuple[str, Any]:
        """Return the name and the value of an array of any class."""
        if not data:
            return "", np.zeros((0, 0))
        elements = self._elements(data)
        flags = int(self._numbers(*next(elements))[0])
        kind = flags & 0xFF
        if kind == _OPAQUE:
            return self._text(*next(elements)), None
        shape = tuple(self._numbers(*next(elements)).tolist())
        name = self._text(*next(elements))
        if kind in _CLASSES:
            values, dtype = self._numbers(*next(elements)), np.dtype(_CLASSES[kind])
            if values.dtype != dtype:
                self._budget.take(values.size * dtype.itemsize)
            return name, values.astype(dtype, copy=False).reshape(shape, order="F")
        if kind == _CHAR:
            return name, self._text(*next(elements))
        count = math.prod(shape)
        if kind == _CELL:
            return name, [self._inner(next(elements)) for _ in range(count)]
        if kind == _STRUCT:
            length = int(self._numbers(*next(elements))[0])
            text = bytes(next(elements)[1])
            fields = [text[i : i + length] for i in range(0, len(text), length)]
            names = [field.partition(b"\0")[0].decode() for field in fields]
            if not names:
                return name, {}
            structs = [{key: self._inner(next(elements)) for key in names} for _ in range(count)]
            return name, structs[0] if count == 1 else structs
        return name, None

    def _inner(self, element: tuple[int, memoryview]) -> Any:
        kind, content = element
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} is not an array")
        return self._matrix(content)[1]

    def _numbers(self, kind: int, content: memoryview) -> np.ndarray:
        return np.frombuffer(content, np.dtype(_NUMBERS[kind]).newbyteorder(self._order))

    def _text(self, kind: int, content: memoryview) -> str:
        self._budget.take(4 * len(content))
        if kind == 16:
            return bytes(content).decode()
        return self._numbers(kind, content).astype("<u4").tobytes().decode("utf-32-le")


# ---------------------------------------------------------------- version 7.3


_MAX_VALUES = 20_000
"""Largest number of values of a file; networks have about a thousand."""


class _Version73:
    """Turns the groups and data sets of a file of version 7.3 into plain values."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def value(self, parent: h5py.Group, name: str) -> Any:
        """Return the value of a member of a group."""
        return self._value(hard_linked(parent, name))

    def _value(self, item: Any) -> Any:
        self._budget.take()
        kind = item.attrs.get("MATLAB_class", b"")
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if "MATLAB_object_decode" in item.attrs or kind == "function_handle":
            return None
        if isinstance(item, h5py.Group):
            self._budget.take(items=len(item))
            fields = {name: hard_linked(item, name) for name in item}
            if fields and all(map(_is_column, fields.values())):
                columns = [self._dereference(field) for field in fields.values()]
                return [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]
            return {name: self._value(field) for name, field in fields.items()}
        if item.attrs.get("MATLAB_empty", 0):
            if kind in ("cell", "struct"):
                return []
            return "" if kind == "char" else np.zeros(self._empty_shape(item))
        if item.dtype == h5py.ref_dtype:
            return self._dereference(item)
        numbers = read_dataset(item, self._budget)
        if kind == "char":
            self._budget.take(4 * numbers.size)
            return np.ravel(numbers).astype("<u4").tobytes().decode("utf-32-le")
        return np.transpose(numbers)

    def _empty_shape(self, item: h5py.Dataset) -> tuple[int, ...]:
        shape = tuple(map(int, read_dataset(item, self._budget)))
        self._budget.take(8 * math.prod(shape))
        return shape

    def _dereference(self, item: h5py.Dataset) -> list[Any]:
        # The axes are reversed, so that C order here is MATLAB's order of elements.
        self._budget.take(64 * item.size, items=item.size)
        return [self._value(item.file[reference]) for reference in np.ravel(item[()])]


def _is_column(item: Any) -> bool:
    """Return whether this is a field of a struct array: references without a class."""
    is_reference = isinstance(item, h5py.Dataset) and item.dtype == h5py.ref_dtype
    return is_reference and "MATLAB_class" not in item.attrs
