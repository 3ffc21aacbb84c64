"""DOAP's loss: average precision of retrieval within a batch, made differentiable.

He et al., "Local Descriptors Optimized for Average Precision", CVPR 2018, sections 3.2 and 3.3.
Distances are sorted into histograms with triangular bins; average precision is a function of the
histograms of the positives and of all items. :func:`tie_aware_average_precision` is the exact
value with ties (McSherry and Najork, "Computing Information Retrieval Performance Measures
Efficiently in the Presence of Tied Scores", ECIR 2008), for validation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def euclidean_distances(features: Tensor) -> Tensor:
    """Compute distances ...×M×M in [0, 2] of a batch's normalised features (equation 9).

    The gradient is 0 where two features are equal up to rounding; equation 13 makes it infinite.
    """
    return squared_distances(features).clamp(min=torch.finfo(features.dtype).eps).sqrt()


def squared_distances(features: Tensor) -> Tensor:
    """Compute squared distances ...×M×M in [0, 4] of normalised features, as the released layer."""
    features = F.normalize(features, dim=-1)
    return (2 - 2 * features @ features.mT).clamp(min=0)


def hamming_distances(features: Tensor, gain: float = 1.0) -> Tensor:
    """Compute Hamming distances ...×M×M in [0, K] of the signs of ...×M×K network outputs.

    The sign is relaxed to tanh (equations 6 and 8) with a gain, 1 in the paper. The gamma of the
    released layer's tanh(gamma x / 2) is not published.
    """
    features = torch.tanh(gain * features)
    return (features.shape[-1] - features @ features.mT) / 2


def relaxed_average_precision(
    distances: Tensor, affinity: Tensor, num_bins: int, max_distance: float
) -> tuple[Tensor, Tensor]:
    """Compute the average precision of every row's ranking from histograms with triangular bins.

    The histogram has num_bins + 1 centres from 0 to the largest distance, and an item counts in
    the two that it lies between (equation 3 with δ a triangle). With c the counts of a bin and C
    the cumulative counts, for all items and (+) for the positives,
    AP = Σ c⁺_d (C⁺_{d−1} + C⁺_d + 1) / (C_{d−1} + C_d + 1) / n⁺. This is the simplified form of
    the released layer; the paper's closed form sums over the tied items of a bin instead.

    Args:
        distances: ...×M×M in [0, max_distance], queries in rows. Differentiable.
        affinity: ...×M×M, positive for a match, negative for a distractor, 0 for a pair that
            is ignored. The diagonal is always ignored.
        num_bins: b, the number of steps between the centres.
        max_distance: the last centre.

    Returns:
        ...×M average precision, 0 for a query without positives; and ...×M bool, whether the
        query has any.
    """
    diagonal = torch.eye(affinity.shape[-1], dtype=torch.bool, device=affinity.device)
    is_positive = (affinity > 0) & ~diagonal
    is_counted = (affinity != 0) & ~diagonal
    steps = (distances * (num_bins / max_distance)).clamp(0, num_bins)
    # At any distance only two triangles are nonzero, so the M×M×b values need not be formed.
    lower = steps.detach().to(torch.int64).clamp_(max=num_bins - 1)
    upper_part = steps - lower

    def histogram(mask: Tensor) -> Tensor:
        upper = mask * upper_part
        empty = steps.new_zeros(*steps.shape[:-1], num_bins + 1)
        uppers = empty.scatter_add(-1, lower, upper)
        return empty.scatter_add(-1, lower, mask - upper) + uppers.roll(1, -1)

    positives, everything = (histogram(mask.to(steps.dtype)) for mask in (is_positive, is_counted))
    positives_sum, everything_sum = positives.cumsum(-1), everything.cumsum(-1)
    # C_{d−1} + C_d = 2 C_d − c_d.
    precision = (2 * positives_sum - positives + 1) / (2 * everything_sum - everything + 1)
    num_positives = is_positive.sum(-1)
    return (positives * precision).sum(-1) / num_positives.clamp(min=1), num_positives > 0


def average_precision_loss(
    features: Tensor,
    affinity: Tensor,
    distance: str = "squared",
    num_bins: int | None = None,
    gain: float = 1.0,
) -> Tensor:
    """Compute minus the mean relaxed average precision of a batch; each item queries all others.

    Memory is about 50 bytes for each of the M² pairs, whatever the number of bins. The gradient
    is exact; the released layer's for squared distances is a quarter of it, to which the authors'
    learning rates refer.

    Args:
        features: ...×M×K network outputs of whole groups of matching patches, not normalised.
        affinity: ...×M×M as in :func:`relaxed_average_precision`.
        distance: ``squared``, 2 − 2cos over [0, 4] as in the released layer; ``euclidean``, its
            root over [0, 2] as in the paper; ``hamming``, of binary descriptors, over [0, K].
        num_bins: steps of the histogram, by default 25 (the paper's b ≤ 25), and K for
            ``hamming``.
        gain: factor of :func:`hamming_distances`.

    Returns:
        A scalar in [−1, 0]; 0 if no item has a positive.

    Raises:
        ValueError: the distance is unknown.
    """
    if distance == "squared":
        distances, max_distance = squared_distances(features), 4.0
    elif distance == "euclidean":
        distances, max_distance = euclidean_distances(features), 2.0
    elif distance == "hamming":
        distances, max_distance = hamming_distances(features, gain), float(features.shape[-1])
    else:
        raise ValueError(f"distance is {distance!r}; it can be squared, euclidean or hamming.")
    if num_bins is None:
        num_bins = features.shape[-1] if distance == "hamming" else 25
    precision, has_positives = relaxed_average_precision(
        distances, affinity, num_bins, max_distance
    )
    return -precision.sum() / has_positives.sum().clamp(min=1)


@torch.no_grad()
def tie_aware_average_precision(distances: Tensor, affinity: Tensor) -> Tensor:
    """Compute the exact average precision: the mean over all rankings that the distances allow.

    Without ties this is equations 1 and 2 of the paper. Distances and affinity (as in
    :func:`relaxed_average_precision`, but the diagonal counts) are ...×Q×S with queries in rows.
    The result is ...×Q float64 (float32 on MPS), 0 for a query without positives.
    """
    dtype = torch.float32 if distances.device.type == "mps" else torch.float64
    # Ignored items go to the end, where they change no other item's precision.
    distances = distances.to(dtype).masked_fill(affinity == 0, torch.inf)
    ranked, order = distances.sort(-1)
    relevant = F.pad((affinity > 0).gather(-1, order).cumsum(-1), (1, 0))
    start = torch.searchsorted(ranked, ranked)
    end = torch.searchsorted(ranked, ranked, right=True)
    before = relevant.gather(-1, start)
    relevant_ties = relevant.gather(-1, end) - before
    ties = end - start
    rank = torch.arange(ranked.shape[-1], device=ranked.device)
    # At the t-th of n tied places the item is relevant in r/n of the orders, and then
    # (t − 1)(r − 1)/(n − 1) of the places before it are expected to be.
    expected = (rank - start) * (relevant_ties - 1).to(dtype) / (ties - 1).clamp(min=1)
    precision = (before + expected + 1) / (rank + 1)
    total = (precision * relevant_ties / ties).sum(-1)
    return total / relevant[..., -1].clamp(min=1)
