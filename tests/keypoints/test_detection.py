"""Selection of keypoints: the strongest, and non-maximum suppression."""

from __future__ import annotations

import numpy as np
import pytest

from featplug.keypoints.detection import non_maximum_suppression, strongest


def literal_suppression(scores: np.ndarray, threshold: float, radius: int) -> list[list[int]]:
    """By definition: from the best on, keep what lies near nothing that was kept."""
    candidates = sorted(
        (-scores[row, column], row, column) for row, column in np.argwhere(scores >= threshold)
    )
    kept: list[list[int]] = []
    for _, row, column in candidates:
        if all(max(abs(row - r), abs(column - c)) > radius for r, c in kept):
            kept.append([int(row), int(column)])
    return kept


def maps() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    row, column = np.mgrid[:30, :41]
    return {
        "noise": generator.random((30, 41), dtype=np.float32),
        "ties": generator.integers(0, 4, (30, 41)) / np.float32(4),
        "half": generator.random((25, 17)).astype(np.float16),
        "flat": np.ones((30, 41), np.float32),
        "ramp": (row + column).astype(np.float64),
        "row": generator.random((1, 60), dtype=np.float32),
    }


@pytest.mark.parametrize("chunk", [7, 8192])
@pytest.mark.parametrize("radius", [0, 1, 4, 50])
@pytest.mark.parametrize("name", maps())
def test_suppression_is_greedy(
    monkeypatch: pytest.MonkeyPatch, name: str, radius: int, chunk: int
) -> None:
    monkeypatch.setattr("featplug.keypoints.detection._CHUNK", chunk)
    scores = maps()[name]
    for threshold in (-1.0, 0.5, 0.75):
        kept = non_maximum_suppression(scores, threshold, radius)
        assert kept.tolist() == literal_suppression(scores, threshold, radius)


def test_threshold_belongs_to_the_keypoints_and_is_compared_in_the_scores_own_type() -> None:
    scores = np.array([[0.9, 0.0, np.nextafter(np.float32(0.9), np.float32(0))]], np.float32)
    assert non_maximum_suppression(scores, 0.9, radius=0).tolist() == [[0, 0]]


@pytest.mark.parametrize("shape", [(6, 7), (0, 7)])
def test_nothing_above_the_threshold(shape: tuple[int, int]) -> None:
    kept = non_maximum_suppression(np.zeros(shape, np.float32), 0.5, radius=4)
    assert kept.shape == (0, 2)
    assert kept.dtype == np.int64


def test_strongest_keeps_the_order_and_the_first_of_equals() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.7, 0.5], np.float32)
    assert strongest(scores, 3).tolist() == [0, 1, 3]
    assert strongest(scores, -1).tolist() == [0, 1, 2, 3, 4]
    assert strongest(scores, 0).tolist() == []
