"""Retrieval on RomePatches (Paulin et al., ICCV 2015).

``patch_retrieval_Rome_train.mat`` has the ``patches`` of 51×51 pixels, and
``patch_retrieval_Rome_train_labels.mat`` their 3D points: first ``labels_gt`` of the queries, then
``labels`` of the searched patches. The part ``test`` has the same files.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.patches.dataset import Parts, PatchSet
from benchmarks.record import Problem
from featplug.io.metric_table import with_units
from featplug.metrics.patch_tasks import retrieval_average_precision, squared_distances
from featplug.weights.converters.matlab_files import read_mat_array

NUM_PATCHES = 10_000
"""Number of patches of each of the two published parts."""

_CHUNK = 128
"""Number of queries at a time."""


class RomePatches(PatchSet):
    """Both parts of the set, or the one that exists.

    Raises:
        ValueError: neither part is complete.
    """

    name = "rome-patches"
    protocol = "rome-patches"
    source = "RomePatches: from the authors of Paulin et al., ICCV 2015."

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems = []
        self.labels: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for part in ("train", "test"):
            try:
                self.labels[part] = _read_labels(folder, part)
            except (ValueError, OSError) as error:
                self.problems.append(Problem(f"{self.name} {part}", str(error)))
        if not self.labels:
            raise ValueError(" ".join(problem.reason for problem in self.problems))
        self.not_comparable = None
        for part, labels in self.labels.items():
            if (size := sum(map(len, labels))) != NUM_PATCHES:
                self.not_comparable = f"Its part {part} has {size:,} patches, not {NUM_PATCHES:,}."

    def files(self) -> list[str]:
        """Return the files of the parts; see :class:`PatchSet`."""
        return [name for part in self.labels for name in _names(part)]

    def num_patches(self) -> int:
        """Count queries and searched patches."""
        return sum(len(a) + len(b) for a, b in self.labels.values())

    def patches(self) -> Iterator[np.ndarray]:
        """Yield the patches of each part, queries first; see :class:`PatchSet`."""
        for part, labels in self.labels.items():
            yield _read_patches(self.folder / _names(part)[0], sum(map(len, labels)))

    def measure(self, descriptors: np.ndarray) -> Parts:
        """Compute the mean average precision of each part; see :class:`PatchSet`."""
        parts: Parts = {}
        start = 0
        for part, (query_labels, labels) in self.labels.items():
            stop = start + len(query_labels) + len(labels)
            queries, searched = np.split(descriptors[start:stop], [len(query_labels)])
            precisions = []
            for first in range(0, len(queries), _CHUNK):
                chunk = slice(first, first + _CHUNK)
                distances = squared_distances(queries[chunk], searched)
                for row, label in zip(distances, query_labels[chunk], strict=True):
                    relevant = labels == label
                    precisions.append(retrieval_average_precision(row[relevant], row[~relevant]))
            parts[part] = with_units({"retrieval_map": float(np.mean(precisions))})
            start = stop
        return parts


def _names(part: str) -> tuple[str, str]:
    stem = f"patch_retrieval_Rome_{part}"
    return f"{stem}.mat", f"{stem}_labels.mat"


def _read_labels(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    patches, labels = (folder / name for name in _names(part))
    for file in (patches, labels):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing.")
    query_labels, others = (read_mat_array(labels, key).ravel() for key in ("labels_gt", "labels"))
    if len(query_labels) == 0 or not np.isin(query_labels, others).all():
        raise ValueError(f"{labels} has no queries, or a query without a patch of its point.")
    return query_labels, others


def _read_patches(file: Path, num: int) -> np.ndarray:
    """Read ``num`` patches, N×S×S uint8, along any axis of the file's array."""
    patches = np.squeeze(read_mat_array(file, "patches"))
    if patches.dtype.kind not in "biuf" or not np.isfinite(patches).all():
        raise ValueError(f"{file} has patches that are not finite numbers; download it again.")
    axes = [axis for axis, length in enumerate(patches.shape) if length == num]
    if not axes:
        raise ValueError(
            f"{file} has an array of shape {patches.shape}, but there are {num} labels."
        )
    patches = np.moveaxis(patches, axes[0], 0).reshape(num, -1)
    side = int(patches.shape[1] ** 0.5)
    if side**2 != patches.shape[1]:
        raise ValueError(f"{file} has patches of {patches.shape[1]} pixels, which is not a square.")
    if patches.dtype != np.uint8:
        scale = 255 if patches.max() <= 1 else 1
        patches = np.clip(np.rint(patches * scale), 0, 255).astype(np.uint8)
    return patches.reshape(num, side, side)
