"""ContextDesc's losses: N pairs of descriptors, and quadruplets of matchabilities.

Luo et al., "ContextDesc: Local Descriptor Augmentation with Cross-Modality Context", CVPR 2019,
sections 3.3 (equations 1 to 3) and 3.5 (equations 5 to 7). A match set is N pairs of keypoints of
two images, of which some are inliers and the others, noise, are negatives only. The total is the
N-pair loss of the augmented descriptors, that of the normalised local ones, each with a
temperature of its own, and the quadruplet loss, with equal weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MIN_SQUARED_DISTANCE = 1e-6
_DUPLICATE_DISTANCE = 0.008
"""A negative nearer than this is taken for the same point, as in the released code."""
_EXCLUDED = 10.0


def cosine_similarities(descriptors0: Tensor, descriptors1: Tensor) -> Tensor:
    """Compute B×N×N similarities of B×N×D unit vectors, within [−1, 1] in spite of rounding."""
    return (descriptors0 @ descriptors1.mT).clamp(-1, 1)


def euclidean_distances(descriptors0: Tensor, descriptors1: Tensor) -> Tensor:
    """Compute B×N×N distances of B×N×D unit vectors, at least 1e-3."""
    squared = 2 - 2 * descriptors0 @ descriptors1.mT
    return squared.clamp(min=_MIN_SQUARED_DISTANCE).sqrt()


def n_pair_loss(
    descriptors0: Tensor,
    descriptors1: Tensor,
    inliers: Tensor | None = None,
    temperature: Tensor | float = 1.0,
    euclidean: bool = False,
) -> Tensor:
    """N-pair loss with softmax temperature (equations 5 and 6).

    The released code, followed here, takes the softmax of alpha · cos for the paper's
    alpha · (2 − D), and the mean over the inliers for the sum. With temperature 1 it is the loss
    of L2-Net.

    Args:
        descriptors0: B×N×D unit vectors.
        descriptors1: B×N×D, of the same points in the other image.
        inliers: B×N bool, the pairs that match; all by default. The others count in the
            denominators only.
        temperature: alpha.
        euclidean: take 2 − D as in the paper.

    Returns:
        A scalar, the mean over the batch; an item without inliers adds 0.
    """
    if euclidean:
        similarities = 2 - euclidean_distances(descriptors0, descriptors1)
    else:
        similarities = cosine_similarities(descriptors0, descriptors1)
    logits = temperature * similarities
    normalisers = (logits.logsumexp(2) + logits.logsumexp(1)) / 2
    return _inlier_mean(normalisers - logits.diagonal(dim1=1, dim2=2), inliers).mean()


class NPairLoss(nn.Module):
    """:func:`n_pair_loss` with a temperature that is learned.

    The temperature is regularised with the network's weight decay. The released code adds
    1e-4 · alpha to the loss, where the decay of the weights is 1e-4 · ½‖w‖².

    Args:
        euclidean: see :func:`n_pair_loss`.
        temperature: the first one.
    """

    def __init__(self, euclidean: bool = False, temperature: float = 1.0) -> None:
        super().__init__()
        self.euclidean = euclidean
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def forward(
        self, descriptors0: Tensor, descriptors1: Tensor, inliers: Tensor | None = None
    ) -> Tensor:
        """Compute the scalar loss of B×N×D descriptors; see :func:`n_pair_loss`."""
        return n_pair_loss(descriptors0, descriptors1, inliers, self.temperature, self.euclidean)


def hard_negative_loss(
    descriptors0: Tensor,
    descriptors1: Tensor,
    inliers: Tensor | None = None,
    contrastive: bool = False,
    margin: float = 1.0,
    positive_margin: float = 0.2,
) -> Tensor:
    """Triplet or contrastive loss with the hardest negative, the released trainer's alternatives.

    Each pair has two terms, with its hardest negative in either image, and their mean. Negatives
    nearer than 0.008 are taken for the same point.

    Args:
        descriptors0: B×N×D unit vectors.
        descriptors1: B×N×D, of the same points in the other image.
        inliers: B×N bool; all by default. The others are negatives only.
        contrastive: max(0, p − positive margin) + max(0, margin − n) of the distances p of the
            pair and n of the negative, in place of max(0, margin + p − n).
        margin: see above.
        positive_margin: see above.

    Returns:
        A scalar, the mean over the batch; an item without inliers adds 0.
    """
    distances = euclidean_distances(descriptors0, descriptors1)
    positive = distances.diagonal(dim1=1, dim2=2)
    diagonal = torch.eye(distances.shape[1], dtype=torch.bool, device=distances.device)
    excluded = diagonal | (distances < _DUPLICATE_DISTANCE)
    negatives = distances + _EXCLUDED * excluded
    losses = torch.zeros_like(positive)
    for negative in (negatives.amin(2), negatives.amin(1)):
        if contrastive:
            losses = losses + torch.relu(positive - positive_margin)
            losses = losses + torch.relu(margin - negative)
        else:
            losses = losses + torch.relu(margin + positive - negative)
    return _inlier_mean(losses / 2, inliers).mean()


@torch.no_grad()
def matching_accuracy(
    descriptors0: Tensor, descriptors1: Tensor, inliers: Tensor | None = None
) -> Tensor:
    """Part of the inliers whose match is their nearest neighbour, averaged over both directions.

    Args:
        descriptors0: B×N×D unit vectors.
        descriptors1: B×N×D, of the same points in the other image.
        inliers: B×N bool; all by default.

    Returns:
        A scalar, the mean over the batch. The released code divides the errors by B once more:
        it reports 1 − (1 − accuracy) / B.
    """
    similarities = cosine_similarities(descriptors0, descriptors1)
    positive = similarities.diagonal(dim1=1, dim2=2)
    nearest0, nearest1 = (positive == similarities.amax(dim) for dim in (2, 1))
    return _inlier_mean((nearest0.to(positive.dtype) + nearest1) / 2, inliers).mean()


def quadruplet_loss(
    matchability0: Tensor, matchability1: Tensor, inliers: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Hinge loss that ranks keypoints alike in both images (equations 1 to 3).

    Args:
        matchability0: B×N, in the released code before the last, scalar layer and its tanh.
        matchability1: B×N, of the same points in the other image.
        inliers: B×N bool, the points that are compared; all by default.

    Returns:
        Scalars, means over the batch: the loss, and the part of the ordered pairs of inliers that
        have none, R ≥ 1. An item with fewer than two inliers adds 0 to the loss and 1 to the
        part.
    """
    differences0 = matchability0[:, None] - matchability0[..., None]
    differences1 = matchability1[:, None] - matchability1[..., None]
    hinge = torch.relu(1 - differences0 * differences1)
    diagonal = torch.eye(hinge.shape[1], dtype=torch.bool, device=hinge.device)
    is_pair = ~diagonal.expand_as(hinge)
    if inliers is not None:
        is_pair = is_pair & inliers[:, None] & inliers[..., None]
    hinge = hinge * is_pair
    num_pairs = is_pair.sum((1, 2)).clamp(min=1)
    accuracy = 1 - hinge.detach().count_nonzero((1, 2)) / num_pairs
    return (hinge.sum((1, 2)) / num_pairs).mean(), accuracy.mean()


def _inlier_mean(values: Tensor, inliers: Tensor | None) -> Tensor:
    """Average B×N over the inliers of each item, 0 where there are none."""
    if inliers is None:
        return values.mean(1)
    return (values * inliers).sum(1) / inliers.sum(1).clamp(min=1)
