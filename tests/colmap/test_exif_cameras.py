"""Focal lengths of EXIF data, against what COLMAP reads from the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pycolmap
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from featplug.colmap.exif_cameras import exif_focal_length
from featplug.io.exif import EXIF_IFD, FOCAL_LENGTH, MAKE, MODEL
from featplug.io.image_files import read_image_header

IN_35MM, X_RESOLUTION, UNIT = 0xA405, 0xA20E, 0xA210
IPHONE = {MAKE: "Apple", MODEL: "iPhone 7"}
CANON = {MAKE: "Canon", MODEL: "Canon EOS 5D Mark II"}


def save(path: Path, camera: dict[int, Any], exif_ifd: dict[int, Any]) -> None:
    exif = Image.Exif()
    exif.update(camera)
    exif[EXIF_IFD] = exif_ifd
    Image.new("RGB", (400, 300), "tan").save(path, exif=exif.tobytes())


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize(
    ("camera", "exif_ifd"),
    [
        ({}, {}),
        ({}, {IN_35MM: 28}),
        ({}, {IN_35MM: 0, FOCAL_LENGTH: IFDRational(50, 1)}),
        (IPHONE, {FOCAL_LENGTH: IFDRational(399, 100)}),
        (IPHONE, {FOCAL_LENGTH: IFDRational(399, 100), IN_35MM: 28}),
        (CANON, {FOCAL_LENGTH: IFDRational(50, 1)}),
        ({MAKE: "No", MODEL: "Camera"}, {FOCAL_LENGTH: IFDRational(50, 1)}),
        *(
            (CANON, {FOCAL_LENGTH: IFDRational(7, 3), X_RESOLUTION: IFDRational(35, 3), UNIT: unit})
            for unit in (1, 2, 3, 4)
        ),
    ],
)
def test_focal_lengths_are_those_of_colmap(
    tmp_path: Path, suffix: str, camera: dict[int, Any], exif_ifd: dict[int, Any]
) -> None:
    path = tmp_path / f"x.{suffix}"
    save(path, camera, exif_ifd)
    header, bitmap = read_image_header(path), pycolmap.Bitmap.read(str(path), False)
    assert bitmap is not None
    expected = bitmap.exif_focal_length() or 0.0
    assert (exif_focal_length(header) or 0.0) == pytest.approx(expected, rel=1e-6)
