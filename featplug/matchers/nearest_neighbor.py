"""Nearest neighbours in descriptor space, with mutual, ratio and distance tests.

The options and tests are those of hloc (``hloc/matchers/nearest_neighbor.py``); the ratio test is
Lowe's (IJCV 2004, section 7.1). For every metric the similarities of two images are one matrix
product. CPUs with bfloat16 instructions decide most rows of a ratio test on ``dot`` by a bfloat16
product first; the matches are those of float32.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.matchers import screening
from featplug.matchers.similarities import chunk_rows, look_back, reduce_similarities
from featplug.methods import register_matcher

_GUIDED_RATIO = 0.9
"""Ratio test of guided matching where there is none otherwise."""
_GUIDED_STRICTNESS = 0.94
"""Ratio of guided matching relative to the matcher's own."""


@register_matcher(
    {
        "NN-mutual": {"model": {"do_mutual_check": True}},
        "NN-ratio": {
            "output": "matches-featplug-NN-mutual-ratio.8",
            "model": {"do_mutual_check": True, "ratio_threshold": 0.8},
        },
        "NN-mutual-l2": {"model": {"do_mutual_check": True, "metric": "l2"}},
        "NN-hamming": {
            "output": "matches-featplug-NN-mutual-hamming",
            "model": {"do_mutual_check": True, "metric": "hamming"},
        },
        "NN-hamming-ratio": {
            "output": "matches-featplug-NN-mutual-hamming-ratio.85",
            "model": {"do_mutual_check": True, "metric": "hamming", "ratio_threshold": 0.85},
        },
        # MTLDesc's descriptors are not of unit length. Its paper compares their distances, the
        # notebook of its authors the products.
        "mtldesc": {"model": {"do_mutual_check": True, "metric": "l2"}},
        "mtldesc-dot": {"model": {"do_mutual_check": True, "metric": "dot"}},
    },
    order=1,
)
class NearestNeighbor(Matcher):
    """Nearest neighbour of each descriptor of image 0 among those of image 1.

    Options (names and meaning as in hloc):
        metric: ``dot``, unit vectors, squared distance 2 (1 - cosine); ``l2``, Euclidean
            distance; ``hamming``, number of bits that differ.
        ratio_threshold: keep a match if its distance is at most this ratio of that to the
            second nearest; not applied where an image has a single keypoint. None: no test.
        distance_threshold: greatest distance of a match, in bits for ``hamming``. None: no test.
        do_mutual_check: keep a match only if it is the nearest neighbour in both directions; the
            ratio test then applies in both directions, too.

    ``hamming`` reads ``descriptors_packed``, ceil(D/8)×N bytes as of ``numpy.packbits`` along
    axis 0, where there are any, and else the signs of ``descriptors`` (positive is 1).
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "metric": "dot",
        "ratio_threshold": None,
        "distance_threshold": None,
        "do_mutual_check": True,
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"metric": ("dot", "l2", "hamming")}
    positive = ("ratio_threshold", "distance_threshold")
    optional_keys = ("descriptors_packed",)

    @torch.no_grad()
    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match one pair of images within :attr:`memory_budget`, but at least row by row.

        Scores are (1 + cosine) / 2 for ``dot``, 1 / (1 + distance) for ``l2`` and the fraction of
        equal bits for ``hamming``. Of equal neighbours one is taken. See :class:`Matcher`.

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
        left, right = self._factors(features0, features1)
        screened = self._screened(left, right)
        column, distance, valid = screened or self._exact(left, right, dim)
        return {
            "matches0": torch.where(valid, column, -1),
            "matching_scores0": torch.where(valid, self._score(distance, dim), 0.0),
        }

    @property
    def guided_options(self) -> Mapping[str, Any]:
        """Its own options with a stricter ratio test; see :attr:`Matcher.guided_options`.

        The keypoints of similar epipolar lines are far fewer than all, so the second nearest of
        them is farther. With these ratios as many matches fit by chance as without guidance:
        on fountain-P11, by their number 8 to 13 px from the true lines, .3 % of those of ``sift``
        (.5 % with its own ratio of .8), .6 % of those of ``contextdesc`` (2.1 % without a ratio).
        """
        ratio = self.conf["ratio_threshold"]
        guided = _GUIDED_RATIO if ratio is None else _GUIDED_STRICTNESS * ratio
        return {**self.conf, "ratio_threshold": guided}

    @torch.no_grad()
    def match_blocks(
        self,
        features0: Mapping[str, Tensor],
        features1: Mapping[str, Tensor],
        blocks: Iterable[tuple[Tensor, Tensor]],
    ) -> dict[str, Tensor]:
        """Match with the same tests within blocks of the similarities only.

        Args:
            features0: see :meth:`match`.
            features1: see :meth:`match`.
            blocks: indices of keypoints of image 0, each in one block at most, and of image 1. A
                keypoint is compared with those of its block alone; one of image 1 with those of
                all its blocks.

        Returns:
            As :meth:`match`; none for keypoints that are in no block.
        """
        left, right = (factor.t().contiguous() for factor in self._factors(features0, features1))
        dim, with_ratio = len(features0["descriptors"]), self.conf["ratio_threshold"] is not None
        column = torch.zeros(len(left), dtype=torch.int64, device=left.device)
        best, second = left.new_full((2, len(left)), -torch.inf)
        others = left.new_full((len(right),), -torch.inf)
        for rows, columns in blocks:
            block0, block1 = left[rows].t(), right[columns].t()
            nearest = reduce_similarities(
                *(block0, block1, chunk_rows(block1, self.memory_budget)),
                second=with_ratio,
                others=True,
            )
            column[rows], best[rows] = columns[nearest.column], nearest.best
            if nearest.second is not None:
                second[rows] = nearest.second
            if nearest.others is not None:
                others[columns] = torch.maximum(others[columns], nearest.others)
        several = with_ratio and min(len(left), len(right)) > 1
        valid = best.isfinite() & self._passes(best, second if several else None, dim)
        if self.conf["do_mutual_check"]:
            is_mutual, second = look_back(column, best, others)
            valid &= is_mutual & self._passes(best, second if several else None, dim)
        return {
            "matches0": torch.where(valid, column, -1),
            "matching_scores0": torch.where(
                valid, self._score(self._distance(best, dim), dim), 0.0
            ),
        }

    def _exact(self, left: Tensor, right: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return each row's nearest neighbour, its distance, and whether it passes all tests."""
        several = min(left.shape[1], right.shape[1]) > 1
        with_ratio = several and self.conf["ratio_threshold"] is not None
        rows = chunk_rows(right, self.memory_budget - left.nbytes - right.nbytes)
        nearest = reduce_similarities(
            left, right, rows, second=with_ratio, others=self.conf["do_mutual_check"]
        )
        valid = self._passes(nearest.best, nearest.second, dim)
        if nearest.others is not None:
            is_mutual, second = look_back(nearest.column, nearest.best, nearest.others)
            valid &= is_mutual & self._passes(nearest.best, second if with_ratio else None, dim)
        return nearest.column, self._distance(nearest.best, dim), valid

    def _screened(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the same as :meth:`_exact`, or None if bfloat16 does not help."""
        dim, mutual = len(left), self.conf["do_mutual_check"]
        # The float32 factors, those in bfloat16, and what making these takes for a while.
        spent = 3 * (left.nbytes + right.nbytes)
        if (
            self.conf["metric"] != "dot"
            or self.conf["ratio_threshold"] is None
            or min(left.shape[1], right.shape[1]) < screening.FEWEST
            or spent > self.memory_budget / 2
            or left.device.type != "cpu"
            or not screening.has_native_bfloat16()
        ):
            return None
        memory = self.memory_budget - spent
        passes = partial(self._passes, dim=dim)
        screened = screening.screen(left, right, memory, passes, mutual)
        if screened is None:
            return None
        column, valid, undecided = screened
        distance = torch.zeros(len(column))
        (rows,) = torch.nonzero(valid, as_tuple=True)
        product = (left[:, rows] * right[:, column[rows]]).sum(0)
        distance[rows] = self._distance(product, dim)

        # The others take float32: all of their rows, then the columns of those that pass.
        (rows,) = torch.nonzero(undecided, as_tuple=True)
        nearest = reduce_similarities(
            left[:, rows], right, chunk_rows(right, memory), second=True, others=False
        )
        column[rows] = nearest.column
        distance[rows] = self._distance(nearest.best, dim)
        passed = self._passes(nearest.best, nearest.second, dim)
        if mutual:
            rows, best = rows[passed], nearest.best[passed]
            back = reduce_similarities(
                right[:, column[rows]], left, chunk_rows(left, memory), second=True, others=False
            )
            passed = (back.column == rows) & self._passes(best, back.second, dim)
        valid[rows] = passed
        return column, distance, valid

    def _passes(self, best: Tensor, second: Tensor | None, dim: int) -> Tensor:
        """Return whether products that are the largest, and second largest, pass the tests."""
        distance = self._distance(best, dim)
        # Squared distances are compared, as in hloc; bits are a distance themselves.
        power = 1 if self.conf["metric"] == "hamming" else 2
        valid = torch.ones_like(distance, dtype=torch.bool)
        if second is not None:
            valid &= distance <= self.conf["ratio_threshold"] ** power * self._distance(second, dim)
        if self.conf["distance_threshold"] is not None:
            valid &= distance <= self.conf["distance_threshold"] ** power
        return valid

    def _factors(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return K×N0 and K×N1 float32, whose products grow as the distance falls."""
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
        """Return the squared distance (``dot``, ``l2``) or the number of bits of a product."""
        if self.conf["metric"] == "dot":
            return 2 * (1 - product)
        if self.conf["metric"] == "l2":
            return (-2 * product).clamp(min=0)
        return (dim - product) / 2

    def _score(self, distance: Tensor, dim: int) -> Tensor:
        """Return the score in [0, 1] of a result of :meth:`_distance`."""
        if self.conf["metric"] == "dot":
            return (1 - distance / 4).clamp(0, 1)
        if self.conf["metric"] == "l2":
            return 1 / (1 + distance.sqrt())
        return 1 - distance / dim


def _signs(features: Mapping[str, Tensor]) -> Tensor:
    """Return binary descriptors as D×N float32 of ±1, whose product is exactly D - 2·bits."""
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
