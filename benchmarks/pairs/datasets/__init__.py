"""Data sets of image pairs, one file for each layout, which is found by looking here.

A file has ``MARKS``, glob patterns of files that only its layout has; ``SOURCE``, where the data
set is available, its size and licence; and ``read(folder)``, which returns its pairs. A general
layout, ``IS_GENERAL = True``, is that of a folder that has no other, or of a single file.
"""

import pkgutil
import re
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
    """One sentence: where the data set is available, its size, and its licence."""

    @staticmethod
    def read(folder: Path) -> PairSet:
        """Read the pairs of a folder."""


@cache
def layouts() -> dict[str, Layout]:
    """Return the known layouts by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: cast(Layout, import_module(f"{__name__}.{name}")) for name in names}


def recognise(folder: Path) -> str:
    """Recognise the layout of a folder, or of a list of pairs.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has none of the layouts, or several.
    """
    require_data(folder)
    general = [n for n, layout in layouts().items() if getattr(layout, "IS_GENERAL", False)]
    if folder.is_file():
        return general[0]
    found = [n for n, layout in layouts().items() if any(any(folder.glob(m)) for m in layout.MARKS)]
    found = [name for name in found if name not in general] or found
    if not found:
        files = "; ".join(f"{', '.join(known.MARKS)} ({n})" for n, known in layouts().items())
        raise ValueError(f"{folder} has no pairs in a known layout (looked for {files}).")
    if len(found) > 1:
        raise ValueError(f"{folder} looks like {' and '.join(found)}; choose one by --layout.")
    return found[0]


def require_data(folder: Path) -> None:
    """Raise FileNotFoundError, with what can be downloaded to it, where a folder does not exist."""
    if folder.exists():
        return
    name = re.sub("[^a-z0-9]", "", folder.name.lower())
    words = {key: re.sub("[^a-z0-9]", "", key) for key in layouts()}
    known = [
        layout.SOURCE
        for key, layout in layouts().items()
        if words[key] in name or (len(name) > 3 and words[key].startswith(name))
    ]
    raise FileNotFoundError(" ".join([f"The folder {folder} does not exist.", *known]))


def read_pairs(folder: Path, name: str) -> PairSet:
    """Read the pairs of a data set in the layout of that name.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no layout has the name, or no pair can be used.
    """
    require_data(folder)
    if name not in layouts():
        raise unknown_name("layout", name, layouts())
    layout = layouts()[name]
    if folder.is_file() and not getattr(layout, "IS_GENERAL", False):
        raise ValueError(f"{folder} is a file, not a folder in the layout of {name}.")
    pair_set = layout.read(folder)
    if not pair_set.pairs:
        first = f"; the first problem: {pair_set.problems[0].reason}" if pair_set.problems else "."
        raise ValueError(
            f"{folder} has no pair in the layout of {name} that can be used{first} {layout.SOURCE}"
        )
    return pair_set
