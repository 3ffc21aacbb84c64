"""The town as a data set in the layout of Aachen Day-Night, v1.1 and v1."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from featplug.io.images import read_image
from featplug.utils.progress import progress_bar
from pipelines.demo import colmap_layout as colmap_files
from pipelines.demo.atlas import Atlas
from pipelines.demo.geometry import Camera, View
from pipelines.demo.lighting import LightGrid
from pipelines.demo.looks import LOOKS, Photographer
from pipelines.demo.moving import moving_objects
from pipelines.demo.town import WALK, build_town
from pipelines.demo.tracks import Tracks, true_tracks
from pipelines.demo.viewpoints import along_walk, near_others

CONDITIONS = ("day", "dusk", "night")

# Focal length and principal point as parts of the longer side, distortion.
_DATABASE_CAMERAS = ((0.83, 0.0, 0.0, -0.02), (0.9, 0.004, -0.003, 0.012))
_QUERY_CAMERAS = {
    "milestone": (0.95, -0.003, 0.004, -0.028),
    "nexus4": (0.86, 0.005, 0.002, 0.02),
    "nexus5x": (0.81, 0.002, -0.004, -0.015),
}
_DATES = {"day": "20130210", "dusk": "20161114", "night": "20161227"}


def write_aachen(
    folder: Path,
    seed: int,
    num_database: int,
    num_queries: int,
    image_size: int,
    num_moving: int = 0,
    progress: bool = False,
) -> None:
    """Write the town in the layout of Aachen Day-Night v1.1.

    Args:
        folder: empty, or not there.
        seed: of everything random.
        num_database: photographs of the database, taken at noon.
        num_queries: queries by day, at dusk and at night, each.
        image_size: longer side of the photographs in pixels.
        num_moving: people and vans in each photograph, elsewhere in the next one.
        progress: show it.
    """
    scene = build_town(seed)
    rng = np.random.default_rng([seed, 3])
    cameras = [_camera(*camera, image_size) for camera in _DATABASE_CAMERAS]
    names = [f"db/{1000 + i}.jpg" for i in range(num_database)]
    database = along_walk(rng, scene.faces, WALK, names, cameras)
    queries = {}
    for condition in CONDITIONS:
        phones = _phones(condition, num_queries)
        names = [
            f"query/{condition}/{phone}/IMG_{_DATES[condition]}_{_time(i)}.jpg"
            for i, phone in enumerate(phones)
        ]
        # The Nexus 5X is held upright.
        of_queries = [_camera(*_QUERY_CAMERAS[p], image_size, p == "nexus5x") for p in phones]
        queries[condition] = near_others(rng, scene.faces, database, names, of_queries)

    every_query = [view for views in queries.values() for view in views]
    textures, moving = moving_objects(seed, scene, WALK, [*database, *every_query], num_moving)
    scene = replace(scene, textures=[*scene.textures, *textures])
    atlas, grid = Atlas(scene.textures), LightGrid(scene)

    images = folder / "images_upright"
    sets = [("noon", database), *queries.items()]
    bar = progress_bar(None, "photograph the town", sum(len(v) for _, v in sets), "image", progress)
    with bar:
        for number, (look, views) in enumerate(sets):
            photographer = Photographer(scene, atlas, grid, LOOKS[look])
            for i, view in enumerate(views):
                photograph_seed = 100_000 * number + i + seed * 1_000_003
                picture = photographer.take(view, photograph_seed, moving.get(view.name))
                write_jpeg(images / view.name, picture, LOOKS[look].quality)
                bar.update()

    for condition, views in queries.items():
        name = f"{condition}_time_queries_with_intrinsics.txt"
        colmap_files.write_intrinsics(folder / "queries" / name, views)
    tracks = true_tracks(rng, scene.faces, database, moving=moving)
    colours = point_colours(images, database, tracks)
    models = folder / "3D-models" / "aachen_v_1_1"
    colmap_files.write_model(models, database, tracks, colours)
    colmap_files.write_nvm(models / "aachen_v_1_1.nvm", database, tracks, colours)
    colmap_files.write_intrinsics(models / "database_intrinsics_v1_1.txt", database)
    colmap_files.write_truth(folder / "ground_truth.txt", every_query)


def write_aachen_v1(folder: Path, newer: Path) -> None:
    """Write the layout of v1: the photographs and queries of v1.1, an NVM model and a database.

    Args:
        folder: empty, or not there.
        newer: what :func:`write_aachen` made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("images_upright", "queries"):
        shutil.copytree(newer / part, folder / part, dirs_exist_ok=True)
    shutil.copyfile(newer / "ground_truth.txt", folder / "ground_truth.txt")
    models = folder / "3D-models"
    models.mkdir()
    source = newer / "3D-models" / "aachen_v_1_1"
    shutil.copyfile(source / "aachen_v_1_1.nvm", models / "aachen_cvpr2018_db.nvm")
    shutil.copyfile(source / "database_intrinsics_v1_1.txt", models / "database_intrinsics.txt")
    colmap_files.write_bare_database(folder / "aachen.db", source)


def write_jpeg(path: Path, picture: np.ndarray, quality: int) -> None:
    """Write H×W×3 uint8 RGB as a JPEG file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(content.tobytes())


def _camera(
    focal: float, right: float, down: float, distortion: float, size: int, upright: bool = False
) -> Camera:
    longer, shorter = size, size * 3 // 4
    width, height = (shorter, longer) if upright else (longer, shorter)
    params = (focal * size, width / 2 + right * size, height / 2 + down * size, distortion)
    return Camera("SIMPLE_RADIAL", width, height, tuple(round(p, 6) for p in params))


def _phones(condition: str, num: int) -> list[str]:
    by_day = ("nexus4", "milestone", "nexus5x")
    return [by_day[i % 3] if condition == "day" else "nexus5x" for i in range(num)]


def _time(i: int) -> str:
    seconds = 16 * 3600 + 37 * i
    return f"{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}"


def point_colours(images: Path, views: Sequence[View], tracks: Tracks) -> np.ndarray:
    """Colour of each point in the first photograph that sees it, P×3 uint8."""
    colours = np.zeros((len(tracks.points), 3), np.uint8)
    first = np.array([which[0] for which in tracks.views])
    place = np.array([xy[0] for xy in tracks.xy]).astype(int)
    for i in np.unique(first).tolist():
        of_view = first == i
        picture = read_image(images / views[i].name)
        colours[of_view] = picture[place[of_view, 1], place[of_view, 0]]
    return colours
