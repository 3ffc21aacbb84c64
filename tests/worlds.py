"""Small deterministic pictures and feature files that several tests use."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from PIL import Image

from featplug.io.h5file import Provenance
from featplug.io.store import FeatureWriter, MatchWriter


def textured_image(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    """A grey picture with structure at several scales, height×width uint8."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width), np.float32)
    for cell in (4, 8, 16, 32):
        noise = rng.random((height // cell + 2, width // cell + 2), dtype=np.float32)
        picture += cell * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = picture.min(), picture.max()
    return ((picture - low) / (high - low) * 255).astype(np.uint8)


def write_textured_images(folder: Path, num: int, **size: int) -> list[str]:
    """Write that many pictures as PNG; gives their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:03}.png" for i in range(num)]
    for i, name in enumerate(names):
        Image.fromarray(textured_image(i, **size)).save(folder / name)
    return names


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


@dataclass(frozen=True)
class SyntheticScene(MatchedImages):
    """A scene of points seen by cameras, as images, features and true matches of all pairs."""

    truth: pycolmap.Reconstruction
    names: list[str]

    @property
    def images(self) -> Path:
        """Folder of the (grey) images."""
        return self.folder / "images"


def write_synthetic_scene(folder: Path, num_images: int = 6, noise: float = 0.0) -> SyntheticScene:
    """Make a scene with COLMAP's own generator and write it as our files.

    COLMAP's points have their origin at the corner of the first pixel, the feature file's
    keypoints at its centre: 0.5 is taken off.
    """
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = 1
    options.num_cameras_per_rig = 1
    options.num_frames_per_rig = num_images
    options.num_points3D = 300
    pycolmap.set_random_seed(1)
    folder.mkdir(parents=True)
    truth = pycolmap.synthesize_dataset(options)
    rng = np.random.default_rng(1)
    scene = SyntheticScene(folder, truth, sorted(im.name for im in truth.images.values()))
    with FeatureWriter(scene.features, Provenance("features", {})) as writer:
        for image in truth.images.values():
            camera = truth.cameras[image.camera_id]
            path = scene.images / image.name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (camera.width, camera.height), 128).save(path, format="PNG")
            points = np.array([p.xy for p in image.points2D], np.float32).reshape(-1, 2)
            points += noise * rng.standard_normal(points.shape).astype(np.float32)
            features = {
                "keypoints": points - np.float32(0.5),
                "scores": np.ones(len(points), np.float32),
                "descriptors": np.zeros((1, len(points)), np.float16),
            }
            size = (camera.width, camera.height)
            writer.write(image.name, features, size, 1.0, "")
    by_name = {image.name: image for image in truth.images.values()}
    with MatchWriter(scene.matches, Provenance("matches", {})) as writer:
        for name0, name1 in combinations(scene.names, 2):
            seen = {
                p.point3D_id: i for i, p in enumerate(by_name[name1].points2D) if p.has_point3D()
            }
            matches0 = [
                seen.get(p.point3D_id, -1) if p.has_point3D() else -1
                for p in by_name[name0].points2D
            ]
            writer.write(name0, name1, np.array(matches0), np.ones(len(matches0)), len(seen))
    return scene


def write_room_corner(folder: Path, num_images: int = 6, width: int = 480) -> None:
    """Photograph a textured corner of a room, and write the true poses as ``.camera`` files.

    Three walls meet at the origin; nothing hides anything, so each wall is one homography.
    """
    height, focal = width * 3 // 4, 1.1 * width
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    textures = [textured_image(seed, 700, 700) for seed in (11, 12, 13)]
    # Texture pixel (u, v, 1) to the wall's point: two axes of the wall, 2 units long.
    axes = [np.eye(3)[[0, 1]], np.eye(3)[[1, 2]], np.eye(3)[[2, 0]]]
    (folder / "images").mkdir(parents=True)
    (folder / "cameras").mkdir()
    for i in range(num_images):
        angle = np.radians(45 + 7 * (i - (num_images - 1) / 2))
        centre = np.array([2.6 * np.cos(angle), 2.6 * np.sin(angle), 1.7 + 0.15 * (i % 3)])
        forward = np.array([0.45, 0.45, 0.45]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        cam_from_world = np.stack([right, np.cross(forward, right), forward])
        picture = np.zeros((height, width), np.uint8)
        for texture, (axis_u, axis_v) in zip(textures, axes, strict=True):
            wall = np.stack([axis_u * 2 / 700, axis_v * 2 / 700, np.zeros(3)], axis=1)
            wall[:, 2] = -centre
            # Pixel centres are integers for OpenCV, the camera's origin is a pixel's corner.
            shift = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
            homography = shift @ intrinsics @ cam_from_world @ wall
            view = cv2.warpPerspective(texture, homography, (width, height), flags=cv2.INTER_AREA)
            inside = cv2.warpPerspective(
                np.full_like(texture, 255), homography, (width, height), flags=cv2.INTER_NEAREST
            )
            picture[inside > 0] = view[inside > 0]
        name = f"{i:02}.png"
        Image.fromarray(picture).save(folder / "images" / name)
        rows = [*intrinsics, np.zeros(3), *cam_from_world.T, centre, np.array([width, height])]
        text = "\n".join(" ".join(f"{v:.12g}" for v in row) for row in rows)
        (folder / "cameras" / f"{name}.camera").write_text(text + "\n")
