"""Similarities of two images' descriptors, reduced to the values that nearest neighbours need.

The matrix is computed in chunks of rows, and each chunk is reduced while it is in the cache: memory
is bounded, and the reductions cost little compared to the product.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK_BYTES = 8 * 2**20
_CHUNK_ROWS = 256
"""On the CPU a chunk is at most this many bytes, to stay in the cache, but not fewer rows."""


class Nearest(NamedTuple):
    """Maxima of the similarity matrix N0×N1."""

    column: Tensor
    """N0: the column of each row's maximum."""
    best: Tensor
    """N0: that maximum."""
    second: Tensor | None
    """N0: the row's second largest value, -inf where there is none."""
    others: Tensor | None
    """N1: each column's maximum without the maxima of the rows, -inf where there is none."""


def chunk_rows(factor: Tensor, memory: int) -> int:
    """Return how many rows of similarities to K×N1 fit into some bytes, at least one."""
    row = factor.shape[1] * factor.element_size()
    rows = max(1, memory // row)
    if factor.device.type == "cpu":
        rows = min(rows, max(_CHUNK_ROWS, _CHUNK_BYTES // row))
    return rows


def reduce_similarities(
    left: Tensor, right: Tensor, rows: int, *, second: bool, others: bool
) -> Nearest:
    """Reduce the similarities ``left.T @ right`` of K×N0 and K×N1, ``rows`` rows at a time."""
    num0, num1 = left.shape[1], right.shape[1]
    buffer = left.new_empty(min(rows, num0), num1)

    def products(chunk: slice) -> Tensor:
        block = left[:, chunk]
        return torch.mm(block.t(), right, out=buffer[: block.shape[1]])

    return reduce_blocks(products, left, right, rows, second=second, others=others)


def reduce_blocks(
    block: Callable[[slice], Tensor],
    left: Tensor,
    right: Tensor,
    rows: int,
    *,
    second: bool,
    others: bool,
) -> Nearest:
    """Reduce similarities of any kind.

    Args:
        block: computes the similarities R×N1 of R rows. Its result is modified, and may be
            overwritten by the next call.
        left: ...×N0, of the type and on the device of the similarities.
        right: ...×N1.
        rows: how many rows to compute at a time.
        second: return each row's second largest similarity.
        others: return each column's largest one without the rows' maxima.
    """
    num0, num1 = left.shape[-1], right.shape[-1]
    columns = torch.empty(num0, dtype=torch.int64, device=left.device)
    best = left.new_empty(num0)
    seconds = left.new_empty(num0) if second else None
    rest = left.new_full((num1,), -torch.inf) if others else None
    for start in range(0, num0, rows):
        chunk = slice(start, start + rows)
        similarities = block(chunk)
        column = _argmax(similarities)[:, None]
        columns[chunk] = column[:, 0]
        best[chunk] = similarities.gather(1, column)[:, 0]
        # Without the rows' maxima, the maxima of rows and columns are all that is still needed.
        similarities.scatter_(1, column, -torch.inf)
        if seconds is not None:
            seconds[chunk] = similarities.amax(1)
        if rest is not None:
            torch.maximum(rest, similarities.amax(0), out=rest)
    return Nearest(columns, best, seconds, rest)


def look_back(column: Tensor, best: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows are mutual nearest neighbours, and the second values of their columns.

    A column's largest values are among ``others`` and the maxima of the rows that chose it. The
    arguments are those of :class:`Nearest`.

    Returns:
        N0 bool, whether the row is the nearest neighbour of its own nearest neighbour (of equal
        rows the first), and N0, the second largest value of a mutual neighbour's column.
    """
    rows = torch.arange(len(best), dtype=torch.int32, device=best.device)
    highest = others.scatter_reduce(0, column, best, "amax")
    candidate = torch.where(best == highest[column], rows, len(best))
    first = candidate.new_full((len(others),), len(best)).scatter_reduce(
        0, column, candidate, "amin"
    )
    nearest = first[column] == rows
    rest = torch.where(nearest, -torch.inf, best)
    return nearest, others.scatter_reduce(0, column, rest, "amax")[column]


def _argmax(values: Tensor) -> Tensor:
    """Return the column of each row's maximum, on the CPU by numpy's vectorised argmax."""
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().argmax(1))
    return values.argmax(1)
