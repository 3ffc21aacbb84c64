"""Two images: matches and epipolar lines."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.typing import ColorType

from featplug.io.files import write_whole
from featplug.plots.image_marks import draw_image, shrink

if TYPE_CHECKING:
    from featplug.api.feature_types import Features, Matches
    from featplug.io.image_inputs import ImageLike

_RIGHT, _WRONG = "lime", "red"


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchLines:
    """Colours and number of the lines between matched points; without colours all are green."""

    inliers: np.ndarray | None = None
    """N bool; outliers are red, and drawn below."""
    errors: np.ndarray | None = None
    """N numbers, such as errors of a homography in pixels, from green at 0 to red."""
    max_error: float = 5.0
    """Error from which lines are red."""
    max_lines: int = 300
    """Largest number of lines, evenly chosen."""

    def badness(self, num: int) -> np.ndarray:
        """Return a number from 0 (green) to 1 (red) for each of ``num`` matches.

        Raises:
            ValueError: there are both inliers and errors, or not one a match.
        """
        if self.inliers is not None and self.errors is not None:
            raise ValueError("Matches are coloured by inliers or errors, not both.")
        values = self.errors if self.inliers is None else self.inliers
        if values is None:
            return np.zeros(num)
        if np.shape(values) != (num,):
            raise ValueError(f"There are {num} matches, but colours of shape {np.shape(values)}.")
        if self.inliers is not None:
            return ~np.asarray(values, bool) * 1.0
        return np.clip(np.asarray(values) / self.max_error, 0, 1)


def draw_matches(
    axes: Axes,
    image0: np.ndarray,
    image1: np.ndarray,
    points0: np.ndarray,
    points1: np.ndarray,
    **lines: Any,
) -> None:
    """Draw two images side by side and lines between matched points.

    Args:
        axes: where to draw.
        image0: left image, see :func:`featplug.plots.draw_image`.
        image1: right image, of any size.
        points0: N×2 in the left image.
        points1: N×2 in the right image, in its own pixels.
        lines: fields of :class:`MatchLines`: ``inliers`` or ``errors``, ``max_error``,
            ``max_lines``.

    Raises:
        ValueError: the points are not as many, or what colours them does not fit.
    """
    style = MatchLines(**lines)
    points0, points1 = (np.asarray(p, float).reshape(-1, 2) for p in (points0, points1))
    if len(points0) != len(points1):
        raise ValueError(f"There are {len(points0)} and {len(points1)} points; matches are pairs.")
    badness = style.badness(len(points0))
    draw_image(axes, image0)
    shift = image0.shape[1]
    draw_image(axes, image1, shift)
    axes.set_xlim(-0.5, shift + image1.shape[1] - 0.5)
    axes.set_ylim(max(len(image0), len(image1)) - 0.5, -0.5)
    shown = np.arange(0, len(points0), max(1, -(-len(points0) // style.max_lines)))
    # The worst first, so that they do not hide the others.
    shown = shown[np.argsort(-badness[shown], kind="stable")]
    colours: list[ColorType] = [_WRONG if bad else _RIGHT for bad in badness[shown]]
    if style.errors is not None:
        colours = list(colormaps["RdYlGn"](1 - badness[shown]))
    segments = np.stack([points0, points1 + np.array([shift, 0])], axis=1)[shown]
    axes.add_collection(
        LineCollection(list(segments), colors=colours, linewidths=0.5, alpha=0.7), autolim=False
    )


def matches(
    a: "Features | ImageLike",
    b: "Features | ImageLike",
    matches: "Matches",
    axes: Axes | None = None,
    **lines: Any,
) -> Axes:
    """Draw the matches of two images.

    Args:
        a: the left image, or features that :meth:`featplug.Feature.extract` extracted from it.
        b: the right image, or its features.
        matches: their matches.
        axes: where to draw; pyplot's current ones if None, which a notebook shows.
        lines: see :func:`draw_matches`.

    Raises:
        ValueError: an image cannot be used, or the features were made without keeping theirs.
    """
    images = [_image_of(a), _image_of(b)]
    if axes is None:
        from matplotlib import pyplot  # opens a display, which other functions here do without

        axes = pyplot.gca()
    draw_matches(axes, images[0], images[1], matches.points0, matches.points1, **lines)
    return axes


def _image_of(image: "Features | ImageLike") -> np.ndarray:
    from featplug.api.feature_types import Features  # waits for torch, as few functions here do
    from featplug.io.image_inputs import read_input

    if not isinstance(image, Features):
        return read_input(image, {}).pixels
    if image.image is None:
        raise ValueError("The features have no images; extract them with featplug.load(…).extract.")
    return image.image


def write_match_picture(
    path: Path,
    image0: np.ndarray,
    image1: np.ndarray,
    points0: np.ndarray,
    points1: np.ndarray,
    inliers: np.ndarray | None = None,
) -> None:
    """Write a picture by :func:`draw_matches` as a JPEG file, with large images made smaller."""
    image0, points0 = shrink(image0, points0)
    image1, points1 = shrink(image1, points1)
    height = max(len(image0), len(image1)) / (image0.shape[1] + image1.shape[1])
    figure = Figure(figsize=(12, 12 * height), layout="constrained")
    axes = figure.subplots()
    draw_matches(axes, image0, image1, points0, points1, inliers=inliers)
    axes.set_axis_off()

    def save(part: Path) -> None:
        figure.savefig(part, format="jpeg", dpi=120, pil_kwargs={"quality": 85})

    write_whole(path, save)


def draw_epipolar_lines(
    axes: Axes,
    image1: np.ndarray,
    fundamental: np.ndarray,
    points0: np.ndarray,
    points1: np.ndarray | None = None,
    cmap: str = "hsv",
) -> None:
    """Draw in one image the epipolar lines of points in another.

    For the other image's lines, transpose F and exchange the points. COLMAP's F has its origin at a
    pixel's corner: pass ``T.T @ F @ T`` with T = [[1, 0, ½], [0, 1, ½], [0, 0, 1]].

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
    ends = [clip_line(line, image1.shape[1], image1.shape[0]) for line in lines]
    segments = [segment for segment in ends if segment is not None]
    is_seen = [segment is not None for segment in ends]
    axes.add_collection(
        LineCollection(segments, colors=colours[is_seen], linewidths=0.8), autolim=False
    )
    if points1 is not None:
        x, y = np.asarray(points1).T
        axes.scatter(x, y, s=14, c=colours, edgecolors="black", linewidths=0.4)


def clip_line(line: np.ndarray, width: int, height: int) -> np.ndarray | None:
    """Return the ends 2×2 (x, y) of the line a x + b y + c = 0 in an image, or None if outside."""
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
