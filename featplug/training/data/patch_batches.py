"""Batches of whole patch groups, for losses that compare all patches of a batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor
from torch.utils.data import Dataset

from featplug.training.data.mining import MinedLabels
from featplug.training.data.patch_groups import PatchGroups
from featplug.training.data.photographs import shuffled_place


@dataclass(frozen=True)
class PatchBatchOptions:
    """Contents of a batch of patches."""

    batch_size: int = 1024
    """Number of patches of a batch."""
    photographs: int = 8
    """Number of photographs that they come from, in equal numbers, as patches of one photograph
    are harder to distinguish; more where these have too few."""
    max_per_group: int = 4
    """Largest number of patches of a group."""


def affinity_of_groups(groups: Tensor) -> Tensor:
    """Compute which patches match: M×M int8, 1 within one of the M groups, −1 between groups."""
    same = groups[:, None] == groups
    return same.to(torch.int8).mul_(2).sub_(1)


def count_patches(
    groups: PatchGroups, names: Sequence[str], max_per_group: int, enough: float = math.inf
) -> int:
    """Count the patches of photographs that a batch can have; stop when there are enough."""
    total = 0
    for name in names:
        if total >= enough:
            break
        sizes = np.unique(groups.labels(name), return_counts=True)[1]
        total += int(np.minimum(sizes, max_per_group).sum())
    return total


class PatchGroupBatches(Dataset[dict[str, Tensor]]):
    """Batches of whole patch groups; a step's batch depends on the seed and the step only.

    A batch has ``patches`` M×48×48 uint8, for
    :func:`~featplug.training.data.patch_groups.jitter_patches`; ``labels`` M int64, the groups,
    counted from 0; and ``affinity`` M×M int8 for DOAP's loss: 1 within a group, −1 between groups,
    and, if labels were mined, 0 between groups of one photograph that look alike. The last group
    may be cut short by the size of the batch.

    Raises:
        ValueError: a file lacks a photograph, or the patches are too few for a batch.
    """

    def __init__(
        self,
        groups: PatchGroups,
        names: Sequence[str] | None = None,
        options: PatchBatchOptions = PatchBatchOptions(),
        seed: int = 0,
        mined: MinedLabels | None = None,
    ) -> None:
        self.groups, self.mined, self.seed, self.options = groups, mined, seed, options
        self.names = list(groups.names() if names is None else names)
        groups.require(self.names)
        if mined is not None:
            mined.require_of(groups, self.names)
        batch_size = self.options.batch_size
        available = count_patches(groups, self.names, self.options.max_per_group, batch_size)
        if available < batch_size:
            raise ValueError(
                f"{groups.path} has only {available} patches of these {len(self.names)} "
                f"photographs, too few for a batch of {batch_size}; make it smaller, "
                "or add photographs."
            )

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step."""
        options = self.options
        rng = np.random.default_rng([self.seed, 0, step])
        selected: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        counts: dict[str, int] = {}
        remaining = options.batch_size
        photographs = min(options.photographs, len(self.names))
        for k, name in enumerate(self._order(step, rng)):
            selected[name] = self._choose(self.groups.labels(name), rng)
            quota = min(remaining, -(-remaining // max(photographs - k, 1)))
            counts[name] = min(quota, len(selected[name][0]))
            remaining -= counts[name]
            if not remaining:
                break
        for name, (rows, _) in selected.items():  # if the later photographs have too few patches
            more = min(remaining, len(rows) - counts[name])
            counts[name] += more
            remaining -= more
        patches, labels, far, first = [], [], [], 0
        for name, (rows, groups) in selected.items():
            rows, groups = rows[: counts[name]], groups[: counts[name]]
            all_patches, *_ = self.groups.read(name, "patches")
            patches.append(all_patches[rows])
            labels.append(first + groups)
            if self.mined is not None:
                far.append(self.mined.are_far(name, rows))
            first += groups.max(initial=-1) + 1
        label = torch.from_numpy(np.concatenate(labels))
        affinity = affinity_of_groups(label)
        if far:
            alike = torch.from_numpy(block_diag(*(~of_photograph for of_photograph in far)))
            affinity.masked_fill_(alike & (affinity < 0), 0)
        return {
            "patches": torch.from_numpy(np.concatenate(patches)),
            "labels": label,
            "affinity": affinity,
        }

    def _order(self, step: int, rng: np.random.Generator) -> Iterator[str]:
        """Yield the step's photographs, each once per round if possible, then all others."""
        first = step * self.options.photographs
        last = min(first + self.options.photographs, first + len(self.names))
        taken = []
        for number in range(first, last):
            _, index = shuffled_place(self.seed, number, len(self.names))
            if index not in taken:  # the end of one round and the start of the next
                taken.append(index)
                yield self.names[index]
        for index in rng.permutation(len(self.names)):
            if index not in taken:
                yield self.names[index]

    def _choose(
        self, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose rows of a photograph's patches, group after group at random, and their groups."""
        _, group = np.unique(labels, return_inverse=True)
        rank = rng.permutation(group.max(initial=-1) + 1)[group]
        rows = rng.permutation(len(labels))
        rows = rows[np.argsort(rank[rows], kind="stable")]
        rank = rank[rows]
        number = np.arange(len(rows)) - np.searchsorted(rank, rank)
        kept = number < self.options.max_per_group
        return rows[kept], rank[kept]
