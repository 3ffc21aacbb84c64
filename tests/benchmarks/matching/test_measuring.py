"""Figures of single pairs, and their means, in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.matching.measuring import (
    PairMeasures,
    measure_average_precision,
    measure_plane,
    measure_shared,
)
from benchmarks.matching.pair_means import right_among, summarise
from benchmarks.pairs.feature_pairs import FeaturePair, ImageFeatures
from benchmarks.pairs.pair_set import ImagePair
from featplug.methods import build_matcher

PLACES = np.array([[10.0, 10], [30, 10], [50, 10], [70, 10]])


def described(keypoints: np.ndarray, descriptors: np.ndarray) -> ImageFeatures:
    tensors = {"descriptors": torch.from_numpy(descriptors.astype(np.float32).T)}
    return ImageFeatures(keypoints, np.ones(len(keypoints)), (100, 80), tensors)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_matches_at_one_distance_are_ranked_together(order: list[int]) -> None:
    """Binary descriptors have many, and no order of the keypoints is of use."""
    image0 = described(PLACES[order], np.eye(4)[order])
    # The first two are found at their places, the others at each other's.
    image1 = described(PLACES[[0, 1, 3, 2]], np.eye(4))
    matcher = build_matcher({"name": "nearest_neighbor", "do_mutual_check": False})
    pair = ImagePair("1.png", "2.png", "still", homography=np.eye(3))
    measured = measure_average_precision(pair, FeaturePair(image0, image1, matcher))
    # All four are there to find; the precision at each of the two that are is that of all.
    assert measured.values["average_precision"] == pytest.approx(2 / 4 * 2 / 4)


def test_where_nothing_is_to_be_found_the_average_precision_is_0() -> None:
    image0, image1 = described(PLACES, np.eye(4)), described(PLACES + 20, np.eye(4))
    matcher = build_matcher({"name": "nearest_neighbor", "do_mutual_check": False})
    pair = ImagePair("1.png", "2.png", "still", homography=np.eye(3))
    measured = measure_average_precision(pair, FeaturePair(image0, image1, matcher))
    assert measured.values["average_precision"] == 0


@pytest.mark.parametrize(
    ("measure", "expected"),
    [(measure_plane, (4 + 1 + 3) / 3), (measure_shared, (4 + 1 + 4 + 3) / 4)],
)
def test_an_image_counts_once_but_its_choices_each(
    measure: Callable[[ImagePair, FeaturePair], PairMeasures], expected: float
) -> None:
    """LISRD's protocol chooses the keypoints for each pair, and may choose as many again."""
    matcher = build_matcher({"name": "nearest_neighbor"})
    reference = described(PLACES, np.eye(4))
    pairs, measures = [], []
    for name, number in (("2.png", 1), ("3.png", 3)):
        pairs.append(ImagePair("1.png", name, "still", homography=np.eye(3)))
        other = described(PLACES[:number], np.eye(4)[:number])
        measures.append(measure(pairs[-1], FeaturePair(reference, other, matcher)))
    metrics, _ = summarise(pairs, measures)
    assert metrics["mean_keypoints"]["value"] == pytest.approx(expected)


def matched(errors: list[float], scores: list[float]) -> PairMeasures:
    points = np.zeros((len(errors), 2))
    return PairMeasures((points, points), (9, 9), np.array(scores), np.array(errors))


def test_right_matches_are_counted_from_the_most_certain_one() -> None:
    pair = matched([0.0, 9.0, 2.9, 3.1, 1.0], [0.2, 0.9, 0.8, 0.7, 0.1])
    assert right_among(pair, np.arange(8)).tolist() == [0, 0, 1, 1, 2, 3, 3, 3]
    assert right_among(matched([], []), np.arange(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("errors", [[1.0, 1, 1, 9, 9, 9], [9.0, 9, 9, 1, 1, 1]])
def test_the_order_of_matches_of_one_score_is_of_no_use(errors: list[float]) -> None:
    """colmap/* gives all matches the score 1, in the order of the keypoints."""
    pair = matched(errors, [1.0] * 6)
    np.testing.assert_allclose(right_among(pair, np.arange(8)), [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])
    first = matched([1.0, *errors], [1.5] + [1.0] * 6)
    np.testing.assert_allclose(right_among(first, np.arange(4)), [0, 1, 1.5, 2])


def test_fewer_but_surer_matches_are_not_more_of_them() -> None:
    """A ratio test has the higher MMA, but no more right ones among as many matches."""
    errors = [0.0] * 80 + [50.0] * 60
    scores = np.linspace(1, 0, 140).tolist()
    pair = ImagePair("1.png", "2.png", "still", homography=np.eye(3))
    everything, curves = summarise([pair], [matched(errors, scores)])
    rejecting, curves_of_few = summarise([pair], [matched(errors[:60], scores[:60])])
    assert rejecting["mma_3"]["value"] == 1 > everything["mma_3"]["value"]
    for name, of_all, of_few in (
        ("right_matches", 80, 60),
        ("wrong_matches", 60, 0),
        ("right_among_500", 80, 60),
    ):
        assert (everything[name]["value"], rejecting[name]["value"]) == (of_all, of_few)
    assert curves["right_matches"].x[:3] == curves_of_few["right_matches"].x[:3] == [0, 50, 100]
    assert curves["right_matches"].y[:3] == [0, 50, 80]
    assert curves_of_few["right_matches"].y[:3] == [0, 50, 60]
    # Right matches and precision, up to the point that the method ships with.
    of_all, of_few = curves["precision"], curves_of_few["precision"]
    assert (of_all.x[:2], of_all.x[-1], of_few.x[-1]) == ([10, 20], 80, 60)
    assert of_all.y == pytest.approx([1] * 8)
    assert of_few.y == pytest.approx([1] * 6)
    assert of_all.shipped == pytest.approx([80, 80 / 140])
    assert of_few.shipped == [60, 1]


def test_the_curve_of_precision_ends_at_the_means_of_pairs() -> None:
    pair = ImagePair("1.png", "2.png", "still", homography=np.eye(3))
    many, few = matched([0.0] * 90 + [9.0] * 30, [1.0] * 120), matched([0.0, 9.0], [1.0, 0.5])
    metrics, curves = summarise([pair, pair], [many, few])
    right, wrong = (metrics[f"{name}_matches"]["value"] for name in ("right", "wrong"))
    assert curves["precision"].shipped == pytest.approx([right, right / (right + wrong)])
    assert "precision" not in summarise([pair], [matched([], [])])[1]
