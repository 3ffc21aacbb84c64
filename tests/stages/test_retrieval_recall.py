"""Retrieval on a real room: are the images found that see the same surfaces?"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from featplug.methods import feature_conf
from featplug.stages.extract import extract_features
from featplug.stages.retrieval_pairs import pairs_from_retrieval
from featplug.stages.retrieve import global_descriptors

FRAMES = range(0, 1000, 20)
FOCAL, CENTRE = 585.0, np.array([320.0, 240.0])
OVERLAP = 0.3
"""Part of the pixels that two frames see both, from which on they are to be found."""


def frame(number: int) -> str:
    return f"frame-{number:06}.color.jpg"


def overlaps(folder: Path) -> np.ndarray:
    """Part of each frame's pixels whose surface the other one sees, the smaller of the two ways."""
    depths, poses, points = [], [], []
    columns, rows = np.meshgrid(np.arange(8, 640, 16), np.arange(8, 480, 16))
    for number in FRAMES:
        stem = folder / f"frame-{number:06}"
        depth = cv2.imread(f"{stem}.depth.png", cv2.IMREAD_UNCHANGED) / 1000
        depth[depth > 60] = 0  # none was measured
        world_from_cam = np.loadtxt(f"{stem}.pose.txt")
        z = depth[rows, columns]
        rays = (np.stack([columns, rows], -1) - CENTRE) / FOCAL
        local = np.concatenate([rays * z[..., None], z[..., None]], -1)[z > 0]
        depths.append(depth)
        poses.append(world_from_cam)
        points.append(local @ world_from_cam[:3, :3].T + world_from_cam[:3, 3])
    seen = np.zeros((len(points), len(points)))
    for i, world in enumerate(points):
        for j, (depth, pose) in enumerate(zip(depths, poses, strict=True)):
            local = (world - pose[:3, 3]) @ pose[:3, :3]
            local = local[local[:, 2] > 0.1]
            x, y = np.round(local[:, :2] / local[:, 2:] * FOCAL + CENTRE).astype(int).T
            inside = (x >= 0) & (x < 640) & (y >= 0) & (y < 480)
            found = depth[y[inside], x[inside]]
            # The poses are good to some centimetres.
            seen[i, j] = np.sum(abs(found - local[inside, 2]) < 0.15) / len(world)
    both = np.minimum(seen, seen.T)
    np.fill_diagonal(both, 0)
    return both


@pytest.fixture(scope="module")
def kitchen_features(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    conf = feature_conf("sift")
    conf["preprocessing"]["resize_max"] = 320
    names = [frame(number) for number in FRAMES]
    folder = tmp_path_factory.mktemp("kitchen")
    images = shared / "data" / "redkitchen"
    return extract_features(conf, images, folder, image_list=names).feature_path


def recall(path: Path, relevant: np.ndarray, num: int) -> float:
    """Part of the nearest ``num`` images that are relevant, of those that can be."""
    index = {frame(number): i for i, number in enumerate(FRAMES)}
    hits = np.zeros(len(relevant))
    for query, image in pairs_from_retrieval(path, num):
        hits[index[query]] += relevant[index[query], index[image]]
    return float(np.mean(hits / np.minimum(num, relevant.sum(1))))


@pytest.mark.slow
def test_overlapping_images_are_found_in_a_room(
    shared: Path, kitchen_features: Path, tmp_path: Path
) -> None:
    relevant = overlaps(shared / "data" / "redkitchen") > OVERLAP
    assert relevant.sum(1).min() >= 5
    chance = relevant.sum() / (len(relevant) * (len(relevant) - 1))
    path = global_descriptors("vlad", None, tmp_path, features=kitchen_features).descriptor_path
    found = [recall(path, relevant, num) for num in (1, 5, 10)]
    # Measured: 1.00, 0.98, 0.90.
    assert np.all(np.array(found) > [0.95, 0.93, 0.85]), found
    assert chance < 0.5
