"""Pairs of views of photographs under known homographies, MTLDesc's and plain ones."""

from __future__ import annotations

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
    StepDataset,
    View,
    cut_views,
    draw_seeds,
    grey_values,
    warp_views,
)
from featplug.training.data.teacher import TeacherKeypoints
from featplug.training.losses.negatives import excluded_negatives


@dataclass(frozen=True)
class HomographyPairOptions:
    """How :class:`HomographyPairs` are made."""

    batch_size: int = 8
    size: tuple[int, int] = (400, 400)
    """(height, width) of the views."""
    zoom: tuple[float, float] = (1.0, 1.5)
    """Range of the views' scale; 1 is the smallest at which a view fits into its photograph."""
    homographies: HomographyOptions = homographies.GENERAL
    no_rotation_probability: float = 0.0
    """That a pair's homography is one without rotation."""
    photometric: PhotometricOptions = photometric.GENERAL
    photometric_probability: float = 0.0
    """That both images of a pair are changed, each in its own way."""


VALIDATION_PAIRS = HomographyPairOptions(batch_size=1, photometric_probability=0.5)
"""Single pairs of moderately changed viewpoint, half of them in changed looks."""


@dataclass(frozen=True)
class MTLDescPairOptions:
    """How :class:`MTLDescPairs` are made; the defaults are the released code's."""

    batch_size: int = 12
    size: tuple[int, int] = (400, 400)
    """(height, width) of the views."""
    zoom: tuple[float, float] = (1.0, 1.5)
    """Range of the views' scale; 1 is the smallest at which a view fits into its photograph."""
    homographies: HomographyOptions = homographies.MTLDESC
    identity_probability: float = 0.5
    photometric: PhotometricOptions = photometric.MTLDESC
    photometric_probability: float = 0.5
    """That both images of a pair are changed, each in its own way."""
    num_points: int = 400
    """Correspondences per pair."""
    grid: int = 40
    """Cells along each side, each of which gives at most one keypoint as a correspondence."""
    nms_radius: int = 4
    """Pixels around a stronger correspondence in which there is none."""
    excluded_radius: float = 16.0
    """Pixels around a point of image 1 in which no negative is searched."""
    repeatable_only: bool = False
    """Use only those of the teacher's keypoints that it found repeatable."""


class HomographyPairs(StepDataset):
    """Pairs of views under a random homography, with nothing known of their keypoints.

    A batch has ``image0`` and ``image1`` (B×3×H×W in [0, 1]), ``homography`` (B×3×3 float32, from
    image 0 to image 1) and ``valid1`` (B×H×W bool, where image 1 shows the photograph).

    Args:
        photographs: to cut the views from.
        options: size, homographies and look.
        seed: of everything random.
        rendered: give batches; otherwise plans, a fifth of the size, for :meth:`render`.
    """

    def __init__(
        self,
        photographs: Photographs,
        options: HomographyPairOptions | None = None,
        seed: int = 0,
        rendered: bool = True,
    ) -> None:
        self.options = options or HomographyPairOptions()
        super().__init__(photographs, self.options, seed, rendered)

    def _draw(self, index: int, view: View, rng: np.random.Generator) -> dict[str, np.ndarray]:
        options = self.options
        drawn = options.homographies
        if options.no_rotation_probability and rng.random() < options.no_rotation_probability:
            drawn = drawn.without_rotation()
        homography = self._homography(rng, drawn)
        changed = rng.random() < options.photometric_probability
        return {"homography": homography.astype(np.float32), "seeds": draw_seeds(rng, 2, changed)}

    def render(self, plan: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the batch of a plan, on the plan's device."""
        canvases = grey_values(plan)
        image0 = cut_views(canvases, plan, self._size)
        image1, valid1 = warp_views(canvases, plan, plan["homography"], self._size)
        change, seeds = self.options.photometric, plan["seeds"]
        return {
            "image0": photometric.photometric(image0, seeds[:, 0], change),
            "image1": photometric.photometric(image1, seeds[:, 1], change),
            "homography": plan["homography"],
            "valid1": valid1,
        }


class MTLDescPairs(StepDataset):
    """MTLDesc's synthetic pairs, with keypoint labels and correspondences (paper, section 4.1).

    A batch has, for B pairs and N correspondences:

    - ``image0``, ``image1``: B×3×H×W in [0, 1];
    - ``heatmap0``, ``heatmap1``: B×H×W float, 1 at a teacher's keypoint and 0 elsewhere;
    - ``heatmap_valid0``, ``heatmap_valid1``: B×H×W bool, false where the photograph has ended;
    - ``points0``, ``points1``: B×N×2 float, where a point lies in each image;
    - ``valid``: B×N bool, whether the point lies in image 1;
    - ``excluded``: B×N×N bool, whether point j, the column, is no negative for point i: too near
      to it in image 1, or not there;
    - ``homography``: B×3×3 float32, from image 0 to image 1.

    The correspondences are the strongest keypoint of each grid cell. As the teacher is a list of
    keypoints here and not a map that has a strongest point in any cell, random points of empty
    cells make up the number. Where the authors warp a view, and so leave it black beyond its
    border, here the photograph goes on.

    Args:
        photographs: to cut the views from.
        teacher: keypoints of all these photographs.
        options: see there.
        seed: of everything random.
        rendered: give batches; otherwise plans, a fifth of the size, for :meth:`render`.

    Raises:
        ValueError: the teacher lacks a photograph.
    """

    def __init__(
        self,
        photographs: Photographs,
        teacher: TeacherKeypoints,
        options: MTLDescPairOptions | None = None,
        seed: int = 0,
        rendered: bool = True,
    ) -> None:
        self.options = options or MTLDescPairOptions()
        super().__init__(photographs, self.options, seed, rendered)
        self.teacher = teacher
        teacher.require(photographs.names)

    def _draw(self, index: int, view: View, rng: np.random.Generator) -> dict[str, np.ndarray]:
        options = self.options
        homography = np.eye(3)
        if rng.random() >= options.identity_probability:
            homography = self._homography(rng, options.homographies)
        taught = self.teacher.read(self.photographs.names[index])
        if options.repeatable_only:
            taught = taught.repeatable_only()
        keypoints = view.from_photograph(taught.keypoints)
        points = select_points(
            keypoints, taught.scores, options.size, options.grid, options.nms_radius,
            options.num_points, rng,
        )  # fmt: skip
        padded = np.full((self.teacher.largest, 2), np.nan, dtype=np.float32)
        padded[: len(keypoints)] = keypoints
        changed = rng.random() < options.photometric_probability
        return {
            "homography": homography.astype(np.float32),
            "keypoints": padded,
            "points": points.astype(np.float32),
            "seeds": draw_seeds(rng, 2, changed),
        }

    def render(self, plan: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the batch of a plan, on the plan's device."""
        options, homography, seeds = self.options, plan["homography"], plan["seeds"]
        canvases = grey_values(plan)
        image0 = cut_views(canvases, plan, options.size)
        image1, valid1 = warp_views(canvases, plan, homography, options.size)
        points1 = warp_points(plan["points"], homography)
        visible = inside(points1, torch.tensor((options.size[1], options.size[0])))
        points1 = points1.nan_to_num(-1.0)
        keypoints1 = warp_points(plan["keypoints"], homography)
        return {
            "image0": photometric.photometric(image0, seeds[:, 0], options.photometric),
            "image1": photometric.photometric(image1, seeds[:, 1], options.photometric),
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


def keypoint_heatmap(keypoints: Tensor, size: tuple[int, int]) -> Tensor:
    """Mark keypoints at their nearest pixels.

    Args:
        keypoints: B×K×2 (x, y); those outside and NaN are left out.
        size: (height, width).

    Returns:
        B×height×width float32, 1 at keypoints and 0 elsewhere.
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
    keypoints: np.ndarray,
    scores: np.ndarray,
    size: tuple[int, int],
    grid: int,
    nms_radius: float,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose the points on which descriptors are trained (MTLDesc, section 4.1).

    Args:
        keypoints: K×2 (x, y), perhaps outside of the view.
        scores: K.
        size: (height, width) of the view.
        grid: cells along each side; each gives its strongest keypoint at most.
        nms_radius: pixels to each side of a stronger one in which a keypoint is left out.
        count: number of points wanted.
        rng: of the random points.

    Returns:
        ``count``×2: the strongest, then random points of cells without any.
    """
    limits = np.array([size[1], size[0]])
    cell_size = limits / grid
    in_view = ((keypoints >= 0) & (keypoints <= limits - 1)).all(1)
    order = np.flatnonzero(in_view)
    order = order[np.argsort(-scores[order], kind="stable")]
    columns, rows = (keypoints[order] // cell_size).astype(int).T
    _, strongest = np.unique(rows * grid + columns, return_index=True)
    points = keypoints[order[np.sort(strongest)]]
    x, y = points.T.astype(np.float32)
    near = (np.abs(x[:, None] - x) <= nms_radius) & (np.abs(y[:, None] - y) <= nms_radius)
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
