"""The turn between an image as stored and upright: Pillow's, exact to half a pixel, and back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from featplug.io.exif import ORIENTATION
from featplug.io.orientation import MIRRORED, Turn

ALL = range(1, 9)


@pytest.mark.parametrize("orientation", ALL)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_pixels_are_turned_as_pillow_turns_them(
    orientation: int, channels: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, *channels), np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    turn = Turn((7, 5), orientation)
    np.testing.assert_array_equal(turn.upright_pixels(pixels), expected)
    assert turn.upright_size == expected.shape[1::-1]


@pytest.mark.parametrize("orientation", ALL)
def test_points_stay_at_their_pixels(orientation: int) -> None:
    turn = Turn((7, 5), orientation)
    pixels = np.arange(35).reshape(5, 7)
    upright = turn.upright_pixels(pixels)
    y, x = np.mgrid[:5, :7]
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    turned = turn.upright_arrays({"keypoints": points})["keypoints"]
    columns, rows = turned.astype(int).T
    np.testing.assert_array_equal(upright[rows, columns], pixels.ravel())
    back = turn.stored_arrays({"keypoints": turned})["keypoints"]
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, points)


@pytest.mark.parametrize("orientation", ALL)
def test_frames_turn_with_their_points(orientation: int) -> None:
    turn = Turn((70, 50), orientation)
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 40, (20, 2)).astype(np.float32)
    oris = rng.uniform(0, 360, 20).astype(np.float32)
    directions = np.stack([np.cos(np.deg2rad(oris)), np.sin(np.deg2rad(oris))], axis=1)
    lafs = np.concatenate([rng.normal(size=(20, 2, 2)), points[..., None]], axis=2)
    arrays = {
        "keypoints": points,
        "oris": oris,
        "lafs": lafs,
        "scores": points[:, 0],
        "image_size": np.array([70, 50], np.float32),
    }
    turned = turn.upright_arrays(arrays)
    ahead = turn.upright_arrays({"keypoints": points + directions})["keypoints"]
    angles = np.rad2deg(np.arctan2(*(ahead - turned["keypoints"]).T[::-1])) % 360
    difference = (angles - turned["oris"] + 180) % 360 - 180
    assert np.abs(difference).max() < 1e-3
    tips = turn.upright_arrays({"keypoints": lafs[..., 0] + lafs[..., 2]})["keypoints"]
    np.testing.assert_allclose(turned["lafs"][..., 0] + turned["lafs"][..., 2], tips, atol=1e-5)
    assert (np.linalg.det(turned["lafs"][..., :2]) * np.linalg.det(lafs[..., :2]) < 0).all() == (
        orientation in MIRRORED
    )
    assert tuple(turned["image_size"]) == turn.upright_size
    np.testing.assert_array_equal(turned["scores"], arrays["scores"])
    back = turn.stored_arrays(turned)
    np.testing.assert_allclose(back["keypoints"], points, atol=1e-4)
    np.testing.assert_allclose(back["oris"], oris, atol=1e-3)
    np.testing.assert_allclose(back["lafs"], lafs, atol=1e-5)
