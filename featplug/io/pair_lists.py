"""Pair lists in hloc's form: text files, one pair a line, two names separated by a space."""

from collections.abc import Iterable
from pathlib import Path

from featplug.io.images import check_name

Pair = tuple[str, str]


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
