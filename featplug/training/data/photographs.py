"""A folder of photographs as training data: split into two sets, shuffled, read."""

import json
import logging
import os
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from featplug.io.files import write_whole_text
from featplug.io.image_folder import list_images
from featplug.io.images import read_image, resize_image
from featplug.utils.parallel import map_ahead

logger = logging.getLogger(__name__)

MAX_SIDE = 1024
"""Longest side in pixels at which photographs are used, unless an option says otherwise."""
_BUCKETS = 10_000
_DECODED = "decoded_photographs.json"


def list_photographs(folder: Path, outputs: Path | None = None) -> list[str]:
    """List the photographs below a folder that can be decoded, sorted; the others are logged.

    Args:
        folder: the folder.
        outputs: folder of a run; those that :func:`keep_decoded` lists there are not decoded again.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no photograph that can be decoded.
    """
    names = list_images(folder)
    decoded = set() if outputs is None else _read_decoded(outputs / _DECODED)

    def check(name: str) -> str | None:
        try:
            state = _state(folder / name)
        except OSError as error:
            return f"Cannot read {folder / name} ({error.strerror})."
        return None if state in decoded else _decoding_problem(folder / name, state)

    checked = map_ahead(check, names, os.cpu_count() or 1)
    problems = dict(zip(names, checked, strict=True))
    readable = [name for name, problem in problems.items() if problem is None]
    unreadable = [problem for problem in problems.values() if problem is not None]
    if unreadable and not readable:
        raise ValueError(f"None of the {len(names)} images can be used; {unreadable[0]}")
    if unreadable:
        logger.warning("%d photographs are left out; %s", len(unreadable), unreadable[0])
    return readable


def keep_decoded(folder: Path, names: Sequence[str], outputs: Path) -> None:
    """Write to the folder of a run which photographs could be decoded."""
    states = [_state(folder / name) for name in names]
    write_whole_text(outputs / _DECODED, json.dumps(states, indent=0) + "\n")


def _state(path: Path) -> str:
    status = path.stat()
    return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"


def _read_decoded(path: Path) -> set[str]:
    try:
        return {str(state) for state in json.loads(path.read_text("utf-8"))}
    except (OSError, ValueError, TypeError, RecursionError):
        return set()


@cache
def _decoding_problem(path: Path, state: str) -> str | None:
    """Return why a file of that size and time cannot be decoded, or None."""
    try:
        read_image(path)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    return None


def split_photographs(names: Sequence[str], held_out: float = 0.05) -> tuple[list[str], list[str]]:
    """Split photographs into those to train on and those to validate on, neither empty.

    The set of a photograph depends only on its file name, not on its folder or on the other
    photographs. If this would leave one of the sets empty, the photograph that ranks first by the
    same measure is held out.

    Raises:
        ValueError: fewer than two photographs are given.
    """
    if len(names) < 2:
        raise ValueError(f"Training needs at least two photographs, got {len(names)}.")
    ranks = {name: zlib.crc32(name.rpartition("/")[2].encode()) % _BUCKETS for name in names}
    kept = {name for name in names if ranks[name] < held_out * _BUCKETS}
    if not kept or len(kept) == len(names):
        kept = {min(names, key=ranks.__getitem__)}
    return [name for name in names if name not in kept], [name for name in names if name in kept]


def shuffled_place(seed: int, number: int, count: int) -> tuple[int, int]:
    """Go through all photographs in random order, then again in another order.

    Returns the round and the index of the photograph at a position (number) in this sequence.
    """
    round_, place = divmod(number, count)
    return round_, int(np.random.default_rng([seed, 1, round_]).permutation(count)[place])


class Photographs:
    """Photographs of a folder, kept in memory after decoding up to a limit, per process.

    Args:
        folder: folder of the photographs.
        names: names relative to the folder.
        max_side: longest side in pixels; larger photographs are reduced to it.
        cache_bytes: memory for decoded photographs.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        max_side: int = MAX_SIDE,
        cache_bytes: int = 512 * 2**20,
    ) -> None:
        self.folder, self.names = Path(folder), list(names)
        self.max_side, self.cache_bytes = max_side, cache_bytes
        self._cache: dict[str, tuple[np.ndarray, tuple[int, int]]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_cached_bytes": 0}

    def read(self, photograph: int | str) -> tuple[np.ndarray, tuple[int, int]]:
        """Read a photograph by index or name.

        Returns:
            H×W×3 uint8 RGB, and (width, height) of the photograph before it was reduced.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file cannot be decoded.
        """
        name = self.names[photograph] if isinstance(photograph, int) else photograph
        if name in self._cache:
            return self._cache[name]
        image = read_image(self.folder / name)
        size = image.shape[1], image.shape[0]
        scale = self.max_side / max(size)
        if scale < 1:
            image = resized(image, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))
        # Nothing is ever evicted: with random access, replacing entries gains nothing.
        if self._cached_bytes + image.nbytes <= self.cache_bytes:
            self._cache[name] = image, size
            self._cached_bytes += image.nbytes
        return image, size


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize H×W×3 uint8 to (width, height), averaging areas where it shrinks."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return resize_image(image, size, "cv2_area").round().astype(np.uint8)
