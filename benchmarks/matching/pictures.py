"""Pictures of matches, right and wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from featplug.images import read_image
from featplug.plots import draw_matches, shrink


def draw_judged_matches(
    path: Path,
    images: tuple[Path, Path],
    points: tuple[np.ndarray, np.ndarray],
    right: np.ndarray | None,
    title: str,
) -> None:
    """Write a picture of two images with lines between matches: right ones green, wrong ones red.

    Args:
        path: a JPEG or PNG file.
        images: files of both images.
        points: K×2 of either image, (x, y), integer = pixel centre.
        right: K bool; None where it is not known, and all are green.
        title: above the picture.
    """
    shrunk = [shrink(read_image(file), xy) for file, xy in zip(images, points, strict=True)]
    (image0, points0), (image1, points1) = shrunk
    height = max(len(image0), len(image1)) / (image0.shape[1] + image1.shape[1])
    figure = Figure(figsize=(10, 10 * height + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_matches(axes, image0, image1, points0, points1, inliers=right)
    axes.set_axis_off()
    axes.set_title(title, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
