"""Frames under homographies, and grouping them: literal cases, detectors' errors, duplicates."""

from __future__ import annotations

import numpy as np
import pytest

from featplug.training.data.frame_groups import (
    AMBIGUOUS,
    NOISE,
    AgreementOptions,
    group_frames,
    match_frames,
    warp_frames,
)

OPTIONS = AgreementOptions()
SIZE = (200, 100)
HOMOGRAPHY = np.array([[0.9, -0.3, 20], [0.35, 1.1, -8], [4e-4, -3e-4, 1]])


def random_frames(count: int, seed: int = 0) -> np.ndarray:
    """Frames that are at least 12 px apart."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(16 * 8)[:count]
    centres = np.stack([cells % 16, cells // 16], axis=1) * 12.0 + 6
    return np.column_stack([centres, rng.uniform(1, 3, count), rng.uniform(0, 360, count)])


def test_warp_is_the_derivative_of_the_homography() -> None:
    frames = random_frames(20)
    warped = warp_frames(frames, HOMOGRAPHY)

    def warp(points: np.ndarray) -> np.ndarray:
        mapped = np.column_stack([points, np.ones(len(points))]) @ HOMOGRAPHY.T
        return mapped[:, :2] / mapped[:, 2:]

    step = 1e-5
    centres = warp(frames[:, :2])
    along, across = (
        (warp(frames[:, :2] + step * np.stack([np.cos(a), np.sin(a)], axis=1)) - centres) / step
        for a in (np.deg2rad(frames[:, 3]), np.deg2rad(frames[:, 3] + 90))
    )
    area = along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]
    oris = np.rad2deg(np.arctan2(along[:, 1], along[:, 0])) % 360
    expected = np.column_stack([centres, frames[:, 2] * np.sqrt(area), oris])
    np.testing.assert_allclose(warped, expected, rtol=1e-4)


def test_warp_and_back() -> None:
    frames = random_frames(20)
    back = warp_frames(warp_frames(frames, HOMOGRAPHY), np.linalg.inv(HOMOGRAPHY))
    np.testing.assert_allclose(back[:, :2], frames[:, :2], atol=1e-9)
    assert warp_frames(np.zeros((0, 4)), HOMOGRAPHY).shape == (0, 4)


def test_warp_beyond_the_horizon_and_mirrored() -> None:
    horizon = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    assert np.isnan(warp_frames(np.array([[150.0, 5, 1, 0]]), horizon)).all()
    assert np.isnan(warp_frames(np.array([[5.0, 5, 1, 0]]), np.diag([-1.0, 1, 1]))).all()


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        ((0.9, 0, 1, 0), True),
        ((1.1, 0, 1, 0), False),
        ((0, 0, 1.35, 0), True),
        ((0, 0, 1 / 1.45, 0), False),
        ((0, 0, 1, 19), True),
        ((0, 0, 1, -21), False),
    ],
)
def test_limits_of_agreement(change: tuple[float, float, float, float], agrees: bool) -> None:
    frame = np.array([[50.0, 50, 1.5, 355]])
    other = frame * (1, 1, change[2], 1) + (change[0], change[1], 0, change[3])
    other[:, 3] %= 360
    one = np.ones(1)
    assert len(match_frames(frame, other, one, one, OPTIONS)) == agrees
    # In a view that is enlarged twice, its pixel is half as large: only σ counts there.
    frame[:, 2] = other[:, 2] = 0.1
    half = np.full(1, 0.5)
    near = abs(change[0]) <= 0.5 and abs(change[3]) <= 20
    assert len(match_frames(frame, other, half, half, OPTIONS)) == near


def test_each_frame_matches_once() -> None:
    frame = np.array([[50.0, 50, 3, 0]])
    others = np.array([[50.8, 50, 3, 0], [50.2, 50, 3, 0], [50.0, 51, 3, 0]])
    ones = np.ones(3)
    assert match_frames(frame, others, ones[:1], ones, OPTIONS).tolist() == [[0, 1]]
    assert match_frames(others, frame, ones, ones[:1], OPTIONS).tolist() == [[1, 0]]
    assert match_frames(frame, others[:0], ones[:1], ones[:0], OPTIONS).shape == (0, 2)


def test_groups_of_views() -> None:
    frames = random_frames(40)
    homographies = np.stack([np.eye(3), HOMOGRAPHY, np.diag([0.7, 0.7, 1.0])])
    rng = np.random.default_rng(1)
    views, truth = [], []
    for homography in homographies:
        rows = rng.permutation(40)[:30]
        view = warp_frames(frames[rows], homography)
        view += rng.uniform(-0.3, 0.3, view.shape) * (1, 1, 0.1, 10)
        views.append(view)
        truth.append(rows)
    labels = group_frames(views, homographies, SIZE, OPTIONS)
    counts = np.bincount(np.concatenate(truth), minlength=40)
    points: dict[int, int] = {}
    for rows, found in zip(truth, labels, strict=True):
        for row, label in zip(rows.tolist(), found.tolist(), strict=True):
            assert (label == NOISE) == (counts[row] == 1)
            if label != NOISE:
                assert points.setdefault(label, row) == row
    assert sorted(points) == list(range((counts > 1).sum()))


def test_what_may_be_the_same_point_is_left_out() -> None:
    sure = [[50.0, 50, 2, 10], [120, 50, 2, 10]]
    second_orientation = [50.0, 50, 2, 100]
    nearby, another_scale, alone = [122.0, 50, 2, 200], [121.0, 50, 6, 200], [30.0, 20, 2, 0]
    views = [
        np.array([*sure, second_orientation, another_scale]),
        np.array([*sure, second_orientation, another_scale, alone]),
        np.array([*sure, nearby]),
    ]
    labels = group_frames(views, np.stack([np.eye(3)] * 3), SIZE, OPTIONS)
    assert [part.tolist() for part in labels] == [
        [0, 1, AMBIGUOUS, 2],
        [0, 1, AMBIGUOUS, 2, NOISE],
        [0, 1, AMBIGUOUS],
    ]


def test_views_without_keypoints_and_frames_outside() -> None:
    views = [np.zeros((0, 4)), np.array([[-1.0, 5, 2, 0]]), np.array([[-1.0, 5, 2, 0]])]
    labels = group_frames(views, np.stack([np.eye(3)] * 3), SIZE, OPTIONS)
    assert [part.tolist() for part in labels] == [[], [NOISE], [NOISE]]
