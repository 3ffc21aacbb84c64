"""A loss over whole images: how many of the mutual nearest neighbours are right.

The papers' losses compare keypoints that have a counterpart. Half or more of an image's keypoints
have none, and those that find each other make most of the wrong matches. Here all keypoints of both
images take part. The product of both directions' softmax is that of Rocco et al., "Neighbourhood
Consensus Networks" (NeurIPS 2018, section 3.2) and LoFTR's dual softmax (Sun et al., CVPR 2021,
section 3.3); these maximise it where a match is right, this compares it with its sum elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_LEAST = 1e-6
"""Of precision and recall in a logarithm."""


class MutualScores(NamedTuple):
    """Softened mutual nearest neighbours of two images; both in [0, 1], 0 where none is right."""

    precision: Tensor
    """Scalar, the part of them that are right."""
    recall: Tensor
    """Scalar, the part of the keypoints with a counterpart that have it as their neighbour."""


def mutual_scores(similarities: Tensor, is_right: Tensor, temperature: float) -> MutualScores:
    """Compute precision and recall of mutual nearest neighbours, made differentiable.

    That a pair of keypoints are each other's nearest neighbours is softened to the product of
    softmax along its row and along its column. With a temperature near 0 precision and recall
    are those of the matches.

    Args:
        similarities: N×M of all keypoints of two images, higher for more alike; of any scale, as
            they are divided by their standard deviation.
        is_right: N×M bool, whether the two keypoints show the same point.
        temperature: of both softmax.
    """
    tiny = torch.finfo(similarities.dtype).tiny
    scale = similarities.detach().std(correction=0).clamp(min=tiny) * temperature
    logits = similarities / scale
    mutual = logits.softmax(0) * logits.softmax(1)
    right = (mutual * is_right).sum()
    with_counterpart = torch.minimum(is_right.any(0).sum(), is_right.any(1).sum())
    return MutualScores(right / mutual.sum().clamp(min=tiny), right / with_counterpart.clamp(min=1))


def mutual_loss(
    similarities: Tensor, is_right: Tensor, temperature: float, recall_weight: float = 0.0
) -> Tensor:
    """Minus the logarithm of precision, and of recall with a weight.

    Args:
        similarities: as the next two for :func:`mutual_scores`.
        is_right: see there.
        temperature: see there.
        recall_weight: of recall.

    Returns:
        A scalar; 0 where no pair is right.
    """
    scores = mutual_scores(similarities, is_right, temperature)
    precision, recall = (score.clamp(min=_LEAST) for score in scores)
    loss = -precision.log() - recall_weight * recall.log()
    return torch.where(is_right.any(), loss, 0 * scores.precision)
