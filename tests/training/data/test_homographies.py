"""Random homographies stay within their options; warps keep to pixel centres."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from featplug.training.data.homographies import (
    GENERAL,
    LISRD,
    MTLDESC,
    HomographyOptions,
    inside,
    random_homography,
    rotation_angle,
    valid_masks,
    warp_images,
    warp_points,
)
from tests.conftest import interpolates_exactly

SIZE = (320, 240)
PRESETS = pytest.mark.parametrize("options", [MTLDESC, LISRD, GENERAL])


def draw(options: HomographyOptions, count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([random_homography(rng, size, options) for _ in range(count)])


def corners(size: tuple[int, int]) -> torch.Tensor:
    width, height = size
    area = [[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]]
    return torch.tensor([area], dtype=torch.float64)


@PRESETS
def test_the_whole_image_lies_before_the_horizon(options: HomographyOptions) -> None:
    homographies = torch.from_numpy(draw(options, 500))
    warped = warp_points(corners(SIZE).expand(500, -1, -1), homographies)
    assert warped.isfinite().all()
    following = warped.roll(-1, 1) - warped
    preceding = following.roll(1, 1)
    turns = preceding[..., 0] * following[..., 1] - preceding[..., 1] * following[..., 0]
    assert bool((turns > 0).all())  # no corner is folded over


@PRESETS
def test_same_seed_same_homographies(options: HomographyOptions) -> None:
    np.testing.assert_array_equal(draw(options, 5), draw(options, 5))
    assert len({h.tobytes() for h in draw(options, 50)}) == 50


def test_nothing_to_draw_is_the_identity() -> None:
    still = HomographyOptions(
        perspective=(0, 0), scale=(1, 1), max_angle=0, translation=False, patch_ratio=0.85
    )
    np.testing.assert_allclose(draw(still, 3), np.tile(np.eye(3), (3, 1, 1)), atol=1e-12)


def test_the_image_shrinks_to_the_patch_about_its_centre() -> None:
    shrink = HomographyOptions(
        source="image", perspective=(0, 0), scale=(1, 1), max_angle=0, translation=False,
        patch_ratio=0.8,
    )  # fmt: skip
    expected = np.diag([0.8, 0.8, 1.0])
    expected[:2, 2] = 0.2 * (np.array(SIZE) - 1) / 2
    np.testing.assert_allclose(draw(shrink, 1)[0], expected, atol=1e-12)


def test_scales_fill_their_range() -> None:
    options = HomographyOptions(perspective=(0, 0), scale=(0.5, 2.0), max_angle=0)
    scales = draw(options, 400)[:, 0, 0]
    assert 0.5 <= scales.min() < 0.52
    assert 1.98 < scales.max() <= 2.0
    normal = draw(replace(options, distribution="normal"), 400)[:, 0, 0]
    assert normal.min() >= 0.5
    assert normal.max() <= 2.0
    assert abs(normal.mean() - 1.25) < 0.05
    assert normal.std() < 0.8 * scales.std()


def test_rotations() -> None:
    still = HomographyOptions(perspective=(0, 0), scale=(1, 1), translation=False)
    angles = [rotation_angle(h, (300, 300)) for h in draw(still, 300, (300, 300))]
    assert min(angles) < -1.5 < 1.5 < max(angles)
    steps = replace(LISRD, perspective=(0.0, 0.0))
    found = np.array([rotation_angle(h, (300, 300)) for h in draw(steps, 400, (300, 300))])
    np.testing.assert_allclose(np.unique(found.round(9)), np.linspace(-1.57, 1.57, 25), atol=1e-6)
    # In the direction from x to y, as the sign of the sine says.
    quarter = np.array([[0.0, -1, 239], [1, 0, 0], [0, 0, 1]])
    assert rotation_angle(quarter, (240, 240)) == pytest.approx(np.pi / 2)
    assert rotation_angle(7 * quarter, (240, 240)) == pytest.approx(np.pi / 2)


@PRESETS
def test_without_rotation_nothing_turns(options: HomographyOptions) -> None:
    for homography in draw(options.without_rotation(), 100):
        assert abs(rotation_angle(homography, SIZE)) < 1e-9


@interpolates_exactly
def test_half_pixel_shift_averages_neighbours() -> None:
    """An origin at the pixel's corner, or a scaling by W/(W-1), would not."""
    image = torch.rand(1, 2, 9, 13, dtype=torch.float64)
    shift = torch.eye(3, dtype=torch.float64)[None].clone()
    shift[0, 0, 2] = 0.5
    warped = warp_images(image, shift, (9, 13))
    torch.testing.assert_close(warped[..., 1:], (image[..., 1:] + image[..., :-1]) / 2)


def test_doubling_keeps_pixel_centres() -> None:
    """The image's area doubles: a pixel's area becomes those of four."""
    rng = np.random.default_rng(0)
    ramp = torch.from_numpy(np.add.outer(3.0 * np.arange(8), np.arange(10)))[None, None]
    double = torch.tensor([[[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]], dtype=torch.float64)
    warped = warp_images(ramp, double, (16, 20))[0, 0]
    mask = valid_masks(double, torch.tensor([[10, 8]]), (16, 20))[0]
    assert mask[1:-1, 1:-1].all()
    assert not mask[0].any()
    x, y = rng.integers(1, 19, 20), rng.integers(1, 15, 20)
    expected = torch.from_numpy(3 * (y - 0.5) / 2 + (x - 0.5) / 2)
    torch.testing.assert_close(warped[y, x], expected)


def test_warped_image_and_warped_points_agree() -> None:
    """The spot that was drawn around a point lies around the warped point."""
    points = torch.tensor([[[120.0, 90.0], [200.0, 140.0], [160.0, 60.0]]], dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(240.0), torch.arange(320.0), indexing="ij")
    for homography in torch.from_numpy(draw(GENERAL, 5)):
        warped = warp_points(points, homography[None])[0]
        for point, target in zip(points[0], warped, strict=True):
            spot = torch.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / 18)[None, None]
            seen = warp_images(spot, homography[None], (240, 320))[0, 0]
            if (
                bool(inside(target[None, None], torch.tensor(SIZE) - 20).all())
                and target.min() > 20
            ):
                centroid = torch.stack([(x * seen).sum(), (y * seen).sum()]) / seen.sum()
                # A tilted spot is not symmetrical, hence not exactly.
                torch.testing.assert_close(centroid.double(), target, atol=0.2, rtol=0)


def test_points_beyond_the_horizon_are_nowhere() -> None:
    tilt = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]]], dtype=torch.float64)
    warped = warp_points(torch.tensor([[[50.0, 10.0], [150.0, 10.0]]]), tilt)
    torch.testing.assert_close(warped[0, 0], torch.tensor([100.0, 20.0]))
    assert warped[0, 1].isnan().all()
    assert inside(warped, torch.tensor([320, 240])).tolist() == [[True, False]]
    assert not valid_masks(torch.linalg.inv(tilt), torch.tensor([[320, 240]]), (20, 320))[
        0, :, 150:
    ].any()
