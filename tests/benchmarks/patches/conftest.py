"""Small sets in the three formats, cut from two synthetic sequences."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.scenes.patch_sets import write_patch_sets
from tests.scenes.pictures import textured_image


def write_sequence(folder: Path, seed: int, moving: bool) -> None:
    """Six images in Oxford's layout, of other viewpoints or in other light."""
    folder.mkdir(parents=True)
    picture = textured_image(seed, 320, 240)
    for number in range(1, 7):
        step = number - 1
        homography, image = np.eye(3), picture
        if moving:
            homography = np.array([[1 + 0.01 * step, 0.02 * step, -step], [-0.02 * step, 1, step],
                                   [1e-5 * step, 0, 1]])  # fmt: skip
            image = cv2.warpPerspective(picture, homography, (320, 240), flags=cv2.INTER_CUBIC)
        else:
            image = np.rint(255 * (picture / 255.0) ** (1 + 0.2 * step)).astype(np.uint8)
        Image.fromarray(image).save(folder / f"img{number}.png")
        if step:
            np.savetxt(folder / f"H1to{number}p", homography)


@pytest.fixture(scope="session")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of i_light and v_turned."""
    folder = tmp_path_factory.mktemp("sequences") / "synthetic"
    write_sequence(folder / "i_light", 1, moving=False)
    write_sequence(folder / "v_turned", 2, moving=True)
    return folder


@pytest.fixture(scope="session")
def sets(sequences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with hpatches, phototour/synthetic and romepatches; tests copy what they change."""
    folder = tmp_path_factory.mktemp("sets")
    write_patch_sets(sequences, folder, max_keypoints=10, num_pairs=120)
    return folder
