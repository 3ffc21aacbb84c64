"""Tables of numbers in text files: matrices, and long lists of whole numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from featplug.io.text_files import numbers, read_lines

_MAX_INTEGER = 2**53
"""Largest magnitude below which floating-point numbers hold every whole number."""


def read_matrix(
    path: Path, columns: int, rows: int | None = None, what: str = "matrix"
) -> np.ndarray:
    """Read a matrix of finite numbers, a row a line.

    Args:
        path: the file.
        columns: number of columns.
        rows: number of rows; any but 0 by default.
        what: what the file is, for messages.

    Returns:
        rows×columns float64.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not such a matrix.
    """
    lines = read_lines(path, what)
    if not lines or len(lines) != (rows or len(lines)):
        raise ValueError(
            f"{path}: expected a {what} of {rows or 'N'}×{columns} numbers, got {len(lines)} rows; "
            "get the file again."
        )
    matrix = [numbers(line.split(), f"{path}, line {at}", count=columns) for at, line in lines]
    return np.array(matrix)


def read_integers(
    path: Path,
    what: str,
    columns: int | None = None,
    *,
    header: str | None = None,
    delimiter: str | None = None,
    converters: Mapping[int | str, Callable[[str], int]] | None = None,
) -> np.ndarray:
    """Read lines of whole numbers.

    Args:
        path: the file.
        what: what the file is, for messages.
        columns: number of columns; that of the first line by default.
        header: first line, which is checked.
        delimiter: text between two numbers; white space by default.
        converters: column to the function that makes a whole number of its text.

    Returns:
        N×C int64, N at least 1.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty, or a line is not so many whole numbers.
    """
    lines = read_lines(path, what)
    if header is not None and (not lines or lines.pop(0)[1] != header):
        raise ValueError(f"{path}: expected the first line {header!r}; get the {what} again.")
    if not lines:
        raise ValueError(f"The {what} {path} is empty; get it again.")

    by_column: dict[int | str, Callable[[str], int]] = dict(converters or {})

    def load(texts: Sequence[str]) -> np.ndarray:
        # As floats, since NumPy cuts 1.5 to the integer 1.
        table = np.loadtxt(texts, delimiter=delimiter, converters=by_column, comments=None, ndmin=2)
        if columns not in (None, table.shape[1]) or not _are_whole(table):
            raise ValueError
        return table

    try:
        return load([text for _, text in lines]).astype(np.int64)
    except (ValueError, OverflowError):
        at, text = _bad_line(lines, load)
    raise ValueError(
        f"{path}, line {at}: expected {columns or 'as many'} whole numbers"
        f"{'' if columns else ' as in the first line'}, got {text[:60]!r}; get the {what} again."
    )


def check_rotation(matrix: np.ndarray, where: str, rounding: float = 0.01) -> None:
    """Check that the columns of a 3×3 matrix are orthonormal and right-handed, but for rounding.

    Args:
        matrix: the matrix.
        where: start of the message.
        rounding: largest deviation of a product of two columns from 0 or 1.

    Raises:
        ValueError: they are not; the message begins with ``where``.
    """
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > rounding or np.linalg.det(matrix) < 0:
        rows = "; ".join(" ".join(f"{value:g}" for value in row) for row in matrix)
        raise ValueError(f"{where}: expected a rotation, got the matrix [{rows}]; correct it.")


def _are_whole(table: np.ndarray) -> bool:
    return bool(((np.abs(table) < _MAX_INTEGER) & (table == np.floor(table))).all())


def _bad_line(
    lines: Iterable[tuple[int, str]], load: Callable[[Sequence[str]], np.ndarray]
) -> tuple[int, str]:
    """Return the first line that cannot be loaded, or has other columns than the first one."""
    width = None
    for at, text in lines:
        try:
            row = load([text])
        except (ValueError, OverflowError):
            return at, text
        width = width or row.shape[1]
        if row.shape[1] != width:
            break
    return at, text
