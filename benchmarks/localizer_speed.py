"""Seconds of a photograph beyond its extraction, in a large model that is made for it.

``python -m benchmarks.localizer_speed --num-images 1000`` makes a model of a long wall, whose
images have random unit descriptors with noise, and localizes queries between its images by
:class:`featplug.Localizer`, whose steps are retrieval, matching and the pose.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
import torch

from featplug.api import Feature, Features
from featplug.api.localizer import Localizer
from featplug.cli.command_line import Unprefixed, run_command
from featplug.colmap.known_poses import model_from_poses
from featplug.colmap.model_files import write_model_files
from featplug.io.store import FeatureWriter
from featplug.metrics.poses import camera_centres
from featplug.stages.extract import ExtractOptions, as_stored, features_provenance

_CAMERA = pycolmap.Camera(
    model="PINHOLE", width=1600, height=1200, params=[1200.0, 1200.0, 800.0, 600.0]
)
_DEPTH = 10.0
_WIDTH = _DEPTH * 1600 / 1200
"""Width of the wall that an image sees, in metres."""
_STEP = _WIDTH / 20
"""Distance of two images: each of 20 sees a part of the same wall."""
_NOISE = 0.03
"""Standard deviation of each dimension of a descriptor; 1/√128 is that of a random one."""


@dataclass(frozen=True)
class LocalizerSpeed:
    """Size of the model and number of the queries."""

    num_images: int = 1000
    """Number of images in the model."""
    num_keypoints: int = 2000
    """Number of keypoints of each image and query."""
    num_retrieved: int = 20
    """Number of images that a query is matched with."""
    num_queries: int = 10
    """Number of queries."""
    seed: int = 0
    """Seed of the points, the descriptors and the noise."""


class _Wall:
    """Points on a wall along x, a little uneven, and what cameras along it see."""

    def __init__(self, options: LocalizerSpeed) -> None:
        self.rng = np.random.default_rng(options.seed)
        length = options.num_images * _STEP + 2 * _WIDTH
        num = round(options.num_keypoints * length / _WIDTH)
        low, high = (0, -_DEPTH / 2, _DEPTH - 1), (length, _DEPTH / 2, _DEPTH)
        points = self.rng.uniform(low, high, (num, 3))
        self.points = points[np.argsort(points[:, 0])]
        self.descriptors = _unit(self.rng.normal(size=(num, 128)))

    def view(self, x: float, num: int) -> tuple[np.ndarray, np.ndarray, Features]:
        """Return pose, indices of the points and features of a camera in front of the wall."""
        pose = np.column_stack([np.eye(3), [-x, 0, 0]])
        seen = np.array(_CAMERA.img_from_cam(self.points - (x, 0, 0))) - 0.5
        (inside,) = np.nonzero(((seen >= 0) & (seen < (1599, 1199))).all(1))
        chosen = np.sort(self.rng.permutation(inside)[:num])
        noise = self.rng.normal(0, _NOISE, (len(chosen), 128))
        features = Features(
            keypoints=(seen[chosen] + self.rng.normal(0, 0.5, (len(chosen), 2))).astype("f4"),
            scores=np.ones(len(chosen), np.float32),
            descriptors=_unit(self.descriptors[chosen] + noise),
            image_size=(1600, 1200),
            method="sift",
        )
        return pose, chosen, features


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_map(folder: Path, options: LocalizerSpeed) -> _Wall:
    """Write the model and the features of its images into a folder."""
    wall, feature, storage = _Wall(options), Feature("sift", device="cpu"), ExtractOptions()
    poses, keypoints, tracks = {}, {}, dict[int, list[pycolmap.TrackElement]]()
    with FeatureWriter(folder / "feats.h5", features_provenance(feature, storage)) as writer:
        for index in range(options.num_images):
            name = f"{index:06}.jpg"
            x = _WIDTH + index * _STEP
            poses[name], chosen, features = wall.view(x, options.num_keypoints)
            writer.write(name, as_stored(features.arrays(), storage), (1600, 1200), 1.0, f"{index}")
            keypoints[name] = features.keypoints + 0.5
            for row, point in enumerate(chosen.tolist()):
                tracks.setdefault(point, []).append(pycolmap.TrackElement(index + 1, row))
    model = model_from_poses(dict.fromkeys(poses, _CAMERA), poses, keypoints)
    for point, members in tracks.items():
        model.add_point3D(wall.points[point], pycolmap.Track(members))
    (folder / "model").mkdir()
    write_model_files(model, folder / "model")
    return wall


def main(options: Unprefixed[LocalizerSpeed]) -> None:
    """Measure how long a photograph takes beyond its extraction."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wall = make_map(folder, options)
        start = time.perf_counter()
        localizer = Localizer(folder / "model", features=folder / "feats.h5", device="cpu")
        print(f"load {time.perf_counter() - start:.1f} s, {torch.get_num_threads()} threads")
        seconds, of_cpu, errors, inliers = [], [], [], []
        for x in wall.rng.uniform(_WIDTH, _WIDTH + options.num_images * _STEP, options.num_queries):
            pose, _, features = wall.view(float(x), options.num_keypoints)
            start, start_of_cpu = time.perf_counter(), time.process_time()
            found = localizer.localize(features, _CAMERA, options.num_retrieved)
            seconds.append(time.perf_counter() - start)
            of_cpu.append(time.process_time() - start_of_cpu)
            if found.is_localized and found.cam_from_world is not None:
                centres = camera_centres(np.stack([found.cam_from_world, pose]))
                errors.append(float(np.linalg.norm(centres[0] - centres[1])))
                inliers.append(found.num_inliers)
        print(
            f"{options.num_queries} queries in {options.num_images} images: median "
            f"{np.median(seconds):.3f} s ({np.median(of_cpu):.3f} s of processor time), longest "
            f"{max(seconds):.3f} s; {len(errors)} localized, "
            f"largest error {max(errors, default=np.inf):.4f} m, median of inliers "
            f"{np.median(inliers) if inliers else 0:.0f}"
        )


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.localizer_speed")
