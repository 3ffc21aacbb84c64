"""Focal lengths from EXIF data by COLMAP's rule, without COLMAP reading the image.

COLMAP's table of sensor widths cannot be called; a tiny picture of that make and model, read by
COLMAP, gives its entry.
"""

import tempfile
from functools import cache
from pathlib import Path

import pycolmap
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from featplug.io.exif import EXIF_IFD, FOCAL_LENGTH, MAKE, MODEL
from featplug.io.image_files import ImageHeader


def exif_focal_length(header: ImageHeader) -> float | None:
    """Return the focal length in pixels that COLMAP would take from an image's EXIF data."""
    camera = header.camera
    known = header.focal_length_px
    if known is not None or camera.focal_length_mm is None:
        return known
    if camera.make is None or camera.model is None:
        return None
    width_mm = sensor_width_mm(camera.make, camera.model)
    return camera.focal_length_mm / width_mm * max(header.size) if width_mm else None


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
