"""Limits on the memory that a file takes, since a small file can announce or unpack to gigabytes.

A reader counts what a file announces before it allocates it, and unpacks no more than announced.
The errors here name no file: a reader turns them, and ``MemoryError``, into its own sentence.
"""

import gzip
import io
import mmap
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np

MAX_BYTES = 3 * 2**28
"""Default number of bytes that a file may have, and may unpack to."""
MAX_ITEMS = 100_000
"""Default number of parts that a file may consist of: members, nodes, fields, …"""

_STEP = 2**20
_INPUT_STEP = 2**16
_ENTRY_MAGIC = b"PK\x01\x02"
_UNREADABLE_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    UnicodeDecodeError,
)
_UNREADABLE_HEADER = (
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    tokenize.TokenError,
)
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class LimitError(ValueError):
    """A file needs more than it may; the message says of what, in a few words."""


class Budget:
    """Memory, in bytes and in parts, that is left for reading one file."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_items: int = MAX_ITEMS) -> None:
        self.max_bytes, self.max_items = max_bytes, max_items
        self._bytes = self._items = 0

    def take(self, num_bytes: int = 0, items: int = 1) -> None:
        """Count an allocation before it is made.

        Raises:
            LimitError: the file has needed more than it may, or the number is negative.
        """
        if num_bytes < 0:
            raise LimitError(f"a size of {num_bytes} bytes is announced")
        self._bytes += num_bytes
        self._items += items
        if self._bytes > self.max_bytes:
            raise LimitError(f"it unpacks to more than {as_megabytes(self.max_bytes)}")
        if self._items > self.max_items:
            raise LimitError(f"it has more than {self.max_items:,} parts")


def as_megabytes(num_bytes: int) -> str:
    """Return a number of bytes in words."""
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes < 1e7 else f"{num_bytes / 1e6:,.0f} MB"


def map_file(path: Path) -> memoryview:
    """Return the content of a file without reading it into memory."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def inflate(data: bytes | memoryview, size: int) -> memoryview:
    """Unpack a zlib stream of a known size; memory is used only as bytes arrive.

    Raises:
        LimitError: the stream holds more than that.
        ValueError: it holds less, or is damaged.
    """
    unpacked = np.empty(size, np.uint8)
    stream, arrived = zlib.decompressobj(), 0
    view = memoryview(data)
    try:
        for start in range(0, len(view), _INPUT_STEP):
            waiting: bytes | memoryview = view[start : start + _INPUT_STEP]
            while len(waiting):
                # One byte more than there is room for shows a stream that is too long.
                chunk = stream.decompress(waiting, min(_STEP, size - arrived + 1))
                if arrived + len(chunk) > size:
                    raise LimitError(f"it unpacks to more than the {size} bytes that it announces")
                unpacked[arrived : arrived + len(chunk)] = np.frombuffer(chunk, np.uint8)
                arrived += len(chunk)
                waiting = b"" if stream.eof else stream.unconsumed_tail
            if stream.eof:
                break
    except zlib.error as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error
    if not stream.eof or arrived != size:
        raise ValueError(f"it unpacks to {arrived} of {size} bytes")
    return memoryview(unpacked)  # type: ignore[arg-type]


def gunzip(path: Path, max_bytes: int = MAX_BYTES) -> io.BytesIO:
    """Unpack a gzip file to a file in memory.

    Raises:
        LimitError: it holds more than ``max_bytes``.
        ValueError: it is damaged.
    """
    unpacked = io.BytesIO()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(_STEP):
                if unpacked.tell() + len(chunk) > max_bytes:
                    raise LimitError(f"it unpacks to more than {as_megabytes(max_bytes)}")
                unpacked.write(chunk)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error
    unpacked.seek(0)
    return unpacked


@contextmanager
def open_zip(
    path: Path, max_bytes: int = MAX_BYTES, max_items: int = 10_000
) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive after a check of what its members announce to unpack to.

    ``zipfile`` unpacks no more of a member than that, and compares its checksum when it is read.

    Raises:
        LimitError: there are too many members, or they are too large.
        ValueError: the archive is damaged, or has two members of one name.
    """
    try:
        # Counted before zipfile makes an object of each.
        budget = Budget(max_bytes, max_items)
        for _ in re.finditer(_ENTRY_MAGIC, map_file(path)):
            budget.take()
        with zipfile.ZipFile(path) as archive:
            names = set()
            for member in archive.infolist():
                budget.take(member.file_size, items=0)
                if member.filename in names:
                    raise ValueError(f"it has two members {member.filename}")
                names.add(member.filename)
            yield archive
    except _UNREADABLE_ZIP as error:
        raise ValueError(f"it cannot be unpacked: {error or 'it ends too soon'}") from error


def read_npz(path: Path, max_bytes: int = 2**29) -> dict[str, np.ndarray]:
    """Read the arrays of a NumPy archive by name, without unpickling anything.

    Raises:
        LimitError: the arrays are larger than ``max_bytes`` in all.
        ValueError: the archive is damaged, or has members that are not arrays of plain values.
    """
    with open_zip(path, max_bytes) as archive:
        names = archive.namelist()
        return {name.removesuffix(".npy"): _read_npy(archive.read(name), name) for name in names}


def read_npy(path: Path, max_bytes: int = 2**29) -> np.ndarray:
    """Read a file of NumPy's that holds one array, without unpickling anything.

    Raises:
        LimitError: the file is larger than ``max_bytes``.
        ValueError: it is damaged, or holds something else than plain values.
    """
    Budget(max_bytes).take(path.stat().st_size)
    return _read_npy(path.read_bytes(), "it")


def _read_npy(data: bytes, name: str) -> np.ndarray:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in _NPY_HEADERS:
        raise ValueError(f"{name} has the version {version} of NumPy's format")
    try:
        shape, is_fortran, dtype = _NPY_HEADERS[version](file)
    except _UNREADABLE_HEADER as error:
        raise ValueError(f"{name} has no readable header of an array") from error
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    start = file.tell()
    if prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"{name} has {len(data) - start} bytes for an array of shape {shape}")
    values = np.frombuffer(data, dtype, offset=start)
    return values.reshape(shape, order="F" if is_fortran else "C")
