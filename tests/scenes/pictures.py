"""Small deterministic pictures: textures, photographs of coloured blocks, a teacher's keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
from PIL import Image


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


def write_photographs(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Write a photograph of each size (width, height) and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, size in enumerate(sizes):
        rng = np.random.default_rng(number)
        blocks = rng.integers(0, 256, (size[1] // 16 + 1, size[0] // 16 + 1, 3), dtype=np.uint8)
        image = cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST)
        names.append(f"photo{number}.png")
        cv2.imwrite(str(folder / names[-1]), cv2.GaussianBlur(image, (5, 5), 1.0))
    return names


def write_teacher(
    path: Path, names: Sequence[str], sizes: Sequence[tuple[int, int]], count: int = 50
) -> dict[str, np.ndarray]:
    """Write random keypoints of each photograph, strongest first, and return them."""
    keypoints = {}
    with h5py.File(path, "w") as file:
        for number, (name, size) in enumerate(zip(names, sizes, strict=True)):
            rng = np.random.default_rng(number)
            keypoints[name] = rng.uniform(0, np.array(size) - 1, (count, 2)).astype(np.float32)
            group = file.create_group(name)
            group["keypoints"] = keypoints[name]
            group["scores"] = np.linspace(1, 0.5, count).astype(np.float16)
    return keypoints
