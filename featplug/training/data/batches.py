"""Batches of training data: one per step, prepared ahead by other processes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

_PREFETCHED = 4
"""Number of items that each process prepares ahead."""


class StepBatches(Dataset[dict[str, Tensor]], ABC):
    """A batch of samples per step, which depends on the seed and the step only."""

    def __init__(self, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, not {batch_size}.")
        self.batch_size, self.seed = batch_size, seed

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step."""
        return self.plan(step)

    def plan(self, step: int) -> dict[str, Tensor]:
        """Stack the samples of a step."""
        first = step * self.batch_size
        samples = [self.sample(number) for number in range(first, first + self.batch_size)]
        return {
            key: torch.from_numpy(np.stack([sample[key] for sample in samples]))
            for key in samples[0]
        }

    @abstractmethod
    def sample(self, number: int) -> Mapping[str, np.ndarray]:
        """Make one sample, by its number among those of all steps."""

    def sample_rng(self, number: int) -> np.random.Generator:
        """Return the source of randomness of a sample."""
        return np.random.default_rng([self.seed, 0, number])


def load_ahead(
    data: Dataset[Any], indices: Sequence[int], num_workers: int, pin_memory: bool = False
) -> Iterator[Any]:
    """Prepare items of a dataset, in the order of the indices, before they are needed.

    The dataset is pickled to each of the worker processes; without workers, this process prepares
    the items. They are not collated. Pinned memory makes copies to a GPU faster.
    """
    workers = min(num_workers, len(indices))
    if not workers:
        return (data[index] for index in indices)
    # Spawned, not forked: a fork copies locks in the state that they have, without the threads
    # that would release them, and shares open HDF5 files. Processes of a fork server would outlive
    # this process if it is killed.
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
    """Limit OpenCV to one thread, as the loader does for torch."""
    cv2.setNumThreads(1)
