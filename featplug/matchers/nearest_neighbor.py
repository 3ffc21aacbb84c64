"""Nearest neighbours in descriptor space, with mutual, ratio and distance tests.

The options and tests are those of hloc (``hloc/matchers/nearest_neighbor.py``); the ratio test is
Lowe's (IJCV 2004, section 7.1). For every metric the similarities of two images are one matrix
product. It is computed some rows at a time and each chunk is reduced while it is in the cache:
memory is bounded, and the reductions cost little beside the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from featplug.base import Matcher

METRICS = ("dot", "l2", "hamming")

_CHUNK_BYTES = 8 * 2**20
_CHUNK_ROWS = 256
"""On the CPU a chunk is at most this many bytes, to stay in the cache, but not fewer rows."""


class NearestNeighbor(Matcher):
    """Nearest neighbour of each descriptor of image 0 among those of image 1.

    Options (names and meaning as in hloc):
        metric: ``dot``, unit vectors, squared distance 2 (1 - cosine); ``l2``, Euclidean
            distance; ``hamming``, number of bits that differ.
        ratio_threshold: keep a match if its distance is at most this part of the distance to the
            second nearest; not applied where an image has a single keypoint. None: no test.
        distance_threshold: greatest distance of a match, in bits for ``hamming``. None: no test.
        do_mutual_check: keep a match only if it is the nearest neighbour in both directions; the
            ratio test then applies in both directions, too.

    ``hamming`` reads ``descriptors_packed``, ceil(D/8)×N bytes as of ``numpy.packbits`` along
    axis 0, where there are any, and else the signs of ``descriptors`` (positive is 1).

    Raises:
        ValueError: an option has no such value, or the descriptors of two images do not fit.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "metric": "dot",
        "ratio_threshold": None,
        "distance_threshold": None,
        "do_mutual_check": True,
    }
    optional_keys = ("descriptors_packed",)

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        if self.conf["metric"] not in METRICS:
            raise ValueError(
                f"metric must be one of {', '.join(METRICS)}, not {self.conf['metric']!r}."
            )
        for name in ("ratio_threshold", "distance_threshold"):
            if self.conf[name] is not None and not self.conf[name] > 0:
                raise ValueError(f"{name} must be positive or None, not {self.conf[name]!r}.")

    @torch.no_grad()
    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match one pair of images within :attr:`memory_budget`, but at least row by row.

        Args:
            features0: ``descriptors`` D×N0 of any float type, maybe ``descriptors_packed``.
            features1: ``descriptors`` D×N1 and the like.

        Returns:
            ``matches0`` N0 int64, the index in image 1 or -1, and ``matching_scores0`` N0
            float32: (1 + cosine) / 2 for ``dot``, 1 / (1 + distance) for ``l2``, the part of equal
            bits for ``hamming``, and 0 where there is no match. Of equal neighbours one is taken.

        Raises:
            ValueError: the descriptors of the two images differ in length.
        """
        descriptors0, descriptors1 = features0["descriptors"], features1["descriptors"]
        (dim, num0), (dim1, num1) = descriptors0.shape, descriptors1.shape
        if num0 == 0 or num1 == 0:
            return {
                "matches0": torch.full((num0,), -1, device=descriptors0.device),
                "matching_scores0": torch.zeros(num0, device=descriptors0.device),
            }
        if dim != dim1:
            raise ValueError(
                f"The descriptors of the two images have {dim} and {dim1} dimensions; "
                "match features of one method."
            )
        ratio, mutual = self.conf["ratio_threshold"], self.conf["do_mutual_check"]
        if num0 == 1 or num1 == 1:
            ratio = None
        left, right = self._factors(features0, features1)
        spent = sum(factor.numel() * factor.element_size() for factor in (left, right))
        rows = max(1, (self.memory_budget - spent) // (right.element_size() * num1))
        if left.device.type == "cpu":
            rows = min(rows, max(_CHUNK_ROWS, _CHUNK_BYTES // (right.element_size() * num1)))
        nearest = _nearest(left, right, rows, second=ratio is not None, others=mutual)

        distance = self._distance(nearest.best, dim)
        # Squared distances are compared, as in hloc; bits are a distance themselves.
        power = 1 if self.conf["metric"] == "hamming" else 2
        valid = torch.ones_like(distance, dtype=torch.bool)
        if nearest.second is not None:
            valid &= distance <= ratio**power * self._distance(nearest.second, dim)
        if nearest.others is not None:
            is_mutual, second = _look_back(nearest.column, nearest.best, nearest.others)
            valid &= is_mutual
            if ratio is not None:
                valid &= distance <= ratio**power * self._distance(second, dim)
        if self.conf["distance_threshold"] is not None:
            valid &= distance <= self.conf["distance_threshold"] ** power
        return {
            "matches0": torch.where(valid, nearest.column, -1),
            "matching_scores0": torch.where(valid, self._score(distance, dim), 0.0),
        }

    def _factors(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """K×N0 and K×N1 float32, whose products grow as the distance falls."""
        if self.conf["metric"] == "hamming":
            return _signs(features0), _signs(features1)
        left, right = features0["descriptors"].float(), features1["descriptors"].float()
        if self.conf["metric"] == "dot":
            return left, right
        # -|a - b|² / 2 = a·b - |a|²/2 - |b|²/2. The difference of large numbers is rounded less
        # where the descriptors are centred first.
        centre = (left.mean(1, keepdim=True) + right.mean(1, keepdim=True)) / 2
        left, right = left - centre, right - centre
        half0 = left.square().sum(0, keepdim=True) / -2
        half1 = right.square().sum(0, keepdim=True) / -2
        return (
            torch.cat([left, half0, torch.ones_like(half0)]),
            torch.cat([right, torch.ones_like(half1), half1]),
        )

    def _distance(self, product: Tensor, dim: int) -> Tensor:
        """The squared distance (``dot``, ``l2``) or the number of bits of a product."""
        if self.conf["metric"] == "dot":
            return 2 * (1 - product)
        if self.conf["metric"] == "l2":
            return (-2 * product).clamp(min=0)
        return (dim - product) / 2

    def _score(self, distance: Tensor, dim: int) -> Tensor:
        """The score in [0, 1] of what :meth:`_distance` returns."""
        if self.conf["metric"] == "dot":
            return (1 - distance / 4).clamp(0, 1)
        if self.conf["metric"] == "l2":
            return 1 / (1 + distance.sqrt())
        return 1 - distance / dim


class _Nearest(NamedTuple):
    """What the similarity matrix N0×N1 is reduced to."""

    column: Tensor
    """N0: the column of each row's maximum."""
    best: Tensor
    """N0: that maximum."""
    second: Tensor | None
    """N0: the row's second largest value, -inf where there is none."""
    others: Tensor | None
    """N1: each column's maximum without the maxima of the rows, -inf where there is none."""


def _nearest(left: Tensor, right: Tensor, rows: int, second: bool, others: bool) -> _Nearest:
    """Reduce the similarities ``left.T @ right`` of K×N0 and K×N1, ``rows`` rows at a time."""
    num0, num1 = left.shape[1], right.shape[1]
    buffer = left.new_empty(min(rows, num0), num1)
    columns = torch.empty(num0, dtype=torch.int64, device=left.device)
    best = left.new_empty(num0)
    seconds = left.new_empty(num0) if second else None
    rest = left.new_full((num1,), -torch.inf) if others else None
    for start in range(0, num0, rows):
        chunk = slice(start, start + rows)
        block = left[:, chunk]
        similarities = torch.mm(block.t(), right, out=buffer[: block.shape[1]])
        column = _argmax(similarities)[:, None]
        columns[chunk] = column[:, 0]
        best[chunk] = similarities.gather(1, column)[:, 0]
        # Without the rows' maxima, the maxima of rows and columns are all that is still needed.
        similarities.scatter_(1, column, -torch.inf)
        if seconds is not None:
            seconds[chunk] = similarities.amax(1)
        if rest is not None:
            torch.maximum(rest, similarities.amax(0), out=rest)
    return _Nearest(columns, best, seconds, rest)


def _look_back(column: Tensor, best: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """The same from the columns' side, from what :class:`_Nearest` holds.

    A column's largest values are among the maxima of the rows that chose it and ``others``.

    Returns:
        N0 bool, whether the row is the nearest neighbour of its own nearest neighbour (of equal
        rows the first), and N0, that neighbour's second largest value where it is.
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
    """Column of each row's maximum; on the CPU by numpy, whose argmax is vectorised."""
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().argmax(1))
    return values.argmax(1)


def _signs(features: Mapping[str, Tensor]) -> Tensor:
    """Binary descriptors as D×N float32 of -1 and 1; their product is D - 2·bits, exactly."""
    descriptors, packed = features["descriptors"], features.get("descriptors_packed")
    if packed is None:
        bits = descriptors > 0
    else:
        dim, num = descriptors.shape
        if packed.shape != ((dim + 7) // 8, num):
            raise ValueError(
                f"descriptors_packed must be {(dim + 7) // 8}×{num} for descriptors of "
                f"{dim}×{num}, not {tuple(packed.shape)}."
            )
        # hloc hands over every dataset as float.
        values = packed.to(torch.uint8)[:, None]
        masks = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=values.device)
        bits = ((values & masks[:, None]) != 0).reshape(-1, num)[:dim]
    return bits.float() * 2 - 1
