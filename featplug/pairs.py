"""Pair lists: which images are matched with which, as text files in hloc's form.

One pair a line, two names with a space between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from featplug.images import check_name

Pair = tuple[str, str]


def exhaustive(names: Sequence[str]) -> list[Pair]:
    """Pair every image with every later one."""
    return list(combinations(names, 2))


def sequential(names: Sequence[str], overlap: int = 10, quadratic: bool = True) -> list[Pair]:
    """Pair every image of a sequence with those that follow it.

    Args:
        names: image names in the order of capture.
        overlap: with how many following images.
        quadratic: also with the 1st, 2nd, 4th, 8th … following one up to ``2**(overlap - 1)``, as
            COLMAP's sequential matcher does, which ties loose ends together.

    Raises:
        ValueError: the overlap is below 1.
    """
    if overlap < 1:
        raise ValueError(f"The overlap of sequential pairs must be at least 1, not {overlap}.")
    steps = set(range(1, overlap + 1))
    if quadratic:
        steps |= {2**k for k in range(overlap)}
    ordered = sorted(steps)
    return [
        (name, names[i + step])
        for i, name in enumerate(names)
        for step in ordered
        if i + step < len(names)
    ]


def unique_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Drop repetitions, in either order, and pairs of an image with itself; keep the order."""
    seen: set[Pair] = set()
    unique = []
    for pair in pairs:
        key = min(pair, pair[::-1])
        if pair[0] != pair[1] and key not in seen:
            seen.add(key)
            unique.append(pair)
    return unique


def read_pairs(path: Path) -> list[Pair]:
    """Read a pair list.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not two names, or there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no pair list {path}.")
    pairs = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise ValueError(
                f"Line {number} of {path} must be two image names with a space between them, "
                f"not {line.strip()!r}."
            )
        pairs.append((words[0], words[1]))
    if not pairs:
        raise ValueError(f"The pair list {path} is empty.")
    return pairs


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write a pair list.

    Raises:
        ValueError: a name cannot stand in one.
    """
    lines = []
    for name0, name1 in pairs:
        check_name(name0)
        check_name(name1)
        lines.append(f"{name0} {name1}\n")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
