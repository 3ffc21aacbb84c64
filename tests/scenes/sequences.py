"""Small data sets of image pairs, in the layouts that the benchmark reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.scenes.pictures import textured_image

SIZE = (160, 120)


def view(k: int) -> np.ndarray:
    """Homography to the k-th view of a plane, the identity for the first."""
    strength = (k - 1) / 5
    return np.eye(3) + strength * np.array(
        [[-0.12, 0.1, 40.0], [-0.08, -0.05, 14.0], [2e-4, 1e-4, 0.0]]
    )


def _write_image(path: Path, picture: np.ndarray, homography: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    warped = cv2.warpPerspective(picture, homography, SIZE, flags=cv2.INTER_CUBIC)
    Image.fromarray(warped).save(path)


def write_hpatches(folder: Path, *sequences: str) -> None:
    """Write sequences of six images; those that begin with ``i`` get darker."""
    for seed, sequence in enumerate(sequences):
        picture = textured_image(seed + 40, *SIZE)
        for k in range(1, 7):
            still = sequence.startswith("i_")
            matrix = np.eye(3) if still else view(k)
            light = 1 - 0.1 * (k - 1) if still else 1.0
            _write_image(folder / sequence / f"{k}.ppm", (picture * light).astype(np.uint8), matrix)
            if k > 1:
                np.savetxt(folder / sequence / f"H_1_{k}", matrix)


def write_oxford(folder: Path, sequence: str = "plane", size: tuple[int, int] = (320, 240)) -> None:
    """Write a picture and its view under a homography."""
    picture = textured_image(5, *size)
    homography = np.array([[0.9, 0.1, 12.0], [-0.08, 0.95, 20.0], [1e-4, 5e-5, 1.0]])
    target = folder / sequence
    target.mkdir(parents=True)
    Image.fromarray(picture).save(target / "img1.png")
    warped = cv2.warpPerspective(picture, homography, size, flags=cv2.INTER_CUBIC)
    Image.fromarray(warped).save(target / "img2.png")
    np.savetxt(target / "H1to2p", homography)


def write_rdnim(folder: Path) -> None:
    """Write a place with a reference by day, one by night that is another place, and an image."""
    picture = textured_image(7, *SIZE)
    _write_image(folder / "references" / "00001" / "day.jpg", picture, np.eye(3))
    _write_image(folder / "references" / "00001" / "night.jpg", textured_image(8, *SIZE), np.eye(3))
    _write_image(folder / "images" / "00001" / "rotated.jpg", picture, view(3))
    np.savetxt(folder / "images" / "00001" / "rotated.txt", view(3))


def write_wxbs(folder: Path, pair: str = "WGBS/plane") -> None:
    """Write a pair that a camera which moves sideways sees: near rows shift more than far ones."""
    picture = np.concatenate([textured_image(i, 160, 40) for i in range(3)])
    moved = np.concatenate(
        [np.roll(picture[40 * i : 40 * i + 40], 8 + 9 * i, axis=1) for i in range(3)]
    )
    _write_image(folder / pair / "01.png", picture, np.eye(3))
    _write_image(folder / pair / "02.png", moved, np.eye(3))
    points = np.random.default_rng(0).uniform([10, 0], [100, 119], (20, 2))
    shift = 8 + 9 * (points[:, 1] // 40)
    corrs = np.column_stack([points, points[:, 0] + shift, points[:, 1]])
    np.savetxt(folder / pair / "corrs.txt", corrs)
    np.savetxt(folder / pair / "F.txt", [[0, 0, 0], [0, 0, -1], [0, 1, 0]])
