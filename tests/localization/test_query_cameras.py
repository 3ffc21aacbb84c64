"""Cameras of queries: given, of the map, of EXIF data, or unknown."""

from __future__ import annotations

import pycolmap
import pytest

from featplug.colmap.cameras import CameraOptions
from featplug.io.exif import ExifCamera
from featplug.io.image_files import ImageHeader
from featplug.localization.query_cameras import FocalLengthMode, MapCameras, query_cameras

SIZE = 4000, 3000
PHONE = ExifCamera("Phones", "One", focal_length_mm=5.0, focal_length_35mm=26.0)
OF_PHONE = 26 / 43.27 * 5000
"""Focal length in pixels by the EXIF data of the phone."""


UNKNOWN, AUTO = ExifCamera(), CameraOptions()


def header(camera: ExifCamera = UNKNOWN, size: tuple[int, int] = SIZE) -> ImageHeader:
    return ImageHeader(size, "JPEG", "RGB", camera, 1, None)


def camera(focal_length: float, size: tuple[int, int] = SIZE) -> pycolmap.Camera:
    params = [focal_length, size[0] / 2, size[1] / 2, 0.01]
    return pycolmap.Camera(model="SIMPLE_RADIAL", width=size[0], height=size[1], params=params)


def chosen(
    query: ImageHeader,
    cameras: dict[str, pycolmap.Camera],
    headers: dict[str, ImageHeader],
    options: CameraOptions = AUTO,
    mode: FocalLengthMode = "auto",
) -> tuple[float, str]:
    of_map = MapCameras.of_images(cameras, headers.items())
    (found,) = query_cameras({"q.jpg": query}, options, of_map, mode).queries
    return found.camera.mean_focal_length(), found.focal_length


def test_a_query_has_the_camera_of_the_map_that_took_it() -> None:
    cameras = {"a.jpg": camera(3010), "b.jpg": camera(2500)}
    of_map = {"a.jpg": header(PHONE), "b.jpg": header(ExifCamera("Cams", "Two", 8.0, 24.0))}
    assert chosen(header(PHONE), cameras, of_map) == (3010, "known")
    # Where each photograph has a camera of its own, the one in the middle is a guess.
    many = {f"{f}.jpg": camera(f) for f in (2900.0, 3010.0, 3500.0)}
    assert chosen(header(PHONE), many, dict.fromkeys(many, header(PHONE))) == (3010, "guessed")
    # Another zoom, and another phone, are other cameras.
    zoomed = ExifCamera("Phones", "One", focal_length_mm=7.5, focal_length_35mm=39.0)
    assert chosen(header(zoomed), cameras, of_map) == (pytest.approx(1.5 * OF_PHONE), "guessed")


def test_without_exif_the_only_camera_of_that_size_is_a_guess() -> None:
    cameras, of_map = {"a.jpg": camera(3010)}, {"a.jpg": header()}
    assert chosen(header(), cameras, of_map) == (3010, "guessed")
    assert chosen(header(size=(1600, 1200)), cameras, of_map)[1] == "unknown"
    two = {"a.jpg": camera(3010), "b.jpg": camera(2500)}
    assert chosen(header(), two, dict.fromkeys(two, header()))[1] == "unknown"
    # EXIF data of the query that agree with the camera, or contradict it.
    assert chosen(header(PHONE), cameras, of_map) == (3010, "guessed")
    tele = ExifCamera("Phones", "One", focal_length_35mm=52.0, focal_length_mm=10.0)
    assert chosen(header(tele), cameras, of_map) == (pytest.approx(2 * OF_PHONE), "guessed")


def test_given_intrinsics_come_first_and_the_mode_can_be_set() -> None:
    cameras, of_map = {"a.jpg": camera(3010)}, {"a.jpg": header(PHONE)}
    given = CameraOptions(model="SIMPLE_PINHOLE", params="2000,2000,1500")
    assert chosen(header(PHONE), cameras, of_map, given) == (2000, "known")
    assert chosen(header(PHONE), cameras, of_map, mode="unknown") == (3010, "unknown")
    panorama = CameraOptions(model="EQUIRECTANGULAR", params="4000,2000")
    wide = header(size=(4000, 2000))
    of_map_cameras = MapCameras.of_images(cameras, of_map.items())
    if "EQUIRECTANGULAR" in pycolmap.CameraModelId.__members__:
        (found,) = query_cameras({"q.jpg": wide}, panorama, of_map_cameras, "unknown").queries
        assert found.focal_length == "known"
