"""Patches: the authors' own ones, ramps of which every value is known, and aliasing."""

from __future__ import annotations

import numpy as np
import pytest

from featplug.keypoints.patches import (
    gaussian_pyramid,
    patch_grid,
    sample_patches,
    sample_patches_from_pyramid,
    standardise_patches,
)
from tests.conftest import interpolates_exactly
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity


def ramp(height: int, width: int) -> np.ndarray:
    """An image whose value at (x, y) is 2x + 100y."""
    rows, columns = np.mgrid[:height, :width]
    return (2 * columns + 100 * rows).astype(np.float32)


@pytest.mark.parametrize(("oris", "across", "down"), [(0, 2, 100), (90, 100, -2), (180, -2, -100)])
def test_a_patch_turns_with_its_keypoint(oris: float, across: float, down: float) -> None:
    # Pixels of the patch are 3 px apart; its rows run along the orientation.
    patch = sample_patches(ramp(40, 50), [[20.25, 15.5]], [7.5], [oris], 5)[0]
    steps = 3 * np.arange(-2, 3)
    expected = 2 * 20.25 + 100 * 15.5 + across * steps[None, :] + down * steps[:, None]
    np.testing.assert_allclose(patch, expected, atol=1e-2)


def test_the_grid_is_symmetric_or_starts_in_the_corner() -> None:
    x, y = patch_grid([[10, 20]], [8], [0], 4)
    np.testing.assert_allclose(x[0], [[4, 8, 12, 16]] * 4)
    np.testing.assert_allclose(y[0], np.transpose([[14, 18, 22, 26]] * 4))
    x, _ = patch_grid([[10, 20]], [8], [0], 4, centred=False)
    np.testing.assert_allclose(x[0, 0], [2, 6, 10, 14])


def test_the_border_is_replicated() -> None:
    patch = sample_patches(ramp(30, 30), [[0, 10]], [16], [0], 32)[0]
    np.testing.assert_allclose(patch[:, :16], np.repeat(patch[:, 15:16], 16, axis=1), atol=1.01)
    assert patch[0, 0] == 0


def test_many_patches_are_those_sampled_one_by_one() -> None:
    random = np.random.default_rng(0)
    image = random.random((60, 80), dtype=np.float32)
    keypoints = random.uniform(-0.5, 60, (2500, 2))
    radii, oris = random.uniform(1, 60, 2500), random.uniform(0, 360, 2500)
    patches = sample_patches(image, keypoints, radii, oris, 32)
    levels = gaussian_pyramid(image)
    pyramid = sample_patches_from_pyramid(levels, keypoints, radii, oris, 32)
    for i in (0, 127, 128, 1024, 2499):
        one = slice(i, i + 1)
        frame = (keypoints[one], radii[one], oris[one])
        np.testing.assert_array_equal(sample_patches(image, *frame, 32)[0], patches[i])
        np.testing.assert_array_equal(
            sample_patches_from_pyramid(levels, *frame, 32)[0], pyramid[i]
        )


def test_no_keypoints_give_no_patches() -> None:
    none = np.zeros((0, 2)), np.zeros(0), np.zeros(0), 32
    assert sample_patches(ramp(9, 9), *none).shape == (0, 32, 32)
    assert sample_patches_from_pyramid(gaussian_pyramid(ramp(9, 9)), *none).shape == (0, 32, 32)


def test_the_pyramid_does_not_alias() -> None:
    # Stripes two pixels wide, under a window of eight image pixels to one of the patch.
    image = np.tile(np.float32([0, 0, 1, 1]), (256, 64))
    frame = ([[128.0, 128.0]], [64.0], [0.0])
    assert np.unique(sample_patches(image, *frame, 16)).size == 1  # one phase of the stripes
    smooth = sample_patches_from_pyramid(gaussian_pyramid(image), *frame, 16)
    np.testing.assert_allclose(smooth, 0.5, atol=0.02)


@interpolates_exactly
@pytest.mark.parametrize("radius", [10.0, 40.0, 150.0])
def test_the_pyramid_keeps_positions(radius: float) -> None:
    image = ramp(600, 600)
    frame = ([[301.5, 298.0]], [radius], [30.0])
    exact = sample_patches(image, *frame, 32)
    # A ramp is its own blur, away from the border.
    patches = sample_patches_from_pyramid(gaussian_pyramid(image), *frame, 32)
    np.testing.assert_allclose(patches, exact, atol=0.05)


def test_a_patch_larger_than_the_pyramid_is_high_takes_the_last_level() -> None:
    image = np.full((3, 5), 7, np.float32)
    levels = gaussian_pyramid(image)
    assert [level.shape for level in levels] == [(3, 5), (2, 3), (1, 2)]
    assert (sample_patches_from_pyramid(levels, [[2.0, 1.0]], [500.0], [0.0], 8) == 7).all()


def test_standardised_patches() -> None:
    patches = np.stack([ramp(4, 4), np.full((4, 4), 7, np.float32)])
    standard = standardise_patches(patches, 0)
    assert standard[0].mean() == pytest.approx(0, abs=1e-6)
    assert standard[0].std() == pytest.approx(1)
    assert not standard[1].any()


@pytest.mark.parametrize("step", [None, 1 / 32])
def test_golden_patches(golden_set: GoldenSet, parity: Parity, step: float | None) -> None:
    """The authors' sampler on SIFT frames, run with an OpenCV that rounds to 1/32 pixel."""
    golden = golden_set.arrays("contextdesc/sampler")
    grey, frames = golden["gray"].astype(np.float32), golden["frames"]
    radii = np.rint(3 * frames[:, 2] / 2 * np.sqrt(2) * 5 / 2)
    radii = np.minimum(radii, np.hypot(*grey.shape))
    patches = sample_patches(
        grey, frames[:, :2], radii, frames[:, 3], 32, centred=False, coordinate_step=step
    )
    name = "patches, exact positions" if step is None else "patches, positions in 1/32 px"
    # A position between two steps may round either way; that moves one sample by 1/32 px.
    tolerance, outliers = (0.15, 0.0) if step is None else (0.02, 0.1)
    standard = standardise_patches(patches, 1e-8)
    parity.compare("patches", name, standard, golden["patches_nopyr"], tolerance, outliers)
    rms = np.sqrt(np.square(standard - golden["patches_nopyr"]).mean())
    assert rms < (0.015 if step is None else 1e-3)
