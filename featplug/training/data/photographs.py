"""A folder of photographs as training data: which to train on, and reading them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featplug.io.images import read_image, resize_image

_BUCKETS = 10_000


def split_photographs(names: Sequence[str], held_out: float = 0.05) -> tuple[list[str], list[str]]:
    """Divide photographs into those to train on and those to validate on.

    Which part a photograph falls into depends on its file's name alone, not on its folder or on
    what other photographs there are; but of a few, where no name or every name falls into one
    part, the first by the same measure is validated on.

    Args:
        names: of the photographs.
        held_out: about which part of them to validate on.

    Returns:
        The names to train on and those to validate on, neither empty.

    Raises:
        ValueError: there are fewer than two photographs.
    """
    if len(names) < 2:
        raise ValueError(f"Training needs at least two photographs; there are {len(names)}.")
    ranks = {name: zlib.crc32(name.rpartition("/")[2].encode()) % _BUCKETS for name in names}
    kept = [name for name in names if ranks[name] < held_out * _BUCKETS]
    if not kept or len(kept) == len(names):
        kept = [min(names, key=ranks.__getitem__)]
    chosen = set(kept)
    return [name for name in names if name not in chosen], kept


def shuffled_place(seed: int, number: int, count: int) -> tuple[int, int]:
    """Take all photographs once, in random order, then all again in another.

    Args:
        seed: of the orders.
        number: of the photograph among all that are ever taken.
        count: of different ones.

    Returns:
        The round, and the photograph's index.
    """
    round_, place = divmod(number, count)
    return round_, int(np.random.default_rng([seed, 1, round_]).permutation(count)[place])


class Photographs:
    """Photographs of a folder, decoded once as far as memory allows.

    Each process that reads has a cache of its own.

    Args:
        folder: where they are.
        names: relative to the folder.
        max_side: longest side in pixels; larger photographs are reduced to it.
        cache_bytes: of decoded photographs to keep.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        max_side: int = 1024,
        cache_bytes: int = 512 * 2**20,
    ) -> None:
        self.folder, self.names = Path(folder), list(names)
        self.max_side, self.cache_bytes = max_side, cache_bytes
        self._cache: dict[int, tuple[np.ndarray, tuple[int, int]]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_cached_bytes": 0}

    def read(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Read a photograph.

        Returns:
            H×W×3 uint8 RGB, and (width, height) of the photograph before it was reduced.

        Raises:
            FileNotFoundError: it is gone.
            ValueError: it cannot be decoded.
        """
        if index in self._cache:
            return self._cache[index]
        image = read_image(self.folder / self.names[index])
        size = image.shape[1], image.shape[0]
        scale = self.max_side / max(size)
        if scale < 1:
            image = resized(image, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))
        # What is first read is kept: with random access nothing is gained by an exchange.
        if self._cached_bytes + image.nbytes <= self.cache_bytes:
            self._cache[index] = image, size
            self._cached_bytes += image.nbytes
        return image, size


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize H×W×3 uint8 to (width, height), averaging areas where it shrinks."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return resize_image(image, size, "cv2_area").round().astype(np.uint8)
