"""Colours of 3D points: the mean over the images that see them, as COLMAP computes it.

COLMAP itself passes over images of the formats that it cannot read.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycolmap

from featplug.io.images import MAX_MEGAPIXELS, read_image
from featplug.utils.parallel import NUM_READERS, map_ahead

_MAX_SIDE = 4096
"""Longest side in pixels of JPEGs above the limit."""
_logger = logging.getLogger(__name__)


class _Observed(NamedTuple):
    """The observations of one image."""

    name: str
    xy: np.ndarray
    """Keypoints N×2 in COLMAP's pixels."""
    points: np.ndarray
    """Index of the point of each one."""
    image_size: tuple[int, int]


def colour_points(
    model: pycolmap.Reconstruction, image_dir: Path, max_megapixels: float = MAX_MEGAPIXELS
) -> None:
    """Set the colour of each point of a model to the mean over its observations.

    Points of which no observation has a colour keep theirs. Images that cannot be read are passed
    over, with a warning.

    Args:
        model: the model.
        image_dir: folder of its images.
        max_megapixels: limit of decoding; JPEGs above it are reduced.
    """
    ids = np.sort(np.fromiter(model.points3D, np.uint64, model.num_points3D()))
    sums, counts = np.zeros((len(ids), 3)), np.zeros(len(ids))
    unread = []

    def sample(observed: _Observed) -> tuple[_Observed, np.ndarray | None]:
        try:
            pixels = read_image(
                Path(image_dir) / observed.name,
                max_megapixels=max_megapixels,
                resize_max=_MAX_SIDE,
            )
        except (OSError, ValueError):
            return observed, None
        scale = np.divide(pixels.shape[1::-1], observed.image_size)
        return observed, _bilinear(pixels, observed.xy * scale)

    for observed, colours in map_ahead(sample, _observations(model, ids), NUM_READERS):
        if colours is None:
            unread.append(observed.name)
            continue
        inside = np.isfinite(colours[:, 0])
        np.add.at(sums, observed.points[inside], colours[inside])
        np.add.at(counts, observed.points[inside], 1)
    colours = np.floor(sums / np.maximum(counts, 1)[:, None] + 0.5).astype(np.uint8)
    for i in np.flatnonzero(counts):
        model.points3D[int(ids[i])].color = colours[i]
    if unread:
        _logger.warning(
            "%d images in %s could not be read for the points' colours, the first is %s.",
            len(unread), image_dir, unread[0],
        )  # fmt: skip


def _observations(model: pycolmap.Reconstruction, ids: np.ndarray) -> Iterator[_Observed]:
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        seen = image.get_observation_points2D()
        points = np.fromiter((point.point3D_id for point in seen), np.uint64, len(seen))
        xy = np.array([point.xy for point in seen]).reshape(-1, 2)
        camera = model.cameras[image.camera_id]
        size = camera.width, camera.height
        yield _Observed(image.name, xy, np.searchsorted(ids, points), size)


def _bilinear(pixels: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Interpolate colours H×W×3 at N×2 in COLMAP's pixels; NaN outside the centres of pixels."""
    height, width = pixels.shape[:2]
    corner = np.floor(xy - 0.5)
    inside = (corner >= 0).all(1) & (corner + 1 < [width, height]).all(1)
    x, y = corner[inside].astype(int).T
    right, down = ((xy - 0.5 - corner)[inside].T)[..., None]
    upper = (1 - right) * pixels[y, x] + right * pixels[y, x + 1]
    lower = (1 - right) * pixels[y + 1, x] + right * pixels[y + 1, x + 1]
    colours = np.full((len(xy), 3), np.nan, np.float32)
    colours[inside] = (1 - down) * upper + down * lower
    return colours
