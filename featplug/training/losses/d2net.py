"""D2-Net's loss: triplets of dense descriptors, weighted by soft detection scores.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Description and Detection of Local Features",
CVPR 2019, sections 3.2 (soft detection) and 4.1 (loss). The cells of the two feature maps that
correspond come from :mod:`featplug.training.data.correspondences`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class D2NetLossOptions:
    """Constants of D2-Net's loss; the defaults are the paper's."""

    margin: float = 1.0
    """Margin of the triplets (M)."""
    safe_radius: int = 4
    """Radius in cells (Chebyshev) around the true cell in which no negative is searched (K)."""
    min_correspondences: int = 128
    """Number of corresponding cells that a pair of images needs to count (section 4.3)."""


def soft_detection_scores(features: Tensor) -> Tensor:
    """Compute soft detection scores B×h×w of B×C×h×w network outputs (equations 4 to 7).

    As in the released code, the soft local maximum of 3×3 cells takes exponentials of D / max D
    over the image, with ones around the map, where equation 4 takes those of D. Negative values
    count as 0. A cell without a positive channel has the score 0, where the released code divides
    by zero; all others of an image sum to 1.
    """
    features = features.relu()
    exp = (features / _nonzero(features.amax((1, 2, 3), keepdim=True))).exp()
    sums = F.avg_pool2d(F.pad(exp, [1] * 4, value=1.0), 3, stride=1) * 9
    ratio_to_max = features / _nonzero(features.amax(1, keepdim=True))
    scores = (exp / sums * ratio_to_max).amax(1)
    return scores / _nonzero(scores.sum((1, 2), keepdim=True))


def detection_weighted_triplet_loss(
    features0: Tensor,
    features1: Tensor,
    scores0: Tensor,
    scores1: Tensor,
    cells1: Tensor,
    options: D2NetLossOptions = D2NetLossOptions(),
) -> Tensor:
    """Compute the triplet loss, averaged with the detection scores as weights (equations 9 to 13).

    The hardest negatives are searched in all cells of the other image beyond the safe radius. Only
    they and the positives enter the gradient's graph, so it needs no matrix of all pairs. A cell
    of image 0 without a cell beyond the safe radius has no negative and no loss. As in the
    released code, descriptors are features before the last ReLU, and the scores of
    :func:`soft_detection_scores` receive gradients too.

    Args:
        features0: B×C×h0×w0 features of image 0, not normalised.
        features1: B×C×h1×w1 of image 1.
        scores0: B×h0×w0.
        scores1: B×h1×w1.
        cells1: B×(h0·w0) int64, the cell of image 1 that corresponds to each cell of image 0,
            counted row by row; −1 where no cell corresponds.
        options: margin, safe radius, and how many cells must correspond.

    Returns:
        A scalar, the mean over the pairs that count; 0 if none does.
    """
    all0 = F.normalize(features0.flatten(2), dim=1).mT
    all1 = F.normalize(features1.flatten(2), dim=1).mT
    is_valid = cells1 >= 0
    cells1 = cells1.clamp(min=0)
    cells0 = torch.arange(all0.shape[1], device=cells1.device).expand_as(cells1)
    matches1 = _take(all1, cells1)
    radius = options.safe_radius
    hardest1, has_negative1 = _hardest(all0, all1, cells1, features1.shape[2:], radius)
    hardest0, has_negative0 = _hardest(matches1, all0, cells0, features0.shape[2:], radius)
    positive = 2 - 2 * (all0 * matches1).sum(2)
    negative1 = 2 - 2 * (all0 * _take(all1, hardest1)).sum(2)
    negative0 = 2 - 2 * (_take(all0, hardest0) * matches1).sum(2)
    negative = torch.minimum(
        negative0.masked_fill(~has_negative0, torch.inf),
        negative1.masked_fill(~has_negative1, torch.inf),
    )
    weights = scores0.flatten(1) * scores1.flatten(1).gather(1, cells1) * is_valid
    losses = (weights * torch.relu(options.margin + positive - negative)).sum(1)
    losses = losses / _nonzero(weights.sum(1))
    counts = is_valid.sum(1) >= options.min_correspondences
    return (losses * counts).sum() / counts.sum().clamp(min=1)


def _nonzero(values: Tensor) -> Tensor:
    """Replace zeros by ones, to divide by."""
    return torch.where(values == 0, 1.0, values)


def _take(descriptors: Tensor, cells: Tensor) -> Tensor:
    """Take B×N×C descriptors of B×M×C at cells B×N."""
    return descriptors.take_along_dim(cells[..., None], 1)


@torch.no_grad()
def _hardest(
    queries: Tensor, descriptors: Tensor, cells: Tensor, size: torch.Size, safe_radius: int
) -> tuple[Tensor, Tensor]:
    """Find the nearest descriptors beyond the safe radius (Chebyshev) around the queries' cells.

    Queries B×N×C and descriptors B×(h·w)×C are unit vectors, cells B×N the queries' true cells.
    Returns B×N cells, and B×N bool, whether any cell lies beyond the radius.
    """
    rows, columns = (torch.arange(n, device=cells.device) for n in size)
    is_near_row = ((cells // size[1])[..., None] - rows).abs() <= safe_radius
    is_near_column = ((cells % size[1])[..., None] - columns).abs() <= safe_radius
    similarities = (queries @ descriptors.mT).unflatten(2, size)
    similarities.masked_fill_(is_near_row[..., None] & is_near_column[..., None, :], -torch.inf)
    hardest = similarities.flatten(2).max(2)
    return hardest.indices, hardest.values > -torch.inf
