"""Batches of views of photographs, drawn on the CPU and rendered on the network's device.

The work has two parts: :meth:`ViewBatches.plan` reads photographs, cuts views and draws random
numbers on the CPU; :meth:`ViewBatches.render` warps the views and changes their look on the device
of its input. Points are (x, y) in pixels of their view; an integer is a pixel's centre.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.training.data import homographies, photometric
from featplug.training.data.batches import StepBatches
from featplug.training.data.homographies import (
    HomographyOptions,
    random_homography,
    valid_masks,
    warp_images,
)
from featplug.training.data.photographs import Photographs, resized, shuffled_place
from featplug.training.data.photometric import PhotometricOptions


@dataclass(frozen=True)
class PlacedView:
    """A view at a place of a photograph, within a canvas that also shows its surroundings."""

    canvas: np.ndarray
    """Pixels H×W×3 uint8 of 1.5 times the view's size; beyond the photograph its reflection."""
    extent: np.ndarray
    """Width and height of the area of the canvas that shows the photograph."""
    offset: np.ndarray
    """First pixel (x, y) of the view in the canvas."""
    scale: np.ndarray
    """Pixels of the view per pixel of the original photograph, along x and y."""
    shift: np.ndarray
    """Position (x, y) in the view of the corner of the photograph's area."""

    def from_photograph(self, points: np.ndarray) -> np.ndarray:
        """Map N×2 points (x, y; integer = pixel centre) of the photograph to the view."""
        return (points + 0.5) * self.scale + self.shift - 0.5


def place_view(
    image: np.ndarray,
    original_size: tuple[int, int],
    size: tuple[int, int],
    zoom: tuple[float, float],
    rng: np.random.Generator,
) -> PlacedView:
    """Cut a view of (height, width) from a random place of a photograph, at a random scale.

    A photograph is enlarged only if the view does not fit into it otherwise.

    Args:
        image: H×W×3 uint8, the photograph, which may have been reduced.
        original_size: (width, height) before it was reduced.
        size: (height, width) of the view.
        zoom: range of the scale; 1 is the smallest scale at which the view fits.
        rng: source of randomness.
    """
    view_size = np.array([size[1], size[0]])
    image_size = np.array([image.shape[1], image.shape[0]])
    smallest = float((view_size / image_size).max())
    scale = min(smallest * rng.uniform(*zoom), max(1.0, smallest))
    scaled = np.maximum(view_size, np.round(image_size * scale).astype(int))
    corner = rng.integers(0, scaled - view_size, endpoint=True)
    canvas_size = view_size * 3 // 2
    extent = np.minimum(scaled, canvas_size)
    start = np.clip(corner - (canvas_size - view_size) // 2, 0, scaled - extent)
    whole = resized(image, (int(scaled[0]), int(scaled[1])))
    shown = whole[start[1] : start[1] + extent[1], start[0] : start[0] + extent[0]]
    right, below = (canvas_size - extent).tolist()
    canvas = cv2.copyMakeBorder(shown, 0, below, 0, right, cv2.BORDER_REFLECT)
    return PlacedView(
        canvas=canvas,
        extent=extent,
        offset=corner - start,
        scale=scaled / np.array(original_size),
        shift=-corner.astype(np.float64),
    )


@dataclass(frozen=True)
class ViewOptions:
    """Size, scale, viewpoint and look of the views of a batch."""

    batch_size: int = 8
    """Number of samples per step."""
    size: tuple[int, int] = (400, 400)
    """Height and width of the views in pixels."""
    zoom: tuple[float, float] = (1.0, 1.5)
    """Range of the views' scale; 1 is the smallest at which a view fits into its photograph."""
    homographies: HomographyOptions = homographies.GENERAL
    """Distribution of the homographies between views."""
    photometric: PhotometricOptions = photometric.GENERAL
    """Changes of the look of each view."""


OptionsT = TypeVar("OptionsT", bound=ViewOptions)


class ViewBatches(StepBatches, Generic[OptionsT]):
    """Batches of views: all photographs once in random order, then again in another order.

    Items are batches if ``rendered``, else plans for :meth:`render`, which take a fifth of the
    memory.

    Raises:
        ValueError: the photographs or the batch are empty.
    """

    def __init__(
        self, photographs: Photographs, options: OptionsT, seed: int = 0, rendered: bool = True
    ) -> None:
        super().__init__(options.batch_size, seed)
        if not len(photographs):
            raise ValueError(f"{photographs.folder}: no photographs; choose another folder.")
        self.photographs, self.options, self._rendered = photographs, options, rendered

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step, or its plan."""
        plan = self.plan(step)
        return self.render(plan) if self._rendered else plan

    @abstractmethod
    def render(self, plan: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the batch of a plan, on the plan's device."""

    @abstractmethod
    def _draw(
        self, index: int, view: PlacedView, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draw one sample from a view of the photograph of that index."""

    def sample(self, number: int) -> dict[str, np.ndarray]:
        """Plan one sample."""
        rng, options = self.sample_rng(number), self.options
        _, index = shuffled_place(self.seed, number, len(self.photographs))
        view = place_view(*self.photographs.read(index), options.size, options.zoom, rng)
        return {
            "canvas": view.canvas.transpose(2, 0, 1),
            "extent": view.extent,
            "offset": view.offset,
            **self._draw(index, view, rng),
        }

    def _homography(self, rng: np.random.Generator, options: HomographyOptions) -> np.ndarray:
        height, width = self.options.size
        return random_homography(rng, (width, height), options)


def canvas_images(plan: Mapping[str, Tensor]) -> Tensor:
    """Convert a plan's canvases to B×3×H×W in [0, 1]."""
    return plan["canvas"].float().div_(255)


def cut_views(canvases: Tensor, plan: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
    """Cut the views out of their canvases B×3×H×W without interpolation."""
    height, width = size
    return torch.stack(
        [
            canvas[:, y : y + height, x : x + width]
            for canvas, (x, y) in zip(canvases, plan["offset"].tolist(), strict=True)
        ]
    )


def warp_views(
    canvases: Tensor, plan: Mapping[str, Tensor], view_homographies: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Warp the views by B×3×3 homographies, together with their surroundings in the photographs.

    Returns B×3×height×width, and B×height×width bool, false beyond the canvas, where pixels are 0.
    """
    to_view = torch.eye(3).to(view_homographies).repeat(len(canvases), 1, 1)
    to_view[:, :2, 2] = -plan["offset"].to(view_homographies)
    from_canvas = view_homographies @ to_view
    valid = valid_masks(from_canvas, plan["extent"], size)
    return warp_images(canvases, from_canvas, size) * valid[:, None], valid
