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
from featplug.metrics.poses import camera_centres
from pipelines.datasets.demo import DemoOptions, make_demo_world
from pipelines.datasets.true_poses import read_reference_poses

TOWN = GpsPosition(47.37, 8.54, 408.0)
"""Origin of the town."""
_WIDE = 30.0
"""Focal length for 35 mm, in mm, between those of the two cameras."""


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
    """Photograph the demo town with two cameras, and write noisy GPS into the photographs.

    Args:
        folder: gets ``images`` with a folder for each camera.
        seed: seed of the town and of the noise.
        noise: standard deviation of GPS east, north and up, in metres.
        num_images: number of photographs.

    Returns:
        Image name to the true ``cam_from_world``, east-north-up of :data:`TOWN`.
    """
    options = DemoOptions(seed=seed, num_database=num_images)
    world = make_demo_world(folder / "world", options, "scene")
    truth = read_reference_poses(world / "cameras")
    names = sorted(truth)
    rng, frame = np.random.default_rng([seed, 19]), Georeference(TOWN)
    centres = np.stack([camera_centres(truth[name]) for name in names])
    places = frame.to_gps(centres + rng.normal(0, noise, centres.shape)).tolist()
    poses = {}
    for name, (latitude, longitude, altitude) in zip(names, places, strict=True):
        focal = float((world / "cameras" / f"{name}.camera").read_text().split()[0])
        with Image.open(world / "images" / name) as image:
            full_frame = focal / np.hypot(*image.size) * 43.27
        exif = gps_exif(GpsPosition(latitude, longitude, altitude))
        camera = "wide" if full_frame < _WIDE else "long"
        exif[MAKE], exif[MODEL] = "Featplug", camera
        exif[EXIF_IFD] = {0xA405: round(full_frame)}
        data = exif.tobytes()
        jpeg = (world / "images" / name).read_bytes()
        segment = b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data
        path = folder / "images" / camera / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg[:2] + segment + jpeg[2:])
        poses[f"{camera}/{name}"] = truth[name]
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
