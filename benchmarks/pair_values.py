"""The values of each image pair behind a row's means: a CSV file that a spreadsheet opens.

One line for each pair, in the order of the data set::

    image0,image1,part,sequence,mma_3,corner_error
    v_wall/1.ppm,v_wall/2.ppm,viewpoint,v_wall,0.813953488,1.27
    v_wall/1.ppm,v_wall/3.ppm,viewpoint,v_wall,,inf

An empty cell was not measured; ``inf`` is the error of an estimate that failed. From these files,
and from nothing else, :mod:`benchmarks.bootstrap` says how sure a figure is.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from featplug.io.files import write_whole_text
from featplug.io.text_files import read_text

MEAN_OF_SCENES = "mean of scenes"
"""Part of rows whose figures are means over the sequences of a data set, and not over its pairs."""

_KEYS = ["image0", "image1", "part", "sequence"]
_MARKED = ("'", "=", "+", "-", "@", "\t", "\r", "\n")
"""Starts of texts that spreadsheets run or change; an apostrophe before them prevents it."""


@dataclass(frozen=True)
class PairValues:
    """Values of N pairs."""

    pairs: list[tuple[str, str]]
    """Names of both images of each pair."""
    parts: list[str]
    """Part of the data set that each pair is in; empty where it has no parts."""
    sequences: list[str]
    """Sequence of each pair."""
    values: dict[str, np.ndarray]
    """Name to N values; NaN where a pair was not measured."""

    def __post_init__(self) -> None:
        if len(set(self.pairs)) < len(self.pairs):
            first = next(pair for pair in self.pairs if self.pairs.count(pair) > 1)
            raise ValueError(f"The pair {' '.join(first)} is there twice.")
        lengths = {len(self.parts), len(self.sequences), *map(len, self.values.values())}
        if lengths != {len(self.pairs)}:
            raise ValueError(f"{len(self.pairs)} pairs have columns of {sorted(lengths)} values.")

    @cached_property
    def index(self) -> dict[tuple[str, str], int]:
        """Pair to its place."""
        return {pair: i for i, pair in enumerate(self.pairs)}

    def of_part(self, part: str) -> "PairValues":
        """Return the pairs that the row of a part is about: ``all``, a part, or a sequence.

        Those of :data:`MEAN_OF_SCENES` are all.
        """
        if part in ("all", MEAN_OF_SCENES):
            return self
        groups = self.parts if part in self.parts else self.sequences
        return self.selected([i for i, group in enumerate(groups) if group == part])

    def selected(self, indices: Sequence[int]) -> "PairValues":
        """Return some of the pairs, in the given order."""
        return PairValues(
            [self.pairs[i] for i in indices],
            [self.parts[i] for i in indices],
            [self.sequences[i] for i in indices],
            {name: column[list(indices)] for name, column in self.values.items()},
        )


def write_pair_values(path: Path, values: PairValues) -> None:
    """Write the values of pairs with nine significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_KEYS, *map(_marked, values.values)])
    columns = [[_number(value) for value in column] for column in values.values.values()]
    for i, pair in enumerate(values.pairs):
        names = map(_marked, (*pair, values.parts[i], values.sequences[i]))
        writer.writerow([*names, *(column[i] for column in columns)])
    write_whole_text(path, text.getvalue())


def read_pair_values(path: Path) -> PairValues:
    """Read what :func:`write_pair_values` wrote.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not such a file.
    """
    lines = csv.reader(io.StringIO(read_text(path, "file of pair values")), strict=True)
    try:
        head, *rows = list(lines)
    except (csv.Error, ValueError):
        head, rows = [], []
    if head[: len(_KEYS)] != _KEYS or len(set(head)) < len(head):
        raise ValueError(
            f"{path} is not a file of pair values: its first line does not begin with "
            f"{','.join(_KEYS)}; measure again."
        )
    for at, row in enumerate(rows, 2):
        if len(row) != len(head):
            raise ValueError(
                f"{path}, line {at}: expected {len(head)} cells, got {len(row)}; measure again."
            )
    names = [_unmarked(name) for name in head[len(_KEYS) :]]
    columns = {
        name: np.array([_value(path, at, row[i]) for at, row in enumerate(rows, 2)], dtype=float)
        for i, name in enumerate(names, len(_KEYS))
    }
    texts = [[_unmarked(text) for text in row[: len(_KEYS)]] for row in rows]
    try:
        return PairValues(
            [(row[0], row[1]) for row in texts],
            [row[2] for row in texts],
            [row[3] for row in texts],
            columns,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error} Measure again.") from error


def _marked(text: str) -> str:
    return f"'{text}" if text.startswith(_MARKED) else text


def _unmarked(text: str) -> str:
    return text[1:] if text.startswith("'") else text


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.9g}"


def _value(path: Path, line: int, text: str) -> float:
    try:
        return float(text) if text else float("nan")
    except ValueError:
        raise ValueError(
            f"{path}, line {line}: expected a number, got {text[:40]!r}; measure again."
        ) from None
