"""Views of photographs: a batch per step, drawn on the CPU, rendered where the network is.

A dataset is indexed by the step and gives that step's whole batch, which follows from the seed
and the step alone. The work is in two parts: :meth:`StepDataset.plan` reads, cuts and draws on
the CPU, and :meth:`StepDataset.render` warps and changes the look on the device of the tensors
that it is given.

Points are (x, y) in pixels of their view, an integer is a pixel's centre.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from featplug.training.data.homographies import (
    HomographyOptions,
    random_homography,
    valid_masks,
    warp_images,
)
from featplug.training.data.photographs import Photographs, resized, shuffled_place

_SEEDS = 2**62


@dataclass(frozen=True)
class View:
    """A view, at a place in a photograph, with as much of what surrounds it as may be needed."""

    canvas: np.ndarray
    """H×W×3 uint8: 1.5 times the view's size; beyond the photograph its reflection."""
    extent: np.ndarray
    """(width, height) of the part of the canvas that is photograph."""
    offset: np.ndarray
    """(x, y) of the view's first pixel in the canvas."""
    scale: np.ndarray
    """Pixels of the view per pixel of the original photograph, along x and y."""
    shift: np.ndarray
    """(x, y) in the view of the corner of the photograph's area."""

    def from_photograph(self, points: np.ndarray) -> np.ndarray:
        """Map N×2 points (x, y; integer = pixel centre) of the photograph to the view."""
        return (points + 0.5) * self.scale + self.shift - 0.5


def place_view(
    image: np.ndarray,
    original_size: tuple[int, int],
    size: tuple[int, int],
    zoom: tuple[float, float],
    rng: np.random.Generator,
) -> View:
    """Cut a view from a random place of a photograph, at a random scale.

    A photograph is enlarged only where the view would not fit into it otherwise.

    Args:
        image: H×W×3 uint8, the photograph, perhaps reduced.
        original_size: (width, height) before it was reduced.
        size: (height, width) of the view.
        zoom: range of the scale; 1 is the smallest scale at which the view fits.
        rng: source of randomness.
    """
    wanted = np.array([size[1], size[0]])
    image_size = np.array([image.shape[1], image.shape[0]])
    smallest = float((wanted / image_size).max())
    scale = min(smallest * rng.uniform(*zoom), max(1.0, smallest))
    scaled = np.maximum(wanted, np.round(image_size * scale).astype(int))
    corner = rng.integers(0, scaled - wanted, endpoint=True)
    canvas_size = wanted * 3 // 2
    extent = np.minimum(scaled, canvas_size)
    start = np.clip(corner - (canvas_size - wanted) // 2, 0, scaled - extent)
    whole = resized(image, (int(scaled[0]), int(scaled[1])))
    shown = whole[start[1] : start[1] + extent[1], start[0] : start[0] + extent[0]]
    right, below = (canvas_size - extent).tolist()
    canvas = cv2.copyMakeBorder(shown, 0, below, 0, right, cv2.BORDER_REFLECT)
    return View(
        canvas=canvas,
        extent=extent,
        offset=corner - start,
        scale=scaled / np.array(original_size),
        shift=-corner.astype(np.float64),
    )


class ViewOptions(Protocol):
    """What the options of every dataset of views have."""

    @property
    def batch_size(self) -> int:
        """Samples per step."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the views."""

    @property
    def zoom(self) -> tuple[float, float]:
        """Range of the views' scale; 1 is the smallest at which a view fits."""


class StepDataset(Dataset[dict[str, Tensor]], ABC):
    """A batch per step: all photographs once, in random order, then all again in another.

    Args:
        photographs: to cut the views from.
        options: size and scale of the views, and how many.
        seed: of everything random.
        rendered: give batches; otherwise plans, a fifth of the size, for :meth:`render`.

    Raises:
        ValueError: there is no photograph, or the batch is empty.
    """

    def __init__(
        self, photographs: Photographs, options: ViewOptions, seed: int, rendered: bool
    ) -> None:
        if not len(photographs):
            raise ValueError(f"There are no photographs of {photographs.folder} to make pairs of.")
        if options.batch_size < 1:
            raise ValueError(f"A batch must have 1 pair or more, not {options.batch_size}.")
        self.photographs = photographs
        self._seed, self._rendered = seed, rendered
        self._batch_size, self._size, self._zoom = options.batch_size, options.size, options.zoom

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Give the batch of a step, see the class."""
        plan = self.plan(step)
        return self.render(plan) if self._rendered else plan

    def plan(self, step: int) -> dict[str, Tensor]:
        """Read photographs and draw what is to be done with them, on the CPU."""
        first = step * self._batch_size
        samples = [self._sample(number) for number in range(first, first + self._batch_size)]
        return {
            key: torch.from_numpy(np.stack([sample[key] for sample in samples]))
            for key in samples[0]
        }

    @abstractmethod
    def render(self, plan: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the batch of a plan, on the plan's device."""

    @abstractmethod
    def _draw(self, index: int, view: View, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw one sample, from a view of that photograph."""

    def _sample(self, number: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self._seed, 0, number])
        _, index = shuffled_place(self._seed, number, len(self.photographs))
        view = place_view(*self.photographs.read(index), self._size, self._zoom, rng)
        return {
            "canvas": view.canvas.transpose(2, 0, 1),
            "extent": view.extent,
            "offset": view.offset,
            **self._draw(index, view, rng),
        }

    def _homography(self, rng: np.random.Generator, options: HomographyOptions) -> np.ndarray:
        return random_homography(rng, (self._size[1], self._size[0]), options)


def grey_values(plan: Mapping[str, Tensor]) -> Tensor:
    """Give a plan's canvases as B×3×H×W in [0, 1]."""
    return plan["canvas"].float().div_(255)


def cut_views(canvases: Tensor, plan: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
    """Cut the views themselves out of their canvases, without interpolation.

    Args:
        canvases: B×3×H×W, from :func:`grey_values`.
        plan: ``offset``, see :class:`View`.
        size: (height, width) of the views.

    Returns:
        B×3×height×width.
    """
    height, width = size
    return torch.stack(
        [
            canvas[:, y : y + height, x : x + width]
            for canvas, (x, y) in zip(canvases, plan["offset"].tolist(), strict=True)
        ]
    )


def warp_views(
    canvases: Tensor,
    plan: Mapping[str, Tensor],
    view_homographies: Tensor,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Warp the views, with what surrounds them in their photographs.

    Args:
        canvases: B×3×H×W, from :func:`grey_values`.
        plan: ``offset`` and ``extent``, see :class:`View`.
        view_homographies: B×3×3, from the views to what is wanted.
        size: (height, width) of both.

    Returns:
        B×3×height×width, and B×height×width bool: false, and the pixels 0, beyond the canvas.
    """
    to_view = torch.eye(3).to(view_homographies).repeat(len(canvases), 1, 1)
    to_view[:, :2, 2] = -plan["offset"].to(view_homographies)
    from_canvas = view_homographies @ to_view
    valid = valid_masks(from_canvas, plan["extent"], size)
    return warp_images(canvases, from_canvas, size) * valid[:, None], valid


def draw_seeds(rng: np.random.Generator, count: int, changed: bool = True) -> np.ndarray:
    """Draw seeds for :func:`photometric`, negative where nothing is to change."""
    return np.where(changed, rng.integers(_SEEDS, size=count), -1)
