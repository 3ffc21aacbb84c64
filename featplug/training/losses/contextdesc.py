"""ContextDesc's losses: N pairs of descriptors, and quadruplets of matchabilities.

Luo et al., "ContextDesc: Local Descriptor Augmentation with Cross-Modality Context", CVPR 2019,
sections 3.3 (equations 1 to 3) and 3.5 (equations 5 to 7). A match set is N pairs of keypoints of
two images; some are inliers, and the others (noise) serve as negatives only. The total is the sum
of the N-pair loss of the augmented descriptors, the N-pair loss of the normalised local features,
each with its own temperature, and the quadruplet loss.
"""

import torch
from torch import Tensor, nn


def cosine_similarities(descriptors0: Tensor, descriptors1: Tensor) -> Tensor:
    """Compute B×N×N similarities of B×N×D unit vectors, within [−1, 1] in spite of rounding."""
    return (descriptors0 @ descriptors1.mT).clamp(-1, 1)


def n_pair_loss(
    descriptors0: Tensor,
    descriptors1: Tensor,
    inliers: Tensor | None = None,
    temperature: Tensor | float = 1.0,
) -> Tensor:
    """Compute the N-pair loss with softmax temperature (equations 5 and 6).

    As in the released code, the softmax is over alpha · cos, where the paper has alpha · (2 − D),
    and the loss is the mean over the inliers, where the paper has the sum. With temperature 1 it
    is the loss of L2-Net.

    Args:
        descriptors0: B×N×D unit vectors.
        descriptors1: B×N×D, of the same points in the other image.
        inliers: B×N bool, the pairs that match; all by default. The others count in the
            denominators only.
        temperature: alpha.

    Returns:
        A scalar, the mean over the batch; an item without inliers adds 0.
    """
    logits = temperature * cosine_similarities(descriptors0, descriptors1)
    normalisers = (logits.logsumexp(2) + logits.logsumexp(1)) / 2
    return _inlier_mean(normalisers - logits.diagonal(dim1=1, dim2=2), inliers).mean()


class NPairLoss(nn.Module):
    """:func:`n_pair_loss` with a learned temperature, which starts at the given value.

    The network's weight decay regularises the temperature. The released code adds 1e-4 · alpha to
    the loss instead, where the decay of the weights is 1e-4 · ½‖w‖².
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def forward(
        self, descriptors0: Tensor, descriptors1: Tensor, inliers: Tensor | None = None
    ) -> Tensor:
        """Compute the scalar loss of B×N×D descriptors."""
        return n_pair_loss(descriptors0, descriptors1, inliers, self.temperature)


@torch.no_grad()
def neighbor_accuracy(
    descriptors0: Tensor, descriptors1: Tensor, inliers: Tensor | None = None
) -> Tensor:
    """Compute the ratio of inliers whose nearest neighbour is their match, over both directions.

    The arguments are those of :func:`n_pair_loss`. The released code reports
    1 − (1 − accuracy) / B, since it divides the errors by B once more.
    """
    similarities = cosine_similarities(descriptors0, descriptors1)
    positive = similarities.diagonal(dim1=1, dim2=2)
    nearest0, nearest1 = (positive == similarities.amax(dim) for dim in (2, 1))
    return _inlier_mean((nearest0.to(positive.dtype) + nearest1) / 2, inliers).mean()


def quadruplet_loss(
    matchability0: Tensor, matchability1: Tensor, inliers: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the hinge loss that ranks keypoints alike in both images (equations 1 to 3).

    Matchabilities, B×N, are those before the last, scalar layer and its tanh, as in the released
    code; the inliers, B×N bool, are compared, all by default.

    Returns:
        Scalars, means over the batch: the loss, and the ratio of ordered pairs of inliers without
        loss, R ≥ 1. An item with fewer than two inliers adds 0 to the loss and 1 to the ratio.
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
