"""Data sets of image pairs, one file for each layout."""

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
"""Files that only one layout has."""


def recognise(folder: Path) -> Layout:
    """Recognise the layout of a folder.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has none of the layouts, or several.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist.")
    layouts = [name for name, marks in _MARKS.items() if any(any(folder.glob(m)) for m in marks)]
    if not layouts:
        files = "; ".join(f"{', '.join(marks)} ({layout})" for layout, marks in _MARKS.items())
        raise ValueError(f"{folder} has no pairs in a known layout (looked for {files}).")
    if len(layouts) > 1:
        raise ValueError(f"{folder} looks like {' and '.join(layouts)}; choose one by --layout.")
    return layouts[0]


def read_pairs(folder: Path, layout: Layout) -> PairSet:
    """Read the pairs of a data set.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no pair can be used.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist.")
    pair_set = _READERS[layout](folder)
    if not pair_set.pairs:
        first = f"; the first problem: {pair_set.problems[0].reason}" if pair_set.problems else "."
        raise ValueError(f"{folder} has no pair in the layout of {layout} that can be used{first}")
    return pair_set
