"""The sets that these tests use: patches that are cut from sequences correspond."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.scenes.patch_sets import cut_patches, read_sequence
from tests.scenes.pictures import textured_image


def test_windows_follow_the_homography_to_the_pixel(tmp_path: Path) -> None:
    """Of a picture that is shifted by whole pixels the patches are the same, to the last bit."""
    picture = textured_image(3, 360, 260)
    for number in range(1, 7):
        dx, dy = 3 * number, 2 * number
        crop = picture[dy : dy + 220, dx : dx + 300]
        Image.fromarray(crop).save(tmp_path / f"img{number}.png")
        if number > 1:
            np.savetxt(tmp_path / f"H1to{number}p", [[1, 0, 3 - dx], [0, 1, 2 - dy], [0, 0, 1]])
    sequence = read_sequence(tmp_path, max_keypoints=8)
    assert len(sequence.keypoints) == 8
    small = sequence.keypoints[:, 2] < 40  # others come from a level of a pyramid
    assert small.any()
    random = np.random.default_rng(0)
    reference = cut_patches(sequence, 0, 64, 0.0, random)[small]
    for image in range(1, 6):
        patches = cut_patches(sequence, image, 64, 0.0, random)[small]
        np.testing.assert_allclose(patches, reference.astype(float), atol=1)


def test_more_noise_changes_patches_more(sequences: Path) -> None:
    sequence = read_sequence(sequences / "v_turned", max_keypoints=10)
    reference = cut_patches(sequence, 0, 32, 0.0, np.random.default_rng(0)).astype(float)
    errors = []
    for noise in (0.0, 0.08, 0.23):
        patches = cut_patches(sequence, 3, 32, noise, np.random.default_rng(0))
        errors.append(np.abs(patches - reference).mean())
    assert errors == sorted(errors)
    shuffled = np.abs(reference - np.roll(reference, 1, axis=0)).mean()
    assert errors[0] < 0.3 * shuffled
    assert errors[2] < shuffled
