"""Photographs on disk to arrays: listing, reading, resizing, prefetching.

Pixels are taken as stored: an EXIF orientation is ignored, as hloc does, so that keypoints, COLMAP
cameras and ground truth mean the same grid. Resizing follows hloc's preprocessing conf.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from torch import Tensor

from featplug.io.artifact import read_fingerprinted
from featplug.io.image_files import (
    IMAGE_SUFFIXES,
    check_regular_file,
    open_image,
    read_image_header,
)
from featplug.io.names import checked_name
from featplug.utils.parallel import map_ahead

DEFAULT_PREPROCESSING: dict[str, Any] = {
    "grayscale": False,
    "resize_max": None,  # longest side in pixels
    "resize_max_sum": None,  # width + height in pixels, D2-Net's second limit
    "resize_force": False,  # enlarge smaller images as well
    "interpolation": "cv2_area",
}
"""hloc's preprocessing conf, with one limit more."""

_USABLE_MODES = frozenset(
    {"RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "1", "L", "LA", "La"}
)


@dataclass(frozen=True)
class LoadedImage:
    """One image, ready for an extractor."""

    name: str
    image: np.ndarray
    """C×H×W float32 in [0, 1]; C is 1 or 3 (RGB)."""
    original_size: tuple[int, int]
    """(width, height) of the file's image, before resizing."""
    fingerprint: str
    """Fingerprint of the file, see :func:`featplug.io.artifact.file_fingerprint`."""


@dataclass(frozen=True)
class UnreadableImage:
    """One image that could not be read, and why."""

    name: str
    reason: str


def list_images(image_dir: Path) -> list[str]:
    """List the photographs below a folder, at any depth, sorted.

    Hidden files and folders are passed over.

    Returns:
        Names relative to ``image_dir``, with ``/`` between folders.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no photograph, or a name that cannot be used.
    """
    image_dir = Path(image_dir)
    if not image_dir.is_dir():
        raise FileNotFoundError(f"There is no image folder {image_dir}.")
    names = []
    visited = set()
    for folder, subfolders, files in os.walk(image_dir, followlinks=True):
        # A link to a parent folder would make the walk endless.
        real = os.path.realpath(folder)
        subfolders[:] = [s for s in subfolders if not s.startswith(".")] * (real not in visited)
        if real in visited:
            continue
        visited.add(real)
        for file in files:
            if not file.startswith(".") and Path(file).suffix.lower() in IMAGE_SUFFIXES:
                names.append((Path(folder) / file).relative_to(image_dir).as_posix())
    if not names:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"There are no images in {image_dir} (looked for {suffixes}).")
    names.sort()
    for name in names:
        checked_name(name)
    return names


def read_image(path: Path, grayscale: bool = False) -> np.ndarray:
    """Read one image as 8 bits per channel, pixels as stored.

    Alpha is dropped, CMYK and palettes are converted, 16-bit grey is scaled to 8 bits.

    Returns:
        H×W×3 uint8 (RGB), or the luma H×W if ``grayscale``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, is no image, or has pixels without a known range.
    """
    return _decode(Path(path), grayscale)


def _decode(path: Path, grayscale: bool, content: bytes | None = None) -> np.ndarray:
    """Decode a file, or its contents, see :func:`read_image`."""
    with open_image(path, content) as file:
        if grayscale and file.format == "JPEG" and file.mode in ("RGB", "YCbCr"):
            file.draft("L", None)  # the stored luma itself, as OpenCV and COLMAP read it
        file.load()
        if file.mode.startswith("I;16"):
            grey = np.round(np.asarray(file).astype(np.float32) / 257.0).astype(np.uint8)
            return grey if grayscale else np.repeat(grey[..., None], 3, axis=-1)
        if file.mode in _USABLE_MODES:
            return np.asarray(file.convert("L" if grayscale else "RGB"))
        mode = file.mode
    raise ValueError(
        f"Cannot use {path}: its pixels ({mode}) have no fixed range; convert it to 8 bits per "
        "channel."
    )


def read_image_size(path: Path) -> tuple[int, int]:
    """Read the (width, height) of an image from its header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image.
    """
    return read_image_header(path).size


def target_size(size: tuple[int, int], conf: Mapping[str, Any]) -> tuple[int, int]:
    """Return the (width, height) that a preprocessing conf resizes an image of a size to."""
    scale = 1.0
    if conf["resize_max"]:
        scale = conf["resize_max"] / max(size)
        if scale > 1 and not conf["resize_force"]:
            scale = 1.0
    if conf["resize_max_sum"]:
        scale = min(scale, conf["resize_max_sum"] / sum(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_image(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Resize an image H×W or H×W×3 uint8 to (width, height), as hloc does.

    The interpolation is ``cv2_area``, ``cv2_linear``, … or ``pil_bilinear``, …; where area
    averaging would have to enlarge, it is linear.

    Returns:
        Float32 in [0, 255] from OpenCV, uint8 from Pillow.

    Raises:
        ValueError: the interpolation is unknown.
    """
    library, _, method = interpolation.partition("_")
    if library == "cv2" and hasattr(cv2, f"INTER_{method.upper()}"):
        flag = getattr(cv2, f"INTER_{method.upper()}")
        if flag == cv2.INTER_AREA and (image.shape[1] < size[0] or image.shape[0] < size[1]):
            flag = cv2.INTER_LINEAR
        return cv2.resize(image.astype(np.float32), size, interpolation=flag)
    if library == "pil" and hasattr(Image.Resampling, method.upper()):
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling[method.upper()]))
    raise ValueError(f"The interpolation {interpolation!r} is not known; use e.g. 'cv2_area'.")


def preprocess(image: np.ndarray, conf: Mapping[str, Any]) -> np.ndarray:
    """Resize an image H×W×3 or H×W uint8 by a conf, and return it as C×H×W float32 in [0, 1].

    Raises:
        ValueError: the conf has an unknown entry.
    """
    unknown = sorted(set(conf) - set(DEFAULT_PREPROCESSING))
    if unknown:
        raise ValueError(f"Preprocessing has no option {', '.join(map(repr, unknown))}.")
    conf = {**DEFAULT_PREPROCESSING, **conf}
    size = (image.shape[1], image.shape[0])
    size_new = target_size(size, conf)
    if size_new != size:
        image = resize_image(image, size_new, conf["interpolation"])
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return np.ascontiguousarray(planes, dtype=np.float32) / np.float32(255)


def to_uint8(image: Tensor) -> np.ndarray:
    """Turn C×H×W float in [0, 1], RGB or grey, into H×W×C uint8."""
    pixels = image.mul(255).round().clamp(0, 255).byte()
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy(force=True))


def to_grey(image: Tensor) -> np.ndarray:
    """Turn C×H×W float in [0, 1], RGB or grey, into H×W uint8 as OpenCV weighs the colours."""
    array = to_uint8(image)
    return array[..., 0] if array.shape[-1] == 1 else cv2.cvtColor(array, cv2.COLOR_RGB2GRAY)


def load_image(image_dir: Path, name: str, conf: Mapping[str, Any]) -> LoadedImage:
    """Read and preprocess one image.

    Raises:
        FileNotFoundError: there is no such image.
        ValueError: the file cannot be used.
    """
    path = Path(image_dir) / name
    check_regular_file(path)
    try:
        content, fingerprint = read_fingerprinted(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no image {path}.") from None
    except OSError as error:
        raise ValueError(f"Cannot read {path} ({error.strerror}).") from error
    image = _decode(path, bool(conf.get("grayscale", False)), content)
    size = (image.shape[1], image.shape[0])
    return LoadedImage(name, preprocess(image, conf), size, fingerprint)


def prefetch_images(
    image_dir: Path, names: Sequence[str], conf: Mapping[str, Any], num_workers: int = 2
) -> Iterator[LoadedImage | UnreadableImage]:
    """Load images in the given order, a few ahead of their use.

    Decoding and resizing release Python's lock, so threads do, and cost nothing to start.

    Returns:
        Each image, or why it could not be read.
    """

    def load(name: str) -> LoadedImage | UnreadableImage:
        try:
            return load_image(image_dir, name, conf)
        except (FileNotFoundError, ValueError) as error:
            return UnreadableImage(name, str(error))

    return map_ahead(load, names, num_workers)
