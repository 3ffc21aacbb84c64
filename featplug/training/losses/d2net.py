"""D2-Net's loss: triplets of dense descriptors, weighted by soft detection scores.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Description and Detection of Local Features",
CVPR 2019, sections 3.2 (soft detection) and 4.1 (loss). Correspondences are cells of image 0's
feature map warped into image 1, by depth and pose or by a homography.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.networks.d2net import CELL_CENTRE, TRAINING_CELL_SIZE
from featplug.training.data.homographies import warp_points


class View(NamedTuple):
    """Where the pixels of a batch of photographs lie in space."""

    depth: Tensor
    """B×H×W along the optical axis, 0 where unknown; perhaps of a crop."""
    intrinsics: Tensor
    """B×3×3 of the whole photograph, COLMAP's convention: pixel centres at .5."""
    cam_from_world: Tensor
    """B×4×4."""
    crop: Tensor
    """B×2 (x, y), the crop's first pixel in the whole photograph."""


class Correspondences(NamedTuple):
    """Where the N = h·w cells of the feature map of image 0, row by row, are seen in image 1."""

    cells1: Tensor
    """B×N int64, the nearest cell of image 1, counted row by row; −1 where there is none."""
    positions0: Tensor
    """B×N×2 (x, y), centres of the cells in pixels of image 0, integer = pixel centre."""
    positions1: Tensor
    """B×N×2 (x, y), the same points in pixels of image 1; of no meaning where there is no cell."""


def soft_detection_scores(
    features: Tensor, window: int = 3, relative_to_max: bool = True
) -> Tensor:
    """Soft detection scores of a dense feature map (equations 4 to 7).

    Where a division by zero would give NaN in the released code, at a cell where no channel is
    positive, the score is 0.

    Args:
        features: B×C×h×w network output; its negative values count as 0.
        window: side of the neighbourhood of the soft local maximum, odd.
        relative_to_max: take exponentials of D / max D over the image, with ones around the map,
            as the released code does. Otherwise of D, within the map: the paper's equation 4.

    Returns:
        B×h×w, of sum 1 over an image; 0 where nothing is positive.
    """
    features = features.relu()
    pad = window // 2
    if relative_to_max:
        exp = (features / _nonzero(features.amax((1, 2, 3), keepdim=True))).exp()
        sums = F.avg_pool2d(F.pad(exp, [pad] * 4, value=1.0), window, stride=1) * window**2
        local_max = exp / sums
    else:
        # Sums of exponentials of activations in the hundreds need the shift of logsumexp.
        padded = F.pad(features, [pad] * 4, value=-torch.inf)
        neighbours = padded.unfold(2, window, 1).unfold(3, window, 1)
        local_max = (features - neighbours.flatten(4).logsumexp(4)).exp()
    ratio_to_max = features / _nonzero(features.amax(1, keepdim=True))
    scores = (local_max * ratio_to_max).amax(1)
    return scores / _nonzero(scores.sum((1, 2), keepdim=True))


def cell_centres(size: tuple[int, int], like: Tensor, stride: int = TRAINING_CELL_SIZE) -> Tensor:
    """Compute N×2 (x, y) centres of cells in pixels, integer = pixel centre, row by row.

    Args:
        size: rows and columns of the feature map.
        like: gives the type and device.
        stride: pixels from cell to cell.
    """
    y, x = (torch.arange(n, dtype=like.dtype, device=like.device) for n in size)
    return torch.cartesian_prod(y, x).flip(1) * stride + CELL_CENTRE


def nearest_cells(
    positions: Tensor, size: tuple[int, int], stride: int = TRAINING_CELL_SIZE
) -> Tensor:
    """Find the cells that positions lie in.

    Args:
        positions: ...×2 (x, y) in pixels.
        size: rows and columns of the feature map.
        stride: pixels from cell to cell.

    Returns:
        ... int64, counted row by row; −1 outside the map.
    """
    column, row = ((positions - CELL_CENTRE) / stride).round().unbind(-1)
    is_inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    return torch.where(is_inside, row * size[1] + column, -1).long()


@torch.no_grad()
def find_correspondences(
    view0: View,
    view1: View,
    size0: tuple[int, int],
    size1: tuple[int, int],
    stride: int = TRAINING_CELL_SIZE,
    depth_tolerance: float = 0.05,
) -> Correspondences:
    """Warp the cells of image 0 into image 1 (section 4.2).

    A cell is dropped where one of the four depths around it is unknown, in either image, or where
    its depth differs from that of image 1, as behind an occlusion.

    Args:
        view0: image 0.
        view1: image 1.
        size0: rows and columns of the feature map of image 0.
        size1: the same of image 1.
        stride: pixels from cell to cell.
        depth_tolerance: largest difference of depths, in the units of the depth.
    """
    positions0 = cell_centres(size0, view0.depth, stride).expand(len(view0.depth), -1, -1)
    depth0, is_known0 = _interpolate_depth(view0.depth, positions0)
    focal = view0.intrinsics.diagonal(dim1=1, dim2=2)[:, None, :2]
    centre = view0.intrinsics[:, None, :2, 2]
    rays = (positions0 + view0.crop[:, None] + 0.5 - centre) / focal
    points0 = torch.cat([rays, torch.ones_like(rays[..., :1])], 2) * depth0[..., None]
    cam1_from_cam0 = view1.cam_from_world @ torch.linalg.inv(view0.cam_from_world)
    points1 = points0 @ cam1_from_cam0[:, :3, :3].mT + cam1_from_cam0[:, None, :3, 3]
    projected = points1 @ view1.intrinsics.mT
    positions1 = projected[..., :2] / projected[..., 2:] - view1.crop[:, None] - 0.5
    depth1, is_known1 = _interpolate_depth(view1.depth, positions1)
    is_seen = is_known0 & is_known1 & ((points1[..., 2] - depth1).abs() < depth_tolerance)
    cells1 = nearest_cells(positions1, size1, stride).masked_fill(~is_seen, -1)
    return Correspondences(cells1, positions0, positions1)


@torch.no_grad()
def homography_correspondences(
    homographies: Tensor,
    valid1: Tensor,
    size0: tuple[int, int],
    size1: tuple[int, int],
    stride: int = TRAINING_CELL_SIZE,
) -> Correspondences:
    """Warp the cells of image 0 into image 1 by homographies.

    A cell is dropped where the pixel nearest to its position in image 1 shows nothing.

    Args:
        homographies: B×3×3, from image 0 to image 1.
        valid1: B×H×W bool, the pixels of image 1 that show the photograph.
        size0: rows and columns of the feature map of image 0.
        size1: the same of image 1.
        stride: pixels from cell to cell.
    """
    positions0 = cell_centres(size0, homographies, stride).expand(len(homographies), -1, -1)
    positions1 = warp_points(positions0, homographies)
    cells1 = nearest_cells(positions1, size1, stride)
    height, width = valid1.shape[1:]
    # NaN, beyond the horizon, is in no cell either; any pixel serves for it.
    x, y = positions1.nan_to_num(-1.0).round().long().unbind(-1)
    pixels = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    is_shown = valid1.flatten(1).gather(1, pixels)
    return Correspondences(cells1.masked_fill(~is_shown, -1), positions0, positions1)


def detection_weighted_triplet_loss(
    features0: Tensor,
    features1: Tensor,
    scores0: Tensor,
    scores1: Tensor,
    cells1: Tensor,
    margin: float = 1.0,
    safe_radius: int = 4,
    min_correspondences: int = 128,
) -> Tensor:
    """Triplet margin ranking loss, averaged with the detection scores (equations 9 to 13).

    The hardest negatives are among all cells of the other image further away than the safe radius
    (Chebyshev). Only they and the positives enter the gradient's graph, so that it needs no
    matrix of all pairs. A cell of image 0 that is alone within the safe radius has no negative
    and no loss. As in the released code, descriptors are features before the last ReLU; the
    scores come from :func:`soft_detection_scores`, and take part in the gradient.

    Args:
        features0: B×C×h0×w0 dense features of image 0, not normalised.
        features1: B×C×h1×w1 of image 1.
        scores0: B×h0×w0.
        scores1: B×h1×w1.
        cells1: B×(h0·w0) int64, the cell of image 1 that corresponds to each cell of image 0,
            counted row by row; −1 where there is none.
        margin: M.
        safe_radius: K, in cells.
        min_correspondences: pairs with fewer are left out, as in section 4.3.

    Returns:
        A scalar, the mean over the pairs that count; 0 if none does.
    """
    all0 = F.normalize(features0.flatten(2), dim=1).mT
    all1 = F.normalize(features1.flatten(2), dim=1).mT
    is_valid = cells1 >= 0
    cells1 = cells1.clamp(min=0)
    cells0 = torch.arange(all0.shape[1], device=cells1.device).expand_as(cells1)
    matches1 = _take(all1, cells1)
    hardest1, has_negative1 = _hardest(all0, all1, cells1, features1.shape[2:], safe_radius)
    hardest0, has_negative0 = _hardest(matches1, all0, cells0, features0.shape[2:], safe_radius)
    positive = 2 - 2 * (all0 * matches1).sum(2)
    negative1 = 2 - 2 * (all0 * _take(all1, hardest1)).sum(2)
    negative0 = 2 - 2 * (_take(all0, hardest0) * matches1).sum(2)
    negative = torch.minimum(
        negative0.masked_fill(~has_negative0, torch.inf),
        negative1.masked_fill(~has_negative1, torch.inf),
    )
    weights = scores0.flatten(1) * scores1.flatten(1).gather(1, cells1) * is_valid
    losses = (weights * torch.relu(margin + positive - negative)).sum(1)
    losses = losses / _nonzero(weights.sum(1))
    counts = is_valid.sum(1) >= min_correspondences
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
    """Find the nearest descriptors of queries beyond the safe radius around their cells.

    Args:
        queries: B×N×C unit vectors.
        descriptors: B×(h·w)×C unit vectors.
        cells: B×N, the true cell of each query.
        size: h, w.
        safe_radius: in cells, Chebyshev.

    Returns:
        B×N cells, and B×N bool, whether any cell lies beyond the radius.
    """
    rows, columns = (torch.arange(n, device=cells.device) for n in size)
    is_near_row = ((cells // size[1])[..., None] - rows).abs() <= safe_radius
    is_near_column = ((cells % size[1])[..., None] - columns).abs() <= safe_radius
    similarities = (queries @ descriptors.mT).unflatten(2, size)
    similarities.masked_fill_(is_near_row[..., None] & is_near_column[..., None, :], -torch.inf)
    hardest = similarities.flatten(2).max(2)
    return hardest.indices, hardest.values > -torch.inf


def _interpolate_depth(depth: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolate depth maps bilinearly where all four neighbours are known.

    Args:
        depth: B×H×W, 0 where unknown.
        positions: B×N×2 (x, y), perhaps outside, infinite or NaN.

    Returns:
        B×N depths and B×N bool, whether they are known.
    """
    height, width = depth.shape[1:]
    low, high = positions.floor(), positions.ceil()
    is_inside = (low >= 0).all(2) & (high[..., 0] < width) & (high[..., 1] < height)
    x, y = positions.masked_fill(~is_inside[..., None], 0).unbind(2)
    x0, x1, y0, y1 = (f(values) for values in (x, y) for f in (torch.floor, torch.ceil))
    interpolated, is_known = torch.zeros_like(x), is_inside
    for row, row_weight in ((y0, 1 - (y - y0)), (y1, y - y0)):
        for column, column_weight in ((x0, 1 - (x - x0)), (x1, x - x0)):
            corner = depth.flatten(1).gather(1, row.long() * width + column.long())
            is_known = is_known & (corner > 0)
            interpolated += row_weight * column_weight * corner
    return interpolated, is_known
