"""Localization in a model from given features and matches, beside hloc's ``localize_sfm``."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from benchmarks.record import Curve
from benchmarks.speed.measure import Case, Figures, Setup, measure
from featplug.colmap.known_poses import model_from_poses
from featplug.colmap.model_files import read_model
from featplug.io.h5file import Provenance
from featplug.io.pair_lists import read_pairs, write_pairs
from featplug.io.results import peak_memory, write_results
from featplug.io.store import FeatureReader, FeatureWriter, MatchReader, MatchWriter
from featplug.localization.in_model import LocalizationOptions, ModelPoints, localize_queries
from featplug.localization.localizer import json_log
from featplug.localization.queries import (
    Query,
    read_poses,
    read_queries,
    write_poses,
    write_queries,
)
from featplug.metrics.poses import absolute_pose_errors

_NUM_POINTS, _NUM_DATABASE, _NUM_QUERIES = 30_000, 120, 800
GROWTH = (50, 200, _NUM_QUERIES)
"""Numbers of queries that time and memory are measured at."""
_NUM_RETRIEVED = 20
_DATABASE_KEYPOINTS, _QUERY_KEYPOINTS = 2500, 1500
_OBSERVED = 1000
"""Keypoints of an image that are of a point of the world, at most."""
_FOUND, _WRONG = 0.6, 40
"""Part of the common points that is matched, and wrong matches of each pair."""
_CAMERA = ("SIMPLE_RADIAL", 1600, 1200, (1400.0, 800.0, 600.0, -0.02))


def make_inputs(setup: Setup) -> Path:
    """Write a model of a street's size, and queries that see what is in it."""
    folder = setup.work / "speed-localization"
    if (folder / "truth.txt").exists():
        return folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    model, width, height, params = _CAMERA
    camera = pycolmap.Camera(model=model, width=width, height=height, params=params)
    points = rng.uniform([-40, -40, -3], [40, 40, 8], (_NUM_POINTS, 3))
    database = {f"db/{i:04}.jpg": _pose(rng, i / _NUM_DATABASE) for i in range(_NUM_DATABASE)}
    places = rng.uniform(0, 1, _NUM_QUERIES)
    truth = {f"query/{i:04}.jpg": _pose(rng, place) for i, place in enumerate(places)}
    keypoints, seen = {}, {}
    for name, pose in (database | truth).items():
        num = _DATABASE_KEYPOINTS if name in database else _QUERY_KEYPOINTS
        keypoints[name], seen[name] = _photograph(rng, camera, points, pose, num)
    _write_model(folder / "model", camera, points, database, keypoints, seen)
    with FeatureWriter(folder / "feats.h5", Provenance("features", {})) as features:
        for name, xy in keypoints.items():
            features.write(name, {"keypoints": xy.astype(np.float32)}, (width, height), 1.0, "")
    pairs = []
    names = list(database)
    with MatchWriter(folder / "matches.h5", Provenance("matches", {})) as writer:
        for query, place in zip(truth, places, strict=True):
            offset = np.abs(np.arange(_NUM_DATABASE) / _NUM_DATABASE - place)
            nearest = np.argsort(np.minimum(offset, 1 - offset))[:_NUM_RETRIEVED]
            for name in (names[i] for i in nearest):
                matches = _match(rng, seen[query], seen[name])
                writer.write(query, name, matches, np.ones(len(matches)), _DATABASE_KEYPOINTS)
                pairs.append((query, name))
    for num in GROWTH:
        some = list(truth)[:num]
        write_pairs(folder / f"pairs-{num}.txt", pairs[: num * _NUM_RETRIEVED])
        write_queries(folder / f"queries-{num}.txt", [Query(name, camera) for name in some])
    write_poses(folder / "truth.txt", truth)
    return folder


def _pose(rng: np.random.Generator, place: float) -> np.ndarray:
    """A camera on a round walk, about upright, that looks outwards."""
    angle = 2 * np.pi * place + rng.normal(0, 0.02)
    centre = np.array([15 * np.cos(angle), 15 * np.sin(angle), 1.7]) + rng.normal(0, 0.3, 3)
    forward = np.array([np.cos(angle), np.sin(angle), 0.05])
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    rotation = Rotation.from_rotvec(rng.normal(0, 0.1, 3)).as_matrix() @ rotation
    return np.column_stack([rotation, -rotation @ centre])


def _photograph(
    rng: np.random.Generator,
    camera: pycolmap.Camera,
    points: np.ndarray,
    pose: np.ndarray,
    num: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Give keypoints (integer = pixel centre) and which point each is of, -1 for none."""
    in_camera = points @ pose[:, :3].T + pose[:, 3]
    size = np.array([camera.width, camera.height])
    ahead = np.flatnonzero((in_camera[:, 2] > 1) & (in_camera[:, 2] < 25))
    xy = np.asarray(camera.img_from_cam(in_camera[ahead])) - 0.5
    inside = ((xy >= 0) & (xy <= size - 1)).all(axis=1)
    chosen = rng.permutation(np.flatnonzero(inside))[:_OBSERVED]
    keypoints = rng.uniform(0, size - 1, (num, 2))
    keypoints[: len(chosen)] = xy[chosen] + rng.normal(0, 1, (len(chosen), 2))
    seen = np.full(num, -1)
    seen[: len(chosen)] = ahead[chosen]
    order = rng.permutation(num)
    return keypoints[order], seen[order]


def _match(rng: np.random.Generator, seen0: np.ndarray, seen1: np.ndarray) -> np.ndarray:
    """Match part of the points that both see, and some keypoints wrongly."""
    index1 = np.full(_NUM_POINTS + 1, -1)
    index1[seen1] = np.arange(len(seen1))
    index1[-1] = -1
    matches = np.where(rng.random(len(seen0)) < _FOUND, index1[seen0], -1)
    matches[rng.integers(0, len(seen0), _WRONG)] = rng.integers(0, len(seen1), _WRONG)
    return matches


def _write_model(
    folder: Path,
    camera: pycolmap.Camera,
    points: np.ndarray,
    poses: dict[str, np.ndarray],
    keypoints: dict[str, np.ndarray],
    seen: dict[str, np.ndarray],
) -> None:
    """Write the database as a COLMAP model, its points those that two images see."""
    in_pixels = {name: keypoints[name] + 0.5 for name in poses}
    model = model_from_poses(dict.fromkeys(poses, camera), poses, in_pixels)
    tracks: dict[int, list[pycolmap.TrackElement]] = {}
    for image_id, image in model.images.items():
        for index, point in enumerate(seen[image.name].tolist()):
            if point >= 0:
                tracks.setdefault(point, []).append(pycolmap.TrackElement(image_id, index))
    for point, elements in tracks.items():
        if len(elements) > 1:
            model.add_point3D(points[point], pycolmap.Track(elements), np.zeros(3, np.uint8))
    folder.mkdir()
    model.write(str(folder))


def localize_ours(setup: Setup, num: int) -> Figures:
    """The stage of ``pipelines.aachen``, from files to submission and logs."""
    folder = make_inputs(setup)
    before = peak_memory()
    start, cpu_start = time.perf_counter(), time.process_time()
    queries = read_queries(folder / f"queries-{num}.txt")
    retrieved: dict[str, list[str]] = {}
    for query, name in read_pairs(folder / f"pairs-{num}.txt"):
        retrieved.setdefault(query, []).append(name)
    points = ModelPoints(read_model(folder / "model"))
    poses, logs = {}, {}
    with FeatureReader(folder / "feats.h5") as features, MatchReader(folder / "matches.h5") as m:
        for found in localize_queries(
            queries, retrieved, features, m, points, LocalizationOptions()
        ):
            logs[found.query.name] = json_log(found)
            if found.pose is not None:
                poses[found.query.name] = found.pose.cam_from_world
    submission = setup.work / f"localize-ours-{num}.txt"
    write_poses(submission, poses)
    write_results(setup.work / f"localize-ours-{num}.json", logs)
    return _figures(folder, submission, num, before, start, cpu_start)


def localize_hloc(setup: Setup, num: int) -> Figures:
    """``localize_sfm`` of hloc on the same files."""
    sys.path.insert(0, str(setup.hloc))
    from hloc import localize_sfm  # type: ignore[import-not-found]

    folder, submission = make_inputs(setup), setup.work / f"localize-hloc-{num}.txt"
    before = peak_memory()
    start, cpu_start = time.perf_counter(), time.process_time()
    localize_sfm.main(
        folder / "model",
        folder / f"queries-{num}.txt",
        folder / f"pairs-{num}.txt",
        folder / "feats.h5",
        folder / "matches.h5",
        submission,
    )
    figures = _figures(folder, submission, num, before, start, cpu_start)
    ours = setup.work / f"localize-ours-{num}.txt"  # measured just before
    difference = absolute_pose_errors(read_poses(submission), read_poses(ours))
    return {
        **figures,
        "median_position_difference_m": float(np.median(difference.position)),
        "largest_position_difference_m": float(difference.position.max()),
    }


def _figures(
    folder: Path, submission: Path, num: int, before: int, start: float, cpu_start: float
) -> Figures:
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    truth = read_poses(folder / "truth.txt")
    wanted = {f"{i:04}.jpg": truth[f"{i:04}.jpg"] for i in range(num)}
    errors = absolute_pose_errors(read_poses(submission), wanted)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "localization_memory_mib": (peak_memory() - before) / 2**20,
        "median_position_error_m": float(np.median(errors.position)),
        "largest_position_error_m": float(errors.position.max()),
    }


def localize_200_ours(setup: Setup) -> Figures:
    """200 queries."""
    return localize_ours(setup, 200)


def localize_200_hloc(setup: Setup) -> Figures:
    """200 queries by hloc."""
    return localize_hloc(setup, 200)


def growth(setup: Setup) -> Figures:
    """How time and memory grow with the number of queries, each number in a new process."""
    of_number = {
        num: measure(f"of {num} queries", partial(localize_ours, num=num), setup) for num in GROWTH
    }
    numbers = [float(num) for num in GROWTH]

    def curve(figure: str, label: str) -> Curve:
        return Curve(numbers, [of_number[num][figure] for num in GROWTH], "queries", label)

    return {
        "seconds": sum(figures["seconds"] for figures in of_number.values()),
        "peak_memory_mib": max(figures["peak_memory_mib"] for figures in of_number.values()),
        "curves": {
            "seconds": curve("seconds", "seconds"),
            "cpu_seconds": curve("cpu_seconds", "seconds of all cores"),
            "peak_memory": curve("peak_memory_mib", "peak memory (MiB)"),
            "localization_memory": curve("localization_memory_mib", "memory it adds (MiB)"),
        },
    }


CASES: dict[str, Case] = {
    "localize": Case(
        "synthetic",
        {"featplug": localize_200_ours, "hloc": localize_200_hloc},
        make_inputs,
        uses_images=False,
    ),
    "localize-growth": Case("synthetic", {"featplug": growth}, make_inputs, uses_images=False),
}
