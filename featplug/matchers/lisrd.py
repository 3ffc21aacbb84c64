"""LISRD's matcher: nearest neighbours by a distance that chooses its invariance pair by pair.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, section 3.2
and equation 7. A keypoint's meta descriptors are interpolated between those of its image's tiles,
so that their scalar products follow exactly from the products of the tiles alone: 9×9 numbers for
each head instead of 1024 for each keypoint.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.matchers.similarities import Nearest, chunk_rows, look_back, reduce_blocks
from featplug.methods import register_matcher

_TILE_COLUMNS = 1024
"""Columns that a CPU computes at a time, so that the heads' products stay in the cache."""


def tile_weights(grid: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """Compute bilinear weights of the tiles at keypoints, with zeros beyond the border.

    Args:
        grid: 2×N (x, y), −1 to 1 from border to border of the image.
        num_rows: tiles from top to bottom.
        num_columns: tiles from left to right.

    Returns:
        T×N, T = num_rows · num_columns, tiles row by row; at most four of a keypoint's are not 0.
    """
    weights = []
    for position, num_tiles in zip(grid, (num_columns, num_rows), strict=True):
        tiles = torch.arange(num_tiles, dtype=grid.dtype, device=grid.device)
        cell = (position + 1) * (num_tiles / 2) - 0.5
        weights.append((1 - (cell - tiles[:, None]).abs()).clamp_(min=0))
    x_weights, y_weights = weights
    return (y_weights[:, None] * x_weights).flatten(0, 1)


def meta_factors(
    features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Compute factors of the products of two images' normalised meta descriptors.

    Args:
        features0: ``meta_descriptors`` H×M×rows×columns, of the tiles of each of H heads, and
            ``meta_grid`` 2×N0 (x, y), the keypoints' places.
        features1: the same of the other image.

    Returns:
        H×T×N0 and H×T×N1, whose product along T, the tiles, is the scalar product of the meta
        descriptors that are interpolated at the keypoints and then normalised.
    """
    tiles, weights = [], []
    for features in (features0, features1):
        metas = features["meta_descriptors"]
        tiles.append(metas.flatten(2).float())
        at_keypoints = tile_weights(features["meta_grid"].float(), *metas.shape[2:])
        # The length of what is interpolated, again by the products of the tiles.
        gram = tiles[-1].mT @ tiles[-1]
        square = (at_keypoints * (gram @ at_keypoints)).sum(1, keepdim=True)
        weights.append(at_keypoints / square.clamp_(min=1e-24).sqrt_())
    gram = tiles[1].mT @ tiles[0]
    return gram @ weights[0], weights[1]


class WeightedSimilarities:
    """Similarities of two images' keypoints, summed over the heads with the weights of equation 7.

    Args:
        left: H×K×N0, so that ``left[i].T @ right[i]`` is the similarity in head i.
        right: H×K×N1.
        meta_left: H×T×N0, so that ``meta_left[i].T @ meta_right[i]`` is the similarity of the
            meta descriptors of head i; the weights are its softmax over the heads.
        meta_right: H×T×N1.
        rows: how many rows are computed at a time.
        is_square: the products are negative squared distances; their roots are weighted.
    """

    def __init__(
        self,
        left: Tensor,
        right: Tensor,
        meta_left: Tensor,
        meta_right: Tensor,
        rows: int,
        is_square: bool = False,
    ) -> None:
        self.left, self.right, self.is_square = left, right, is_square
        self.meta_left, self.meta_right = meta_left, meta_right
        num0, num1 = left.shape[2], right.shape[2]
        self.num_columns = min(num1, _TILE_COLUMNS if left.device.type == "cpu" else num1)
        self._block = left.new_empty(min(rows, num0), num1)
        self._buffers = left.new_empty(4, min(rows, num0) * self.num_columns)

    def __call__(self, rows: slice) -> Tensor:
        """Compute R×N1 similarities of R rows, overwritten by the next call."""
        left, meta_left = self.left[:, :, rows].mT, self.meta_left[:, :, rows].mT
        block = self._block[: left.shape[1]]
        for start in range(0, block.shape[1], self.num_columns):
            columns = slice(start, start + self.num_columns)
            target = block[:, columns]
            product, weight, total, norm = (
                buffer[: target.numel()].view(target.shape) for buffer in self._buffers
            )
            for head in range(len(left)):
                torch.mm(meta_left[head], self.meta_right[head, :, columns], out=weight)
                # The softmax without the usual shift, as these products lie in [−1, 1].
                weight.exp_()
                torch.mm(left[head], self.right[head, :, columns], out=product)
                if self.is_square:
                    product.clamp_(max=0).neg_().sqrt_().neg_()
                if head == 0:
                    torch.mul(weight, product, out=total)
                    norm.copy_(weight)
                else:
                    total.addcmul_(weight, product)
                    norm.add_(weight)
            torch.div(total, norm, out=target)
        return block


@register_matcher(
    {
        "lisrd": {},
        "lisrd-ratio": {"model": {"ratio_threshold": 0.9}},
        "lisrd-sift": {"model": {"distance": "l2"}},
        "lisrd-sift-ratio": {"model": {"distance": "l2", "ratio_threshold": 0.8}},
    },
    order=2,
)
class LISRDMatcher(Matcher):
    """Mutual nearest neighbours by LISRD's weighted distance.

    The distance of two keypoints is Σ wᵢ dᵢ over the heads, wᵢ the softmax of the scalar products
    of their meta descriptors. The released code has neither a ratio test nor a threshold; a ratio
    test is what reconstruction needs.

    Options:
        distance: ``cosine``, dᵢ = 2 − 2⟨aᵢ, bᵢ⟩, the squared distance of unit vectors, as the
            released code has it (equation 7 of the paper has the distance itself); ``l2``,
            dᵢ = ‖aᵢ − bᵢ‖, for LISRD-SIFT, whose descriptors are not normalised.
        ratio_threshold: keep a match if its distance is at most this ratio of that to the second
            nearest, both as Euclidean distances (the root, for ``cosine``); not applied where an
            image has a single keypoint. None: no test.
        do_mutual_check: keep a match only if it is the nearest neighbour in both directions; the
            ratio test then applies in both directions, too.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "distance": "cosine",
        "ratio_threshold": None,
        "do_mutual_check": True,
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"distance": ("cosine", "l2")}
    positive = ("ratio_threshold",)
    required_keys = ("descriptors", "meta_descriptors", "meta_grid")

    @torch.no_grad()
    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match one pair of images within :attr:`memory_budget`, but at least row by row.

        Args:
            features0: ``descriptors`` (H·D)×N0, those of H heads one after the other,
                ``meta_descriptors`` H×M×rows×columns, of the image's tiles, and ``meta_grid``
                2×N0 (x, y), −1 to 1 from border to border of the image.
            features1: the same of the other image.

        Returns:
            See :class:`Matcher`; scores are (1 + Σ wᵢ⟨aᵢ, bᵢ⟩) / 2 for ``cosine`` and
            1 / (1 + distance) for ``l2``. Of equal neighbours one is taken.

        Raises:
            ValueError: the two images' features are of different methods.
        """
        descriptors0, descriptors1 = (
            _by_head(features["descriptors"], features["meta_descriptors"])
            for features in (features0, features1)
        )
        num0, num1 = descriptors0.shape[2], descriptors1.shape[2]
        if num0 == 0 or num1 == 0:
            return {
                "matches0": torch.full((num0,), -1, device=descriptors0.device),
                "matching_scores0": torch.zeros(num0, device=descriptors0.device),
            }
        if descriptors0.shape[:2] != descriptors1.shape[:2]:
            shapes = (f"{len(d)} × {d.shape[1]}" for d in (descriptors0, descriptors1))
            raise ValueError(
                f"The descriptors of the two images have {' and '.join(shapes)} dimensions; "
                "match features of one method."
            )
        nearest = self._nearest(descriptors0, descriptors1, *meta_factors(features0, features1))
        valid = self._passes(nearest.best, nearest.second)
        if nearest.others is not None:
            is_mutual, of_column = look_back(nearest.column, nearest.best, nearest.others)
            second = None if nearest.second is None else of_column
            valid &= is_mutual & self._passes(nearest.best, second)
        is_l2 = self.conf["distance"] == "l2"
        scores = 1 / (1 - nearest.best) if is_l2 else ((1 + nearest.best) / 2).clamp(0, 1)
        return {
            "matches0": torch.where(valid, nearest.column, -1),
            "matching_scores0": torch.where(valid, scores, 0.0),
        }

    def _passes(self, best: Tensor, second: Tensor | None) -> Tensor:
        """Return which similarities pass the ratio test; all without second ones."""
        if second is None:
            return torch.ones_like(best, dtype=torch.bool)
        ratio = self.conf["ratio_threshold"]
        if self.conf["distance"] == "l2":
            return -best <= ratio * -second
        return 1 - best <= ratio**2 * (1 - second)

    def _nearest(
        self, left: Tensor, right: Tensor, meta_left: Tensor, meta_right: Tensor
    ) -> Nearest:
        """Find nearest neighbours from H×D×N0, H×D×N1 and the factors of meta similarities."""
        is_l2 = self.conf["distance"] == "l2"
        if is_l2:
            # −|a − b|² = 2a·b − |a|² − |b|², exact for the whole numbers of SIFT.
            square0 = left.square().sum(1, keepdim=True)
            square1 = right.square().sum(1, keepdim=True)
            left = torch.cat([2 * left, -square0, -torch.ones_like(square0)], dim=1)
            right = torch.cat([right, torch.ones_like(square1), square1], dim=1)
        made = sum(factor.nbytes for factor in (left, right, meta_left, meta_right))
        # A block and, where these are not smaller, four of its size besides.
        rows = chunk_rows(right[0], (self.memory_budget - made) // 5)
        similarities = WeightedSimilarities(left, right, meta_left, meta_right, rows, is_l2)
        several = min(left.shape[2], right.shape[2]) > 1
        return reduce_blocks(
            similarities,
            left,
            right,
            rows,
            second=several and self.conf["ratio_threshold"] is not None,
            others=self.conf["do_mutual_check"],
        )


def _by_head(descriptors: Tensor, metas: Tensor) -> Tensor:
    """Return descriptors as H×D×N float32, for the H heads of the meta descriptors."""
    num_heads = len(metas)
    if metas.ndim != 4 or len(descriptors) % num_heads:
        raise ValueError(
            f"The descriptors have {len(descriptors)} dimensions and the meta_descriptors the "
            f"shape {tuple(metas.shape)}, which are not LISRD's; match features of LISRD."
        )
    return descriptors.float().unflatten(0, (num_heads, -1))
