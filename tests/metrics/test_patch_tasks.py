"""Figures of patch benchmarks against closed forms and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_curve

from featplug.metrics.patch_tasks import (
    average_precision,
    false_positive_rate,
    matching_average_precision,
    pair_distances,
    retrieval_average_precision,
    squared_distances,
    verification_average_precision,
)


def rankings(seed: int, num: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Distances with many ties, as those of binary descriptors, of which a third is relevant."""
    rng = np.random.default_rng(seed)
    relevant = rng.random(num) < 1 / 3
    return np.rint(rng.normal(np.where(relevant, 20, 26), 5)), relevant


@pytest.mark.parametrize("seed", range(20))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    distances, relevant = rankings(seed)
    expected = average_precision_score(relevant, -distances)
    assert average_precision(distances, relevant) == pytest.approx(expected, abs=1e-12)
    order = np.random.default_rng(seed).permutation(len(distances))
    assert average_precision(distances[order], relevant[order]) == pytest.approx(expected)
    by_query = retrieval_average_precision(distances[relevant], distances[~relevant])
    assert by_query == pytest.approx(expected, abs=1e-12)
    fpr, tpr, _ = roc_curve(relevant, -distances, drop_intermediate=False)
    assert false_positive_rate(distances, relevant) == pytest.approx(fpr[tpr >= 0.95].min())


def test_average_precision_in_closed_form() -> None:
    relevant = np.array([True, False, True, False])
    assert average_precision(np.array([1, 2, 3, 4]), relevant) == pytest.approx((1 + 2 / 3) / 2)
    # A candidate that cannot be retrieved counts 0, and so does having found nothing.
    found = average_precision(np.array([1, 2, 3, 4]), relevant, num_relevant=4)
    assert found == pytest.approx((1 + 2 / 3) / 4)
    assert average_precision(np.array([1.0, 2.0]), np.array([False, False]), 3) == 0
    # All at one distance: the precision is that of guessing.
    assert average_precision(np.zeros(4), relevant) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="nothing is relevant"):
        average_precision(np.array([1.0]), np.array([False]))


def test_false_positive_rate_in_closed_form() -> None:
    distances = np.concatenate([np.arange(20), [17.5, 18, 18.5, 30]])
    matching = np.arange(24) < 20
    # 19 of the 20 have to pass, so the threshold is 18.
    assert false_positive_rate(distances, matching) == pytest.approx(2 / 4)
    assert false_positive_rate(distances, matching, recall=1) == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match="pairs that match and pairs that do not"):
        false_positive_rate(distances, np.ones(24, bool))


def test_nearest_neighbours_that_are_wrong_lower_the_precision_of_those_that_are_right() -> None:
    reference = np.array([[7.5], [10], [20], [30]])
    assert matching_average_precision(reference, reference) == pytest.approx(1)
    # The first patch's nearest is the second's, at 1.5 and between right ones at 1, 2 and 3.
    precision = matching_average_precision(reference, np.array([[90.0], [9], [18], [33]]))
    assert precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)


def test_verification_takes_one_matching_pair_for_five_others() -> None:
    matching, others = np.array([1.0, 3.0, 0.0, 0.0]), np.array([2.0] * 10)
    assert verification_average_precision(matching, others) == pytest.approx((1 + 2 / 12) / 2)
    everything = verification_average_precision(matching, others, ratio=None)
    assert everything == pytest.approx((3 + 4 / 14) / 4)


def test_distances_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40, 16)).astype(np.float32)
    all_pairs = ((a[:, None] - b) ** 2).sum(2)
    np.testing.assert_allclose(squared_distances(a, b), all_pairs, rtol=1e-4, atol=1e-5)
    index = rng.integers(40, size=(2, 70_000))
    both = np.concatenate([a, b])
    apart = pair_distances(both, index[0], index[1] + 40)
    np.testing.assert_allclose(apart, all_pairs[index[0], index[1]], rtol=1e-5)
