"""Patches of an image's keypoints, beside one ``cv2.remap`` for each."""

from __future__ import annotations

import time

import cv2
import numpy as np

from benchmarks.speed.measure import Case, Figures, Setup
from featplug.io.images import list_images, read_image
from featplug.keypoints.patches import sample_patches

_NUM = 5000
_SIZE = 32
_ROUNDS = 5


def _inputs(setup: Setup) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A photograph and SIFT-like frames: positions, radii, orientations."""
    image = read_image(setup.images / list_images(setup.images)[0], grayscale=True)
    random = np.random.default_rng(0)
    keypoints = random.random((_NUM, 2)) * (np.array(image.shape[::-1]) - 1)
    radii = 12 * np.exp(random.normal(0, 0.6, _NUM))
    return image.astype(np.float32), keypoints, radii, random.uniform(0, 360, _NUM)


def patches_ours(setup: Setup) -> Figures:
    """``sample_patches``."""
    inputs = _inputs(setup)
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        patches = sample_patches(*inputs, _SIZE)
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "patches": len(patches)}


def patches_one_by_one(setup: Setup) -> Figures:
    """A grid and a remap for each keypoint, and how far ours are from them."""
    image, keypoints, radii, oris = _inputs(setup)
    steps = (2 * np.arange(_SIZE) + 1) / _SIZE - 1
    u, v = np.meshgrid(steps, steps)
    patches = np.empty((_NUM, _SIZE, _SIZE), np.float32)
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for i in range(_NUM):
            cosine, sine = np.cos(np.deg2rad(oris[i])), np.sin(np.deg2rad(oris[i]))
            x = keypoints[i, 0] + radii[i] * (cosine * u - sine * v)
            y = keypoints[i, 1] + radii[i] * (sine * u + cosine * v)
            patches[i] = cv2.remap(
                image,
                x.astype(np.float32),
                y.astype(np.float32),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        seconds.append(time.perf_counter() - start)
    difference = np.abs(patches - sample_patches(image, keypoints, radii, oris, _SIZE)).max()
    return {"seconds": min(seconds), "largest_difference": float(difference)}


CASES: dict[str, Case] = {
    "patches": Case("doap", {"featplug": patches_ours, "one by one": patches_one_by_one}),
}
