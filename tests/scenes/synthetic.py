"""Points seen by cameras, as images, features and true matches, from COLMAP's own generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image
from scipy.spatial.transform import Rotation

from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchWriter
from featplug.io.store import FeatureWriter


@dataclass(frozen=True)
class MatchedImages:
    """A folder with features and matches of images."""

    folder: Path

    @property
    def features(self) -> Path:
        """Feature file of all images."""
        return self.folder / "feats.h5"

    @property
    def matches(self) -> Path:
        """Match file."""
        return self.folder / "matches.h5"

    @property
    def images(self) -> Path:
        """Folder of the (grey) images."""
        return self.folder / "images"


@dataclass(frozen=True)
class SyntheticScene(MatchedImages):
    """A scene of points seen by cameras, as images, features and true matches of all pairs."""

    truth: pycolmap.Reconstruction
    names: list[str]


def write_synthetic_scene(
    folder: Path, num_images: int = 6, noise: float = 0.0, num_cameras: int = 1
) -> SyntheticScene:
    """Make a scene with COLMAP's own generator and write it as our files.

    The images of several cameras, which are a rig, are in a folder each.

    COLMAP's points have their origin at the corner of the first pixel, the feature file's
    keypoints at its centre: 0.5 is taken off.
    """
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = 1
    options.num_cameras_per_rig = num_cameras
    options.num_frames_per_rig = num_images
    options.num_points3D = 300
    pycolmap.set_random_seed(1)
    folder.mkdir(parents=True)
    truth = pycolmap.synthesize_dataset(options)
    for image in truth.images.values() if num_cameras > 1 else ():
        image.name = image.name.replace("_frame", "/frame")
    rng = np.random.default_rng(1)
    seen = {}
    for image in truth.images.values():
        points = np.array([p.xy for p in image.points2D], np.float32).reshape(-1, 2)
        points += noise * rng.standard_normal(points.shape).astype(np.float32)
        ids = [p.point3D_id if p.has_point3D() else None for p in image.points2D]
        seen[image.name] = truth.cameras[image.camera_id], points, ids
    scene = SyntheticScene(folder, truth, sorted(seen))
    _write(scene, seen)
    return scene


@dataclass(frozen=True)
class SurroundingScene(MatchedImages):
    """Points on the walls of a room or a street, seen by cameras in the middle of it."""

    camera: pycolmap.Camera
    poses: dict[str, np.ndarray]
    """Image name to ``cam_from_world``, 3×4."""
    points3d: np.ndarray
    """N×3 in the world."""
    seen: dict[str, tuple[np.ndarray, list[int]]]
    """Image name to points in COLMAP's pixels and their indices in ``points3d``."""


def write_surrounding_scene(
    folder: Path, camera: pycolmap.Camera, turns: float, num_images: int = 6
) -> SurroundingScene:
    """Make a room of 6×6×6 with cameras up to 1 from its middle, turned by angles in degrees."""
    rng = np.random.default_rng(3)
    points3d = rng.uniform(-3, 3, (600, 3))
    walls = rng.integers(3, size=600)
    points3d[np.arange(600), walls] = rng.choice([-3, 3], 600)
    poses, seen, with_camera = {}, {}, {}
    for i in range(num_images):
        name = f"{i}.png"
        rotation = Rotation.from_rotvec(rng.uniform(-turns, turns, 3), degrees=True).as_matrix()
        poses[name] = np.column_stack([rotation, -rotation @ rng.uniform(-1, 1, 3)])
        in_camera = points3d @ rotation.T + poses[name][:, 3]
        places = np.asarray(camera.img_from_cam(in_camera))
        inside = ((places >= 0) & (places < [camera.width, camera.height])).all(axis=1)
        ids = np.flatnonzero(inside).tolist()
        seen[name] = places[inside], ids
        with_camera[name] = camera, places[inside].astype(np.float32), ids
    scene = SurroundingScene(folder, camera, poses, points3d, seen)
    folder.mkdir(parents=True)
    _write(scene, with_camera)
    return scene


STREET_REACH = 6
"""Number of images after each one of a street that it has matches with."""


def near_pairs(names: Sequence[str], max_step: int = STREET_REACH) -> list[tuple[str, str]]:
    """Return the pairs of each name with those that follow it."""
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 : i + 1 + max_step]]


def write_street_scene(
    folder: Path, num_images: int = 40, noise: float = 0.5, seed: int = 0
) -> SurroundingScene:
    """Make a street with cameras along it, a step apart, that see up to 12 steps far.

    Each image has matches with the six that follow it; no other pairs have matches.

    Args:
        folder: folder of the scene.
        num_images: number of cameras, named in their order along the street.
        noise: standard deviation of keypoints in pixels.
        seed: seed of everything random.
    """
    rng = np.random.default_rng(seed)
    camera = pycolmap.Camera(
        model="SIMPLE_PINHOLE", width=640, height=480, params=[500.0, 320.0, 240.0]
    )
    num_points = 40 * num_images
    along = rng.uniform(0, num_images + 12, num_points)
    across = rng.choice([-4.0, 4.0], num_points) + rng.uniform(-0.5, 0.5, num_points)
    points3d = np.column_stack([across, rng.uniform(-3, 2, num_points), along])
    poses, seen, with_camera = {}, {}, {}
    for i in range(num_images):
        name = f"{i:03d}.png"
        turn = rng.uniform(-1, 1, 3) * [5, 25, 3]
        rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        centre = [rng.uniform(-1.5, 1.5), rng.uniform(-0.5, 0.5), i]
        poses[name] = np.column_stack([rotation, -rotation @ centre])
        in_camera = points3d @ rotation.T + poses[name][:, 3]
        places = in_camera[:, :2] / in_camera[:, 2:] * 500 + [320, 240]
        inside = ((places >= 0) & (places < [640, 480])).all(axis=1)
        inside &= (in_camera[:, 2] > 0.5) & (in_camera[:, 2] < 12)
        ids = np.flatnonzero(inside).tolist()
        places = places[inside] + noise * rng.standard_normal((len(ids), 2))
        seen[name] = places, ids
        with_camera[name] = camera, places.astype(np.float32), ids
    scene = SurroundingScene(folder, camera, poses, points3d, seen)
    folder.mkdir(parents=True)
    _write(scene, with_camera, max_step=STREET_REACH)
    return scene


def _write(
    scene: MatchedImages,
    seen: Mapping[str, tuple[pycolmap.Camera, np.ndarray, Sequence[int | None]]],
    max_step: int | None = None,
) -> None:
    """Write grey images, features and the true matches of all pairs.

    Args:
        scene: has the paths.
        seen: image name to its camera, points in COLMAP's pixels, and the number of each one's 3D
            point, None if it has none.
        max_step: number of images after each one that it is matched with; None for all.
    """
    names = sorted(seen)
    with FeatureWriter(scene.features, Provenance("features", {})) as writer:
        for name, (camera, points, _) in seen.items():
            size = (camera.width, camera.height)
            path = scene.images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", size, 128).save(path, format="PNG")
            features = {
                "keypoints": points - np.float32(0.5),
                "scores": np.ones(len(points), np.float32),
                "descriptors": np.zeros((1, len(points)), np.float16),
            }
            writer.write(name, features, size, 1.0, "")
    with MatchWriter(scene.matches, Provenance("matches", {})) as writer:
        for name0, name1 in near_pairs(names, max_step or len(names)):
            ids0, ids1 = seen[name0][2], seen[name1][2]
            places = {number: i for i, number in enumerate(ids1) if number is not None}
            matches0 = [-1 if number is None else places.get(number, -1) for number in ids0]
            writer.write(name0, name1, np.array(matches0), np.ones(len(matches0)), len(ids1))
