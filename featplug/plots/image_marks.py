"""One image: keypoints, and maps such as attention and matchability."""

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.typing import ColorType


def shrink(
    image: np.ndarray, points: np.ndarray, max_size: int = 960
) -> tuple[np.ndarray, np.ndarray]:
    """Make an image small enough for a picture, with points in it.

    Args:
        image: H×W×3 or H×W, uint8.
        points: N×2 (x, y), integer = pixel centre.
        max_size: longer side in pixels; smaller images are left as they are.
    """
    scale = max_size / max(image.shape[:2])
    if scale >= 1:
        return image, points
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    ratio = np.array(size) / image.shape[1::-1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), (points + 0.5) * ratio - 0.5


def draw_image(axes: Axes, image: np.ndarray, left: float = 0.0) -> None:
    """Draw an image in its own pixels, without ticks, and show all of it.

    Args:
        axes: where to draw.
        image: H×W×3 or H×W, uint8 or float in [0, 1].
        left: x of its first pixel, to draw it next to another.
    """
    height, width = image.shape[:2]
    extent = (left - 0.5, left + width - 0.5, height - 0.5, -0.5)
    white = 255 if image.dtype == np.uint8 else 1
    axes.imshow(image, extent=extent, cmap="gray", vmin=0, vmax=white)  # colours are for H×W
    # Fixed, so that a point beyond the border does not shrink the image.
    axes.set_xlim(left - 0.5, left + width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_axis_off()


def draw_keypoints(
    axes: Axes,
    image: np.ndarray | None,
    keypoints: np.ndarray,
    scales: np.ndarray | None = None,
    oris: np.ndarray | None = None,
    colour: ColorType = "lime",
) -> None:
    """Draw keypoints: dots, or circles of their scale with a radius in their orientation.

    Args:
        axes: where to draw.
        image: see :func:`draw_image`; None adds to what the axes show.
        keypoints: N×2.
        scales: N, radius of the circles in pixels.
        oris: N, degrees from the x towards the y axis.
        colour: colour of all of them.

    Raises:
        ValueError: there are orientations but no scales, or not one a keypoint.
    """
    keypoints = _points(keypoints)
    _check_values(keypoints, scales=scales, oris=oris)
    if oris is not None and scales is None:
        raise ValueError("Orientations are drawn as radii, which need scales.")
    if image is not None:
        draw_image(axes, image)
    if scales is None:
        axes.scatter(keypoints[:, 0], keypoints[:, 1], s=6, color=colour, linewidths=0)
        return
    scales = np.asarray(scales)
    circles = EllipseCollection(
        2 * scales,
        2 * scales,
        np.zeros(len(keypoints)),
        units="xy",
        offsets=keypoints,
        offset_transform=axes.transData,
        facecolors="none",
        edgecolors=[colour],
        linewidths=0.6,
    )
    axes.add_collection(circles)
    if oris is not None:
        angles = np.deg2rad(oris)
        ends = keypoints + scales[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
        radii = list(np.stack([keypoints, ends], axis=1))
        axes.add_collection(LineCollection(radii, colors=[colour], linewidths=0.6))


def draw_heatmap(
    axes: Axes,
    image: np.ndarray | None,
    values: np.ndarray,
    keypoints: np.ndarray | None = None,
    *,
    cmap: str = "inferno",
    alpha: float = 0.6,
    limits: tuple[float, float] | None = None,
) -> ScalarMappable:
    """Draw attention, matchability or another measure over an image.

    Args:
        axes: where to draw.
        image: see :func:`draw_image`; None adds to what the axes show, a map in its own pixels.
        values: a dense h×w map, which may be coarser than the image that it covers, or N values at
            keypoints.
        keypoints: N×2, for values at keypoints.
        cmap: matplotlib's name of the colours.
        alpha: opacity of a dense map.
        limits: values at the two ends of the colours; the least and the greatest by default.

    Returns:
        What ``figure.colorbar`` takes.

    Raises:
        ValueError: the values are neither a map nor one a keypoint.
    """
    values = np.asarray(values)
    low, high = limits if limits is not None else (None, None)
    if image is not None:
        draw_image(axes, image)
    if keypoints is not None:
        keypoints = _points(keypoints)
        _check_values(keypoints, values=values)
        x, y = keypoints.T
        # The strongest are drawn last, so that they are seen.
        order = np.argsort(values, kind="stable")
        return axes.scatter(
            x[order], y[order], c=values[order], s=8, cmap=cmap, vmin=low, vmax=high, linewidths=0
        )
    if values.ndim != 2:
        raise ValueError(
            f"A heat map is h×w, or has keypoints to its values; its shape is {values.shape}."
        )
    height, width = values.shape if image is None else image.shape[:2]
    return axes.imshow(
        values,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        cmap=cmap,
        alpha=alpha,
        vmin=low,
        vmax=high,
        interpolation="bilinear",
    )


def _points(points: np.ndarray) -> np.ndarray:
    return np.asarray(points, float).reshape(-1, 2)


def _check_values(points: np.ndarray, **values: np.ndarray | None) -> None:
    for name, array in values.items():
        if array is not None and np.shape(array) != (len(points),):
            raise ValueError(
                f"There are {len(points)} keypoints but {name} of the shape {np.shape(array)}."
            )
