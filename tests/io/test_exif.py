"""EXIF data: which way up, where, by which camera; what is damaged or impossible is not known."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from PIL.TiffImagePlugin import IFDRational

from featplug.io.exif import GPS_IFD, MODEL, ORIENTATION, GpsPosition
from featplug.io.image_files import read_image_header
from featplug.io.images import read_image

ZURICH: dict[int, Any] = {1: "N", 2: (47.0, 22.0, 30.0), 3: "E", 4: (8.0, 33.0, 0.0)}
POSITION = (47.375, 8.55)


def save(path: Path, tags: dict[int, Any], gps: dict[int, Any] | None = None) -> Path:
    exif = Image.Exif()
    exif.update(tags)
    if gps is not None:
        exif[GPS_IFD] = gps
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    pixels = np.repeat(np.repeat(pixels[:5, :5], 4, axis=0), 6, axis=1)
    Image.fromarray(pixels).save(path, exif=exif.tobytes())
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
def test_the_header_has_the_orientation_and_pixels_stay_as_stored(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    # Pillow turns TIFFs upright by itself, which COLMAP does not.
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    path = save(tmp_path / f"x.{suffix}", {ORIENTATION: orientation})
    header = read_image_header(path)
    assert (header.size, header.orientation) == ((30, 20), orientation)
    plain = read_image(save(tmp_path / f"plain.{suffix}", {}))
    np.testing.assert_array_equal(read_image(path), plain)


@pytest.mark.parametrize(
    "entry",
    [
        (3, 1, b"\0\0\0\0"),
        (3, 1, b"\0\x09\0\0"),
        (2, 2, b"6\0\0\0"),
        (5, 1, b"\0\0\0\x08"),
        (7, 4, b"\6\0\0\0"),
    ],
)
def test_an_impossible_orientation_is_upright(
    tmp_path: Path, entry: tuple[int, int, bytes]
) -> None:
    path = save(tmp_path / "x.jpg", {ORIENTATION: 6, MODEL: "Phone"})
    plain, damaged = (
        struct.pack(">HHI4s", ORIENTATION, *values) for values in ((3, 1, b"\0\6\0\0"), entry)
    )
    content = path.read_bytes()
    assert content.count(plain) == 1
    path.write_bytes(content.replace(plain, damaged))
    header = read_image_header(path)
    assert header.orientation == 1
    assert header.camera.model == "Phone"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (*POSITION, None)),
        ({1: "S"}, (-POSITION[0], POSITION[1], None)),
        ({3: "W\0"}, (POSITION[0], -POSITION[1], None)),
        ({5: b"\0", 6: 408.5}, (*POSITION, 408.5)),
        ({5: b"\1", 6: 408.5}, (*POSITION, -408.5)),
        ({6: 408.5}, (*POSITION, 408.5)),
        ({6: IFDRational(1, 0)}, (*POSITION, None)),
        ({6: IFDRational(0, 0)}, (*POSITION, None)),
        ({2: (47.375, 0.0, 0.0), 4: (8.0, 33.0, 0.0)}, (*POSITION, None)),
    ],
)
def test_positions(tmp_path: Path, changes: dict[int, Any], expected: tuple[Any, ...]) -> None:
    header = read_image_header(save(tmp_path / "x.jpg", {}, {**ZURICH, **changes}))
    assert header.gps is not None
    latitude, longitude, altitude = expected
    assert header.gps.latitude == pytest.approx(latitude, rel=1e-9)
    assert header.gps.longitude == pytest.approx(longitude, rel=1e-9)
    assert header.gps.altitude == altitude


@pytest.mark.parametrize(
    "changes",
    [
        {2: (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))},
        {2: (47.0, 22.0, IFDRational(0, 0))},
        {2: (47.0, 22.0)},
        {2: (47.0,)},
        {2: (91.0, 0.0, 0.0)},
        {4: (181.0, 0.0, 0.0)},
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
    ],
)
def test_a_position_that_is_damaged_or_of_no_place_is_not_known(
    tmp_path: Path, changes: dict[int, Any]
) -> None:
    tags = {MODEL: "Phone", ORIENTATION: 8}
    header = read_image_header(save(tmp_path / "x.jpg", tags, {**ZURICH, **changes}))
    assert header.gps is None
    assert (header.camera.model, header.orientation) == ("Phone", 8)


def test_half_a_position_is_not_known(tmp_path: Path) -> None:
    half = {tag: ZURICH[tag] for tag in (1, 2)}
    assert read_image_header(save(tmp_path / "x.jpg", {}, half)).gps is None
    assert read_image_header(save(tmp_path / "y.jpg", {}, {})).gps is None
    assert read_image_header(save(tmp_path / "z.jpg", {}, ZURICH)).gps == GpsPosition(*POSITION)


@pytest.mark.parametrize(("reference", "longitude"), [("West", -8.0), (b"W", -8.0), ("E", 8.0)])
def test_a_direction_is_known_by_its_first_letter(
    tmp_path: Path, reference: object, longitude: float
) -> None:
    gps = {1: "N", 2: (47.0, 0.0, 0.0), 3: reference, 4: (8.0, 0.0, 0.0)}
    found = read_image_header(save(tmp_path / "x.jpg", {}, gps)).gps
    assert found is not None
    assert found.longitude == longitude


@pytest.mark.parametrize("reference", [None, "?", ""])
def test_a_position_without_a_direction_is_not_known(tmp_path: Path, reference: object) -> None:
    gps = {1: "N", 2: (47.0, 0.0, 0.0), 4: (8.0, 0.0, 0.0)}
    gps |= {} if reference is None else {3: reference}
    assert read_image_header(save(tmp_path / "x.jpg", {}, gps)).gps is None
