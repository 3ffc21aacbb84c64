"""Groups of patches that show the same point, as a file and as training batches.

They stand in for the patch data sets (UBC PhotoTour, HPatches) that DOAP (He et al., "Local
Descriptors Optimized for Average Precision", CVPR 2018) and ContextDesc (Luo et al., CVPR 2019)
are trained on; :mod:`featplug.training.data.patch_views` makes them of photographs.

The file is HDF5, a group per photograph: ``frames`` D×4 (x, y, σ, orientation in degrees, in the
pixels of the view) of all keypoints, their ``views`` D and ``groups`` D (−1: found in one view
only); ``patches`` M×48×48, each scaled to the range of uint8, and ``patch_rows`` M, their frames,
those of one group together; ``positions`` M×2 of the patches in the photograph, from −1 to 1;
``homographies`` K×3×3 from the photograph to the views, and ``seeds`` K of their looks.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from featplug.io.artifact import Provenance
from featplug.training.data.mining import MinedLabels
from featplug.training.data.patch_views import MARGIN, PatchGroupOptions, find_patch_groups
from featplug.training.data.photograph_files import PhotographFile, make_photograph_file
from featplug.training.data.photographs import Photographs, shuffled_place
from featplug.training.data.photometric import Change, PhotometricOptions

_KIND = "patch groups"


def make_patch_groups(
    photographs: Path,
    path: Path,
    names: Sequence[str],
    options: PatchGroupOptions | None = None,
    num_workers: int = 2,
) -> Iterator[str]:
    """Make the patch groups of every photograph that has none yet.

    Can be stopped at any time; called again with the same options, it goes on. A photograph's
    groups do not depend on the others.

    Args:
        photographs: folder of the photographs.
        path: the file, made or continued.
        names: relative to the folder.
        options: see there.
        num_workers: processes; 0 works in this one.

    Yields:
        The name of each photograph that the file now has.

    Raises:
        FileNotFoundError: a photograph is gone.
        ValueError: a photograph cannot be read, or the file is of other options.
    """
    options = options or PatchGroupOptions()
    images = Photographs(photographs, names, options.max_side, cache_bytes=0)
    provenance = Provenance(kind=_KIND, conf=asdict(options))
    yield from make_photograph_file(
        images, path, provenance, partial(_patch_groups, options=options), num_workers
    )


def _patch_groups(
    images: Photographs, index: int, options: PatchGroupOptions
) -> dict[str, np.ndarray]:
    image, _ = images.read(index)
    name = zlib.crc32(images.names[index].encode())
    return find_patch_groups(image, options, np.random.default_rng([options.seed, name]))


class PatchGroups(PhotographFile):
    """A file of patch groups, open in each process that reads it.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _KIND)

    @property
    def photometric(self) -> PhotometricOptions:
        """The changes that the looks of the views are drawn from."""
        changes = self.provenance.conf["photometric"]
        return PhotometricOptions(
            **{name: Change(**change) for name, change in changes.items() if change is not None}
        )

    def labels(self, name: str) -> np.ndarray:
        """Read the group of each patch of a photograph."""
        groups, rows = self.read(name, "groups", "patch_rows")
        return groups[rows]


@dataclass(frozen=True)
class PatchBatchOptions:
    """What a batch of :class:`PatchGroupBatches` is made of."""

    batch_size: int = 1024
    """M, patches."""
    photographs: int = 8
    """How many they come from, in equal parts: patches of one photograph are the harder to tell
    apart. More where these have too few."""
    max_per_group: int = 4


def affinity_of_groups(groups: Tensor) -> Tensor:
    """Compute which patches match: M×M int8, 1 within one of the M groups, −1 between groups."""
    same = groups[:, None] == groups
    return same.to(torch.int8).mul_(2).sub_(1)


def count_patches(
    groups: PatchGroups, names: Sequence[str], max_per_group: int, enough: float = math.inf
) -> int:
    """Count the patches of photographs that a batch can have, until there are enough."""
    total = 0
    for name in names:
        if total >= enough:
            break
        sizes = np.unique(groups.labels(name), return_counts=True)[1]
        total += int(np.minimum(sizes, max_per_group).sum())
    return total


class PatchGroupBatches(Dataset[dict[str, Tensor]]):
    """Batches of whole patch groups; a step's batch follows from the seed and the step alone.

    A batch has ``patches`` M×48×48 uint8, for :func:`jitter_patches`; ``labels`` M int64, the
    groups, counted from 0; and ``affinity`` M×M int8 for DOAP's loss: 1 within a group, −1 between
    groups, and 0 between groups of one photograph that look alike, where labels were mined. The
    last group may have lost patches to the size of the batch.

    Args:
        groups: the file.
        names: the photographs to take patches of; all by default.
        options: see there.
        seed: of everything random.
        mined: labels of the same file, from :func:`featplug.training.data.mining.mine_labels`.

    Raises:
        FileNotFoundError: a file is gone.
        ValueError: a photograph is missing in a file, or there are too few patches for a batch.
    """

    def __init__(
        self,
        groups: PatchGroups,
        names: Sequence[str] | None = None,
        options: PatchBatchOptions | None = None,
        seed: int = 0,
        mined: MinedLabels | None = None,
    ) -> None:
        self.groups, self.mined, self.seed = groups, mined, seed
        self.options = options or PatchBatchOptions()
        self.names = list(groups.names() if names is None else names)
        groups.require(self.names)
        if mined is not None:
            mined.require_of(groups.provenance.file_id, self.names)
        batch_size = self.options.batch_size
        available = count_patches(groups, self.names, self.options.max_per_group, batch_size)
        if available < batch_size:
            raise ValueError(
                f"{groups.path} has only {available} patches of these {len(self.names)} "
                f"photographs, too few for a batch of {batch_size}; make it smaller, "
                "or add photographs."
            )

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Give the batch of a step, see the class."""
        options = self.options
        rng = np.random.default_rng([self.seed, 0, step])
        chosen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        counts: dict[str, int] = {}
        remaining = options.batch_size
        photographs = min(options.photographs, len(self.names))
        for k, name in enumerate(self._order(step, rng)):
            chosen[name] = self._choose(self.groups.labels(name), rng)
            quota = min(remaining, -(-remaining // max(photographs - k, 1)))
            counts[name] = min(quota, len(chosen[name][0]))
            remaining -= counts[name]
            if not remaining:
                break
        for name, (rows, _) in chosen.items():  # where the later ones have too few
            more = min(remaining, len(rows) - counts[name])
            counts[name] += more
            remaining -= more
        patches, labels, looks, first = [], [], [], 0
        for name, (rows, groups) in chosen.items():
            rows, groups = rows[: counts[name]], groups[: counts[name]]
            all_patches, *_ = self.groups.read(name, "patches")
            patches.append(all_patches[rows])
            labels.append(first + groups)
            looks.append(None if self.mined is None else self.mined.are_far(name, rows))
            first += groups.max(initial=-1) + 1
        label = torch.from_numpy(np.concatenate(labels))
        affinity = affinity_of_groups(label)
        same = affinity > 0
        start = 0
        for part, are_far in zip(labels, looks, strict=True):
            block = slice(start, start + len(part))
            if are_far is not None:
                affinity[block, block] *= (torch.from_numpy(are_far) | same[block, block]).char()
            start = block.stop
        return {
            "patches": torch.from_numpy(np.concatenate(patches)),
            "labels": label,
            "affinity": affinity,
        }

    def _order(self, step: int, rng: np.random.Generator) -> Iterator[str]:
        """The step's photographs, all once in a round as far as their number allows; then more."""
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
        """Rows of a photograph's patches, group after group in random order, and the groups."""
        _, group = np.unique(labels, return_inverse=True)
        rank = rng.permutation(group.max(initial=-1) + 1)[group]
        rows = rng.permutation(len(labels))
        rows = rows[np.argsort(rank[rows], kind="stable")]
        rank = rank[rows]
        number = np.arange(len(rows)) - np.searchsorted(rank, rank)
        kept = number < self.options.max_per_group
        return rows[kept], rank[kept]


@dataclass(frozen=True)
class JitterOptions:
    """Random changes of patches' windows, on top of the detector's own errors."""

    max_angle: float = 6.0
    """Degrees to either side."""
    scale: float = 0.15
    """Of the window's size, as a power of 2 to either side."""
    anisotropy: float = 0.1
    """Of the ratio of the window's sides, likewise."""
    shift: float = 0.04
    """Along x and y, in parts of half of the window's width."""
    flips: bool = True
    """Mirror and turn by multiples of 90°, a group as a whole (DOAP, section 5.1)."""


def jitter_patches(
    patches: Tensor,
    options: JitterOptions,
    size: int,
    generator: torch.Generator,
    labels: Tensor | None = None,
) -> Tensor:
    """Cut windows of random place, scale and rotation out of stored patches.

    Args:
        patches: M×S×S of any type, 1.5 times as wide as the window.
        options: see there.
        size: side of the result. Its extent is that of the window whatever the size, so 42 for
            networks with a spatial transformer shows the same as 32.
        generator: of all random numbers, on the patches' device.
        labels: M int64 groups, at most M; needed for ``flips``, which are left out without.

    Returns:
        M×size×size float32.
    """
    count = len(patches)

    def draw(reach: float) -> Tensor:
        share = torch.rand(count, generator=generator, device=patches.device)
        return reach * (2 * share - 1)

    angle = draw(torch.pi / 180 * options.max_angle)
    stretch = draw(options.anisotropy / 2)
    scale = draw(options.scale)
    x, y = (2.0 ** (scale + sign * stretch) / MARGIN for sign in (1, -1))
    if labels is not None and options.flips:
        drawn = torch.randint(8, (count,), generator=generator, device=patches.device)[labels]
        angle = angle + torch.pi / 2 * (drawn % 4)
        x = torch.where(drawn < 4, x, -x)
    cos, sin = angle.cos(), angle.sin()
    shifts = (draw(options.shift) / MARGIN, draw(options.shift) / MARGIN)
    affine = torch.stack([cos * x, -sin * y, shifts[0], sin * x, cos * y, shifts[1]], dim=1)
    grid = F.affine_grid(affine.view(-1, 2, 3), [count, 1, size, size], align_corners=False)
    windows = F.grid_sample(
        patches[:, None].float(), grid, padding_mode="border", align_corners=False
    )
    return windows[:, 0]
