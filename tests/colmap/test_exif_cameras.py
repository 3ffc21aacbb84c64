"""Focal lengths of EXIF data, against what COLMAP reads from the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pycolmap
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from featplug.colmap.cameras import CameraOptions, make_cameras
from featplug.colmap.exif_cameras import exif_focal_length, judge_exif
from featplug.io.exif import EXIF_IFD, FOCAL_LENGTH, MAKE, MODEL
from featplug.io.image_files import ImageHeader, read_image_header

IN_35MM, X_RESOLUTION, UNIT = 0xA405, 0xA20E, 0xA210
PIXELS_X, PIXELS_Y = 0xA002, 0xA003
RESOLUTION = IFDRational(209, 3)
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
            (
                CANON,
                {FOCAL_LENGTH: IFDRational(70, 3), X_RESOLUTION: IFDRational(209, 3), UNIT: unit},
            )
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


def header_of(path: Path, size: tuple[int, int], exif_ifd: dict[int, Any]) -> ImageHeader:
    exif = Image.Exif()
    exif.update(IPHONE)
    exif[EXIF_IFD] = exif_ifd
    Image.new("L", size, 128).save(path, exif=exif.tobytes())
    return read_image_header(path)


def original(width: int, height: int) -> dict[int, Any]:
    return {PIXELS_X: width, PIXELS_Y: height, IN_35MM: 28}


@pytest.mark.parametrize("size", [(400, 300), (200, 150), (133, 100), (100, 133), (800, 600)])
def test_a_resized_photograph_has_its_field_of_view(tmp_path: Path, size: tuple[int, int]) -> None:
    judged = judge_exif(header_of(tmp_path / "x.jpg", size, original(400, 300)))
    assert judged.pixels == pytest.approx(28 / 43.27 * 500 * max(size) / 400, rel=0.01)
    assert judged.problem is None


@pytest.mark.parametrize("size", [(300, 300), (400, 225), (100, 100), (225, 400), (400, 100)])
def test_a_cut_photograph_keeps_its_focal_length(tmp_path: Path, size: tuple[int, int]) -> None:
    judged = judge_exif(header_of(tmp_path / "x.jpg", size, original(400, 300)))
    assert judged.pixels == pytest.approx(28 / 43.27 * 500, rel=1e-6)
    assert "principal point" in (judged.problem or "")
    assert judged.is_cut


def test_the_resolution_of_the_sensor_is_that_of_the_photograph_before_it_was_resized(
    tmp_path: Path,
) -> None:
    sensor = {FOCAL_LENGTH: IFDRational(5, 1), X_RESOLUTION: IFDRational(800, 1), UNIT: 3}
    sensor |= {PIXELS_X: 400, PIXELS_Y: 300}
    assert judge_exif(header_of(tmp_path / "x.jpg", (400, 300), sensor)).pixels == 400
    assert judge_exif(header_of(tmp_path / "x.jpg", (200, 150), sensor)).pixels == 200


@pytest.mark.parametrize(
    ("size", "exif_ifd", "named"),
    [
        ((500, 500), original(400, 300), "another size"),
        ((1000, 300), {IN_35MM: 28}, "panorama"),
        ((300, 1000), {IN_35MM: 28}, "panorama"),
        ((400, 300), {IN_35MM: 65535}, "no lens"),
        ((400, 300), {IN_35MM: 1}, "no lens"),
        ((400, 300), {FOCAL_LENGTH: IFDRational(10**8, 1), X_RESOLUTION: 100, UNIT: 3}, "no lens"),
        ((400, 300), {FOCAL_LENGTH: IFDRational(0, 0)}, None),
        ((400, 300), {FOCAL_LENGTH: IFDRational(0, 1), IN_35MM: 0}, None),
    ],
)
def test_focal_lengths_that_cannot_be_are_not_used(
    tmp_path: Path, size: tuple[int, int], exif_ifd: dict[int, Any], named: str | None
) -> None:
    judged = judge_exif(header_of(tmp_path / "x.jpg", size, exif_ifd))
    assert judged.pixels is None
    assert (judged.problem is None) if named is None else named in (judged.problem or "")


def test_problems_are_listed_with_the_cameras(tmp_path: Path) -> None:
    sizes = {f"{i}.jpg": (300, 300) for i in range(5)} | {"whole.jpg": (400, 300)}
    headers = {n: header_of(tmp_path / n, size, original(400, 300)) for n, size in sizes.items()}
    made = make_cameras(CameraOptions(), headers)
    assert len(made.cameras) == 6  # nobody knows which parts they are
    (line,) = [line for line in made.lines if line.startswith("warning")]
    assert line.startswith("warning: 0.jpg, 1.jpg, 2.jpg and 2 more: cut out")
