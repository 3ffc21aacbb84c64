"""Curves of precision: what they are at each threshold, and where the conf lies on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.matching.measuring import measure_plane
from benchmarks.matching.pair_means import summarise
from benchmarks.matching.sweep import Swept, loosest_matches, precision_curves
from benchmarks.pairs.feature_pairs import FeaturePair, ImageFeatures
from benchmarks.pairs.pair_set import ImagePair
from featplug.methods import build_matcher


def swept(levels: list[float], right: list[int], shipped: list[int], possible: int) -> Swept:
    return Swept(np.array(levels), np.array(right, bool), np.array(shipped, bool), possible)


def test_precision_is_that_of_all_pairs_at_one_threshold() -> None:
    """At 0.9 one of one is right, at 0.5 21 of 22, at 0.2 21 of 42, which is no new right one."""
    pairs = [
        swept([0.9, *[0.5] * 20, 0.5], [1] * 21 + [0], [1] * 22, 40),
        swept([0.2] * 20, [0] * 20, [0] * 20, 2),
    ]
    curves = precision_curves(pairs)
    by_right, by_recall = curves["precision"], curves["precision_recall"]
    assert by_right.x == [10, 10.5]
    assert by_right.y[-1] == pytest.approx(21 / 22)
    assert by_right.shipped == pytest.approx([10.5, 21 / 22])
    assert by_recall.x[:2] == [0.03, 0.04]  # the first right match is 1 of 42
    assert by_recall.y[0] == pytest.approx(1, abs=0.01)
    assert by_recall.x[-1] == pytest.approx(21 / 42)
    assert by_recall.y[-1] == pytest.approx(21 / 22)
    assert by_recall.shipped == pytest.approx([21 / 42, 21 / 22])


def test_nothing_right_has_no_curve_and_no_keypoints_no_recall() -> None:
    assert precision_curves([swept([0.5], [0], [1], 3)]) == {}
    assert precision_curves([swept([], [], [], 0)]) == {}
    without = Swept(np.ones(2), np.ones(2, bool), np.ones(2, bool))
    assert list(precision_curves([without])) == ["precision"]


@pytest.fixture
def noisy_pair() -> tuple[ImagePair, FeaturePair]:
    """Keypoints at the same places, whose descriptors are hard to tell apart."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 300, (200, 2))
    descriptors = rng.normal(size=(200, 8))
    other = descriptors + rng.normal(0, 0.6, (200, 8))

    def image(of_image: np.ndarray) -> ImageFeatures:
        unit = of_image / np.linalg.norm(of_image, axis=1, keepdims=True)
        tensors = {"descriptors": torch.from_numpy(unit.astype(np.float32).T)}
        return ImageFeatures(places, np.ones(200), (300, 300), tensors)

    pair = ImagePair("1.png", "2.png", "still", homography=np.eye(3))
    matcher = build_matcher({"name": "nearest_neighbor", "ratio_threshold": 0.8})
    return pair, FeaturePair(image(descriptors), image(other), matcher)


def test_a_ratio_test_is_a_point_of_the_curve_from_mutual_neighbours_on(
    noisy_pair: tuple[ImagePair, FeaturePair],
) -> None:
    pair, features = noisy_pair
    loosest, levels, is_shipped = loosest_matches(features)
    by_ratio = {}
    for ratio in (None, 0.9, 0.8, 0.7, 0.6):
        conf = {"name": "nearest_neighbor", "ratio_threshold": ratio}
        other = FeaturePair(features.image0, features.image1, build_matcher(conf))
        by_ratio[ratio] = {tuple(pair) for pair in other.match().indices.tolist()}
        level = -np.inf if ratio is None else -ratio
        assert {tuple(pair) for pair in loosest.indices[levels >= level].tolist()} == by_ratio[
            ratio
        ]
    assert len(by_ratio[None]) > len(by_ratio[0.8]) > len(by_ratio[0.6]) > 0
    assert {tuple(pair) for pair in loosest.indices[is_shipped].tolist()} == by_ratio[0.8]
    metrics, curves = summarise([pair], [measure_plane(pair, features)])
    curve = curves["precision"]
    # The row has the conf's own matches; the curve goes on to those without the test.
    right, mma = metrics["right_matches"]["value"], metrics["mma_3"]["value"]
    assert curve.shipped == pytest.approx([right, mma])
    assert np.interp(right, curve.x, curve.y) == pytest.approx(mma, abs=0.02)
    assert curve.x[-1] > right + 10
    assert curve.y[-1] < mma - 0.1
    assert curves["precision_recall"].shipped[0] == pytest.approx(right / 200)


def test_without_a_ratio_test_the_conf_is_the_end_of_the_curve(
    noisy_pair: tuple[ImagePair, FeaturePair],
) -> None:
    pair, features = noisy_pair
    plain = FeaturePair(
        features.image0, features.image1, build_matcher({"name": "nearest_neighbor"})
    )
    metrics, curves = summarise([pair], [measure_plane(pair, plain)])
    curve = curves["precision"]
    assert curve.x[-1] == curve.shipped[0] == metrics["right_matches"]["value"]
    assert curve.y[0] > curve.y[-1] > curve.shipped[1] - 1e-9
