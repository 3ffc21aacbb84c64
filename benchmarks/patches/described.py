"""Files of descriptors, from which a stopped run resumes.

A file is the number of dimensions as int64, then rows of float32, written as they are computed. Its
name has a hash of the descriptor, its weights and the patches. Descriptors of a user's function are
not kept, since a change of the function would go unnoticed.
"""

from pathlib import Path

import numpy as np

from benchmarks.patches.dataset import PatchSet
from benchmarks.patches.descriptors import PatchDescriptor
from featplug.io.artifact import files_hash, value_hash
from featplug.utils.progress import progress_bar

_VERSION = 1
"""Version of the descriptors of patches; raised when they change."""
_HEAD = 8
"""Bytes in front of the rows."""


def describe(
    descriptor: PatchDescriptor,
    patch_set: PatchSet,
    folder: Path | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, int]:
    """Describe all patches of a set, and keep the descriptors in a folder if one is given.

    Returns:
        N×D float32, and how many of the N come from an earlier run.

    Raises:
        FileNotFoundError: a file of patches is missing.
        ValueError: a file is damaged, or the descriptors are not finite vectors of one length.
    """
    file = None
    if folder is not None and ":" not in descriptor.name:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{patch_set.name}-{descriptor.name}-{_identity(descriptor, patch_set)}.f32"
    kept = _read(file)
    descriptors = np.zeros((0, 0), np.float32)
    start = num_kept = 0
    with progress_bar(
        None, f"{patch_set.name} {descriptor.name}", patch_set.num_patches(), "patch", progress
    ) as bar:
        for patches in patch_set.patches():
            stop = start + len(patches)
            new = stop > len(kept)
            piece = descriptor(patches) if new else kept[start:stop]
            if start == 0:
                descriptors = np.empty((patch_set.num_patches(), piece.shape[1]), np.float32)
            if piece.shape[1] != descriptors.shape[1]:
                raise ValueError(f"{descriptor.name} returned descriptors of different lengths.")
            if new and file is not None:
                kept = np.zeros((0, 0), np.float32)  # closes the file that it maps
                _append(file, piece, start)
            descriptors[start:stop] = piece
            num_kept += 0 if new else len(piece)
            bar.update(len(patches))
            start = stop
    return descriptors, num_kept


def _identity(descriptor: PatchDescriptor, patch_set: PatchSet) -> str:
    weights = [record["sha256"] for record in descriptor.weights]
    patches = files_hash(patch_set.folder, patch_set.files())
    return value_hash([_VERSION, descriptor.name, weights, patches, patch_set.num_patches()])[:12]


def _read(file: Path | None) -> np.ndarray:
    """Map the complete rows of a file; none without a file."""
    if file is not None and file.is_file() and file.stat().st_size >= _HEAD:
        dimensions = int(np.fromfile(file, np.int64, 1)[0])
        num = (file.stat().st_size - _HEAD) // (4 * dimensions)
        if num > 0:
            return np.memmap(file, np.float32, "r", _HEAD, (num, dimensions))
    return np.zeros((0, 0), np.float32)


def _append(file: Path, piece: np.ndarray, start: int) -> None:
    """Write rows at their place, over incomplete ones of a stopped run."""
    with file.open("r+b" if file.exists() else "w+b") as opened:
        opened.write(np.int64(piece.shape[1]).tobytes())
        opened.seek(_HEAD + start * piece.shape[1] * piece.itemsize)
        opened.truncate()
        opened.write(np.ascontiguousarray(piece, np.float32).tobytes())
