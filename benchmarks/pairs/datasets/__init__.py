"""Data sets of image pairs, one file for each layout, which is found by looking here.

A file has ``MARKS``, glob patterns of files that only its layout has; ``SOURCE``, where the data
set is to be had, its size and licence; and ``read(folder)``, which returns its pairs.
"""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from benchmarks.pairs.pair_set import PairSet
from featplug.utils.suggestions import unknown_name


class Layout(Protocol):
    """A module of this package."""

    MARKS: tuple[str, ...]
    """Patterns of files that only this layout has."""
    SOURCE: str
    """One sentence: where the data set is to be had, its size, and its licence."""

    @staticmethod
    def read(folder: Path) -> PairSet:
        """Read the pairs of a folder."""


@cache
def layouts() -> dict[str, Layout]:
    """Return the known layouts by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: cast(Layout, import_module(f"{__name__}.{name}")) for name in names}


def recognise(folder: Path) -> str:
    """Recognise the layout of a folder.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has none of the layouts, or several.
    """
    require_folder(folder)
    found = [n for n, layout in layouts().items() if any(any(folder.glob(m)) for m in layout.MARKS)]
    if not found:
        files = "; ".join(f"{', '.join(known.MARKS)} ({n})" for n, known in layouts().items())
        raise ValueError(f"{folder} has no pairs in a known layout (looked for {files}).")
    if len(found) > 1:
        raise ValueError(f"{folder} looks like {' and '.join(found)}; choose one by --layout.")
    return found[0]


def require_folder(folder: Path) -> None:
    """Raise FileNotFoundError, with what can be downloaded to it, where a folder does not exist."""
    if folder.is_dir():
        return
    name = folder.name.lower().replace("-", "_")
    known = [layout.SOURCE for key, layout in layouts().items() if key in name]
    raise FileNotFoundError(" ".join([f"The folder {folder} does not exist.", *known]))


def read_pairs(folder: Path, name: str) -> PairSet:
    """Read the pairs of a data set in the layout of that name.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no layout has the name, or no pair can be used.
    """
    require_folder(folder)
    if name not in layouts():
        raise unknown_name("layout", name, layouts())
    layout = layouts()[name]
    pair_set = layout.read(folder)
    if not pair_set.pairs:
        first = f"; the first problem: {pair_set.problems[0].reason}" if pair_set.problems else "."
        raise ValueError(
            f"{folder} has no pair in the layout of {name} that can be used{first} {layout.SOURCE}"
        )
    return pair_set
