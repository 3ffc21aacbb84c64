"""Pictures of runs, shrunk for the page."""

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from featplug.io.image_files import read_image_header
from featplug.io.images import read_image
from featplug.plots import shrink

MAX_BYTES = 8 << 20
"""Largest size of all pictures on a page, in base64."""
MAX_MEGAPIXELS = 100.0
"""Largest picture that is read."""
MAX_SIZE = 1100
"""Longest side of a picture on the page."""
_NUM_LARGE = 48
"""Number of pictures on a page that may all be as large."""
_QUALITY = 78


@dataclass(frozen=True)
class InlinePicture:
    """A picture in the page."""

    title: str
    data: str
    """The JPEG in base64."""
    width: int
    height: int


def longest_side(num_pictures: int) -> int:
    """Return the longest side of each of a page's pictures, whose pixels have a limit."""
    return round(MAX_SIZE * min(1.0, (_NUM_LARGE / max(num_pictures, 1)) ** 0.5))


def inline_picture(path: Path, title: str, max_size: int = MAX_SIZE) -> InlinePicture:
    """Read a picture, shrink it and make it a JPEG.

    Args:
        path: file of the picture.
        title: text next to it.
        max_size: longest side of the JPEG, in pixels.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file cannot be read, or is larger than :data:`MAX_MEGAPIXELS`.
    """
    width, height = read_image_header(path).size
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise ValueError(
            f"{path} has {width}×{height} pixels, and a page shows pictures of at most "
            f"{MAX_MEGAPIXELS:g} megapixels; make it smaller."
        )
    small, _ = shrink(read_image(path), np.zeros((0, 2)), max_size)
    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    if not done:
        raise ValueError(f"The picture {path} cannot be written as JPEG.")
    data = base64.b64encode(encoded.tobytes()).decode("ascii")
    return InlinePicture(title, data, small.shape[1], small.shape[0])
