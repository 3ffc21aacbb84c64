"""MTLDesc's losses: triplets of descriptors weighted by attention, and keypoints by cross-entropy.

Wang et al., "MTLDesc: Looking Wider to Describe Better", AAAI 2022, equations 1 to 4 (descriptors)
and 6 to 7 (keypoints). Their sum, both with weight 1, is what is minimised.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FORBIDDEN = 10.0
"""Added to the distance of a pair that is not to be a negative, as in the released code."""
_MIN_SQUARED_DISTANCE = 1e-5
_MIN_PROBABILITY = 1e-4


def excluded_negatives(positions1: Tensor, valid: Tensor, radius: float = 16.0) -> Tensor:
    """Find the pairs of points that are not to be negatives of each other.

    The released data excludes what lies close to the true match, and points without one; the
    paper (equation 2) excludes the match alone.

    Args:
        positions1: B×N×2, pixels of image 1 that the points of image 0 are seen at.
        valid: B×N bool, whether the point is seen in image 1.
        radius: pixels from the true match.

    Returns:
        B×N×N bool: row, the point of image 0, and column, the point of image 1.
    """
    distances = torch.cdist(positions1, positions1, compute_mode="donot_use_mm_for_euclid_dist")
    return (distances <= radius) | ~valid[:, None]


def attention_weighted_triplet_loss(
    descriptors0: Tensor,
    descriptors1: Tensor,
    attention0: Tensor,
    attention1: Tensor,
    valid: Tensor,
    excluded: Tensor,
    temperature: float = 15.0,
    margin: float = 1.0,
) -> Tensor:
    """Consistent attention weighted triplet loss (equations 1 to 4).

    As in the released code, which the paper leaves open or writes otherwise: the hardest negative
    of a point is sought in image 1 alone and not among :func:`excluded_negatives`; the softmax
    weights are those of image 0 and of valid points; squared distances are not below 1e-5.

    Args:
        descriptors0: B×N×D unit vectors of points of image 0.
        descriptors1: B×N×D, of the same points in image 1.
        attention0: B×N, ω of the points, by which the descriptors are multiplied.
        attention1: B×N.
        valid: B×N, nonzero where the point is seen in both images.
        excluded: B×N×N, nonzero where the point of the column is no negative for the row's. A
            point is never a negative of itself, whatever the diagonal says.
        temperature: T, which smooths the weights.
        margin: of the triplets.

    Returns:
        A scalar, the mean over the batch; an item without valid points adds 0.
    """
    points0 = descriptors0 * attention0[..., None]
    points1 = descriptors1 * attention1[..., None]
    squared = (
        points0.square().sum(-1)[..., None]
        - 2 * points0 @ points1.mT
        + points1.square().sum(-1)[:, None]
    )
    distances = squared.clamp(min=_MIN_SQUARED_DISTANCE).sqrt()
    positive = distances.diagonal(dim1=1, dim2=2)
    diagonal = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    forbidden = (excluded != 0) | diagonal
    negative = (distances + _FORBIDDEN * forbidden).min(2).values
    triplets = torch.relu(margin + positive - negative)
    is_valid = valid != 0
    # Not -inf, with which an item without valid points would be NaN.
    logits = (attention0 / temperature).masked_fill(~is_valid, torch.finfo(attention0.dtype).min)
    return (triplets * logits.softmax(1) * is_valid).sum(1).mean()


def keypoint_loss(
    logits: Tensor, labels: Tensor, valid: Tensor, positive_weight: float = 200.0
) -> Tensor:
    """Weighted binary cross-entropy of the keypoint heat map (equations 6 and 7).

    As in the released code: log(p + 1e-4) for log(p), and an image's sum is divided by the number
    of its valid pixels plus 1.

    Args:
        logits: B×H×W, before the sigmoid.
        labels: B×H×W, 1 at keypoints and 0 elsewhere.
        valid: B×H×W, 1 where the label is known and 0 elsewhere.
        positive_weight: λ, the weight of keypoints.

    Returns:
        A scalar, the mean over the batch.
    """
    probability = logits.sigmoid()
    losses = positive_weight * labels * (probability + _MIN_PROBABILITY).log()
    losses = losses + (1 - labels) * (1 - probability + _MIN_PROBABILITY).log()
    return -((losses * valid).sum((1, 2)) / (valid.sum((1, 2)) + 1)).mean()
