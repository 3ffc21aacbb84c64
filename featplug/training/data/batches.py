"""Items of a dataset, made ahead in other processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

_PREFETCHED = 4
"""Items that each process makes ahead."""


def load_ahead(
    data: Dataset[Any], indices: Sequence[int], num_workers: int, pin_memory: bool = False
) -> Iterator[Any]:
    """Make items of a dataset in other processes, before they are asked for.

    Args:
        data: the dataset; its items are not collated. Copies of it, pickled, go to the processes.
        indices: of the items, in order.
        num_workers: processes; 0 makes the items in this one.
        pin_memory: for copies to a GPU.

    Returns:
        The items.
    """
    workers = min(num_workers, len(indices))
    if not workers:
        return (data[index] for index in indices)
    # Not forks of this process: a fork has none of its threads, but their locks as they were, and
    # waits for ever at one that was held. Nor does it share an open HDF5 file this way. Those of a
    # fork server would outlive this process where it is killed.
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        prefetch_factor=_PREFETCHED,
        pin_memory=pin_memory,
        multiprocessing_context="spawn",
        worker_init_fn=_start_worker,
    )
    return iter(loader)


def _start_worker(_: int) -> None:
    """Keep OpenCV to one thread, as torch is kept by the loader: the processes are many."""
    cv2.setNumThreads(1)
