"""A pair matcher that knows the truth, for photographs of :mod:`tests.scenes.room_corner`.

Its points are as a detector-free network's: a grid in the first image, and where these are in the
second, with noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featplug.io.images import read_image

MATCHER = '''
"""Points of three walls, from poses that views.npz has by the mean grey value of images."""

import time
from pathlib import Path

import numpy as np
import torch

from featplug.base import PairMatcher


class Walls(PairMatcher):
    """True matches of a grid of points, with noise."""

    preprocessing = {"grayscale": True}
    default_conf = {"noise": 0.5, "step": 8, "delay": 0.0}

    def match_images(self, image0, image1):
        time.sleep(self.conf["delay"])
        with np.load(Path(__file__).with_name("views.npz")) as views:
            (k0, pose0), (k1, pose1) = (views[self.key(image)] for image in (image0, image1))
        height, width = image0.shape[1:]
        step = self.conf["step"]
        x, y = np.meshgrid(np.arange(16, width - 16, step), np.arange(16, height - 16, step))
        points0 = np.column_stack([x.ravel(), y.ravel()]).astype(float)
        rays = np.column_stack([points0 + 0.5, np.ones(len(points0))])
        rays = rays @ np.linalg.inv(k0[:, :3]).T @ pose0[:, :3]
        centre = -pose0[:, :3].T @ pose0[:, 3]
        distances = np.full(len(rays), np.inf)
        for axis in range(3):
            distance = -centre[axis] / rays[:, axis]
            wall = centre + distance[:, None] * rays
            hit = (distance > 0) & ((wall > -1e-9) & (wall < 2)).all(1)
            distances[hit] = np.minimum(distances[hit], distance[hit])
        seen = np.isfinite(distances)
        world = centre + distances[seen, None] * rays[seen]
        projected = (world @ pose1[:, :3].T + pose1[:, 3]) @ k1[:, :3].T
        rng = np.random.default_rng(round(1e6 * float(image0.mean() + 7 * image1.mean())))
        points1 = projected[:, :2] / projected[:, 2:] - 0.5
        points1 += rng.normal(0, self.conf["noise"], points1.shape)
        inside = ((points1 >= 0) & (points1 <= [image1.shape[2] - 1, image1.shape[1] - 1])).all(1)
        found = {"keypoints0": points0[seen][inside], "keypoints1": points1[inside]}
        found["scores"] = rng.uniform(0.3, 1, int(inside.sum()))
        return {key: torch.tensor(value, dtype=torch.float32) for key, value in found.items()}

    @staticmethod
    def key(image):
        return f"{round(1e6 * float(image.double().mean()))}"
'''


def write_wall_matcher(
    folder: Path, images: Path, poses: Mapping[str, np.ndarray], width: int
) -> str:
    """Write the matcher for images below a folder, by name to ``cam_from_world``; return its name.

    The images are ``width`` pixels wide, as :mod:`tests.scenes.room_corner` makes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    intrinsics = np.array([[1.1 * width, 0, width / 2], [0, 1.1 * width, width * 3 / 8], [0, 0, 1]])
    views = {}
    for name, pose in poses.items():
        mean = (read_image(images / name, grayscale=True).astype(np.float32) / 255).mean(
            dtype=np.float64
        )
        views[f"{round(1e6 * mean)}"] = np.stack([np.pad(intrinsics, ((0, 0), (0, 1))), pose])
    assert len(views) == len(poses)
    np.savez(folder / "views.npz", **views)
    (folder / "walls.py").write_text(MATCHER)
    return f"{folder / 'walls.py'}:Walls"
