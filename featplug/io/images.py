"""Photographs on disk to arrays: reading, resizing, prefetching.

:func:`read_image` returns pixels as stored, as hloc and COLMAP take them; what a method is handed
is turned upright by EXIF data, see :mod:`featplug.io.orientation`. Resizing follows hloc's
preprocessing conf.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from featplug.io.artifact import file_fingerprint, read_fingerprinted
from featplug.io.exif import read_exif
from featplug.io.image_files import (
    ImageFileError,
    check_regular_file,
    decoding_cost,
    format_of,
    open_image,
    read_image_header,
)
from featplug.io.orientation import Orientation, Turn
from featplug.utils.errors import described
from featplug.utils.parallel import WeightedSemaphore, map_ahead

DEFAULT_PREPROCESSING: dict[str, Any] = {
    "grayscale": False,
    "resize_max": None,  # longest side in pixels
    "resize_max_sum": None,  # width + height in pixels, D2-Net's second limit
    "resize_force": False,  # enlarge smaller images as well
    "dfactor": None,  # number that width and height become multiples of, by reduction
    "interpolation": "cv2_area",
}
"""hloc's preprocessing conf, with one limit more."""

MAX_MEGAPIXELS = 160.0
"""Limit of decoding, above the cameras of today but for phones of 200 megapixels, whose JPEGs are
reduced while they are decoded. One image of 160 takes 1.2 GB (measured)."""

_ROWS_AT_ONCE = 256
_LARGE_FILE_BYTES = 32 * 2**20
"""Larger files are not held in memory while they are decoded."""
_decoding_memory = WeightedSemaphore()

_USABLE_MODES = frozenset(
    {"RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "1", "L", "LA", "La"}
)


@dataclass(frozen=True)
class LoadedImage:
    """One image, ready for an extractor."""

    name: str
    image: np.ndarray
    """C×H×W float32 in [0, 1], upright; C is 1 or 3 (RGB)."""
    turn: Turn
    """Turn from the file's image, before resizing, to the upright one."""
    fingerprint: str
    """Fingerprint of the file, see :func:`featplug.io.artifact.file_fingerprint`."""

    @property
    def original_size(self) -> tuple[int, int]:
        """(width, height) of the file's image as stored, before resizing."""
        return self.turn.size


@dataclass(frozen=True, eq=False)
class ReadImage:
    """One image, read and preprocessed."""

    pixels: np.ndarray
    """H×W×3 uint8 (RGB), or the luma H×W, as stored, or reduced if there were too many."""
    planes: np.ndarray
    """Preprocessed image C×H×W float32 in [0, 1], upright."""
    turn: Turn
    """Turn from the file's image, before any reduction, to the upright one."""


@dataclass(frozen=True)
class UnreadableImage:
    """One image that could not be read, and why."""

    name: str
    reason: str


def read_image(
    path: Path,
    grayscale: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    resize_max: int | None = None,
) -> np.ndarray:
    """Read one image as 8 bits per channel, pixels as stored.

    Alpha is dropped, CMYK and palettes are converted, 16-bit grey is scaled to 8 bits. A JPEG above
    the limit is reduced to a longest side of ``resize_max`` while it is decoded.

    Returns:
        H×W×3 uint8 (RGB), or the luma H×W if ``grayscale``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, is no image, has pixels without a known range, or takes
            more memory to decode than a JPEG of that many megapixels.
    """
    with ExitStack() as memory:
        conf = {"grayscale": grayscale, "resize_max": resize_max}
        return _decode(Path(path), conf, max_megapixels, memory)[0]


def read_and_preprocess(
    path: Path,
    conf: Mapping[str, Any],
    max_megapixels: float = MAX_MEGAPIXELS,
    content: bytes | None = None,
    orientation: Orientation = "exif",
) -> ReadImage:
    """Read an image, or the contents of its file, and preprocess it by a conf.

    A JPEG above the limit that the conf reduces is reduced while it is decoded: by 2, 4 or 8 in the
    decoder, then by an average.

    Raises:
        FileNotFoundError: there is no such image.
        ValueError: the file cannot be used, see :func:`read_image`, or the conf has an unknown
            entry.
    """
    with ExitStack() as memory:
        pixels, turn = _decode(Path(path), conf, max_megapixels, memory, content)
        if orientation == "stored":
            turn = Turn(turn.size)
        planes = preprocess(turn.upright_pixels(pixels), conf, turn.upright_size)
        return ReadImage(pixels, planes, turn)


def _decode(
    path: Path,
    conf: Mapping[str, Any],
    max_megapixels: float,
    memory: ExitStack,
    content: bytes | None = None,
) -> tuple[np.ndarray, Turn]:
    """Decode a file, or its contents; return the pixels as stored and the turn that EXIF asks for.

    ``memory`` holds a part of the memory for decoding until the caller closes it.
    """
    with open_image(path, content) as file:
        size, target, box = file.size, None, None
        turn = Turn(size, read_exif(file).orientation)
        is_luma = conf.get("grayscale") and file.format == "JPEG" and file.mode in ("RGB", "YCbCr")
        if decoding_cost(file, size) > max_megapixels:
            target = target_size(size, {**DEFAULT_PREPROCESSING, **conf})
        if isinstance(file, JpegImageFile) and (is_luma or target):
            # The stored luma itself, as OpenCV and COLMAP read it.
            draft = file.draft("L" if is_luma else None, target and _draft_size(size, target))
            box = draft and draft[1]
        cost = decoding_cost(file, size)
        if cost > max_megapixels:
            raise ImageFileError(
                f"Cannot use {path}: decoding {size[0]}×{size[1]} pixels of this kind of "
                f"{format_of(file).name} takes as much memory as a JPEG of {cost:.3g} megapixels, "
                f"above the limit of {max_megapixels:g}; reduce it, or raise --max-megapixels."
            )
        memory.enter_context(_decoding_memory.hold(cost, max_megapixels))
        file.load()
        if not file.mode.startswith("I;16") and file.mode not in _USABLE_MODES:
            raise ImageFileError(
                f"Cannot use {path}: its pixels ({file.mode}) have no fixed range; convert it to 8 "
                "bits per channel."
            )
        image = file if target is None else file.resize(target, Image.Resampling.HAMMING, box)
        return _to_array(image, bool(conf.get("grayscale"))), turn


def _draft_size(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Return the least size to decode a JPEG to: twice the target where the image is large enough.

    The filter then comes close to area averaging.
    """
    twice = (2 * target[0], 2 * target[1])
    return twice if min(size[0] // twice[0], size[1] // twice[1]) > 1 else target


def _to_array(image: Image.Image, grayscale: bool) -> np.ndarray:
    """Convert a decoded image, a few rows at a time, as whole copies would take much memory."""
    width, height = image.size
    array = np.empty((height, width) if grayscale else (height, width, 3), np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):
        bottom = min(top + _ROWS_AT_ONCE, height)
        rows = image.crop((0, top, width, bottom))
        if image.mode.startswith("I;16"):
            grey = np.round(np.asarray(rows).astype(np.float32) / 257.0).astype(np.uint8)
            array[top:bottom] = grey if grayscale else grey[..., None]
        else:
            array[top:bottom] = np.asarray(rows.convert("L" if grayscale else "RGB"))
    return array


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
    factor = conf["dfactor"] or 1
    width, height = (max(factor, round(side * scale) // factor * factor) for side in size)
    return width, height


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
        if flag == cv2.INTER_AREA and image.ndim == 3:
            # The same to the bit, faster, and without a copy of the whole image in float32.
            return np.stack(
                [
                    cv2.resize(image[..., c].astype(np.float32), size, interpolation=flag)
                    for c in range(image.shape[2])
                ],
                axis=-1,
            )
        return cv2.resize(image.astype(np.float32), size, interpolation=flag)
    if library == "pil" and hasattr(Image.Resampling, method.upper()):
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling[method.upper()]))
    raise ValueError(f"The interpolation {interpolation!r} is not known; use e.g. 'cv2_area'.")


def preprocess(
    image: np.ndarray, conf: Mapping[str, Any], original_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Resize an image H×W×3 or H×W uint8 by a conf, and return it as C×H×W float32 in [0, 1].

    ``original_size`` is (width, height) of an image that was reduced before.

    Raises:
        ValueError: the conf has an unknown entry.
    """
    unknown = sorted(set(conf) - set(DEFAULT_PREPROCESSING))
    if unknown:
        raise ValueError(f"Preprocessing has no option {', '.join(map(repr, unknown))}.")
    conf = {**DEFAULT_PREPROCESSING, **conf}
    size = (image.shape[1], image.shape[0])
    size_new = target_size(original_size or size, conf)
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


def load_image(
    image_dir: Path,
    name: str,
    conf: Mapping[str, Any],
    max_megapixels: float = MAX_MEGAPIXELS,
    orientation: Orientation = "exif",
) -> LoadedImage:
    """Read and preprocess one image.

    Raises:
        FileNotFoundError: there is no such image.
        ValueError: the file cannot be used.
    """
    path = Path(image_dir) / name
    check_regular_file(path)
    try:
        before = path.stat()
        content = fingerprint = None
        if before.st_size <= _LARGE_FILE_BYTES:
            content, fingerprint = read_fingerprinted(path)
        read = read_and_preprocess(path, conf, max_megapixels, content, orientation)
        if fingerprint is None:
            fingerprint, after = file_fingerprint(path), path.stat()
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise ImageFileError(f"Cannot use {path}: it changed while it was read; run again.")
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no image {path}.") from None
    except OSError as error:
        raise ImageFileError(f"Cannot read {path} ({error.strerror or error}).") from error
    return LoadedImage(name, read.planes, read.turn, fingerprint)


def prefetch_images(
    image_dir: Path,
    names: Sequence[str],
    conf: Mapping[str, Any],
    num_workers: int = 2,
    max_megapixels: float = MAX_MEGAPIXELS,
    orientation: Orientation = "exif",
) -> Iterator[LoadedImage | UnreadableImage]:
    """Load images in the given order, a few ahead of their use.

    Decoding and resizing release Python's lock, so threads do, and cost nothing to start. They
    decode no more at a time than one image of ``max_megapixels`` takes in memory.

    Returns:
        Each image, or why it could not be read.
    """

    def load(name: str) -> LoadedImage | UnreadableImage:
        try:
            return load_image(image_dir, name, conf, max_megapixels, orientation)
        except (FileNotFoundError, ValueError) as error:
            return UnreadableImage(name, str(error))
        except Exception as error:  # one image never ends the others
            reason = described(error)
            return UnreadableImage(name, f"Cannot use {Path(image_dir) / name}: {reason}.")

    return map_ahead(load, names, num_workers)
