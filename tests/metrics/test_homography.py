"""Measures of matches under a homography, against closed-form cases."""

from __future__ import annotations

import numpy as np
import pytest

from featplug.metrics import homography

SHIFT = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
SIZES = ((30, 20), (30, 20))


def test_homography_errors_in_closed_form() -> None:
    points = np.array([[0.0, 0.0], [10.0, 20.0]])
    scale_and_shift = np.array([[2.0, 0, 3], [0, 2, 4], [0, 0, 2]])  # x -> x + 1.5, y -> y + 2
    np.testing.assert_allclose(
        homography.homography_errors(points, points, scale_and_shift), [2.5, 2.5]
    )


def test_mma_is_the_mean_over_pairs_and_counts_empty_ones() -> None:
    errors = [np.array([0.5, 1.0, 4.0, 20.0]), np.array([]), np.array([2.0])]
    expected = [(0.5 + 0 + 0) / 3, (0.5 + 0 + 1) / 3, (0.75 + 0 + 1) / 3]
    np.testing.assert_allclose(homography.mean_matching_accuracy(errors, [1, 3, 5]), expected)


def test_repeatability_counts_what_both_images_show() -> None:
    shift = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
    sizes = ((30, 20), (30, 20))
    # At x of 25 the point has left image 1; one is found 2 pixels off, the last not at all.
    points0 = np.array([[5.0, 5], [25, 5], [10, 10], [3, 15]])
    points1 = np.array([[15.0, 5], [20, 12], [4, 4]])
    # Of image 1, the point at x of 4 is not in image 0.
    found = homography.repeatability(points0, points1, shift, sizes)
    assert found == pytest.approx((2 / 3 + 2 / 2) / 2)
    assert homography.repeatability(points0, points1, shift, sizes, threshold=1.0) == pytest.approx(
        (1 / 3 + 1 / 2) / 2
    )
    assert homography.repeatability(points0, points1[:0], shift, sizes) == 0


def test_what_the_other_image_shows() -> None:
    points = np.array([[0.0, 0], [19, 19], [19.5, 5], [16, 3], [16.5, 3], [5, 2.9]])
    np.testing.assert_array_equal(homography.covisible(points, SHIFT, SIZES[1]), [1, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(
        homography.covisible(points, SHIFT, SIZES[1], 3.0), [0, 0, 0, 1, 0, 0]
    )
    # Behind the camera: the third coordinate is negative at x > 100, where x' is positive again.
    behind = np.array([[-1.0, 0, 0], [0, -1, 0], [-0.01, 0, 1]])
    assert not homography.covisible(np.array([[110.0, 1]]), behind, (10**6, 10**6)).any()
    assert homography.overlap(SHIFT, SIZES) == pytest.approx(
        21 / 33
    )  # x up to 19, in steps of 29 / 32
    assert homography.overlap(SHIFT + np.array([[0, 0, 100], [0, 0, 0], [0, 0, 0]]), SIZES) == 0


def test_matching_score_is_of_the_shared_keypoints() -> None:
    errors = np.array([0.0, 3.0, 3.1, np.nan])
    assert homography.matching_score(errors, 4, 6) == pytest.approx(2 / 5)
    assert homography.matching_score(errors[:0], 4, 6) == 0
    assert homography.matching_score(errors[:0], 0, 0) == 0


def test_recalls_count_what_there_is_to_find() -> None:
    keypoints0 = np.array([[0.0, 0], [5, 5], [9, 9], [2, 15]])
    # Counterparts of the first at 0 and 2 px, of the second at 1 px; the others have none.
    keypoints1 = np.array([[10.0, 0], [12, 0], [15, 6], [0, 0], [15, 6]])
    distances, indices = homography.nearest_counterparts(keypoints0, keypoints1, SHIFT)
    np.testing.assert_allclose(distances[:2], [0, 1])
    np.testing.assert_array_equal(indices[:2], [0, 2])

    # The first with its second closest, the second right, the third wrong.
    matches = np.array([[0, 1], [1, 2], [2, 3]])
    errors = homography.homography_errors(
        keypoints0[matches[:, 0]], keypoints1[matches[:, 1]], SHIFT
    )
    assert homography.correspondence_recall(errors, keypoints0, keypoints1, SHIFT) == 2 / 2
    assert homography.closest_point_recall(matches, keypoints0, keypoints1, SHIFT) == 1 / 2
    matches[1] = [1, 4]  # at the same place
    assert homography.closest_point_recall(matches, keypoints0, keypoints1, SHIFT) == 0
    assert homography.correspondence_recall(errors[:0], keypoints0, keypoints1[:0], SHIFT) == 0
    assert homography.closest_point_recall(matches[:0], keypoints0, keypoints1[:0], SHIFT) == 0
    assert homography.closest_point_recall(matches[:0], keypoints0[:0], keypoints1, SHIFT) == 0


def test_precision_is_measured_in_both_images() -> None:
    double = np.diag([2.0, 2.0, 1.0])
    points0 = np.array([[0.0, 0], [10, 10], [20, 20]])
    points1 = np.array([[0.0, 0], [24, 20], [50, 40]])  # 0, 4 and 10 px off; back 0, 2 and 5
    assert homography.two_way_precision(points0, points1, double) == pytest.approx(
        (1 / 3 + 2 / 3) / 2
    )
    assert homography.two_way_precision(points0[:0], points1[:0], double) == 0


def test_a_homography_is_found_among_wrong_matches() -> None:
    rng = np.random.default_rng(3)
    true = np.array([[0.9, 0.1, 12.0], [-0.08, 0.95, 20.0], [1e-4, 5e-5, 1.0]])
    points0 = rng.uniform(0, 300, (100, 2))
    mapped = np.column_stack([points0, np.ones(100)]) @ true.T
    points1 = mapped[:, :2] / mapped[:, 2:]
    points1[:40] = rng.uniform(0, 300, (40, 2))
    found = homography.estimate_homography(points0, points1)
    assert homography.corner_error(found, true, (300, 300)) < 1e-3
    np.testing.assert_array_equal(found, homography.estimate_homography(points0, points1))
    assert homography.estimate_homography(points0[:3], points1[:3]) is None
    assert homography.estimate_homography(np.zeros((9, 2)), np.zeros((9, 2))) is None


def test_corner_errors_in_closed_form() -> None:
    shift = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    double = np.diag([2.0, 2.0, 1.0])
    assert homography.corner_error(shift @ double, double, (40, 30)) == pytest.approx(5)
    assert homography.corner_error(
        shift @ double, double, (40, 30), in_image0=True
    ) == pytest.approx(2.5)
    # Only three corners move by a turn about the first: by √2 times their distance from it.
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    expected = np.sqrt(2) * (3 + 4 + 5) / 4
    assert homography.corner_error(turn, np.eye(3), (4, 5)) == pytest.approx(expected)
    assert homography.corner_error(None, np.eye(3), (4, 5)) == np.inf


def test_area_under_the_error_curve() -> None:
    # The curve goes from (0, 0) to (1, ½) and (2, 1), and is level from the last below the limit.
    expected = [0, (0.25 + 0.5) / 2, (0.25 + 0.75 + 2) / 4]
    assert homography.error_auc([2.0, 1.0], [1, 2, 4]) == pytest.approx(expected)
    assert homography.error_auc([np.inf, 1.0], [2]) == pytest.approx([(0.25 + 0.5) / 2])
    assert homography.error_auc([0.0, 0.0], [1, 3]) == pytest.approx([1, 1])
    assert homography.error_auc([np.inf], [3]) == [0]
