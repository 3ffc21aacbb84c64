"""Intervals hold the truth as often as they claim; figures of draws are those of the metrics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.bootstrap import MIN_PAIRS, difference, interval, statistic
from featplug.metrics.homography import error_auc
from featplug.metrics.relative_pose import mean_accuracy


def errors_of(rng: np.random.Generator, number: int) -> np.ndarray:
    """Errors of poses, of which a fifth failed."""
    errors = rng.exponential(4, number)
    errors[rng.random(number) < 0.2] = np.inf
    return errors


@pytest.mark.parametrize("metric", ["homography_auc_3", "pose_auc_5", "pose_auc_20"])
def test_the_area_of_draws_is_that_of_the_metric(metric: str) -> None:
    rng = np.random.default_rng(0)
    column, function = statistic(metric)
    assert column == ("corner_error" if metric.startswith("homography") else "pose_error")
    threshold = float(metric.rpartition("_")[2])
    errors = errors_of(rng, 150)
    errors[:4] = [0, threshold, np.inf, 0]
    draws = rng.integers(0, 150, (60, 150))
    counts = np.array([np.bincount(of_draw, minlength=150) for of_draw in draws])
    expected = [error_auc(errors[of_draw].tolist(), [threshold])[0] for of_draw in draws]
    np.testing.assert_allclose(function.of_draws(errors, counts), expected, atol=1e-12)
    for few in ([np.inf], [1.0], [threshold], [0.0]):
        np.testing.assert_allclose(function(np.array(few)), error_auc(few, [threshold])[0])


def test_accuracies_are_means_of_pairs_below_the_thresholds() -> None:
    errors = np.array([0.5, 1.0, 4.5, 9.99, 30, np.inf])
    assert statistic("homography_accuracy_5")[1](errors) == pytest.approx(3 / 6)
    # Each pair's mean over 1 to 10 degrees: 10, 9, 6, 1, 0 and 0 tenths.
    assert statistic("pose_maa_10")[1](errors) == pytest.approx(2.6 / 6)
    assert statistic("pose_maa_10")[1](errors) == pytest.approx(mean_accuracy(errors))
    assert statistic("mma_3") == ("mma_3", statistic("recall")[1])
    column, count = statistic("pairs_without_pose")
    assert (column, count(errors)) == ("pose_error", 1)
    assert statistic("failed_pairs")[1](np.array([1.0, 0, 1])) == 2


@pytest.mark.parametrize(
    ("metric", "number"), [("mma_3", 8), ("mma_3", 40), ("homography_auc_3", 150)]
)
def test_19_of_20_intervals_hold_the_truth(metric: str, number: int) -> None:
    """Of 400 data sets; 95 % ± 3 standard deviations of the count is 367 to 393."""
    rng = np.random.default_rng(1)
    column, function = statistic(metric)
    draw = (lambda n: errors_of(rng, n)) if column == "corner_error" else rng.normal
    sample = draw if column == "corner_error" else lambda n: rng.normal(0.6, 0.2, n)
    truth = function(sample(200_000))
    held = 0
    for _ in range(400):
        found = interval(metric, [{column: sample(number)}])
        assert found is not None
        held += found.interval[0] <= truth <= found.interval[1]
    assert 367 <= held <= 393


@pytest.mark.parametrize("num_seeds", [1, 5])
def test_the_noise_of_seeds_is_part_of_the_interval_once(num_seeds: int) -> None:
    """Each pair with each seed has noise of its own, as an estimator that draws samples has."""
    rng = np.random.default_rng(2)
    held, differing, num_trials, num_pairs = 0, 0, 300, 60

    def seeds(pairs: np.ndarray) -> list[dict[str, np.ndarray]]:
        return [{"recall": pairs + rng.normal(0, 0.2, num_pairs)} for _ in range(num_seeds)]

    for _ in range(num_trials):
        pairs = rng.normal(0.6, 0.05, num_pairs)
        a, b = seeds(pairs), seeds(pairs)
        found = interval("recall", a)
        assert found is not None
        assert found.num_seeds == num_seeds
        held += found.interval[0] <= 0.6 <= found.interval[1]
        compared = difference("recall", a, b)
        assert compared is not None
        differing += compared.p_value < 0.05
    assert 274 <= held <= 296  # 285 ± 3 standard deviations
    assert 4 <= differing <= 26  # 15 ± 3 standard deviations


def test_a_mean_of_scenes_is_drawn_within_each_scene() -> None:
    """A small scene has the weight of a large one, and what differs between scenes is no noise."""
    rng = np.random.default_rng(3)
    scenes = ["a"] * 80 + ["b"] * 20
    held = 0
    for _ in range(300):
        column = np.concatenate([rng.normal(0.9, 0.1, 80), rng.normal(0.1, 0.1, 20)])
        found = interval("recall", [{"recall": column}], scenes)
        assert found is not None
        assert found.value == pytest.approx((column[:80].mean() + column[80:].mean()) / 2)
        held += found.interval[0] <= 0.5 <= found.interval[1]
        assert found.half < 0.05
    assert 274 <= held <= 296
    lonely = interval("recall", [{"recall": np.ones(7)}], ["a"] * 6 + ["b"])
    assert lonely is None
    failures = interval(
        "failed_pairs", [{"failed": np.array([1.0, 0, 1, 0, 1])}], ["a"] * 3 + ["b"] * 2
    )
    assert failures is not None
    assert failures.value == 3


def test_means_have_students_interval() -> None:
    values = np.random.default_rng(3).uniform(size=200)
    found = interval("mma_3", [{"mma_3": values}])
    assert found is not None
    expected = stats.t.ppf(0.975, 199) * values.std(ddof=1) / 200**0.5
    assert found.value == pytest.approx(values.mean())
    assert found.half == pytest.approx(expected, rel=0.08)  # the draws are 1000
    assert found == interval("mma_3", [{"mma_3": values}])


def test_differences_are_of_the_same_pairs() -> None:
    """Pairs differ far more than methods: only on the same pairs is the difference significant."""
    rng = np.random.default_rng(4)
    hardness = rng.uniform(size=100)
    a, b = (hardness + shift + rng.normal(0, 0.02, 100) for shift in (0.02, 0))
    paired = difference("mma_3", [{"mma_3": a}], [{"mma_3": b}])
    shuffled = difference("mma_3", [{"mma_3": a}], [{"mma_3": rng.permutation(b)}])
    assert paired is not None
    assert shuffled is not None
    assert paired.value == pytest.approx(shuffled.value)
    assert paired.value == pytest.approx(float(a.mean() - b.mean()))
    assert paired.p_value < 1e-6 < 0.2 < shuffled.p_value
    assert paired.interval[0] > 0 > shuffled.interval[0]
    same = difference("mma_3", [{"mma_3": a}], [{"mma_3": a}])
    assert same is not None
    assert (same.value, same.half, same.p_value) == (0, 0, 1)


def test_one_of_twenty_equal_methods_differs() -> None:
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(400):
        shared = errors_of(rng, 80)
        a, b = ({"pose_error": shared * rng.uniform(0.5, 1.5, 80)} for _ in range(2))
        result = difference("pose_auc_5", [a], [b])
        assert result is not None
        found += result.p_value < 0.05
    assert 7 <= found <= 33  # 20 ± 3 standard deviations


def test_pairs_that_one_side_lacks_are_left_out() -> None:
    a = np.array([1.0, 2, 3, 4, 5, 6, np.nan])
    b = np.array([np.nan, 1, 2, 3, 4, 6, 100])
    found = difference("recall", [{"recall": a}], [{"recall": b}])
    assert found is not None
    assert (found.num_pairs, found.value) == (5, pytest.approx(4 / 5))


def test_too_few_pairs_or_no_values_decide_nothing() -> None:
    few = {"mma_3": np.arange(MIN_PAIRS - 1.0)}
    assert interval("mma_3", [few]) is None
    assert interval("mma_5", [few]) is None
    # Five pairs that all agree happen to one of sixteen pairs of equal methods.
    ones, zeros = np.ones(5), np.zeros(5)
    found = difference("mma_3", [{"mma_3": ones}], [{"mma_3": zeros}])
    assert found is not None
    assert found.p_value == 1 / 16
