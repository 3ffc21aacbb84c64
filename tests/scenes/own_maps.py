"""A map of a room's corner, as users have one: a COLMAP model, its photographs, and queries."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.known_poses import model_from_poses
from pipelines.datasets.true_poses import read_strecha_camera
from tests.scenes.room_corner import write_room_corner

WIDTH, HEIGHT = 400, 300
FOCAL_LENGTH = 1.1 * WIDTH
QUERIES = {"left/1.png": "02.png", "right/1.png": "05.png"}
"""Queries, of two cameras that number their photographs alike, to what they are copies of."""


@dataclass(frozen=True)
class OwnMap:
    """The files of a map, and what is true of the queries."""

    folder: Path
    truth: dict[str, np.ndarray]
    """Query name to the true ``cam_from_world``."""

    @property
    def model(self) -> Path:
        """COLMAP model, in text form, whose images have poses and no points."""
        return self.folder / "sparse" / "0"

    @property
    def images(self) -> Path:
        """Photographs of the model."""
        return self.folder / "images"

    @property
    def queries(self) -> Path:
        """Photographs to localize."""
        return self.folder / "queries"


def own_map_camera() -> pycolmap.Camera:
    """The camera of all photographs."""
    params = [FOCAL_LENGTH, FOCAL_LENGTH, WIDTH / 2, HEIGHT / 2]
    return pycolmap.Camera(model="PINHOLE", width=WIDTH, height=HEIGHT, params=params)


def write_own_map(folder: Path) -> OwnMap:
    """Write a map of six photographs, and two queries."""
    room = folder / "room"
    write_room_corner(room, num_images=8, width=WIDTH)
    truth = {}
    for name, source in QUERIES.items():
        path = folder / "queries" / name
        path.parent.mkdir(parents=True)
        shutil.move(room / "images" / source, path)
        truth[name] = read_strecha_camera(room / "cameras" / f"{source}.camera")
    shutil.move(room / "images", folder / "images")
    names = sorted(path.name for path in (folder / "images").iterdir())
    poses = {name: read_strecha_camera(room / "cameras" / f"{name}.camera") for name in names}
    made = OwnMap(folder, truth)
    made.model.mkdir(parents=True)
    model_from_poses(dict.fromkeys(names, own_map_camera()), poses).write_text(str(made.model))
    return made
