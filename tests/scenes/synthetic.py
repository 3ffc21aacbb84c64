"""Points seen by cameras, as images, features and true matches, from COLMAP's own generator."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

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
            num1 = len(by_name[name1].points2D)
            seen = {
                p.point3D_id: i for i, p in enumerate(by_name[name1].points2D) if p.has_point3D()
            }
            matches0 = [
                seen.get(p.point3D_id, -1) if p.has_point3D() else -1
                for p in by_name[name0].points2D
            ]
            writer.write(name0, name1, np.array(matches0), np.ones(len(matches0)), num1)
    return scene
