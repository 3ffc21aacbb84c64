"""What EXIF data say of a photograph: its camera, which way up it is, and where it was taken.

Tags and units are those of EXIF 2.32. Nothing here is an error: what is absent, damaged or
impossible is not known.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
MAKE, MODEL, ORIENTATION, FOCAL_LENGTH = 0x010F, 0x0110, 0x0112, 0x920A
_PIXEL_X_DIMENSION, _PIXEL_Y_DIMENSION, _LENS_MODEL = 0xA002, 0xA003, 0xA434
_FOCAL_LENGTH_IN_35MM_FILM, _FOCAL_PLANE_X_RESOLUTION, _FOCAL_PLANE_UNIT = 0xA405, 0xA20E, 0xA210
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = range(1, 7)
_MM_OF_UNIT: dict[float | None, float] = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""EXIF's units of FocalPlaneResolution."""
_HIGHEST_ALTITUDE = 1e5


@dataclass(frozen=True)
class ExifCamera:
    """What EXIF data say of the camera; a field that is absent or damaged is None."""

    make: str | None = None
    model: str | None = None
    focal_length_mm: float | None = None
    focal_length_35mm: float | None = None
    """Focal length of a 35 mm camera with the same field of view, in mm."""
    pixels_per_mm: float | None = None
    """Pixels per mm of the sensor, horizontally."""
    lens: str | None = None
    size: tuple[int, int] | None = None
    """(width, height) of the photograph as the camera stored it, which editors may keep."""


@dataclass(frozen=True)
class GpsPosition:
    """Where a photograph was taken, in WGS84."""

    latitude: float
    """Latitude in degrees, north is positive."""
    longitude: float
    """Longitude in degrees, east is positive."""
    altitude: float | None = None
    """Altitude in metres, or None if it is not known."""


@dataclass(frozen=True)
class Exif:
    """What the EXIF data of an image file say."""

    camera: ExifCamera = ExifCamera()
    orientation: int = 1
    """EXIF's orientation, 1 to 8: 1 is upright as stored, 6 stands for a turn by 90° clockwise."""
    gps: GpsPosition | None = None


def read_exif(image: Image.Image) -> Exif:
    """Read the EXIF data of an opened image; no pixel is decoded."""
    tags: dict[int, Any] = {}
    gps: dict[int, Any] = {}
    with suppress(Exception):  # decoders raise all kinds for damaged data
        if isinstance(image, TiffImageFile):
            exif = image.getexif()
        elif "exif" in image.info:
            exif = Image.Exif()
            exif.load(image.info["exif"])
        else:  # PNG's getexif would decode the pixels
            return Exif()
        _read(exif, tags)
        if isinstance(image, TiffImageFile):  # open_image has set the other one to 1
            tags[ORIENTATION] = image.tag_v2.get(ORIENTATION)
        with suppress(Exception):
            _read(exif.get_ifd(EXIF_IFD), tags)
        _read(exif.get_ifd(GPS_IFD), gps)
    return Exif(_camera(tags), _orientation(tags.get(ORIENTATION)), _position(gps))


def _read(entries: Mapping[int, Any], tags: dict[int, Any]) -> None:
    """Add the entries that can be read to ``tags``."""
    for tag in entries:
        with suppress(Exception):
            tags[tag] = entries[tag]


def _camera(tags: Mapping[int, Any]) -> ExifCamera:
    unit = _MM_OF_UNIT.get(_positive(tags.get(_FOCAL_PLANE_UNIT)))
    resolution = _positive(tags.get(_FOCAL_PLANE_X_RESOLUTION))
    sides = [int(_positive(tags.get(t)) or 0) for t in (_PIXEL_X_DIMENSION, _PIXEL_Y_DIMENSION)]
    return ExifCamera(
        make=_text(tags.get(MAKE)),
        model=_text(tags.get(MODEL)),
        focal_length_mm=_positive(tags.get(FOCAL_LENGTH)),
        focal_length_35mm=_positive(tags.get(_FOCAL_LENGTH_IN_35MM_FILM)),
        pixels_per_mm=resolution / unit if resolution and unit else None,
        lens=_text(tags.get(_LENS_MODEL)),
        size=(sides[0], sides[1]) if all(sides) else None,
    )


def _orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _position(gps: Mapping[int, Any]) -> GpsPosition | None:
    latitude = _degrees(gps.get(_LATITUDE), gps.get(_LATITUDE_REF), "NS", 90)
    longitude = _degrees(gps.get(_LONGITUDE), gps.get(_LONGITUDE_REF), "EW", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None  # zeros are written by cameras that had no fix
    altitude = _number(gps.get(_ALTITUDE))
    if altitude is not None and gps.get(_ALTITUDE_REF) in (b"\1", 1):
        altitude = -altitude
    is_known = altitude is not None and abs(altitude) < _HIGHEST_ALTITUDE
    return GpsPosition(latitude, longitude, altitude if is_known else None)


def _degrees(value: object, reference: object, directions: str, limit: float) -> float | None:
    """Return an angle of degrees, minutes and seconds, or None if it is not known."""
    numbers = [_number(part) for part in value] if isinstance(value, tuple) else []
    if len(numbers) != 3:
        return None
    degrees = 0.0
    for part, number in enumerate(numbers):
        if number is None or number < 0:
            return None
        degrees += number / 60**part
    if not degrees <= limit:
        return None
    if isinstance(reference, bytes):
        reference = reference.decode("ascii", "replace")
    direction = (_text(reference) or " ").upper()[0]  # some write the whole word
    if direction not in directions:
        return None  # on one of two sides of the world
    return -degrees if direction == directions[1] else degrees


def _number(value: object) -> float | None:
    """Return a finite number of EXIF data, or None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: object) -> float | None:
    """Return a positive number of EXIF data, in float32 as COLMAP reads it, or None."""
    number = _number(value)
    return float(np.float32(number)) if number is not None and 1e-6 < number < 1e9 else None


def _text(value: object) -> str | None:
    text = value.split("\0")[0].strip() if isinstance(value, str) else ""
    return text or None
