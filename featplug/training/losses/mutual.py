"""A loss over whole images: the precision of mutual nearest neighbours.

The papers' losses compare keypoints that have a counterpart. Half or more of an image's keypoints
have none, and most wrong matches are between two of these. This loss uses all keypoints of both
images. The product of both directions' softmax is that of Rocco et al., "Neighbourhood Consensus
Networks" (NeurIPS 2018, section 3.2) and LoFTR's dual softmax (Sun et al., CVPR 2021, section 3.3);
these maximise it where a match is correct, and this loss compares it with its sum over all pairs.
"""

import torch
from torch import Tensor

_LEAST = 1e-6
"""Lower bound of precision and recall inside the logarithm."""


def mutual_scores(
    similarities: Tensor, is_right: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Compute differentiable precision and recall of mutual nearest neighbours.

    Whether two keypoints are each other's nearest neighbours is softened to the product of the
    softmax along the row and the softmax along the column. With a temperature near 0 precision and
    recall are those of the matches.

    Args:
        similarities: N×M of all keypoints of two images, of any scale: they are divided by their
            standard deviation.
        is_right: N×M bool, whether the two keypoints show the same point.
        temperature: temperature of both softmax.

    Returns:
        Scalars in [0, 1]: the ratio of mutual nearest neighbours that are correct, and the ratio of
        keypoints with a counterpart that are matched to it.
    """
    tiny = torch.finfo(similarities.dtype).tiny
    scale = similarities.detach().std(correction=0).clamp(min=tiny) * temperature
    logits = similarities / scale
    mutual = logits.softmax(0) * logits.softmax(1)
    right = (mutual * is_right).sum()
    with_counterpart = torch.minimum(is_right.any(0).sum(), is_right.any(1).sum())
    return right / mutual.sum().clamp(min=tiny), right / with_counterpart.clamp(min=1)


def mutual_loss(
    similarities: Tensor, is_right: Tensor, temperature: float, recall_weight: float = 0.0
) -> Tensor:
    """Compute minus the logarithm of precision, and of recall with a weight.

    It is 0 if no pair is correct; the other arguments are those of :func:`mutual_scores`.
    """
    precision, recall = mutual_scores(similarities, is_right, temperature)
    log_precision, log_recall = (s.clamp(min=_LEAST).log() for s in (precision, recall))
    loss = -log_precision - recall_weight * log_recall
    return torch.where(is_right.any(), loss, 0 * precision)
