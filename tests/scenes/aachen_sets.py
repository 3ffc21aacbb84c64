"""Small sets in Aachen's layout, made from photographs whose poses are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from PIL import Image

from featplug.colmap.known_poses import model_from_poses
from featplug.colmap.model_files import read_model
from featplug.colmap.nvm import write_nvm
from featplug.io.pair_lists import write_pairs
from featplug.localization.queries import Query, write_poses, write_queries
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.pairs import exhaustive
from featplug.stages.triangulate import triangulate_known_poses
from pipelines.datasets.true_poses import read_strecha_camera
from tests.scenes.room_corner import write_room_corner


def relit(image: np.ndarray, seed: int) -> np.ndarray:
    """The same photograph as at night: dark, orange, uneven, noisy. H×W×3 uint8."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    light = cv2.resize(rng.uniform(0.15, 0.8, (4, 5)).astype(np.float32), (width, height))
    dark = (image / 255.0) ** 1.4 * light[:, :, None] * np.array([1.0, 0.8, 0.5])
    noisy = dark + rng.normal(0, 0.01, image.shape)
    return (255 * noisy.clip(0, 1)).astype(np.uint8)


def write_aachen_set(
    folder: Path,
    photographs: Mapping[str, np.ndarray],
    poses: Mapping[str, np.ndarray],
    camera: pycolmap.Camera,
    num_database: int,
    max_keypoints: int = 1500,
) -> Path:
    """Write a set in the layout of v1.1: some photographs are the database, the others queries.

    The reference model is triangulated from the true poses. Every query is there by day and, relit,
    by night.

    Args:
        folder: gets the set.
        photographs: name to H×W×3 uint8.
        poses: name to the true ``cam_from_world``.
        camera: of all.
        num_database: how many are the database, spread evenly.
        max_keypoints: of the reference model.

    Returns:
        The folder.
    """
    images = folder / "images_upright"
    names = sorted(photographs)
    chosen = np.unique(np.linspace(0, len(names) - 1, num_database).round().astype(int))
    database = {f"db/{names[i]}": names[i] for i in chosen}
    others = [name for i, name in enumerate(names) if i not in set(chosen.tolist())]
    queries = {
        "day": {f"query/day/phone/day-{name}": name for name in others},
        "night": {f"query/night/phone/night-{name}": name for name in others},
    }
    for name, source in (database | queries["day"] | queries["night"]).items():
        picture = photographs[source]
        if name in queries["night"]:
            picture = relit(picture, others.index(source))
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, quality=95)
    for condition, of_condition in queries.items():
        write_queries(
            folder / "queries" / f"{condition}_time_queries_with_intrinsics.txt",
            [Query(name, camera) for name in of_condition],
        )
    everything = queries["day"] | queries["night"]
    write_poses(folder / "ground_truth.txt", {n: poses[s] for n, s in everything.items()}, "full")
    work = folder.with_name(f"{folder.name}-reference")
    extracted = extract_features(
        "sift", images, work, image_list=list(database), max_keypoints=max_keypoints
    )
    write_pairs(work / "pairs.txt", exhaustive(list(database)))
    matched = match_features("NN-ratio", work / "pairs.txt", extracted.feature_path)
    done = triangulate_known_poses(
        model_from_poses(
            dict.fromkeys(database, camera), {n: poses[s] for n, s in database.items()}
        ),
        images,
        exhaustive(list(database)),
        extracted.feature_path,
        matched.match_path,
        work / "sfm",
    )
    target = folder / "3D-models" / "aachen_v_1_1"
    target.mkdir(parents=True)
    read_model(done.model_dir).write(str(target))
    return folder


def write_room_set(folder: Path) -> Path:
    """Write a set of six database images of a room's corner, and two queries by day and night."""
    room = folder / "room"
    write_room_corner(room, num_images=8, width=400)
    names = sorted(path.name for path in (room / "images").iterdir())
    focal, width, height = 1.1 * 400, 400, 300
    camera = pycolmap.Camera(
        model="PINHOLE", width=width, height=height, params=[focal, focal, width / 2, height / 2]
    )
    photographs = {
        name: np.array(Image.open(room / "images" / name).convert("RGB")) for name in names
    }
    poses = {name: read_strecha_camera(room / "cameras" / f"{name}.camera") for name in names}
    return write_aachen_set(folder / "aachen_v1.1", photographs, poses, camera, 6, 800)


def write_strecha_set(folder: Path, scene: Path, num_images: int, width: int) -> Path:
    """Write a set of the first photographs of fountain-P11 or Herz-Jesus-P8, made smaller."""
    photographs, poses = {}, {}
    truth = next(path for path in scene.rglob("*.camera")).parent
    for path in sorted(truth.glob("*.camera"))[:num_images]:
        name = path.name.removesuffix(".camera")
        image = Image.open(next(scene.rglob(name)))
        scale = width / image.width
        size = (width, round(image.height * scale))
        photographs[name] = np.array(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        poses[name] = read_strecha_camera(path)
        intrinsics = np.loadtxt(path, max_rows=3)
    # The file's principal point has the first pixel's centre at 0.
    centre = (intrinsics[:2, 2] + 0.5) * scale
    params = [intrinsics[0, 0] * scale, intrinsics[1, 1] * scale, *centre]
    camera = pycolmap.Camera(model="PINHOLE", width=size[0], height=size[1], params=params)
    return write_aachen_set(folder / scene.name, photographs, poses, camera, len(poses) - 3)


def convert_to_v1(v11: Path, folder: Path) -> Path:
    """Write the same set in the layout of v1 as the local feature benchmark has it."""
    model = read_model(v11 / "3D-models" / "aachen_v_1_1")
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "images_upright").symlink_to(v11 / "images_upright")
    (folder / "queries").symlink_to(v11 / "queries")
    (folder / "3D-models").mkdir()
    write_nvm(folder / "3D-models" / "aachen_cvpr2018_db.nvm", model)
    cameras = [Query(image.name, model.cameras[image.camera_id]) for image in model.images.values()]
    write_queries(folder / "3D-models" / "database_intrinsics.txt", cameras)
    return folder
