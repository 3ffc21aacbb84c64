"""Photographs with GPS in their EXIF data."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from featplug.io.exif import GPS_IFD, GpsPosition


def gps_exif(position: GpsPosition | None) -> Image.Exif:
    """Return EXIF data with a position, to about a millimetre."""
    exif = Image.Exif()
    if position is not None:
        gps = {
            **{1: "NS"[position.latitude < 0], 2: _sexagesimal(position.latitude)},
            **{3: "EW"[position.longitude < 0], 4: _sexagesimal(position.longitude)},
        }
        if position.altitude is not None:
            gps |= {5: bytes([position.altitude < 0])}
            gps |= {6: IFDRational(round(abs(position.altitude) * 1000), 1000)}
        exif[GPS_IFD] = gps
    return exif


def _sexagesimal(degrees: float) -> tuple[IFDRational, ...]:
    seconds = round(abs(degrees) * 3600 * 10**5)
    minutes, seconds = divmod(seconds, 60 * 10**5)
    return (*map(IFDRational, divmod(minutes, 60)), IFDRational(seconds, 10**5))


def write_gps_image(path: Path, position: GpsPosition | None) -> None:
    """Write a small JPEG with a position."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (16, 12), 128).save(path, exif=gps_exif(position))
