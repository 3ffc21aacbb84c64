"""The town, the room and planes in the layouts of the data sets that the pipelines read."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pycolmap
from scipy.io import savemat

from featplug.colmap.database_rows import check_rows, open_database
from featplug.colmap.model_files import check_written_model, read_model, write_model
from featplug.colmap.nvm import write_nvm
from featplug.io.files import flush
from featplug.localization.queries import Query, write_poses, write_queries
from featplug.utils.progress import progress_bar
from pipelines.demo import WORLD, imc_layouts, pair_layouts, released_layouts
from pipelines.demo.builder import Builder, Scene
from pipelines.demo.geometry import Camera, Faces, View, direction, look_along, look_towards
from pipelines.demo.moving import moving_objects
from pipelines.demo.photography import LOOKS, Photographer, Shot, write_jpeg, write_picture
from pipelines.demo.rendering import Projection, depth_map
from pipelines.demo.room import SCANS, build_room
from pipelines.demo.town import WALK, Facade, build_town
from pipelines.demo.true_models import colmap_camera, true_model
from pipelines.demo.viewpoints import along_walk, near_others, on_faces, true_tracks

if TYPE_CHECKING:
    from pipelines.datasets.demo import DemoOptions

_AACHEN = WORLD["aachen"]
_FLOOR, _BUILDING, _SCANNER_HEIGHT = "DUC1", "DUC", 1.5
_LOST = 0.02  # fraction of the pixels from which no laser comes back, besides those of glass
_PLANE = (16.0, 12.0)  # width and height of a plane in metres; the views see a part of it


def write_bare_database(path: Path, model_path: Path) -> None:
    """Write a COLMAP database with nothing but a model's images, under their ids."""
    model = read_model(model_path)
    with open_database(path) as database:
        for number, image in model.images.items():
            camera = model.cameras[image.camera_id]
            camera.camera_id = number  # hloc accepts no shared camera for NVM models
            database.write_camera(camera, True)
            database.write_image(pycolmap.Image(image.name, np.zeros((0, 2)), number, number), True)
    check_rows(path, "images", model.num_images())


def write_intrinsics(path: Path, views: Sequence[View]) -> None:
    """Write a list of images with their cameras, in the form of a query list."""
    write_queries(path, (Query(view.name, colmap_camera(view.camera)) for view in views))


def write_aachen(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the town in the layout of Aachen Day-Night v1.1."""
    scene, size = build_town(options.seed), options.image_size
    rng = np.random.default_rng([options.seed, 3])
    database = _town_views(rng, scene, options, "db/")
    queries = {}
    for condition in _AACHEN["dates"]:
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
        write_intrinsics(folder / f"queries/{condition}_time_queries_with_intrinsics.txt", views)
    tracks = true_tracks(rng, scene.faces, database, moving)
    model = true_model(database, tracks, images)
    models = folder / "3D-models" / "aachen_v_1_1"
    write_model(model, models)
    write_nvm(models / "aachen_v_1_1.nvm", model)
    write_intrinsics(models / "database_intrinsics_v1_1.txt", database)
    truth = {view.name: view.cam_from_world for view in every_query}
    write_poses(folder / "ground_truth.txt", truth, "full")


def _town_views(
    rng: np.random.Generator, scene: Scene, options: "DemoOptions", folder: str
) -> list[View]:
    """Choose the views of the town's database, whose photographs are in a folder."""
    cameras = [_camera(camera, options.image_size) for camera in _AACHEN["database_cameras"]]
    names = [f"{folder}{1000 + i}.jpg" for i in range(options.num_database)]
    by_turns = {name: cameras[i // 4 % 2] for i, name in enumerate(names)}
    return along_walk(rng, scene.faces, WALK, by_turns)


def write_scene(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the town's database to be reconstructed: photographs, and their poses as Strecha's."""
    scene = build_town(options.seed)
    views = _town_views(np.random.default_rng([options.seed, 3]), scene, options, "")
    added, moving = moving_objects(options.seed, scene, WALK, views, options.num_moving)
    scene = replace(scene, textures=[*scene.textures, *added])
    photographer = Photographer(scene, options.seed, moving)
    shots = [Shot("noon", view, i) for i, view in enumerate(views)]
    for shot in progress_bar(shots, "photograph the town", len(shots), "image", progress):
        picture = photographer.take(shot)
        write_jpeg(folder / "images" / shot.view.name, picture, LOOKS["noon"].quality)
    (folder / "cameras").mkdir()
    for view in views:
        write_strecha_camera(folder / "cameras" / f"{view.name}.camera", view)


def write_strecha_camera(path: Path, view: View) -> None:
    """Write the ``.camera`` file of a view; see :mod:`pipelines.datasets.true_poses`."""
    camera, (right, down) = view.camera, view.camera.centre
    rows = [
        *[[camera.focal, 0.0, right], [0.0, camera.focal, down], [0.0, 0.0, 1.0]],
        [camera.distortion, 0.0, 0.0],
        *view.cam_from_world[:, :3].T.tolist(),
        view.centre.tolist(),
        [camera.width, camera.height],
    ]
    path.write_text("\n".join(" ".join(map(repr, row)) for row in rows) + "\n", "utf-8")


def write_aachen_v1(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the layout of v1 next to that of v1.1: the same, but an NVM model and a database."""
    newer, models = folder.with_name("aachen_v1.1"), folder / "3D-models"
    for name in ("images_upright", "queries"):
        shutil.copytree(newer / name, folder / name)
    source = newer / "3D-models" / "aachen_v_1_1"
    models.mkdir()
    shutil.copy(newer / "ground_truth.txt", folder)
    shutil.copy(source / "aachen_v_1_1.nvm", models / "aachen_cvpr2018_db.nvm")
    shutil.copy(source / "database_intrinsics_v1_1.txt", models / "database_intrinsics.txt")
    write_bare_database(folder / "aachen.db", source)


def _camera(params: tuple[float, ...], size: int, upright: bool = False) -> Camera:
    focal, right, down, distortion = params
    width, height = (size * 3 // 4, size) if upright else (size, size * 3 // 4)
    centre = round(width / 2 + right * size, 6), round(height / 2 + down * size, 6)
    return Camera(width, height, round(focal * size, 6), centre, distortion)


def _query_camera(condition: str, i: int, size: int) -> tuple[str, Camera]:
    """Return the name and the camera of a query; queries follow each other by 37 seconds."""
    cameras, date = _AACHEN["query_cameras"], _AACHEN["dates"][condition]
    phone = list(cameras)[i % 3] if condition == "day" else "nexus5x"
    time = f"{16 + 37 * i // 3600:02}{37 * i // 60 % 60:02}{37 * i % 60:02}"
    name = f"query/{condition}/{phone}/IMG_{date}_{time}.jpg"
    return name, _camera(cameras[phone], size, upright=phone == "nexus5x")


def write_megadepth(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the town as MegaDepth's scene 0000, undistorted: photographs, depth maps, a model."""
    scene, num = build_town(options.seed), options.num_database
    rng = np.random.default_rng([options.seed, 21])
    cameras = [_pinhole(options.image_size, focal) for focal in (0.8, 0.95)]
    by_turns = {f"{i:06}.jpg": cameras[i // 4 % 2] for i in range(num)}
    views = along_walk(rng, scene.faces, WALK, by_turns)
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
    sparse = undistorted / "sparse-txt"
    sparse.mkdir()
    model = true_model(views, tracks, undistorted / "images")
    model.write_text(str(sparse))
    flush(sparse)
    check_written_model(model, sparse)


def _pinhole(size: int, focal: float) -> Camera:
    """Return a camera of 4:3; the focal length is a fraction of its width."""
    return Camera(size, size * 3 // 4, focal * size, (size / 2, size * 3 // 4 / 2))


def write_inloc(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the room in the layout of InLoc: scans, each cut into twelve views, and queries."""
    room, size = build_room(options.seed), options.image_size
    rng = np.random.default_rng([options.seed, 12])
    # The views are 60° wide; the phone has the focal length that the benchmark gives it.
    of_scanner = replace(_pinhole(size, 1), focal=size / 2 * 3**0.5)
    of_phone = replace(_pinhole(size, 1), focal=size * 28 / 36)
    frames, cutouts, scan_of = {}, [], {}
    for k, (x, y) in enumerate(SCANS[: options.num_scans]):
        scan, centre = f"{24 + k:03}", np.array([x, y, _SCANNER_HEIGHT])
        # A levelled scanner, set up in any direction.
        x, y, _ = direction(rng.uniform(0, 2 * np.pi))
        frames[scan] = np.eye(4)
        frames[scan][:2, :2], frames[scan][:3, 3] = [[x, -y], [y, x]], centre
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
            savemat(
                folder / f"{name}.mat", {"RGBcut": picture, "XYZcut": points}, do_compression=True
            )
    alignments = folder / f"database/alignments/{_FLOOR}/transformations"
    alignments.mkdir(parents=True)
    for scan, frame in frames.items():
        lines, coarse = [], frame.copy()
        coarse[:3, 3] += (0.03, -0.02, 0.01)
        for title, matrix in (("before ICP", coarse), ("after ICP", frame)):
            lines += [f"{title}:", *(" ".join(map(repr, row)) for row in matrix.tolist()), ""]
        path = alignments / f"{_BUILDING}_trans_{scan}.txt"
        path.write_text("\n".join(lines) + "\n", "utf-8")
    write_intrinsics(folder / "queries_with_intrinsics.txt", queries)
    write_poses(folder / "ground_truth.txt", {v.name: v.cam_from_world for v in queries}, "full")


def _scan(rng: np.random.Generator, room: Scene, view: View, frame: np.ndarray) -> np.ndarray:
    """Return the points that a view sees in the scanner's frame: H×W×3, NaN if none came back."""
    faces, pixels = room.faces, view.camera.samples()
    ids = Projection(faces, view).visible().ravel()
    points = on_faces(faces, view, ids, pixels.reshape(-1, 2))
    lost = (ids < 0) | np.isin(faces.texture[ids], room.glass) | (rng.random(len(ids)) < _LOST)
    points[lost] = np.nan
    return ((points - frame[:3, 3]) @ frame[:3, :3]).reshape(*pixels.shape[:2], 3)


def write_hpatches(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write sequences of six photographs: ``i_…`` of other light, ``v_…`` of other viewpoints.

    ``H_1_k`` maps pixels of ``1.ppm`` to those of ``k.ppm``, integers being pixel centres.
    """
    rng, camera = np.random.default_rng([options.seed, 31]), _pinhole(options.image_size, 1)
    kinds, (width, height), num = list(_PAINTERS), _PLANE, options.num_planes
    with progress_bar(None, "photograph planes", 12 * num, "image", progress) as bar:
        for plane in range(num):
            kind = kinds[plane % len(kinds)]
            b = Builder(rng)
            b.panel((-width / 2, 0, -height / 2), _PLANE, b.texture(_PAINTERS[kind](b)))
            for x, z in rng.uniform((-5, -3), (5, 3), (3, 2)):
                b.lamps.append(np.array([x, -rng.uniform(1.5, 3), z]))
            scene, shots = b.scene(), []
            poses = [_towards(rng, k / 5) for k in range(6)]
            for letter, looks in WORLD["hpatches"]["looks"].items():
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
                write_picture(folder / shot.view.name, photographer.take(shot))
                bar.update()


def homography(faces: Faces, view0: View, view1: View) -> np.ndarray:
    """Return the homography of the first face from pixels to pixels; integers are their centres."""
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


def _posters(b: Builder) -> np.ndarray:
    wall = b.masonry((768, 1024), (9, 24), ((150, 92, 74), (172, 164, 150)))
    for _ in range(60):
        height = int(b.rng.integers(110, 230))
        width = int(height * b.rng.uniform(0.6, 0.8))
        y, x = b.rng.integers(0, [768 - height, 1024 - width]).tolist()
        wall[y : y + height, x : x + width] = b.poster((height, width))
    return wall


_PAINTERS: dict[str, Callable[[Builder], np.ndarray]] = {
    "posters": _posters,
    "photograph": lambda b: b.photograph((768, 1024)),
    "facade": lambda b: Facade(b.rng, *_PLANE, shop=True).texture,
    "pavement": lambda b: b.masonry((768, 1024), (22, 26), ((128, 122, 114), (70, 66, 62)), 2.5),
}
WRITERS = {
    "aachen_v1.1": write_aachen,
    "aachen": write_aachen_v1,
    "scene": write_scene,
    "inloc": write_inloc,
    "megadepth": write_megadepth,
    "hpatches": write_hpatches,
    **released_layouts.WRITERS,
    **pair_layouts.WRITERS,
    **imc_layouts.WRITERS,
}
