"""Figures of single pairs, and their means, in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.matching.features import FeaturePair, ImageFeatures, protocol_matcher
from benchmarks.matching.measuring import (
    PairMeasures,
    measure_plane,
    measure_shared,
    summarise,
)
from benchmarks.matching.pairs import ImagePair

PLACES = np.array([[10.0, 10], [30, 10], [50, 10], [70, 10]])


def described(keypoints: np.ndarray, descriptors: np.ndarray) -> ImageFeatures:
    tensors = {"descriptors": torch.from_numpy(descriptors.astype(np.float32).T)}
    return ImageFeatures(keypoints, np.ones(len(keypoints)), (100, 80), tensors)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [(measure_plane, (4 + 1 + 3) / 3), (measure_shared, (4 + 1 + 4 + 3) / 4)],
)
def test_an_image_counts_once_but_its_choices_each(
    measure: Callable[[ImagePair, FeaturePair], PairMeasures], expected: float
) -> None:
    """LISRD's protocol chooses the keypoints for each pair, and may choose as many again."""
    _, matcher = protocol_matcher("sift", None, one_way=False)
    reference = described(PLACES, np.eye(4))
    pairs, measures = [], []
    for name, number in (("2.png", 1), ("3.png", 3)):
        pairs.append(ImagePair("1.png", name, "still", homography=np.eye(3)))
        other = described(PLACES[:number], np.eye(4)[:number])
        measures.append(measure(pairs[-1], FeaturePair(reference, other, matcher)))
    metrics, _ = summarise(pairs, measures)
    assert metrics["mean_keypoints"]["value"] == pytest.approx(expected)
