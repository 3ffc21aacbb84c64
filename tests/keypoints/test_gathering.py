from __future__ import annotations

import numpy as np

from featplug.keypoints.gathering import KeypointFinder, gather_keypoints, one_to_one

SQUARE = np.array([2.0, 2.0])


def test_a_cell_keeps_its_strongest_point_and_adds_up_what_pairs_say() -> None:
    points = np.array([[4.2, 4.2], [4.8, 4.4], [4.8, 4.4], [9.0, 1.0], [5.6, 4.4]], np.float32)
    scores = np.array([0.9, 0.5, 0.6, 0.3, 0.2], np.float32)
    keypoints, found = gather_keypoints(points, scores, SQUARE)
    # A pixel's corner is a cell's: cells end at 3.5, 5.5 and 7.5, and two pairs saw (4.8, 4.4).
    np.testing.assert_allclose(keypoints, [[4.8, 4.4], [9.0, 1.0], [5.6, 4.4]], atol=1e-6)
    np.testing.assert_allclose(found, [2.0, 0.3, 0.2], atol=1e-6)
    assert keypoints.dtype == found.dtype == np.float32
    few, _ = gather_keypoints(points, scores, SQUARE, max_keypoints=1)
    np.testing.assert_array_equal(few, keypoints[:1])


def test_cells_are_of_the_image_as_it_was_matched() -> None:
    points = np.array([[0.0, 0.0], [2.9, 0.0], [0.0, 2.9]], np.float32)
    keypoints, _ = gather_keypoints(points, np.ones(3), np.array([4.0, 2.0]))
    assert len(keypoints) == 2


def test_nothing_depends_on_the_order_of_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 60, (400, 2)).astype(np.float32) / 2
    scores = rng.choice([0.25, 0.3, 0.7], 400).astype(np.float32)
    expected = gather_keypoints(points, scores, SQUARE, 50)
    for _ in range(5):
        order = rng.permutation(400)
        found = gather_keypoints(points[order], scores[order], SQUARE, 50)
        for mine, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_points_belong_to_the_nearest_keypoint_across_borders_of_cells() -> None:
    finder = KeypointFinder(np.array([[3.4, 3.0], [8.0, 3.0]], np.float32), SQUARE)
    points = np.array([[3.6, 3.0], [5.3, 3.0], [5.5, 3.0], [6.1, 3.0]])
    indices, distances = finder.find(points)
    assert indices.tolist() == [0, 0, -1, 1]
    np.testing.assert_allclose(distances[[0, 1, 3]], [0.1, 0.95, 0.95], atol=1e-6)
    assert KeypointFinder(np.zeros((0, 2)), SQUARE).find(points)[0].tolist() == [-1] * 4
    assert finder.find(np.zeros((0, 2)))[0].shape == (0,)


def test_no_keypoint_is_matched_twice() -> None:
    indices0 = np.array([0, 0, 1, 2, -1, 3])
    indices1 = np.array([5, 6, 5, 7, 8, -1])
    scores = np.array([0.5, 0.4, 0.9, 0.5, 1.0, 1.0])
    # The best of keypoint 5 is that of 1, which leaves 6 to 0.
    assert sorted(one_to_one(indices0, indices1, scores, np.zeros(6)).tolist()) == [1, 2, 3]
    nearest = one_to_one(np.zeros(2, int), np.zeros(2, int), np.ones(2), np.array([0.3, 0.1]))
    assert nearest.tolist() == [1]


def test_an_image_without_points_has_no_keypoints() -> None:
    keypoints, scores = gather_keypoints(np.zeros((0, 2), np.float32), np.zeros(0), SQUARE)
    assert keypoints.shape == (0, 2)
    assert scores.shape == (0,)
