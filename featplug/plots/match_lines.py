"""Two images: matches and epipolar lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.typing import ColorType

from featplug.plots.image_marks import draw_image, shrink

_RIGHT, _WRONG = "lime", "red"


def draw_matches(
    axes: Axes,
    image0: np.ndarray,
    image1: np.ndarray,
    points0: np.ndarray,
    points1: np.ndarray,
    *,
    inliers: np.ndarray | None = None,
    errors: np.ndarray | None = None,
    max_error: float = 5.0,
    max_lines: int = 300,
) -> None:
    """Draw two images side by side and lines between matched points.

    Args:
        axes: where to draw.
        image0: left image, see :func:`featplug.plots.draw_image`.
        image1: right image, of any size.
        points0: N×2 in the left image.
        points1: N×2 in the right image, in its own pixels.
        inliers: N bool; the others are red, and below.
        errors: N, such as of a homography, in pixels: from green at 0 to red.
        max_error: where red begins.
        max_lines: draw no more, evenly chosen.

    Raises:
        ValueError: there are both inliers and errors, or not one a match.
    """
    points0, points1 = (np.asarray(p, float).reshape(-1, 2) for p in (points0, points1))
    given = [v for v in (inliers, errors) if v is not None]
    if len(given) == 2:
        raise ValueError("Give inliers or errors, not both.")
    if len(points0) != len(points1) or any(np.shape(v) != (len(points0),) for v in given):
        shapes = ", ".join(str(np.shape(v)) for v in (points0, points1, *given))
        raise ValueError(f"Points and what colours them must be as many, not {shapes}.")
    draw_image(axes, image0)
    shift = image0.shape[1]
    draw_image(axes, image1, shift)
    axes.set_xlim(-0.5, shift + image1.shape[1] - 0.5)
    axes.set_ylim(max(len(image0), len(image1)) - 0.5, -0.5)
    chosen = np.arange(0, len(points0), max(1, -(-len(points0) // max_lines)))
    badness = np.zeros(len(chosen))
    if inliers is not None:
        badness = ~np.asarray(inliers, bool)[chosen] * 1.0
    elif errors is not None:
        badness = np.clip(np.asarray(errors)[chosen] / max_error, 0, 1)
    # The worst first, so that they do not hide the others.
    order = np.argsort(-badness, kind="stable")
    chosen, badness = chosen[order], badness[order]
    colours: list[ColorType] = [_WRONG if bad else _RIGHT for bad in badness]
    if errors is not None:
        colours = list(colormaps["RdYlGn"](1 - badness))
    segments = np.stack([points0, points1 + np.array([shift, 0])], axis=1)[chosen]
    axes.add_collection(
        LineCollection(list(segments), colors=colours, linewidths=0.5, alpha=0.7), autolim=False
    )


def write_match_picture(
    path: Path,
    image0: np.ndarray,
    image1: np.ndarray,
    points0: np.ndarray,
    points1: np.ndarray,
    inliers: np.ndarray | None = None,
) -> None:
    """Write a picture of two images side by side and lines between matched points.

    Args:
        path: a JPEG file; its folder is made.
        image0: left image, H×W×3 or H×W, uint8; large ones are made smaller.
        image1: right image.
        points0: N×2 in the left image.
        points1: N×2 in the right image, in its own pixels.
        inliers: N bool; the others are red, and below.
    """
    image0, points0 = shrink(image0, points0)
    image1, points1 = shrink(image1, points1)
    height = max(len(image0), len(image1)) / (image0.shape[1] + image1.shape[1])
    figure = Figure(figsize=(12, 12 * height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw_matches(axes, image0, image1, points0, points1, inliers=inliers)
    axes.set_axis_off()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, pil_kwargs={"quality": 85})


def draw_epipolar_lines(
    axes: Axes,
    image1: np.ndarray,
    fundamental: np.ndarray,
    points0: np.ndarray,
    points1: np.ndarray | None = None,
    cmap: str = "hsv",
) -> None:
    """Draw in one image the epipolar lines of points in another.

    Draw the other image's lines with the transpose of F and the points exchanged. COLMAP's F has
    its origin at a pixel's corner; ``T.T @ F @ T`` with T = [[1, 0, ½], [0, 1, ½], [0, 0, 1]] is
    what is wanted here.

    Args:
        axes: where to draw.
        image1: the image with the lines, see :func:`featplug.plots.draw_image`.
        fundamental: 3×3, x1ᵀ F x0 = 0.
        points0: N×2 in the other image.
        points1: N×2 in this one, drawn as dots of their lines' colours; none if None.
        cmap: matplotlib's name of the colours.

    Raises:
        ValueError: the matrix is not 3×3, or the points are not as many.
    """
    points0 = np.asarray(points0, float).reshape(-1, 2)
    if np.shape(fundamental) != (3, 3):
        raise ValueError(f"A fundamental matrix is 3×3, not {np.shape(fundamental)}.")
    if points1 is not None and np.shape(points1) != points0.shape:
        raise ValueError(f"There are {len(points0)} and {len(points1)} points; they must be pairs.")
    draw_image(axes, image1)
    colours = colormaps[cmap](Normalize(0, max(len(points0), 1))(np.arange(len(points0))))
    lines = np.column_stack([points0, np.ones(len(points0))]) @ np.asarray(fundamental).T
    segments = [clip_line(line, image1.shape[1], image1.shape[0]) for line in lines]
    seen = [i for i, segment in enumerate(segments) if segment is not None]
    axes.add_collection(
        LineCollection(
            [segment for segment in segments if segment is not None],
            colors=colours[seen],
            linewidths=0.8,
        ),
        autolim=False,
    )
    if points1 is not None:
        x, y = np.asarray(points1).T
        axes.scatter(x, y, s=14, c=colours, edgecolors="black", linewidths=0.4)


def clip_line(line: np.ndarray, width: int, height: int) -> np.ndarray | None:
    """Cut a line off at the borders of an image.

    Args:
        line: a, b, c of a x + b y + c = 0.
        width: of the image.
        height: of the image.

    Returns:
        2×2, its two ends (x, y), or None where it misses the image.
    """
    a, b, c = line
    normal = np.hypot(a, b)
    if not normal > 0:
        return None
    foot, along = -c / normal**2 * np.array([a, b]), np.array([-b, a]) / normal
    low, high = -np.inf, np.inf
    for place, step, side in zip(foot, along, (width, height), strict=True):
        if abs(step) < 1e-12:
            if not -0.5 <= place <= side - 0.5:
                return None
            continue
        ends = sorted([(-0.5 - place) / step, (side - 0.5 - place) / step])
        low, high = max(low, ends[0]), min(high, ends[1])
    return foot + np.outer([low, high], along) if low < high else None
