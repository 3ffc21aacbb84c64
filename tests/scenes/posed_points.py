"""Images with true poses: a list of pairs, and files of the features and matches of points."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

K = np.array([[310.0, 0, 155], [0, 305, 122], [0, 0, 1]])
SIZE = 320, 240
NUM_POINTS = 150


def write_posed_points(
    folder: Path,
    num_images: int = 6,
    prefix: str = "view",
    seed: int = 0,
    noise: float = 0.4,
    wrong: float = 0.3,
) -> list[tuple[str, str]]:
    """Write images, ``town_pairs_with_gt.txt``, ``feats.h5`` and ``matches.h5``; return the pairs.

    Keypoint i is the projection of point i in every image. Some matches are wrong. The last pair
    has three matches, which define no pose.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    world = rng.uniform([-4, -3, 6], [4, 3, 12], (NUM_POINTS, 3))
    poses, names = [], [f"{prefix}{i}.png" for i in range(num_images)]
    with h5py.File(folder / "feats.h5", "w") as file:
        for name in names:
            pose = np.eye(4)
            pose[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.1, 3)).as_matrix()
            pose[:3, 3] = rng.normal(0, 0.8, 3)
            poses.append(pose)
            pixels = (world @ pose[:3, :3].T + pose[:3, 3]) @ K.T
            keypoints = pixels[:, :2] / pixels[:, 2:] + rng.normal(0, noise, (NUM_POINTS, 2))
            group = file.create_group(name)
            group["keypoints"] = keypoints.astype(np.float32)
            group["scores"] = np.ones(NUM_POINTS, np.float32)
            group["descriptors"] = np.zeros((1, NUM_POINTS), np.float16)
            group["image_size"] = np.array(SIZE)
            pixels = rng.integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize(SIZE).save(folder / name)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    lines = []
    with h5py.File(folder / "matches.h5", "w") as file:
        for name0, name1 in pairs:
            i, j = names.index(name0), names.index(name1)
            relative = poses[j] @ np.linalg.inv(poses[i])
            numbers = [*K.ravel(), *K.ravel(), *relative.ravel()]
            lines.append(" ".join([name0, name1, "0", "0", *map(repr, map(float, numbers))]))
            matches = np.arange(NUM_POINTS)
            among = rng.choice(NUM_POINTS, int(wrong * NUM_POINTS), replace=False)
            matches[among] = np.roll(among, 1)
            if (name0, name1) == pairs[-1]:
                matches[3:] = -1
            group = file.create_group(f"{name0}/{name1}")
            group["matches0"] = matches.astype(np.int32)
            group["matching_scores0"] = (matches >= 0).astype(np.float32)
    (folder / "town_pairs_with_gt.txt").write_text("\n".join(lines) + "\n")
    return pairs
