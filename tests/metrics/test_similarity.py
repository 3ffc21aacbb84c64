"""Similarities: exact ones are found, wrong points left out, and the uncertainty is true."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from featplug.metrics.similarity import (
    Similarity,
    fit_similarity,
    fit_similarity_robustly,
    lie_on_a_line,
)

TRUTH = Similarity(
    3.5, Rotation.from_euler("xyz", [40, -70, 160], True).as_matrix(), np.arange(3.0)
)


def scene(num: int, seed: int = 0, flat: bool = False) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(num, 3)) * [10, 6, 0 if flat else 1]
    return points + np.array([100, 200, 300])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("num", [3, 5, 6, 40])
def test_a_similarity_is_found_exactly(num: int, flat: bool) -> None:
    source = scene(num, flat=flat)
    fit = fit_similarity_robustly(source, TRUTH.apply(source))
    assert fit.similarity.scale == pytest.approx(3.5)
    np.testing.assert_allclose(fit.similarity.rotation, TRUTH.rotation, atol=1e-9)
    assert fit.inliers.all()
    assert fit.residuals.max() < 1e-9
    plain = fit_similarity(source, TRUTH.apply(source))
    np.testing.assert_allclose(plain.apply(source), TRUTH.apply(source), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_positions_that_are_wrong_are_left_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = scene(40, seed)
    target = TRUTH.apply(source) + rng.normal(0, 0.5, (40, 3))
    target[:14] += rng.uniform(30, 500, (14, 3))  # far off, to one side
    fit = fit_similarity_robustly(source, target, seed)
    assert not fit.inliers[:14].any()
    assert fit.inliers[14:].sum() >= 23
    assert fit.similarity.scale == pytest.approx(3.5, rel=0.03)
    assert fit.noise == pytest.approx(0.5, rel=0.35)


def test_the_uncertainty_is_the_scatter_of_the_estimates() -> None:
    source, rng = scene(30), np.random.default_rng(1)
    fits = [
        fit_similarity_robustly(source, TRUTH.apply(source) + rng.normal(0, 2, (30, 3)))
        for _ in range(24)
    ]
    scatter = np.std([fit.similarity.scale / 3.5 for fit in fits])
    assert np.median([fit.scale_uncertainty for fit in fits]) == pytest.approx(scatter, rel=0.4)
    assert np.median([fit.noise for fit in fits]) == pytest.approx(2, rel=0.1)
    turns = [
        Rotation.from_matrix(fit.similarity.rotation @ TRUTH.rotation.T).as_rotvec(True)
        for fit in fits
    ]
    worst = np.sqrt(np.linalg.eigvalsh(np.cov(np.transpose(turns)))[-1])
    assert np.median([f.rotation_uncertainty for f in fits]) == pytest.approx(worst, rel=0.5)


def test_few_points_and_points_on_a_line_are_rejected() -> None:
    line = np.outer(np.arange(8.0), [1, 2, 3])
    assert lie_on_a_line(line)
    assert lie_on_a_line(np.ones((4, 3)))
    assert not lie_on_a_line(scene(8))
    for source, target, reason in (
        (scene(2), scene(2), "three positions"),
        (scene(8), line, "on a line"),
        (line, scene(8), "on a line"),
        (scene(8), np.ones((8, 3)), "on a line"),
    ):
        with pytest.raises(ValueError, match=reason):
            fit_similarity_robustly(source, target)
