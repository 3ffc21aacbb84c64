"""Nearest neighbours that bfloat16 products decide with certainty.

CPUs with bfloat16 instructions multiply matrices several times as fast in bfloat16 as in float32.
All similarities are computed in bfloat16, with bounds of their errors. A row that passes or fails
its tests for all similarities within the bounds is decided; only the others need float32.

Two things keep the bounds narrow. The descriptors are centred, as rounding errors are relative to
their length: a·b = a·m + m·(b - m) + (a - m)·(b - m). And the product is a cost, t - a·b with t the
greatest possible similarity, whose relative rounding error is small for near neighbours. Both are
further dimensions of the factors.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from featplug.matchers.similarities import chunk_rows, look_back

FEWEST = 2000
"""Images with fewer descriptors are not worth it."""

_MOST_UNDECIDED = 0.25
_OUTPUT_ROUNDING = 2.0**-8
_INFINITY = torch.tensor(torch.inf, dtype=torch.bfloat16).view(torch.int16).item()


class Screened(NamedTuple):
    """Decisions on the rows, N0 each."""

    column: Tensor
    """Nearest neighbour of a row that is accepted."""
    accepted: Tensor
    """Whether the row passes all tests."""
    undecided: Tensor
    """Whether the row may pass or fail."""


class Costs(NamedTuple):
    """Factors of bfloat16 products that are, but for their errors, ``offset - a·b``."""

    left: Tensor
    """N0×K bfloat16."""
    right: Tensor
    """K×N1 bfloat16."""
    bound0: Tensor
    """N0: the greatest error in each row, without the rounding of the product to bfloat16."""
    bound1: Tensor
    """N1: the same in each column."""
    offset: Tensor
    """Scalar that is large enough to make all products positive."""


def has_native_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices by instructions of its own."""
    # Older torch does not know; float32 is as exact, only slower.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def screen(
    left: Tensor,
    right: Tensor,
    memory: int,
    passes: Callable[[Tensor, Tensor], Tensor],
    mutual: bool,
) -> Screened | None:
    """Decide each row's nearest neighbour as far as bfloat16 can.

    Args:
        left: D×N0 float32 on the CPU, unit vectors.
        right: the same of the other image, D×N1.
        memory: bytes that the products held at a time may take.
        passes: returns whether the largest and the second largest similarity of a row or column
            pass the tests; a larger first and a smaller second one must never hurt.
        mutual: accept a row only if it is the nearest neighbour of its own nearest neighbour,
            and passes the tests from that side, too.

    Returns:
        None if too many rows are undecided, or the descriptors are far from unit length or not
        finite.
    """
    costs = make_costs(left, right)
    if costs is None:
        return None
    column, best, second, others = _smallest(costs, chunk_rows(costs.right, memory))
    bound1 = costs.bound1[column]
    best_low, best_high = _interval(costs, best, torch.minimum(costs.bound0, bound1))
    second_low, second_high = _interval(costs, second, costs.bound0)
    certain = best_low > second_high
    accepted = certain & passes(best_low, second_high)
    rejected = ~passes(best_high, second_low)
    if mutual:
        top = others.scatter_reduce(0, column, best, "amin")[column]
        _, rest = look_back(column, -best, -others)
        top_low, _ = _interval(costs, top, bound1)
        rest_low, rest_high = _interval(costs, -rest, bound1)
        accepted &= (best_low > rest_high) & passes(best_low, rest_high)
        rejected |= certain & ((top_low > best_high) | ~passes(best_high, rest_low))
    undecided = ~(accepted | rejected)
    if int(undecided.sum()) > _MOST_UNDECIDED * len(undecided):
        return None
    return Screened(column, accepted, undecided)


def make_costs(left: Tensor, right: Tensor) -> Costs | None:
    """Compute factors of the costs of D×N0 and D×N1 float32 descriptors, and bounds of the errors.

    Errors are relative to float32 similarities, whatever the order of their sums. The result is
    None for descriptors that are far from unit length or not finite.
    """
    centre = (left.mean(1) + right.mean(1)) / 2
    length0, length1 = _norm(left).max(), _norm(right).max()
    longest = torch.maximum(length0, length1)
    if not 0.5 < longest < 2:
        return None
    rounded0, norm0, error0 = _round(left, centre)
    rounded1, norm1, error1 = _round(right, centre)
    # Cauchy-Schwarz: |a·b - a'·b'| <= |a - a'| |b| + |a'| |b - b'|.
    # Besides, float32 rounds sums of K terms K times. All sums, also those of the similarities, are
    # at most 10 longest²; 2^-23 is the rounding of an instruction that truncates.
    slack = 10 * longest**2 * (len(left) + 8) * 2.0**-23
    bound0 = error0 * norm1.max() + (norm0 + error0) * error1.max() + slack
    bound1 = error1 * norm0.max() + (norm1 + error1) * error0.max() + slack
    offset = length0 * length1 + bound0.max()
    parts0 = _split(offset - centre @ left)
    parts1 = _split(centre @ centre - centre @ right)
    return Costs(
        torch.cat([-rounded0, parts0, torch.ones_like(parts0)]).t().contiguous(),
        torch.cat([rounded1, torch.ones_like(parts1), parts1]),
        bound0,
        bound1,
        offset,
    )


def _round(descriptors: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return centred descriptors in bfloat16, their norms before, and the norms of the errors."""
    centred = descriptors - centre[:, None]
    rounded = centred.bfloat16()
    return rounded, _norm(centred), _norm(centred - rounded.float())


def _norm(descriptors: Tensor) -> Tensor:
    """Return the length of each column, several times as fast as ``torch.linalg.norm``."""
    return descriptors.square().sum(0).sqrt()


def _split(values: Tensor) -> Tensor:
    """Split N float32 into three rows of bfloat16, 3×N, whose sum they are."""
    parts = []
    for _ in range(3):
        parts.append(values.bfloat16())
        values = values - parts[-1].float()
    return torch.stack(parts)


def _interval(costs: Costs, cost: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and greatest similarity that a cost can have."""
    # Rounding is monotonic, so the bound of every cost holds for the smallest costs of a row.
    error = cost * _OUTPUT_ROUNDING + bound
    similarity = costs.offset - cost
    return similarity - error, similarity + error


def _smallest(costs: Costs, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Do as :func:`~.similarities.reduce_similarities`, with the smallest values instead."""
    num0, num1 = len(costs.left), costs.right.shape[1]
    buffer = costs.left.new_empty(min(rows, num0), num1)
    columns = torch.empty(num0, dtype=torch.int64)
    best, second = torch.empty(2, num0, dtype=torch.int16)
    others = torch.full((num1,), _INFINITY, dtype=torch.int16)
    for start in range(0, num0, rows):
        chunk = slice(start, start + rows)
        block = costs.left[chunk]
        product = torch.mm(block, costs.right, out=buffer[: len(block)])
        # The bits of floats that are not negative are in the order of the floats.
        bits = product.view(torch.int16)
        column = torch.from_numpy(bits.numpy().argmin(1))[:, None]
        columns[chunk] = column[:, 0]
        best[chunk] = bits.gather(1, column)[:, 0]
        bits.scatter_(1, column, _INFINITY)
        second[chunk] = bits.amin(1)
        torch.minimum(others, bits.amin(0), out=others)
    best, second, others = (bits.view(torch.bfloat16).float() for bits in (best, second, others))
    return columns, best, second, others
