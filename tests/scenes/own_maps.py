"""A map of a room's corner, as users have one: a COLMAP model, its photographs, and queries."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from featplug.colmap.known_poses import model_from_poses
from featplug.io import exif as tags
from pipelines.datasets.true_poses import read_strecha_camera
from tests.scenes.room_corner import write_room_corner

WIDTH, HEIGHT = 400, 300
FOCAL_LENGTH = 1.1 * WIDTH
FOCAL_LENGTH_IN_35MM_FILM = 0xA405
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


def write_fountain_map(folder: Path, scene: Path, width: int, has_exif: bool) -> OwnMap:
    """Write eight photographs of fountain-P11 as a map with true poses, and three as queries.

    Args:
        folder: gets the map.
        scene: folder of the scene's photographs and ``.camera`` files.
        width: width of the photographs.
        has_exif: whether the photographs have EXIF data: a lens of 32 mm, 1.1 % too short.
    """
    made = OwnMap(folder, {})
    poses = {}
    exif = Image.Exif()
    if has_exif:
        exif[tags.MAKE], exif[tags.MODEL] = "Canon", "EOS D60"
        exif[tags.EXIF_IFD] = {tags.FOCAL_LENGTH: 20.0, FOCAL_LENGTH_IN_35MM_FILM: 32}
    for path in sorted(scene.rglob("*.jpg.camera")):
        name = path.name.removesuffix(".camera")
        photograph = Image.open(next(scene.rglob(name)))
        scale = width / photograph.width
        is_query = name in ("0002.jpg", "0005.jpg", "0008.jpg")
        target = (made.queries if is_query else made.images) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        size = (width, round(photograph.height * scale))
        photograph.resize(size, Image.Resampling.LANCZOS).save(target, quality=95, exif=exif)
        (made.truth if is_query else poses)[name] = read_strecha_camera(path)
        intrinsics = np.loadtxt(path, max_rows=3)
    centre = (intrinsics[:2, 2] + 0.5) * scale
    params = [intrinsics[0, 0] * scale, intrinsics[1, 1] * scale, *centre]
    camera = pycolmap.Camera(model="PINHOLE", width=size[0], height=size[1], params=params)
    made.model.mkdir(parents=True)
    model_from_poses(dict.fromkeys(poses, camera), poses).write(str(made.model))
    return made


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
