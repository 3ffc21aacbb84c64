"""Axes that fill a picture, some of whose pixels are an image's pixel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ZOOM = 10
"""Pixels of the picture an image's pixel."""


def render(width: int, height: int, draw: Callable[[Axes], object]) -> np.ndarray:
    """Draw an image of that size; gives the picture, (height·ZOOM)×(width·ZOOM)×3 uint8."""
    figure = Figure(figsize=(width / 10, height / 10), dpi=10 * ZOOM)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    draw(axes)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def centre_of(mask: np.ndarray) -> np.ndarray:
    """(x, y) of a mask's pixels in the image's coordinates, integer = pixel centre."""
    rows, columns = np.nonzero(mask)
    assert len(rows), "nothing of that colour was drawn"
    return (np.array([columns.mean(), rows.mean()]) + 0.5) / ZOOM - 0.5


def reddish(picture: np.ndarray) -> np.ndarray:
    """Where a picture is red."""
    red, green, blue = picture.astype(int).transpose(2, 0, 1)
    return (red > green + 80) & (red > blue + 80)


def greenish(picture: np.ndarray) -> np.ndarray:
    """Where a picture is green."""
    red, green, blue = picture.astype(int).transpose(2, 0, 1)
    return (green > red + 80) & (green > blue + 80)
