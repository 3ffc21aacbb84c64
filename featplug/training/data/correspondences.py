"""Cells of two feature maps that show the same point, by depth and pose or by a homography.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Description and Detection of Local Features",
CVPR 2019, section 4.2. Cells of a map are counted row by row; positions are (x, y) in pixels of the
image, and an integer is a pixel's centre.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from featplug.networks.d2net import CELL_CENTRE, TRAINING_CELL_SIZE
from featplug.training.data.homographies import grid_positions, warp_points

_DEPTH_TOLERANCE = 0.05
"""Largest difference of the depths of one point, in the units of the depth."""


class PosedDepth(NamedTuple):
    """Depth maps and cameras of B photographs or crops of them."""

    depth: Tensor
    """Depths along the optical axis, B×H×W; 0 where unknown."""
    intrinsics: Tensor
    """Intrinsics of the whole photographs, B×3×3; pixel centres are at .5, as in COLMAP."""
    cam_from_world: Tensor
    """Poses, B×4×4."""
    crop: Tensor
    """First pixel (x, y) of each crop in its whole photograph, B×2."""


class Correspondences(NamedTuple):
    """Places in image 1 of the N = h·w cells of the feature map of image 0."""

    cells1: Tensor
    """Nearest cells of image 1, B×N int64; −1 where no cell corresponds."""
    positions0: Tensor
    """Centres of the cells in image 0, B×N×2."""
    positions1: Tensor
    """Same points in image 1, B×N×2; meaningless where no cell corresponds."""


def cell_centres(size: tuple[int, int], like: Tensor, stride: int = TRAINING_CELL_SIZE) -> Tensor:
    """Compute N×2 centres of the cells of a map of that size, as a tensor like ``like``."""
    return grid_positions(size, like) * stride + CELL_CENTRE


def nearest_cells(
    positions: Tensor, size: tuple[int, int], stride: int = TRAINING_CELL_SIZE
) -> Tensor:
    """Find the cells of positions ...×2 in a map of that size: ... int64, −1 outside the map."""
    column, row = ((positions - CELL_CENTRE) / stride).round().unbind(-1)
    is_inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    return torch.where(is_inside, row * size[1] + column, -1).long()


@torch.no_grad()
def find_correspondences(
    view0: PosedDepth,
    view1: PosedDepth,
    size0: tuple[int, int],
    size1: tuple[int, int],
    stride: int = TRAINING_CELL_SIZE,
) -> Correspondences:
    """Warp the cells of image 0 into image 1 by depth and pose.

    Sizes are rows and columns of the feature maps, and the stride is the pixels from cell to cell.
    A cell is dropped where one of the four depths around it is unknown in either image, or where
    its depth differs from that of image 1, as at an occlusion.
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
    is_seen = is_known0 & is_known1 & ((points1[..., 2] - depth1).abs() < _DEPTH_TOLERANCE)
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
    """Warp the cells of image 0 into image 1 by homographies B×3×3, for maps of these sizes.

    A cell is dropped where the nearest pixel of image 1 is not valid, B×H×W.
    """
    positions0 = cell_centres(size0, homographies, stride).expand(len(homographies), -1, -1)
    positions1 = warp_points(positions0, homographies)
    cells1 = nearest_cells(positions1, size1, stride)
    height, width = valid1.shape[1:]
    # A point beyond the horizon is NaN and in no cell, so any pixel will do for it.
    x, y = positions1.nan_to_num(-1.0).round().long().unbind(-1)
    pixels = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    is_shown = valid1.flatten(1).gather(1, pixels)
    return Correspondences(cells1.masked_fill(~is_shown, -1), positions0, positions1)


def _interpolate_depth(depth: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolate B×H×W depths at B×N×2 positions, and return where four neighbours are known.

    Positions may lie outside or be infinite or NaN.
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
