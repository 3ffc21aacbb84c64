"""Arrays in HDF5 files, which may announce what they do not have, or inflate without end."""

from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5p, h5s, h5t

from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.hdf5_values import read_dataset
from featplug.io.limits import Budget

MAX_ARRAY_BYTES = 512 * 2**20
"""Largest array that is read: descriptors 128×N of a million keypoints in float32."""
_MAX_INFLATION = 100
_FREE_BYTES = 16 * 2**20
"""An array may have so many bytes beyond 100 times its compressed size: features compress to a
twentieth at most, a file of zeros to a thousandth."""
_FLETCHER_BYTES = 4096
"""Arrays from this size on have HDF5's checksum. It needs an index of 2 KiB, which would double the
size of files of small arrays; these have featplug's checksums only."""
_KINDS = "fiub"
"""Kinds of numpy types that are read: real numbers and truth values."""
_COMPACT_GROUP = h5p.create(h5p.GROUP_CREATE)
_COMPACT_GROUP.set_link_creation_order(h5p.CRT_ORDER_TRACKED)
"""HDF5's newer form of groups, which takes 700 bytes less for a few arrays."""
_UNCACHED = h5p.create(h5p.DATASET_ACCESS)
_UNCACHED.set_chunk_cache(0, 0, 1.0)
"""Writes chunks at once: HDF5 crashes where it finds the disk full as it closes an array."""


def read_array(path: Path, group: h5py.Group, key: str) -> np.ndarray:
    """Read an array of numbers, or of truth values, in the byte order of this machine.

    Raises:
        UnusableDataError: it holds something else, is too large, or the file does not have its
            data.
        Exception: see :func:`guarded`.
    """
    where = f"{path}: {group.name}/{key}"
    dataset = h5py.Dataset(h5d.open(group.id, key.encode()))
    dtype = dataset.dtype
    if dataset.shape is None or dtype.kind not in _KINDS:
        raise UnusableDataError(f"{where} must be an array of real numbers, not {dtype}.")
    size, stored = prod(dataset.shape) * dtype.itemsize, dataset.id.get_storage_size()
    if size > MAX_ARRAY_BYTES:
        raise _too_large(where, size)
    if stored and dataset.id.get_create_plist().get_nfilters():
        stored = _FREE_BYTES + _MAX_INFLATION * stored
    if size > stored and not (dataset.is_virtual or dataset.external):
        raise UnusableDataError(f"{where} is announced, but has no data; make the file again.")
    try:
        array = read_dataset(dataset, Budget(MAX_ARRAY_BYTES))
    except ValueError as error:
        raise UnusableDataError(f"{where}: {error}; make the file again.") from error
    native = np.dtype(np.float64) if dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return np.asarray(array, native)


def _too_large(where: str, size: int) -> UnusableDataError:
    return UnusableDataError(
        f"{where} would have {size / 2**20:.0f} MiB, of at most {MAX_ARRAY_BYTES // 2**20}; "
        "extract fewer keypoints."
    )


def has_numbers(group: h5py.Group, key: str) -> bool:
    """Return whether a group has an array of numbers of that name, and not text."""
    item = group[key]
    return isinstance(item, h5py.Dataset) and item.dtype.kind in _KINDS


def stored_attribute(value: Any) -> Any:
    """Return the value of an attribute as it is to be stored.

    Text gets a fixed length: HDF5 can hang in the heap where it keeps other text, if that is
    damaged.
    """
    if not isinstance(value, str):
        return value
    encoded = value.encode()
    return np.array(encoded, f"S{max(1, len(encoded))}")


def read_attribute(owner: h5py.Group | h5py.Dataset, key: str) -> Any:
    """Read an attribute, text as str; None if there is none."""
    value = owner.attrs.get(key)
    return value.decode() if isinstance(value, bytes) else value


def unnamed_group(file: h5py.File) -> h5py.Group:
    """Make a group that is not linked into the file yet."""
    return h5py.Group(h5g.create(file.id, None, gcpl=_COMPACT_GROUP))


def write_array(group: h5py.Group, key: str, array: np.ndarray) -> None:
    """Write an array, a large one with HDF5's checksum, which any program verifies."""
    array = np.asarray(array, order="C")
    if array.nbytes > MAX_ARRAY_BYTES:
        raise _too_large(f"{group.file.filename}: {key}", array.nbytes)
    creation = None
    if array.nbytes >= _FLETCHER_BYTES and array.ndim:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk(array.shape)
        creation.set_fletcher32()
    kind, space = h5t.py_create(array.dtype, logical=True), h5s.create_simple(array.shape)
    dataset = h5d.create(group.id, key.encode(), kind, space, creation, dapl=_UNCACHED)
    dataset.write(h5s.ALL, h5s.ALL, array)
