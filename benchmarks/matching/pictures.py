"""Pictures of matches, right and wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from featplug.images import read_image
from featplug.plots import MatchedPair, draw_matches, shrink

_MAX_LINES = 300


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
    right = np.ones(len(points0), bool) if right is None else right
    step = max(1, -(-len(points0) // _MAX_LINES))
    shown = np.arange(0, len(points0), step)
    good, bad = shown[right[shown]], shown[~right[shown]]
    height = max(len(image0), len(image1)) / (image0.shape[1] + image1.shape[1])
    figure = Figure(figsize=(10, 10 * height + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_matches(axes, MatchedPair(title, image0, image1, points0[good], points1[good]))
    ends = np.stack([points0[bad], points1[bad] + [image0.shape[1], 0]], axis=1)
    # Below the right ones, which would otherwise be hidden where most are wrong.
    axes.add_collection(
        LineCollection(list(ends), colors="red", linewidths=0.4, alpha=0.5, zorder=1.5)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
