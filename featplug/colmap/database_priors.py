"""Positions of images in COLMAP's database, which its tools align models with and pair images by.

Works with pycolmap 3.13 to 4.2.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pycolmap

from featplug.colmap.database_rows import open_database
from featplug.colmap.georeference import usable_gps
from featplug.io.positions import Positions


def write_position_prior(
    database: pycolmap.Database,
    image: pycolmap.Image,
    position: Sequence[float],
    is_gps: bool = True,
    noise: float | None = None,
) -> None:
    """Write the position of an image.

    Args:
        database: the database, which has none of this image.
        image: the image.
        position: latitude and longitude in degrees and altitude in metres, or x, y, z.
        is_gps: whether it is by GPS.
        noise: standard deviation of a coordinate in metres; COLMAP has a default where it is None.
    """
    system = pycolmap.PosePriorCoordinateSystem
    prior = pycolmap.PosePrior()
    prior.position = position
    prior.coordinate_system = system.WGS84 if is_gps else system.CARTESIAN
    if noise is not None:
        prior.position_covariance = noise**2 * np.eye(3)
    if hasattr(prior, "corr_data_id"):
        prior.corr_data_id = image.data_id
        database.write_pose_prior(prior)
    else:  # pycolmap 3.13 takes the number of the image
        cast(Any, database).write_pose_prior(image.image_id, prior)


def write_position_priors(
    database_path: Path, positions: Positions, noise: float | None = None
) -> None:
    """Write the positions of images, which replace those that their EXIF data have.

    Args:
        database_path: a database of the images, of which some may have no position.
        positions: the positions; of GPS those that :func:`usable_gps` selects, at 0 m where they
            have no altitude.
        noise: standard deviation of a coordinate, in metres.

    Raises:
        ValueError: the disk is full.
    """
    places: dict[str, Sequence[float]] = dict(positions.metres)
    for name, p in usable_gps(positions.gps).items():
        places[name] = p.latitude, p.longitude, p.altitude or 0.0
    with open_database(database_path) as database:
        database.clear_pose_priors()
        for image in database.read_all_images():
            if image.name in places:
                position = places[image.name]
                write_position_prior(database, image, position, bool(positions.gps), noise)
