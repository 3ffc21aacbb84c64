"""MTLDesc's losses: attention-weighted triplets of descriptors, cross-entropy of keypoints.

Wang et al., "MTLDesc: Looking Wider to Describe Better", AAAI 2022, equations 1 to 4 (descriptors)
and 6 to 7 (keypoints). Training minimises their sum.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_FORBIDDEN = 10.0
"""Distance added to a pair that must not be a negative, as in the released code."""
_MIN_SQUARED_DISTANCE = 1e-5
_MIN_PROBABILITY = 1e-4


@dataclass(frozen=True, kw_only=True)
class MTLDescLossOptions:
    """Constants of MTLDesc's losses; the defaults are the paper's."""

    temperature: float = 15.0
    """Temperature of the softmax that weights the triplets by attention (T)."""
    margin: float = 1.0
    """Margin of the triplets."""
    positive_weight: float = 200.0
    """Weight of keypoints in the detector's cross-entropy (λ)."""


def attention_weighted_triplet_loss(
    descriptors0: Tensor,
    descriptors1: Tensor,
    attention0: Tensor,
    attention1: Tensor,
    valid: Tensor,
    excluded: Tensor,
    options: MTLDescLossOptions = MTLDescLossOptions(),
) -> Tensor:
    """Compute the consistent attention weighted triplet loss (equations 1 to 4).

    These choices follow the released code: the hardest negative of a point is searched in image 1
    only, and not among the excluded ones; the softmax weights are those of image 0, over valid
    points; squared distances are at least 1e-5.

    Args:
        descriptors0: B×N×D unit vectors of points of image 0.
        descriptors1: B×N×D, of the same points in image 1.
        attention0: B×N, ω of the points, by which the descriptors are multiplied.
        attention1: B×N.
        valid: B×N, nonzero where the point is seen in both images.
        excluded: B×N×N, nonzero where the point of the column is no negative of the row's point,
            from :func:`~featplug.training.losses.negatives.excluded_negatives`. The diagonal is
            always excluded.
        options: temperature and margin.

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
    triplets = torch.relu(options.margin + positive - negative)
    is_valid = valid != 0
    # Not -inf, which would make an item without valid points NaN.
    logits = attention0 / options.temperature
    logits = logits.masked_fill(~is_valid, torch.finfo(attention0.dtype).min)
    return (triplets * logits.softmax(1) * is_valid).sum(1).mean()


def keypoint_loss(
    logits: Tensor, labels: Tensor, valid: Tensor, positive_weight: float = 200.0
) -> Tensor:
    """Compute the weighted binary cross-entropy of the keypoint heat map (equations 6 and 7).

    As in the released code, log(p + 1e-4) replaces log(p), and an image's sum is divided by the
    number of its valid pixels plus 1.

    Args:
        logits: B×H×W, before the sigmoid.
        labels: B×H×W, 1 at keypoints and 0 elsewhere.
        valid: B×H×W, 1 where the label is known and 0 elsewhere.
        positive_weight: weight of keypoints (λ).

    Returns:
        A scalar, the mean over the batch.
    """
    probability = logits.sigmoid()
    losses = positive_weight * labels * (probability + _MIN_PROBABILITY).log()
    losses = losses + (1 - labels) * (1 - probability + _MIN_PROBABILITY).log()
    return -((losses * valid).sum((1, 2)) / (valid.sum((1, 2)) + 1)).mean()
