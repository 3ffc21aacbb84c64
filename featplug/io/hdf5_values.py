"""Reading values of an HDF5 file that another program wrote, within limits.

HDF5 trusts a file: a data set may lie in any other file, announce any size, and unpack to more than
it announces, since the filter for deflate goes on to the end of its stream.
"""

from math import prod
from typing import Any

import h5py
import numpy as np
from h5py import h5z

from featplug.io.limits import Budget, LimitError, inflate

_RATIOS = {h5z.FILTER_DEFLATE: 1032, h5z.FILTER_LZF: 100}
"""Largest ratios that compression can reach."""
_FILTERS = {*_RATIOS, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}


def hard_linked(parent: h5py.Group, name: str) -> Any:
    """Return a member of a group that lies in the group's file.

    Raises:
        ValueError: it is a link to a path, which may be that of any other file.
    """
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link to elsewhere")
    return parent[name]


def read_dataset(dataset: Any, budget: Budget) -> np.ndarray:
    """Read the numbers of a data set.

    Raises:
        LimitError: the data set is larger than is left of the budget, or unpacks to more.
        ValueError: it is not made of numbers, or lies in another file.
        OSError, RuntimeError: it is damaged.
    """
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "biufV":
        raise ValueError(f"{dataset.name} is not made of numbers")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{dataset.name} lies in another file")
    if dataset.dtype.hasobject or dataset.shape is None:
        raise ValueError(f"{dataset.name} is not made of numbers")
    item_size = dataset.dtype.itemsize
    budget.take(dataset.size * item_size)
    if dataset.chunks is not None:
        _check_chunks(dataset, prod(dataset.chunks) * item_size, budget)
    return dataset[()]


def _check_chunks(dataset: h5py.Dataset, chunk_bytes: int, budget: Budget) -> None:
    """Check that no chunk unpacks to more than its size."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if not set(filters) <= _FILTERS or len(set(filters)) < len(filters):
        raise ValueError(f"{dataset.name} is compressed in a way that is not read")
    Budget(budget.max_bytes).take(chunk_bytes)
    ratio = max(_RATIOS.get(code, 0) for code in (0, *filters))
    if not ratio:
        return
    offsets: list[tuple[int, ...]] = []

    def note(chunk: Any) -> None:
        # Smaller ones cannot unpack to more than the limit.
        if chunk.size * ratio > budget.max_bytes:
            offsets.append(chunk.chunk_offset)

    dataset.id.chunk_iter(note)
    for offset in offsets:
        if h5z.FILTER_DEFLATE not in filters:
            raise LimitError("it is compressed in pieces that are too large")
        mask, content = dataset.id.read_direct_chunk(offset)
        if not mask >> filters.index(h5z.FILTER_DEFLATE) & 1:
            inflate(content, chunk_bytes)
