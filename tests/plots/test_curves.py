"""MMA curves: the values that are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from featplug.plots import draw_mma_curves


def test_curves_show_means_and_spreads_of_seeds() -> None:
    axes = Figure().add_subplot()
    seeds = np.array([[0.2, 0.5, 0.6], [0.4, 0.5, 0.8]])
    draw_mma_curves(axes, {"sift": [0.1, 0.2, 0.3], "d2net": seeds}, (1, 3, 5), "viewpoint")
    sift, d2net = axes.get_lines()
    np.testing.assert_array_equal(sift.get_xdata(), [1, 3, 5])
    np.testing.assert_array_equal(sift.get_ydata(), [0.1, 0.2, 0.3])
    np.testing.assert_allclose(d2net.get_ydata(), [0.3, 0.5, 0.7])
    (band,) = axes.collections  # of the one that has seeds
    (path,) = band.get_paths()
    at_1 = path.vertices[path.vertices[:, 0] == 1][:, 1]
    deviation = np.std([0.2, 0.4], ddof=1)
    np.testing.assert_allclose([at_1.min(), at_1.max()], [0.3 - deviation, 0.3 + deviation])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["sift", "d2net"]
    assert axes.get_ylim() == (0, 1)
    assert axes.get_title() == "viewpoint"


def test_lines_differ_without_colour() -> None:
    axes = Figure().add_subplot()
    draw_mma_curves(axes, {name: np.ones(10) for name in "abcd"})
    assert len({line.get_linestyle() for line in axes.get_lines()}) == 4


def test_a_curve_of_other_thresholds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'sift' has the shape \(9,\), but there are 10"):
        draw_mma_curves(Figure().add_subplot(), {"sift": np.ones(9)})
