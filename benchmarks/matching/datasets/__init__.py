"""Data sets of image pairs, one file for each layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from benchmarks.matching.datasets import hpatches, oxford, rdnim, wxbs
from benchmarks.matching.image_pairs import PairSet

Layout = Literal["hpatches", "oxford", "rdnim", "wxbs"]

_READERS: dict[Layout, Callable[[Path], PairSet]] = {
    "hpatches": hpatches.read,
    "oxford": oxford.read,
    "rdnim": rdnim.read,
    "wxbs": wxbs.read,
}
_MARKS: dict[Layout, tuple[str, ...]] = {
    "hpatches": ("*/H_1_*",),
    "oxford": ("*/H1to*p",),
    "rdnim": ("references/*/*.jpg",),
    "wxbs": ("*/corrs.txt", "*/*/corrs.txt", "*/F.txt", "*/*/F.txt"),
}
"""Files that only this layout has."""


def recognise(folder: Path) -> Layout:
    """Recognise the layout of a folder.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has none of the layouts, or several.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found = [
        layout
        for layout in _READERS
        if any(next(folder.glob(mark), None) for mark in _MARKS[layout])
    ]
    if not found:
        marks = "; ".join(f"{', '.join(_MARKS[layout])} ({layout})" for layout in _READERS)
        raise ValueError(f"{folder} has no pairs in a known layout (looked for {marks}).")
    if len(found) > 1:
        raise ValueError(f"{folder} looks like {' and '.join(found)}; choose one by --layout.")
    return found[0]


def read_pairs(folder: Path, layout: Layout) -> PairSet:
    """Read the pairs of a data set.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no pair can be used.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found = _READERS[layout](folder)
    if not found.pairs:
        first = f"; the first problem: {found.problems[0].reason}" if found.problems else "."
        raise ValueError(f"{folder} has no pair in the layout of {layout} that can be used{first}")
    return found
