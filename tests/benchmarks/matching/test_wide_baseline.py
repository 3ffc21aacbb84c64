"""WxBS's and EVD's own measures, against formulas written out here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.matching.measuring import EPIPOLAR_THRESHOLDS, VISIBLE_THRESHOLDS
from featplug.metrics.homography import estimate_homography, visible_part_error
from pipelines.datasets.demo import DemoOptions, make_demo_world
from tests.benchmarks.matching.test_command import run_benchmark, table, value

TRUE = np.array([[0.8, 0.1, 30.0], [-0.05, 0.6, 20.0], [1e-4, -2e-4, 1.0]])
SIZES = (160, 120), (140, 100)


def _distances(homography: np.ndarray) -> np.ndarray:
    """Return the distances of the pixels of image 0 that lie well inside of image 1."""
    (width, height), (width1, height1) = SIZES
    distances = []
    for y in range(height):
        for x in range(width):
            a, b = (m @ [x, y, 1] for m in (TRUE, homography))
            a, b = a[:2] / a[2], b[:2] / b[2]
            if 0 <= a[0] <= width1 - 1 and 0 <= a[1] <= height1 - 1:
                distances.append(np.hypot(*(a - b)))
    return np.array(distances)


def test_the_error_is_the_mean_over_what_both_images_show() -> None:
    moved = np.array([[1, 0, 3.0], [0, 1, 4.0], [0, 0, 1]]) @ TRUE
    assert visible_part_error(moved, TRUE, SIZES) == pytest.approx(5)
    assert visible_part_error(TRUE, TRUE, SIZES) == pytest.approx(0, abs=1e-12)
    other = TRUE * np.array([[1.05, 1, 1], [1, 0.9, 1], [1, 1, 1]])
    inside = _distances(other)
    assert 3000 < len(inside) < 160 * 120  # a part of the image is seen
    # The mask also has the pixels that fall less than one pixel outside of image 1.
    assert visible_part_error(other, TRUE, SIZES) == pytest.approx(inside.mean(), rel=0.03)
    assert visible_part_error(other, TRUE, SIZES) > 1


def test_no_homography_and_one_to_infinity_are_failures() -> None:
    horizon = np.array([[1.0, 0, 0], [0, 1, 0], [-0.1, 0, 1]])  # at x = 10
    assert visible_part_error(None, TRUE, SIZES) == np.inf
    assert visible_part_error(horizon, TRUE, SIZES) == np.inf


def test_thresholds_are_those_of_the_package() -> None:
    assert tuple(range(20)) == EPIPOLAR_THRESHOLDS
    expected = 2 ** (np.log2(20) * np.arange(10) / 9)
    np.testing.assert_allclose(VISIBLE_THRESHOLDS, expected)


def test_the_estimator_has_opencvs_defaults() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (60, 2))
    mapped = points @ TRUE[:2, :2].T + 5
    mapped[:25] = np.random.default_rng(1).uniform(0, 100, (25, 2))
    expected, _ = cv2.findHomography(points, mapped, cv2.RANSAC, 3.0)
    np.testing.assert_array_equal(estimate_homography(points, mapped), expected)


@pytest.mark.parametrize(("layout", "metric"), [("evd", "homography_maa_20")])
def test_planes_of_the_demo_world(tmp_path: Path, layout: str, metric: str) -> None:
    folder = make_demo_world(tmp_path / "world", DemoOptions(num_planes=2, image_size=240), "evd")
    run_benchmark(folder, tmp_path / "run", feature=("sift",), pictures=False)
    row = table(tmp_path / "run")[layout, "all"]
    assert 0 < value(row, metric) <= 1
    assert {"homography_accuracy_3", "match_score", "mma_3"} <= set(row.metrics)
    assert "pairs: 2, not 15" in str(row.not_comparable)
