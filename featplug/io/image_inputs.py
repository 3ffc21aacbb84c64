"""Images as notebooks have them: a file, an array or a tensor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from featplug.io.images import ReadImage, preprocess, read_and_preprocess, to_uint8
from featplug.io.orientation import Orientation, Turn

ImageLike = str | Path | np.ndarray | Tensor
"""A file; an array H×W×3 (RGB) or H×W (grey) uint8; or a tensor C×H×W in [0, 1], which is rounded
to 8 bits."""


def read_input(
    image: ImageLike, preprocessing: Mapping[str, Any], orientation: Orientation = "exif"
) -> ReadImage:
    """Read and preprocess an image; arrays and tensors are taken as upright.

    Raises:
        FileNotFoundError: no such file exists.
        ValueError: the file cannot be used, or the array has another form.
    """
    if isinstance(image, str | Path):
        return read_and_preprocess(Path(image), preprocessing, orientation=orientation)
    pixels = _pixels(image, bool(preprocessing.get("grayscale")))
    turn = Turn((pixels.shape[1], pixels.shape[0]))
    return ReadImage(pixels, preprocess(pixels, preprocessing), turn)


def _pixels(image: np.ndarray | Tensor, grayscale: bool) -> np.ndarray:
    """Return an array or tensor as H×W×3, or H×W for ``grayscale``, uint8."""
    if isinstance(image, Tensor):
        if image.ndim != 3 or not image.is_floating_point():
            raise ValueError(
                f"A tensor must be C×H×W, of floats in [0, 1], not {image.dtype} of shape "
                f"{tuple(image.shape)}."
            )
        image = to_uint8(image)
        image = image[..., 0] if image.shape[2] == 1 else image
    if not isinstance(image, np.ndarray):
        raise ValueError(f"An image must be a file, an array or a tensor, not {type(image)}.")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"An image must be H×W×3 or H×W uint8, not {image.dtype} of shape {image.shape}."
        )
    if grayscale and image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return image if grayscale or image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
