"""Pairs of points that must not serve as negatives of each other, for the triplet losses."""

from collections.abc import Sequence

import torch
from torch import Tensor


def excluded_negatives(positions: Sequence[Tensor], valid: Tensor, radius: float) -> Tensor:
    """Find the pairs of points that are too near to each other, or not seen in all images.

    As in the released code of MTLDesc and LISRD; the papers exclude a point's own match only
    (MTLDesc, equation 2) or points that are near in the second image (LISRD).

    Args:
        positions: B×N×2 (x, y) in pixels of the points in each image that counts.
        valid: B×N bool, whether a point is seen in all images.
        radius: pixels within which two points are no negatives of each other.

    Returns:
        B×N×N bool, true on the diagonal.
    """
    excluded = ~(valid[:, None] & valid[..., None])
    for points in positions:
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        excluded |= distances <= radius
    return excluded
