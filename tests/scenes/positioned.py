"""Photographs with GPS in their EXIF data, and the demo town taken by two cameras that have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pycolmap
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from featplug.colmap.georeference import Georeference
from featplug.io.exif import EXIF_IFD, GPS_IFD, MAKE, MODEL, GpsPosition
from pipelines.demo.geometry import Camera, View, look_along
from pipelines.demo.photography import Photographer, Shot
from pipelines.demo.town import build_town

TOWN = GpsPosition(47.37, 8.54, 408.0)
"""Origin of the town."""
_FOCAL_LENGTH_35MM = 0xA405


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


def write_gps_town(
    folder: Path, seed: int, noise: float, num_images: int = 40
) -> dict[str, np.ndarray]:
    """Photograph the square of the demo town with two cameras, whose GPS is noisy.

    The photographer walks once around the fountain, and each camera takes every other photograph.

    Args:
        folder: gets ``images`` with a folder for each camera.
        seed: seed of the town and of the noise.
        noise: standard deviation of GPS east, north and up, in metres.
        num_images: number of photographs.

    Returns:
        Image name to the true ``cam_from_world``, east-north-up of :data:`TOWN`.
    """
    rng, frame = np.random.default_rng([seed, 19]), Georeference(TOWN)
    photographer = Photographer(build_town(seed), seed)
    poses = {}
    for i in range(num_images):
        name, focal = (("wide", 26), ("long", 30))[i % 2]
        camera = Camera(640, 480, focal / 43.27 * 800, (320, 240))
        angle = 2 * np.pi * i / num_images
        middle = np.array([10 * np.cos(angle) - 1, 7.5 * np.sin(angle) + 9, 1.6])
        place = middle + rng.normal(0, 0.2, 3)
        yaw = np.degrees(angle) + 180 + rng.normal(0, 4)
        view = View(f"{name}/{i:04}.jpg", camera, look_along(place, yaw, 6, rng.normal(0, 1)))
        path = folder / "images" / view.name
        path.parent.mkdir(parents=True, exist_ok=True)
        gps = frame.to_gps(place + rng.normal(0, noise, 3))[0].tolist()
        exif = gps_exif(GpsPosition(*gps))
        exif[MAKE], exif[MODEL], exif[EXIF_IFD] = "Featplug", name, {_FOCAL_LENGTH_35MM: focal}
        picture = photographer.take(Shot("noon", view, i))
        Image.fromarray(picture).save(path, quality=93, exif=exif)
        poses[view.name] = view.cam_from_world
    return poses


def position_priors(database_path: Path) -> dict[str, pycolmap.PosePrior]:
    """Read the positions of a database's images."""
    with pycolmap.Database.open(str(database_path)) as database:
        images = {image.image_id: image.name for image in database.read_all_images()}
        if hasattr(database, "read_all_pose_priors"):
            return {images[p.corr_data_id.id]: p for p in database.read_all_pose_priors()}
        return {  # pycolmap 3.13
            name: cast(Any, database).read_pose_prior(number)
            for number, name in images.items()
            if cast(Any, database).exists_pose_prior(number)
        }
