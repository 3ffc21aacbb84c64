"""The picture of a localization: the view from above, and matches."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from featplug.metrics.poses import camera_centres
from featplug.plots import MatchedPair, draw_localization, ground_axes
from tests.scenes.pictures import textured_image


def upright_cameras(num: int, world: np.ndarray) -> np.ndarray:
    """Cameras that look about horizontally, at 1.7 m, in a world turned by a rotation."""
    poses = []
    for i in range(num):
        angle = 2 * np.pi * i / num
        forward = np.array([np.cos(angle), np.sin(angle), 0])
        rotation = np.stack([np.cross(forward, [0, 0, 1]), [0, 0, -1], forward])
        tilt = Rotation.from_euler("x", 8 * (-1) ** i, degrees=True).as_matrix()
        centre = np.array([3 * np.cos(angle), 5 * np.sin(angle), 1.7])
        rotation = tilt @ rotation
        poses.append(np.column_stack([rotation @ world.T, -rotation @ centre]))
    return np.stack(poses)


def test_the_ground_is_found_in_a_world_of_any_orientation() -> None:
    for seed in range(5):
        world = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
        poses = upright_cameras(12, world)
        axes = ground_axes(poses)
        np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-9)
        # From above nothing is left of the height, and distances are those on the ground.
        flat = camera_centres(poses) @ axes.T
        np.testing.assert_allclose(axes @ world @ [0, 0, 1], 0, atol=1e-9)
        lengths = np.linalg.norm(flat - flat.mean(0), axis=1)
        truth = [np.hypot(3 * np.cos(a), 5 * np.sin(a)) for a in np.arange(12) * np.pi / 6]
        np.testing.assert_allclose(lengths, truth, atol=1e-6)
        # Counter-clockwise seen from above, as the cameras were placed: not mirrored.
        here = flat - flat.mean(0)
        there = np.roll(here, -1, axis=0)
        assert (here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0] > 0).all()


@pytest.mark.parametrize("is_wall", [False, True])
def test_turned_photographs_do_not_tilt_the_ground(is_wall: bool) -> None:
    """As of a phone: every second photograph is stored turned by 90°."""
    world = Rotation.random(rng=np.random.default_rng(7)).as_matrix()
    poses = upright_cameras(12, world)
    if is_wall:  # all look the same way, from places along a line
        centres = np.column_stack([np.arange(12.0), np.zeros(12), np.full(12, 1.7)])
        rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        poses = np.stack([np.column_stack([rotation @ world.T, -rotation @ c]) for c in centres])
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    poses[1::2] = quarter @ poses[1::2]
    axes = ground_axes(poses)
    np.testing.assert_allclose(axes @ world @ [0, 0, 1], 0, atol=1e-9)


def test_the_picture_shows_the_matches(tmp_path: Path) -> None:
    """Green lines between the two photographs, which have no green themselves."""
    poses = upright_cameras(8, np.eye(3))
    estimated = {"day": {"a": poses[0]}, "night": {"b": poses[3]}, "dusk": {}}
    points = np.array([[20.0, 20], [100, 80]])
    pair = MatchedPair("two", textured_image(0), textured_image(1, 100, 160), points, points)
    view = ground_axes(poses), camera_centres(poses)
    draw_localization(tmp_path / "deep" / "p.png", *view, estimated, {"a": poses[1]}, [pair])
    picture = cv2.imread(str(tmp_path / "deep" / "p.png")).astype(int)
    right = picture[:, picture.shape[1] // 2 :]
    green = (right[..., 1] > right[..., 0] + 60) & (right[..., 1] > right[..., 2] + 60)
    assert green.sum() > 50
    draw_localization(tmp_path / "none.png", *view, {"day": {}}, None, [])
    assert cv2.imread(str(tmp_path / "none.png")) is not None
