"""LISRD's losses: triplets that make each head variant or invariant, and a triplet of the whole.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, section
3.1 (equations 1 to 6) and 3.2 (equations 7 to 9). A sample is an anchor image, a variant image
(another view in the same light, not rotated) and an invariant image (another view that may be
rotated and in another light). Points are keypoints of the anchor warped to the other two. Arrays
have the heads in the order of the network: rotation variant and illumination variant; rotation
invariant; illumination invariant; both invariant.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.training.losses.negatives import excluded_negatives

_Side = tuple[Tensor, Tensor | None]
"""Descriptors B×H×N×C of an image, and its meta descriptors B×H×N×M if the heads are weighted."""
_MAX_DISTANCE = 4.0
"""Largest squared distance of unit vectors, used for pairs that must not be negatives."""


@dataclass(frozen=True, kw_only=True)
class LISRDLossOptions:
    """Constants and variants of LISRD's loss; the defaults are the paper's."""

    margin: float = 1.0
    """Margin of both losses (M of equations 3 and 5)."""
    distance_threshold: float = 8.0
    """Pixels within which a keypoint is no negative (T)."""
    meta_weight: float = 1.0
    """Weight of the loss of the weighted distance (λ of equation 9)."""
    accumulate: bool = False
    """Apply the choices of heads of all earlier samples of a batch to each sample as well. The
    released training does so, as it never empties its lists; the choices contradict each other."""


class Changes(NamedTuple):
    """What differs between the anchors and the invariant images of B samples."""

    is_rotated: Tensor
    """Whether the invariant image is rotated, B bool."""
    is_relit: Tensor
    """Whether its light differs, B bool."""
    factor: Tensor
    """Strength of the rotation, B (f of :func:`rotation_factor`)."""


def sample_descriptors(maps: Tensor, keypoints: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Interpolate dense descriptors B×H×C×h×w of H heads at keypoints B×N×2 (x, y), and normalise.

    Positions, in pixels of the image of (height, width), are scaled without the half pixel of pixel
    centres, as at inference. The result B×H×N×C is 0 half a cell or more outside the map.
    """
    num_heads = maps.shape[1]
    sampled = _sample(
        maps.flatten(0, 1), keypoints.repeat_interleave(num_heads, 0), image_size
    ).unflatten(0, (-1, num_heads))
    return F.normalize(sampled, dim=2).mT


def sample_meta_factors(
    metas0: Tensor,
    metas1: Tensor,
    keypoints0: Tensor,
    keypoints1: Tensor,
    image_size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Compute vectors with the products of the meta descriptors at two images' keypoints.

    A keypoint's meta descriptor is a mean of those of its neighbouring tiles, so the products
    follow from the products of the T tiles: T numbers for each keypoint instead of 1024, which
    would take most of the memory and time of the loss. Metas are B×H×M×rows×columns, of each tile,
    and keypoints B×N×2 (x, y) in pixels of their image of (height, width).

    Returns:
        Two arrays B×H×N×T, T = rows · columns. Their products along T are those of the meta
        descriptors interpolated as by :func:`sample_descriptors` and normalised.
    """
    tiles0, tiles1 = metas0.flatten(3), metas1.flatten(3)
    identity = torch.eye(tiles0.shape[3], dtype=metas0.dtype, device=metas0.device)
    identity = identity.unflatten(1, metas0.shape[3:]).expand(len(metas0), -1, -1, -1)
    factors = []
    for tiles, keypoints in ((tiles0, keypoints0), (tiles1, keypoints1)):
        weights = _sample(identity, keypoints, image_size).mT[:, None]
        square = (weights @ (tiles.mT @ tiles) * weights).sum(3, keepdim=True)
        factors.append(weights / square.clamp(min=1e-24).sqrt())
    return factors[0] @ (tiles0.mT @ tiles1), factors[1]


def rotation_factor(angle: Tensor, largest: float = math.pi / 4) -> Tensor:
    """Compute f of equation 5, in [0, 1]: how different a rotation in radians makes two images.

    Above the largest angle, θ_max, images are entirely different.
    """
    return (angle.abs() / largest).clamp(max=1)


def triplet_loss(
    descriptors0: Tensor,
    descriptors1: Tensor,
    valid: Tensor,
    excluded: Tensor,
    metas: tuple[Tensor, Tensor] | None = None,
    margin: float = 1.0,
    distance: Literal["cosine", "l2"] = "cosine",
) -> Tensor:
    """Compute the triplet loss with the hardest negative of either image (equations 1-4, 7, 8).

    With one head this is the loss of an invariant descriptor. With several and their meta
    descriptors it is the meta loss. As in the released code, squared distances 2 − 2cos are
    weighted by equation 7 and compared with the margin; the paper weights the distances and
    squares the sum. Only the hardest negatives enter the gradient's graph.

    Args:
        descriptors0: B×H×N×C unit vectors of the anchor.
        descriptors1: B×H×N×C of the invariant image.
        valid: B×N bool.
        excluded: B×N×N bool of
            :func:`~featplug.training.losses.negatives.excluded_negatives`.
        metas: B×H×N×M of both, whose products are the similarities of the meta descriptors, from
            :func:`sample_meta_factors`; None to weight the heads equally.
        margin: M of equation 3.
        distance: distance that is weighted, as in the matcher ``lisrd``: ``cosine`` for the
            squared distance 2 − 2cos, ``l2`` for the distance itself (LISRD-SIFT).

    Returns:
        B losses, 0 where no point is valid.

    Raises:
        ValueError: the distance is unknown.
    """
    if distance not in ("cosine", "l2"):
        raise ValueError(f"distance must be cosine or l2, not {distance!r}.")
    metas0, metas1 = metas or (None, None)
    side0, side1 = (descriptors0, metas0), (descriptors1, metas1)
    similarities = _all_similarities(side0, side1, distance)
    similarities.masked_fill_(excluded, -torch.inf)
    highest1, hardest1 = similarities.max(2)
    highest0, hardest0 = similarities.max(1)

    positive = _distances(side0, side1, distance)
    negative1 = _distances(side0, _take(side1, hardest1), distance)
    negative0 = _distances(_take(side0, hardest0), side1, distance)
    negative = torch.minimum(
        negative0.masked_fill(highest0 == -torch.inf, _MAX_DISTANCE),
        negative1.masked_fill(highest1 == -torch.inf, _MAX_DISTANCE),
    )
    return _masked_mean(torch.relu(margin + positive - negative), valid)


def variant_loss(
    descriptors0: Tensor,
    descriptors1: Tensor,
    descriptors2: Tensor,
    valid: Tensor,
    factor: Tensor | float = 1.0,
    margin: float = 1.0,
) -> Tensor:
    """Compute the loss of a descriptor that must tell anchor and invariant image apart (eq. 5).

    Args:
        descriptors0: B×N×C unit vectors of the anchor.
        descriptors1: B×N×C of the invariant image.
        descriptors2: B×N×C of the variant image.
        valid: B×N bool.
        factor: f, the difference of anchor and invariant image: a number, B, or A×1 alternatives.
        margin: M.

    Returns:
        B losses (A×B with alternatives), 0 where no point is valid.
    """
    factor = torch.as_tensor(factor, dtype=descriptors0.dtype, device=descriptors0.device)
    positive = 2 - 2 * (descriptors0 * descriptors2).sum(2)
    negative = 2 - 2 * (descriptors0 * descriptors1).sum(2)
    return _masked_mean(torch.relu(factor[..., None] * margin + positive - negative), valid)


def lisrd_loss(
    descriptors: tuple[Tensor, Tensor, Tensor],
    metas: tuple[Tensor, Tensor] | None,
    keypoints: tuple[Tensor, Tensor],
    valid: Tensor,
    changes: Changes,
    options: LISRDLossOptions = LISRDLossOptions(),
) -> dict[str, Tensor]:
    """Compute the total loss of a batch (equations 6 and 9).

    A head that must be invariant to all changes between anchor and invariant image gets
    :func:`triplet_loss`, any other :func:`variant_loss`. As in the released code f applies only to
    the head that varies with rotation, and is 1 for the head that varies with both.

    Args:
        descriptors: B×4×N×C of the anchor, the invariant and the variant image, from
            :func:`sample_descriptors`.
        metas: B×4×N×M of the anchor and of the invariant image, as in :func:`triplet_loss`; None
            to train the local descriptors only.
        keypoints: B×N×2 in pixels of the anchor and of the invariant image.
        valid: B×N, nonzero where a point lies in all three images.
        changes: differences between anchors and invariant images.
        options: margin, weights and variants.

    Returns:
        Scalars: ``loss`` = ``local_loss`` + λ ``meta_loss``.
    """
    valid, margin = valid != 0, options.margin
    excluded = excluded_negatives(keypoints, valid, options.distance_threshold)
    applies = torch.eye(len(valid), dtype=torch.bool, device=valid.device)
    if options.accumulate:
        applies = torch.ones_like(applies).triu()  # row: whose choice, column: applied to whom

    def invariant_loss(head: int) -> Tensor:
        one = slice(head, head + 1)
        anchor, invariant, _ = (of_image[:, one] for of_image in descriptors)
        return triplet_loss(anchor, invariant, valid, excluded, margin=margin)

    one = torch.ones_like(changes.factor)
    # The head that is invariant to all changes always has one loss for each sample.
    total = invariant_loss(3).sum()
    for head, is_variant, factor in (
        (0, changes.is_rotated | changes.is_relit, one),
        (1, changes.is_relit, one),
        (2, changes.is_rotated, changes.factor),
    ):
        anchor, same, other = (of_image[:, head] for of_image in descriptors)
        variant = variant_loss(anchor, same, other, valid, factor[:, None], margin)
        losses = torch.where(is_variant[:, None], variant, invariant_loss(head))
        total = total + (losses * applies).sum()
    local_loss = total / (3 * applies.sum() + len(valid))
    meta_loss = torch.zeros_like(local_loss)
    if metas is not None:
        anchor, invariant, _ = descriptors
        meta_loss = triplet_loss(anchor, invariant, valid, excluded, metas, margin).mean()
    loss = local_loss + options.meta_weight * meta_loss
    return {"loss": loss, "local_loss": local_loss, "meta_loss": meta_loss}


def _sample(maps: Tensor, keypoints: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Interpolate B×C×h×w at B×N×2 pixels (x, y): B×C×N, with zeros beyond the border."""
    height, width = image_size
    grid = 2 * keypoints / keypoints.new_tensor([width, height]) - 1
    return F.grid_sample(
        maps, grid[:, None].to(maps.dtype), padding_mode="zeros", align_corners=False
    )[:, :, 0]


@torch.no_grad()
def _all_similarities(side0: _Side, side1: _Side, distance: str) -> Tensor:
    """Compute B×N×N similarities, 1 − distance / 2, one head at a time to save memory."""
    (descriptors0, metas0), (descriptors1, metas1) = side0, side1
    num_batch, num_heads, num_points = descriptors0.shape[:3]
    total = descriptors0.new_zeros(num_batch, num_points, descriptors1.shape[2])
    norm = torch.zeros_like(total)
    for head in range(num_heads):
        similarity = descriptors0[:, head] @ descriptors1[:, head].mT
        if distance == "l2":
            similarity.mul_(-2).add_(2).clamp_(min=0).sqrt_().div_(-2).add_(1)
        if metas0 is None or metas1 is None:
            total += similarity / num_heads
            continue
        # A softmax without the usual shift, since these products lie in [−1, 1].
        weight = (metas0[:, head] @ metas1[:, head].mT).exp_()
        total.addcmul_(weight, similarity)
        norm += weight
    return total if metas0 is None else total.div_(norm)


def _distances(side0: _Side, side1: _Side, distance: str) -> Tensor:
    """Compute B×N distances of pairs, weighted over the heads (equation 7)."""
    (descriptors0, metas0), (descriptors1, metas1) = side0, side1
    distances = 2 - 2 * (descriptors0 * descriptors1).sum(3)
    if distance == "l2":
        # The root has no gradient at 0.
        distances = distances.clamp(min=1e-12).sqrt()
    if metas0 is None or metas1 is None:
        return distances.mean(1)
    return (distances * (metas0 * metas1).sum(3).softmax(1)).sum(1)


def _take(side: _Side, points: Tensor) -> _Side:
    """Select the points B×N of an image."""
    descriptors, metas = side
    rows = points[:, None, :, None]
    if metas is not None:
        metas = metas.take_along_dim(rows, 2)
    return descriptors.take_along_dim(rows, 2), metas


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average ...×B×N over the true points of B×N, 0 where there are none."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)
