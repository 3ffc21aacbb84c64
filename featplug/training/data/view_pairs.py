"""Pairs of views of photographs under known homographies, plain ones and MTLDesc's."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featplug.training.data import homographies, photometric
from featplug.training.data.homographies import HomographyOptions, inside, warp_points
from featplug.training.data.photographs import Photographs
from featplug.training.data.photometric import PhotometricOptions
from featplug.training.data.placed_views import (
    PlacedView,
    ViewBatches,
    ViewOptions,
    canvas_images,
    cut_views,
    warp_views,
)
from featplug.training.data.teacher import TeacherKeypoints
from featplug.training.losses.negatives import excluded_negatives


@dataclass(frozen=True)
class PairOptions(ViewOptions):
    """Options of pairs of views."""

    photometric_probability: float = 0.0
    """Probability that both images of a pair are changed, each in its own way."""


@dataclass(frozen=True)
class HomographyPairOptions(PairOptions):
    """Options of plain pairs."""

    no_rotation_probability: float = 0.0
    """Probability that a pair's homography has no rotation."""


VALIDATION_PAIRS = HomographyPairOptions(batch_size=1, photometric_probability=0.5)
"""Single pairs of moderately changed viewpoint, half of them in changed looks."""


@dataclass(frozen=True)
class MTLDescPairOptions(PairOptions):
    """Options of MTLDesc's pairs; the defaults are the released code's."""

    batch_size: int = 12
    homographies: HomographyOptions = homographies.MTLDESC
    identity_probability: float = 0.5
    """Probability that both images of a pair show the same view."""
    photometric: PhotometricOptions = photometric.MTLDESC
    photometric_probability: float = 0.5
    num_points: int = 400
    """Number of correspondences of a pair."""
    grid: int = 40
    """Number of cells along each side; each has at most one keypoint as a correspondence."""
    nms_radius: int = 4
    """Pixels around a stronger correspondence in which no other is kept."""
    excluded_radius: float = 16.0
    """Pixels around a point of image 1 in which no negative is searched."""
    repeatable_only: bool = False
    """Use only keypoints that the teacher found repeatable."""


class HomographyPairs(ViewBatches[HomographyPairOptions]):
    """Pairs of views under a random homography, without any knowledge of keypoints.

    A batch has ``image0`` and ``image1`` (B×3×H×W in [0, 1]), ``homography`` (B×3×3 float32, from
    image 0 to image 1) and ``valid1`` (B×H×W bool, where image 1 shows the photograph).
    """

    def _draw(
        self, index: int, view: PlacedView, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        options = self.options
        drawn = options.homographies
        if options.no_rotation_probability and rng.random() < options.no_rotation_probability:
            drawn = drawn.without_rotation()
        homography = self._homography(rng, drawn)
        changed = rng.random() < options.photometric_probability
        return {
            "homography": homography.astype(np.float32),
            "seeds": photometric.draw_seeds(rng, 2, changed),
        }

    def render(self, plan: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the batch of a plan, on the plan's device."""
        image0, image1, valid1 = _render_pairs(plan, self.options)
        homography = plan["homography"]
        return {"image0": image0, "image1": image1, "homography": homography, "valid1": valid1}


class MTLDescPairs(ViewBatches[MTLDescPairOptions]):
    """MTLDesc's synthetic pairs, with keypoint labels and correspondences (paper, section 4.1).

    A batch has, for B pairs and N correspondences:

    - ``image0``, ``image1``: B×3×H×W in [0, 1];
    - ``heatmap0``, ``heatmap1``: B×H×W float, 1 at a teacher's keypoint and 0 elsewhere;
    - ``heatmap_valid0``, ``heatmap_valid1``: B×H×W bool, false beyond the photograph;
    - ``points0``, ``points1``: B×N×2 float, positions of the points in each image;
    - ``valid``: B×N bool, whether the point lies in image 1;
    - ``excluded``: B×N×N bool, the pairs of points that are no negatives: too near to each other in
      image 1, or outside of it;
    - ``homography``: B×3×3 float32, from image 0 to image 1.

    The correspondences are the strongest keypoint of each grid cell. The teacher is a list of
    keypoints, not a map with a strongest point in every cell, so random points of empty cells make
    up the number. Beyond the border of view 0, view 1 shows the photograph, where the authors'
    is black.

    Raises:
        ValueError: the teacher lacks a photograph.
    """

    def __init__(
        self,
        photographs: Photographs,
        teacher: TeacherKeypoints,
        options: MTLDescPairOptions = MTLDescPairOptions(),
        seed: int = 0,
        rendered: bool = True,
    ) -> None:
        super().__init__(photographs, options, seed, rendered)
        self.teacher = teacher
        teacher.require(photographs.names)

    def _draw(
        self, index: int, view: PlacedView, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        options = self.options
        homography = np.eye(3)
        if rng.random() >= options.identity_probability:
            homography = self._homography(rng, options.homographies)
        taught = self.teacher.keypoints(self.photographs.names[index])
        kept = taught.repeatable if options.repeatable_only else slice(None)
        keypoints = view.from_photograph(taught.keypoints[kept])
        points = select_points(keypoints, taught.scores[kept], options, rng)
        padded = np.full((self.teacher.largest, 2), np.nan, dtype=np.float32)
        padded[: len(keypoints)] = keypoints
        changed = rng.random() < options.photometric_probability
        return {
            "homography": homography.astype(np.float32),
            "keypoints": padded,
            "points": points.astype(np.float32),
            "seeds": photometric.draw_seeds(rng, 2, changed),
        }

    def render(self, plan: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the batch of a plan, on the plan's device."""
        options, homography = self.options, plan["homography"]
        image0, image1, valid1 = _render_pairs(plan, options)
        points1 = warp_points(plan["points"], homography)
        visible = inside(points1, torch.tensor((options.size[1], options.size[0])))
        points1 = points1.nan_to_num(-1.0)
        keypoints1 = warp_points(plan["keypoints"], homography)
        return {
            "image0": image0,
            "image1": image1,
            "heatmap0": keypoint_heatmap(plan["keypoints"], options.size),
            "heatmap1": keypoint_heatmap(keypoints1, options.size) * valid1,
            "heatmap_valid0": torch.ones_like(valid1),
            "heatmap_valid1": valid1,
            "points0": plan["points"],
            "points1": points1,
            "valid": visible,
            "excluded": excluded_negatives([points1], visible, options.excluded_radius),
            "homography": homography,
        }


def _render_pairs(
    plan: Mapping[str, Tensor], options: ViewOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Render both images of a plan's pairs, and where image 1 shows the photograph."""
    canvases, seeds = canvas_images(plan), plan["seeds"]
    image0 = cut_views(canvases, plan, options.size)
    image1, valid1 = warp_views(canvases, plan, plan["homography"], options.size)
    look = options.photometric
    return (
        photometric.photometric(image0, seeds[:, 0], look),
        photometric.photometric(image1, seeds[:, 1], look),
        valid1,
    )


def keypoint_heatmap(keypoints: Tensor, size: tuple[int, int]) -> Tensor:
    """Mark B×K×2 keypoints (x, y) at their nearest pixels: B×height×width float32, 1 or 0.

    Points outside and NaN are left out.
    """
    height, width = size
    rounded = keypoints.nan_to_num(-1.0).round().long()
    x, y = rounded.unbind(-1)
    kept = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    image = torch.arange(len(keypoints), device=keypoints.device)[:, None].expand_as(kept)
    heatmap = torch.zeros(len(keypoints), height, width, device=keypoints.device)
    heatmap[image[kept], y[kept], x[kept]] = 1.0
    return heatmap


def select_points(
    keypoints: np.ndarray, scores: np.ndarray, options: MTLDescPairOptions, rng: np.random.Generator
) -> np.ndarray:
    """Select the points on which descriptors are trained (MTLDesc, section 4.1).

    Args:
        keypoints: K×2 (x, y), which may lie outside of the view.
        scores: K.
        options: size of the view, grid, radius and number of points.
        rng: source of randomness.

    Returns:
        ``num_points``×2: the strongest keypoints, then random points of cells without any.
    """
    grid, radius, count = options.grid, options.nms_radius, options.num_points
    height, width = options.size
    limits = np.array([width, height])
    cell_size = limits / grid
    in_view = ((keypoints >= 0) & (keypoints <= limits - 1)).all(1)
    order = np.flatnonzero(in_view)
    order = order[np.argsort(-scores[order], kind="stable")]
    columns, rows = (keypoints[order] // cell_size).astype(int).T
    _, strongest = np.unique(rows * grid + columns, return_index=True)
    points = keypoints[order[np.sort(strongest)]]
    x, y = points.T.astype(np.float32)
    near = (np.abs(x[:, None] - x) <= radius) & (np.abs(y[:, None] - y) <= radius)
    alive = np.ones(len(points), dtype=bool)
    for i in np.flatnonzero(near.sum(1) > 1):
        if alive[i]:
            alive[i + 1 :] &= ~near[i, i + 1 :]
    points = points[alive][:count]

    taken = np.zeros((grid, grid), dtype=bool)
    columns, rows = (points // cell_size).astype(int).T
    taken[rows, columns] = True
    empty = np.flatnonzero(~taken)
    chosen = rng.choice(empty, count - len(points), replace=len(empty) < count - len(points))
    cells = np.stack([chosen % grid, chosen // grid], axis=1)
    random = (cells + rng.random(cells.shape)) * cell_size
    return np.concatenate([points, np.minimum(random, limits - 1)])
