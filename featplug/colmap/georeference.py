"""Models in metres, east-north-up: where photographs were taken puts a model into the world.

COLMAP's own alignment fails where all positions are at one height, and needs the noise of GPS,
which nobody knows; see :mod:`featplug.metrics.similarity`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pycolmap

from featplug.io.exif import GpsPosition
from featplug.io.files import write_whole_text
from featplug.io.positions import Positions
from featplug.io.typed_json import as_type, read_json
from featplug.metrics.poses import camera_centres, model_poses
from featplug.metrics.similarity import FEWEST_POINTS, fit_similarity_robustly, lie_on_a_line

FILE = "georeference.json"
"""Name of the file in the folder of a model."""

_LARGEST_COORDINATE = 10_000.0
"""Coordinates above this, in metres, are shifted: files of points have seven digits."""
_MOST_ROTATION = 20.0
"""Uncertainty of the rotation, in degrees, above which positions lie on a line."""
_MOST_SCALE = 0.2
"""Uncertainty of the scale above which positions are too near to each other."""


@dataclass(frozen=True)
class Georeference:
    """The frame of a model in metres, by GPS or that of a file of positions."""

    origin: GpsPosition | None = None
    """Origin of the frame, whose axes are east, north and up; None for positions in metres. Without
    altitude, heights are above that of the cameras."""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Coordinates of the frame's origin among positions in metres."""

    @property
    def frame(self) -> str:
        """Name of the frame."""
        return "given" if self.origin is None else "east-north-up"

    def to_gps(self, points: np.ndarray) -> np.ndarray:
        """Return latitude and longitude in degrees, and altitude in metres, of points N×3.

        The altitude is NaN where that of the origin is not known.

        Raises:
            ValueError: the frame is that of positions in metres.
        """
        axes, origin, _ = self._axes()
        from_centre = np.asarray(points, float).reshape(-1, 3) @ axes + origin
        places = np.asarray(pycolmap.GPSTransform().ecef_to_ellipsoid(from_centre))
        if self.origin is not None and self.origin.altitude is None:
            places[:, 2] = np.nan
        return places

    def from_gps(self, positions: Sequence[GpsPosition]) -> np.ndarray:
        """Return positions as coordinates of the frame, N×3; without altitude, at its height 0.

        Raises:
            ValueError: the frame is that of positions in metres.
        """
        axes, origin, height = self._axes()
        heights = [height if p.altitude is None else p.altitude for p in positions]
        places = zip(positions, heights, strict=True)
        table = np.array([(p.latitude, p.longitude, h) for p, h in places]).reshape(-1, 3)
        return (np.asarray(pycolmap.GPSTransform().ellipsoid_to_ecef(table)) - origin) @ axes.T

    def _axes(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Return east, north and up as rows, and the origin, from the earth's centre; its height.

        pycolmap's own function for this has other arguments from version to version.
        """
        if self.origin is None:
            raise ValueError("The model is in the frame of positions in metres, not of GPS.")
        height = self.origin.altitude or 0.0
        latitude, longitude = np.radians([self.origin.latitude, self.origin.longitude])
        place = np.array([[self.origin.latitude, self.origin.longitude, height]])
        east = np.array([-np.sin(longitude), np.cos(longitude), 0])
        outward = np.array([np.cos(longitude), np.sin(longitude), 0])
        north = np.array([0, 0, np.cos(latitude)]) - np.sin(latitude) * outward
        up = np.array([0, 0, np.sin(latitude)]) + np.cos(latitude) * outward
        origin = np.asarray(pycolmap.GPSTransform().ellipsoid_to_ecef(place))[0]
        return np.stack([east, north, up]), origin, height


def write_georeference(folder: Path, georeference: Georeference) -> None:
    """Write the frame of a model next to it."""
    origin = None if georeference.origin is None else vars(georeference.origin)
    record = {
        "frame": georeference.frame,
        "unit": "m",
        "origin": origin,
        "offset": list(georeference.offset),
    }
    write_whole_text(Path(folder) / FILE, json.dumps(record, indent=2) + "\n")


def read_georeference(folder: Path) -> Georeference | None:
    """Read the frame of a model, or None if it has none.

    Args:
        folder: folder of the model, or the output folder of `featplug sfm`, whose model is in
            ``sparse/0``.

    Raises:
        ValueError: the file is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        path = Path(folder, "sparse", "0", FILE)
    if not path.is_file():
        return None
    record = read_json(path)
    origin = as_type(record.get("origin"), cast(Any, GpsPosition | None), path, "origin")
    offset = as_type(record.get("offset", [0.0, 0.0, 0.0]), list[float], path, "offset")
    is_place = origin is None or (abs(origin.latitude) <= 90 and abs(origin.longitude) <= 180)
    if len(offset) != 3 or not is_place:
        raise ValueError(f"{path} is damaged: it has no such place; make the model again.")
    return Georeference(origin, (offset[0], offset[1], offset[2]))


def local_positions(positions: Positions) -> tuple[Georeference, dict[str, np.ndarray]]:
    """Return positions in a frame of their own in metres: image name to x, y, z.

    By GPS, it is east, north and up of the median position. Where less than half of the images, or
    fewer than three, have an altitude, all get one height; else those without are left out.

    Raises:
        ValueError: there are fewer than three, or they are on a line or at one place.
    """
    if positions.gps:
        georeference, places = _from_gps(positions.gps)
    else:
        table = np.array(list(positions.metres.values())).reshape(-1, 3)
        offset = np.zeros(3)
        if table.size and np.abs(table).max() > _LARGEST_COORDINATE:
            offset = np.round(np.median(table, axis=0), -2)
        georeference = Georeference(None, (offset[0], offset[1], offset[2]))
        places = dict(zip(positions.metres, table - offset, strict=True))
    if len(places) < FEWEST_POINTS:
        raise ValueError(
            f"{positions.source} has positions of {len(places)} photographs, and a model needs "
            f"{FEWEST_POINTS} to be put into metres; give more, or leave out --georeference."
        )
    table = np.stack(list(places.values()))
    if lie_on_a_line(table):
        where = "on one line" if np.ptp(table, axis=0).max() > 0 else "at one place"
        raise ValueError(
            f"{positions.source} has all {len(places)} photographs {where}, which does not say how "
            "a model stands in the world; give more positions, or leave out --georeference."
        )
    return georeference, places


def positions_for_distances(positions: Positions) -> dict[str, np.ndarray]:
    """Return positions between which distances are taken, in metres.

    By GPS, they are x and y: as in COLMAP, the altitude, its least certain number, does not count.
    """
    if positions.gps:
        flat = {n: GpsPosition(p.latitude, p.longitude) for n, p in positions.gps.items()}
        return {name: place[:2] for name, place in _from_gps(flat)[1].items()}
    return {name: np.array(place) for name, place in positions.metres.items()}


def usable_gps(gps: Mapping[str, GpsPosition]) -> dict[str, GpsPosition]:
    """Return the positions to use: those with an altitude, or all without, whichever are more.

    Where fewer than half have an altitude, that of all is None.
    """
    with_altitude = {name: p for name, p in gps.items() if p.altitude is not None}
    if len(with_altitude) >= max(FEWEST_POINTS, len(gps) / 2):
        return with_altitude
    return {name: GpsPosition(p.latitude, p.longitude) for name, p in gps.items()}


def _from_gps(gps: Mapping[str, GpsPosition]) -> tuple[Georeference, dict[str, np.ndarray]]:
    used = usable_gps(gps)
    altitudes = [p.altitude for p in used.values() if p.altitude is not None]
    first = next(iter(used.values())).longitude
    east = [(p.longitude - first + 180) % 360 - 180 for p in used.values()]  # across 180°
    longitude = (first + float(np.median(east)) + 180) % 360 - 180
    latitude = float(np.median([p.latitude for p in used.values()]))
    height = float(np.median(altitudes)) if altitudes else None
    georeference = Georeference(GpsPosition(latitude, longitude, height))
    places = georeference.from_gps(list(used.values()))
    return georeference, dict(zip(used, places, strict=True))


@dataclass(frozen=True)
class Placement:
    """How a model was put into the world."""

    names: list[str]
    """Images whose positions were used."""
    wrong: list[str]
    """Images whose positions contradict the others."""
    residuals: np.ndarray
    """Distances of the used images' centres from their positions, in metres."""
    scale_uncertainty: float
    """Standard deviation of the scale, relative to it."""
    rotation_uncertainty: float
    """Standard deviation of the rotation about its least certain axis, in degrees."""


def place_model(
    model: pycolmap.Reconstruction, places: Mapping[str, np.ndarray], seed: int = 0
) -> Placement:
    """Move, turn and scale a model so that its camera centres fit positions.

    Args:
        model: the model, which is changed.
        places: image name to x, y, z, see :func:`local_positions`.
        seed: seed of the robust fit.

    Raises:
        ValueError: the positions do not say how the model stands. It is not changed.
    """
    poses = model_poses(model)
    names = [name for name in sorted(poses) if name in places]
    centres = camera_centres(np.stack([poses[n] for n in names])) if names else np.zeros((0, 3))
    target = np.stack([places[n] for n in names]) if names else np.zeros((0, 3))
    fit = fit_similarity_robustly(centres, target, seed)
    if fit.scale_uncertainty > _MOST_SCALE:
        raise ValueError(
            f"the positions, whose noise is {fit.noise:.2g} m, are too near to each other to give "
            "a scale"
        )
    if fit.rotation_uncertainty > _MOST_ROTATION:
        raise ValueError(
            f"the positions are on a line but for their noise of {fit.noise:.2g} m, so that any "
            "turn about it fits"
        )
    similarity = fit.similarity
    model.transform(
        pycolmap.Sim3d(
            similarity.scale, pycolmap.Rotation3d(similarity.rotation), similarity.translation
        )
    )
    return Placement(
        [name for name, is_used in zip(names, fit.inliers, strict=True) if is_used],
        [name for name, is_used in zip(names, fit.inliers, strict=True) if not is_used],
        fit.residuals[fit.inliers],
        fit.scale_uncertainty,
        fit.rotation_uncertainty,
    )
