"""The town, the room and planes in the layouts of the data sets that the pipelines read."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import h5py
import numpy as np
from scipy.io import savemat

from featplug.colmap.nvm import write_nvm
from featplug.localization.queries import write_poses
from featplug.utils.progress import progress_bar
from pipelines.demo import colmap_layout as colmap
from pipelines.demo import textures
from pipelines.demo.builder import Builder, Scene
from pipelines.demo.facades import Facade
from pipelines.demo.geometry import Camera, Faces, View, look_along, look_towards
from pipelines.demo.moving import moving_objects
from pipelines.demo.photography import LOOKS, Photographer, Shot, write_jpeg
from pipelines.demo.rendering import depth_map, visible_faces
from pipelines.demo.room import SCANS, build_room
from pipelines.demo.town import WALK, build_town
from pipelines.demo.viewpoints import along_walk, near_others, on_faces, true_tracks

if TYPE_CHECKING:
    from pipelines.datasets.demo import DemoOptions

# Focal length and principal point as fractions of the longer side, and distortion.
_DATABASE_CAMERAS = ((0.83, 0.0, 0.0, -0.02), (0.9, 0.004, -0.003, 0.012))
_QUERY_CAMERAS = {
    "nexus4": (0.86, 0.005, 0.002, 0.02),
    "milestone": (0.95, -0.003, 0.004, -0.028),
    "nexus5x": (0.81, 0.002, -0.004, -0.015),
}
_DATES = {"day": "20130210", "dusk": "20161114", "night": "20161227"}
_FLOOR, _BUILDING, _SCANNER_HEIGHT = "DUC1", "DUC", 1.5
_LOST = 0.02
"""Fraction of the pixels from which the laser does not come back, besides those of glass."""
_PLANE = (16.0, 12.0)
"""Width and height of a plane in metres; the views see a part of it."""
_PLANE_LOOKS = {
    "i": ("noon", "day", "dusk", "dusk", "night", "night"),
    "v": ("noon", "day", "noon", "day", "noon", "day"),
}


def write_aachen(folder: Path, options: DemoOptions, progress: bool) -> None:
    """Write the town in the layout of Aachen Day-Night v1.1."""
    scene, size = build_town(options.seed), options.image_size
    rng = np.random.default_rng([options.seed, 3])
    cameras = [_camera(camera, size) for camera in _DATABASE_CAMERAS]
    names = [f"db/{1000 + i}.jpg" for i in range(options.num_database)]
    database = along_walk(rng, scene.faces, WALK, names, cameras)
    queries = {}
    for condition in _DATES:
        phones = dict(_query_camera(condition, i, size) for i in range(options.num_queries))
        queries[condition] = near_others(rng, scene.faces, database, phones)

    every_query = [view for views in queries.values() for view in views]
    views = [*database, *every_query]
    added, moving = moving_objects(options.seed, scene, WALK, views, options.num_moving)
    scene = replace(scene, textures=[*scene.textures, *added])
    shots = [
        Shot(look, view, 100_000 * number + i)
        for number, (look, views) in enumerate([("noon", database), *queries.items()])
        for i, view in enumerate(views)
    ]
    images = folder / "images_upright"
    photographer = Photographer(scene, options.seed, moving)
    for shot in progress_bar(shots, "photograph the town", len(shots), "image", progress):
        picture = photographer.take(shot)
        write_jpeg(images / shot.view.name, picture, LOOKS[shot.look].quality)

    for condition, views in queries.items():
        colmap.write_intrinsics(
            folder / f"queries/{condition}_time_queries_with_intrinsics.txt", views
        )
    tracks = true_tracks(rng, scene.faces, database, moving)
    model = colmap.true_model(database, tracks, images)
    models = folder / "3D-models" / "aachen_v_1_1"
    models.mkdir(parents=True)
    model.write_binary(str(models))
    write_nvm(models / "aachen_v_1_1.nvm", model)
    colmap.write_intrinsics(models / "database_intrinsics_v1_1.txt", database)
    write_poses(
        folder / "ground_truth.txt", {v.name: v.cam_from_world for v in every_query}, "full"
    )


def write_aachen_v1(folder: Path, newer: Path) -> None:
    """Write the layout of v1: the photographs and queries of v1.1, an NVM model and a database."""
    for name in ("images_upright", "queries"):
        shutil.copytree(newer / name, folder / name)
    source = newer / "3D-models" / "aachen_v_1_1"
    (folder / "3D-models").mkdir()
    shutil.copy(newer / "ground_truth.txt", folder)
    shutil.copy(source / "aachen_v_1_1.nvm", folder / "3D-models/aachen_cvpr2018_db.nvm")
    name = "3D-models/database_intrinsics.txt"
    shutil.copy(source / "database_intrinsics_v1_1.txt", folder / name)
    colmap.write_bare_database(folder / "aachen.db", source)


def _camera(params: tuple[float, ...], size: int, upright: bool = False) -> Camera:
    focal, right, down, distortion = params
    width, height = (size * 3 // 4, size) if upright else (size, size * 3 // 4)
    centre = round(width / 2 + right * size, 6), round(height / 2 + down * size, 6)
    return Camera(width, height, round(focal * size, 6), centre, distortion)


def _query_camera(condition: str, i: int, size: int) -> tuple[str, Camera]:
    """Return the name and the camera of a query; queries follow each other by 37 seconds."""
    phone = list(_QUERY_CAMERAS)[i % 3] if condition == "day" else "nexus5x"
    time = f"{16 + 37 * i // 3600:02}{37 * i // 60 % 60:02}{37 * i % 60:02}"
    name = f"query/{condition}/{phone}/IMG_{_DATES[condition]}_{time}.jpg"
    return name, _camera(_QUERY_CAMERAS[phone], size, upright=phone == "nexus5x")


def write_megadepth(folder: Path, options: DemoOptions, progress: bool) -> None:
    """Write the town as MegaDepth's scene 0000, undistorted: photographs, depth maps, a model."""
    scene, num = build_town(options.seed), options.num_database
    rng = np.random.default_rng([options.seed, 21])
    cameras = [_pinhole(options.image_size, focal) for focal in (0.8, 0.95)]
    names = [f"{i:06}.jpg" for i in range(num)]
    views = along_walk(rng, scene.faces, WALK, names, cameras)
    shots = [Shot("noon", views[i], 50_000 + i) for i in range(0, num, 2)]
    shots += [Shot("day", views[i], 50_000 + i) for i in range(1, num, 2)]
    undistorted = folder / "Undistorted_SfM" / "0000"
    depths = folder / "phoenix/S6/zl548/MegaDepth_v1/0000/dense0/depths"
    depths.mkdir(parents=True, exist_ok=True)
    photographer = Photographer(scene, options.seed)
    for shot in progress_bar(shots, "photograph the town", num, "image", progress):
        write_jpeg(undistorted / "images" / shot.view.name, photographer.take(shot), 95)
        # Not compressed: readers take files below 100 KiB for mere depth orderings.
        with h5py.File((depths / shot.view.name).with_suffix(".h5"), "w") as file:
            file["depth"] = depth_map(scene.faces, shot.view).astype(np.float32)
    tracks = true_tracks(rng, scene.faces, views)
    (undistorted / "sparse-txt").mkdir()
    model = colmap.true_model(views, tracks, undistorted / "images")
    model.write_text(str(undistorted / "sparse-txt"))


def _pinhole(size: int, focal: float) -> Camera:
    """Return a camera of 4:3; the focal length is a fraction of its width."""
    return Camera(size, size * 3 // 4, focal * size, (size / 2, size * 3 // 4 / 2))


def write_inloc(folder: Path, options: DemoOptions, progress: bool) -> None:
    """Write the room in the layout of InLoc: scans, each cut into twelve views, and queries."""
    room, size = build_room(options.seed), options.image_size
    rng = np.random.default_rng([options.seed, 12])
    # The views are 60° wide; the phone has the focal length that the benchmark gives it.
    of_scanner = replace(_pinhole(size, 1), focal=size / 2 * 3**0.5)
    of_phone = replace(_pinhole(size, 1), focal=size * 28 / 36)
    frames, cutouts, scan_of = {}, [], {}
    for k, (x, y) in enumerate(SCANS[: options.num_scans]):
        scan, centre = f"{24 + k:03}", np.array([x, y, _SCANNER_HEIGHT])
        frames[scan] = _scanner_frame(rng, centre)
        for yaw in range(0, 360, 30):
            name = f"database/cutouts/{_FLOOR}/{scan}/{_BUILDING}_cutout_{scan}_{yaw}_0.jpg"
            cutouts.append(View(name, of_scanner, look_along(centre, yaw)))
            scan_of[name] = scan
    names = [f"query/iphone7/IMG_{801 + i:04}.JPG" for i in range(options.num_queries)]
    queries = near_others(rng, room.faces, cutouts, dict.fromkeys(names, of_phone), indoors=True)
    shots = [Shot("room", view, 10_000 + i) for i, view in enumerate(cutouts)]
    shots += [Shot("phone", view, 20_000 + i) for i, view in enumerate(queries)]
    photographer = Photographer(room, options.seed)
    for shot in progress_bar(shots, "photograph the room", len(shots), "image", progress):
        name, picture = shot.view.name, photographer.take(shot)
        write_jpeg(folder / name, picture, LOOKS[shot.look].quality)
        if name in scan_of:
            points = _scan(rng, room, shot.view, frames[scan_of[name]])
            arrays = {"RGBcut": picture, "XYZcut": points}
            savemat(folder / f"{name}.mat", arrays, do_compression=True)
    alignments = folder / f"database/alignments/{_FLOOR}/transformations"
    alignments.mkdir(parents=True)
    for scan, frame in frames.items():
        lines, coarse = [], frame.copy()
        coarse[:3, 3] += (0.03, -0.02, 0.01)
        for title, matrix in (("before ICP", coarse), ("after ICP", frame)):
            lines += [f"{title}:", *(" ".join(map(repr, row)) for row in matrix.tolist()), ""]
        path = alignments / f"{_BUILDING}_trans_{scan}.txt"
        path.write_text("\n".join(lines) + "\n", "utf-8")
    colmap.write_intrinsics(folder / "queries_with_intrinsics.txt", queries)
    write_poses(folder / "ground_truth.txt", {v.name: v.cam_from_world for v in queries}, "full")


def _scanner_frame(rng: np.random.Generator, centre: np.ndarray) -> np.ndarray:
    """Return the pose, 4×4 to the room's frame, of a levelled scanner set up in any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    frame = np.eye(4)
    frame[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    frame[:3, 3] = centre
    return frame


def _scan(rng: np.random.Generator, room: Scene, view: View, frame: np.ndarray) -> np.ndarray:
    """Return the points that a view sees in the scanner's frame: H×W×3, NaN if none came back."""
    faces, pixels = room.faces, view.camera.samples()
    ids = visible_faces(faces, view).ravel()
    points = on_faces(faces, view, ids, pixels.reshape(-1, 2))
    lost = (ids < 0) | np.isin(faces.texture[ids], room.glass) | (rng.random(len(ids)) < _LOST)
    points[lost] = np.nan
    return ((points - frame[:3, 3]) @ frame[:3, :3]).reshape(*pixels.shape[:2], 3)


def write_hpatches(folder: Path, options: DemoOptions, progress: bool) -> None:
    """Write sequences of six photographs: ``i_…`` of other light, ``v_…`` of other viewpoints.

    ``H_1_k`` maps pixels of ``1.ppm`` to those of ``k.ppm``, integers being pixel centres.
    """
    rng, camera = np.random.default_rng([options.seed, 31]), _pinhole(options.image_size, 1)
    kinds, (width, height), num = list(_PAINTERS), _PLANE, options.num_planes
    with progress_bar(None, "photograph planes", 12 * num, "image", progress) as bar:
        for plane in range(num):
            kind = kinds[plane % len(kinds)]
            b = Builder(rng)
            b.panel((-width / 2, 0, -height / 2), _PLANE, b.texture(_PAINTERS[kind](rng)))
            for x, z in rng.uniform((-5, -3), (5, 3), (3, 2)):
                b.lamps.append(np.array([x, -rng.uniform(1.5, 3), z]))
            scene, shots = b.scene(), []
            poses = [_towards(rng, k / 5) for k in range(6)]
            for letter, looks in _PLANE_LOOKS.items():
                name = f"{letter}_{kind}{plane:02}"
                (folder / name).mkdir()
                for k, look in enumerate(looks):
                    view = View(f"{name}/{k + 1}.ppm", camera, poses[k if letter == "v" else 0])
                    shots.append(Shot(look, view, plane * 100 + k + 60_000 * (letter == "v")))
                    if k:
                        matrix = homography(scene.faces, shots[-1 - k].view, view)
                        np.savetxt(folder / name / f"H_1_{k + 1}", matrix, "%.12g")
            photographer = Photographer(scene, options.seed)
            for shot in shots:
                cv2.imwrite(str(folder / shot.view.name), photographer.take(shot)[..., ::-1])
                bar.update()


def homography(faces: Faces, view0: View, view1: View) -> np.ndarray:
    """Return the homography, 3×3, of the first face from one view's pixels to another's.

    The cameras have no distortion; integer coordinates are pixel centres.
    """
    plane = np.column_stack([faces.axis_s[0], faces.axis_t[0], faces.origin[0]])
    to_centres = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    maps = []
    for view in (view0, view1):
        pose, focal, (x, y) = view.cam_from_world, view.camera.focal, view.camera.centre
        in_camera = pose[:, :3] @ plane + np.outer(pose[:, 3], [0, 0, 1])
        maps.append(to_centres @ np.array([[focal, 0, x], [0, focal, y], [0, 0, 1.0]]) @ in_camera)
    matrix = maps[1] @ np.linalg.inv(maps[0])
    return matrix / matrix[2, 2]


def _towards(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Return a pose that looks at a plane's middle: the stronger, the more slanted and nearer."""
    angle = rng.uniform(0, 2 * np.pi)
    slant = np.radians(55 * strength * rng.uniform(0.8, 1.0))
    target = np.array([rng.uniform(-0.5, 0.5), 0, rng.uniform(-0.5, 0.5)])
    out = np.array([np.sin(slant) * np.cos(angle), -np.cos(slant), np.sin(slant) * np.sin(angle)])
    distance = 8.0 * np.exp(strength * rng.uniform(-0.5, 0.35))
    return look_towards(target + distance * out, -out, strength * rng.uniform(-0.6, 0.6))


def _posters(rng: np.random.Generator) -> np.ndarray:
    wall = textures.masonry(rng, (768, 1024), (9, 24), ((150, 92, 74), (172, 164, 150)))
    for _ in range(60):
        height = int(rng.integers(110, 230))
        width = int(height * rng.uniform(0.6, 0.8))
        y, x = rng.integers(0, [768 - height, 1024 - width]).tolist()
        wall[y : y + height, x : x + width] = textures.poster(rng, (height, width))
    return wall


_SETTS = (768, 1024), (22, 26), ((128, 122, 114), (70, 66, 62)), 2.5
_PAINTERS = {
    "posters": _posters,
    "photograph": lambda rng: textures.photograph(rng, (768, 1024)),
    "facade": lambda rng: Facade(rng, *_PLANE, shop=True).texture,
    "pavement": lambda rng: textures.masonry(rng, *_SETTS),
}
WRITERS = {
    "aachen_v1.1": write_aachen,
    "inloc": write_inloc,
    "megadepth": write_megadepth,
    "hpatches": write_hpatches,
}
"""Writers by layout; that of ``aachen`` follows from v1.1's."""
