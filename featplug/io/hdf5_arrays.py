"""Arrays in HDF5 files, which may announce what they do not have, or inflate without end."""

from math import prod
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5g, h5p, h5s, h5t

from featplug.io.hdf5_guard import UnusableDataError

MAX_ARRAY_BYTES = 512 * 2**20
"""Largest array that is read: descriptors 128×N of a million keypoints in float32."""
_MAX_INFLATION = 1100
"""HDF5's filters make an array at most so many times smaller (deflate: 1032)."""
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
    dataset = group[key]
    where = f"{path}: {group.name}/{key}"
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise UnusableDataError(f"{where} must be an array; make the file again.")
    layout = dataset.id.get_create_plist()
    if layout.get_layout() == h5d.VIRTUAL or layout.get_external_count():
        raise UnusableDataError(f"{where} has its data in another file; copy them into this one.")
    if dataset.dtype.kind not in _KINDS:
        raise UnusableDataError(f"{where} must be real numbers, not {dataset.dtype}.")
    size = prod(dataset.shape) * dataset.dtype.itemsize
    if size > MAX_ARRAY_BYTES:
        raise _too_large(where, size)
    inflation = _MAX_INFLATION if layout.get_nfilters() else 1
    if size > inflation * dataset.id.get_storage_size():
        raise UnusableDataError(f"{where} is announced, but has no data; make the file again.")
    array = dataset[()]
    native = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
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


def unnamed_group(file: h5py.File) -> h5py.Group:
    """Make a group that is not linked into the file yet."""
    return h5py.Group(h5g.create(file.id, None, gcpl=_COMPACT_GROUP))


def write_array(group: h5py.Group, key: str, array: np.ndarray) -> None:
    """Write an array with HDF5's checksum, which any program verifies that reads it."""
    array = np.asarray(array, order="C")
    if array.nbytes > MAX_ARRAY_BYTES:
        raise _too_large(f"{group.file.filename}: {key}", array.nbytes)
    creation = h5p.create(h5p.DATASET_CREATE)
    if array.size and array.ndim:  # a checksum needs chunks, and chunks need a size
        creation.set_chunk(array.shape)
        creation.set_fletcher32()
    kind, space = h5t.py_create(array.dtype, logical=True), h5s.create_simple(array.shape)
    dataset = h5d.create(group.id, key.encode(), kind, space, creation, dapl=_UNCACHED)
    dataset.write(h5s.ALL, h5s.ALL, array)
