"""Focal lengths from EXIF data by COLMAP's rule, without COLMAP reading the image.

COLMAP's table of sensor widths cannot be called; a tiny picture of that make and model, read by
COLMAP, gives its entry. Unlike COLMAP, this looks whether the data are of the image: editors keep
them when they cut or resize a photograph.
"""

import math
import tempfile
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import pycolmap
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from featplug.io.exif import EXIF_IFD, FOCAL_LENGTH, MAKE, MODEL
from featplug.io.image_files import ImageHeader

_DIAGONAL_OF_35MM = 43.27
_FOCAL_LENGTHS = 0.1, 10.0
"""Smallest and largest focal length that COLMAP's mappers accept, in lengths of the longer side."""
_LONGEST_SENSOR = 2.4
"""Ratio of the sides of images that are longer than any sensor: panoramas, and strips cut out."""


@dataclass(frozen=True)
class ExifFocalLength:
    """The focal length of an image by its EXIF data."""

    pixels: float | None = None
    """Focal length in pixels; None if it is not known."""
    problem: str | None = None
    """What is wrong with the EXIF data of the image, in words."""
    is_cut: bool = False
    """Whether the image was cut out of a photograph."""


def exif_focal_length(header: ImageHeader) -> float | None:
    """Return the focal length in pixels by an image's EXIF data, or None."""
    return judge_exif(header).pixels


@lru_cache(4096)  # images of a store that are alike share a header
def judge_exif(header: ImageHeader) -> ExifFocalLength:
    """Return the focal length by an image's EXIF data, and whether the data fit the image.

    Resizing changes the focal length in pixels, cutting does not; both are seen where EXIF data
    still have the size of the photograph. They are not where an editor writes the new size.
    """
    size = header.size
    original = header.camera.size or size
    if not has_shape(size, original) and has_shape(size, original[::-1]):
        original = original[::-1]  # an editor turned it
    if has_shape(size, original):
        is_cut, scale = False, max(size) / max(original)
    else:
        is_cut, scale = min(size) <= min(original) and max(size) <= max(original), 1.0
    pixels = _focal_length(header, original)
    if pixels is None:
        return ExifFocalLength()
    pixels *= scale
    shortest, longest = (limit * max(size) for limit in _FOCAL_LENGTHS)
    if not shortest <= pixels <= longest:
        return ExifFocalLength(None, "a focal length in EXIF that no lens has, not used")
    if is_cut:
        problem = "cut out of a larger photograph, as EXIF says; the principal point is not known"
        return ExifFocalLength(pixels, problem, is_cut)
    if not has_shape(size, original):
        return ExifFocalLength(None, "EXIF of a photograph of another size, not used")
    if max(size) > _LONGEST_SENSOR * min(size):
        problem = "the shape of a panorama or a strip, whose focal length is not that of EXIF"
        return ExifFocalLength(None, problem)
    return ExifFocalLength(pixels)


def _focal_length(header: ImageHeader, size: tuple[int, int]) -> float | None:
    """Return the focal length in pixels of a photograph of a size by COLMAP's rule, or None."""
    camera = header.camera
    if camera.focal_length_35mm is not None:
        return camera.focal_length_35mm / _DIAGONAL_OF_35MM * math.hypot(*size)
    if camera.focal_length_mm is None:
        return None
    if camera.pixels_per_mm is not None:
        return camera.focal_length_mm * camera.pixels_per_mm
    if camera.make is None or camera.model is None:
        return None
    width_mm = sensor_width_mm(camera.make, camera.model)
    return camera.focal_length_mm / width_mm * max(size) if width_mm else None


def has_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether one image can be the other one resized; sides are rounded to whole pixels."""
    (width, height), (w, h) = sorted([size, other])
    return abs(width * h / w - height) < 1 or abs(height * w / h - width) < 1


@cache
def sensor_width_mm(make: str, model: str) -> float | None:
    """Return the width of a camera's sensor in COLMAP's table, or None."""
    exif = Image.Exif()
    exif[MAKE], exif[MODEL] = make, model
    exif[EXIF_IFD] = {FOCAL_LENGTH: IFDRational(1)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "camera.jpg"
        Image.new("L", (8, 8)).save(path, exif=exif)
        camera = pycolmap.infer_camera_from_image(str(path))
    return 8.0 / camera.mean_focal_length() if camera.has_prior_focal_length else None
