"""Curves of benchmarks."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes

_STYLES = ("-", "--", "-.", ":")


def draw_mma_curves(
    axes: Axes,
    curves: Mapping[str, np.ndarray | Sequence[float]],
    thresholds: Sequence[float] = tuple(range(1, 11)),
    title: str = "",
) -> None:
    """Draw mean matching accuracy over thresholds, a line a feature.

    Args:
        axes: where to draw.
        curves: a feature's name to its T accuracies in [0, 1], or S×T of several seeds, of which
            mean and standard deviation are shown.
        thresholds: T, in pixels.
        title: such as ``illumination``.

    Raises:
        ValueError: a curve has not one value a threshold.
    """
    x = np.asarray(thresholds, float)
    styles = cycle(_STYLES)
    for name, curve in curves.items():
        values = np.atleast_2d(np.asarray(curve, float))
        if values.ndim != 2 or values.shape[1] != len(x):
            raise ValueError(
                f"The curve of {name!r} has the shape {np.shape(curve)}, but there are {len(x)} "
                "thresholds."
            )
        mean = values.mean(0)
        (line,) = axes.plot(x, mean, next(styles), label=name, linewidth=1.6)
        if len(values) > 1:
            spread = values.std(0, ddof=1)
            colour = line.get_color()
            axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlim(x.min(), x.max())
    axes.set_ylim(0, 1)
    axes.set_xlabel("threshold (px)")
    axes.set_ylabel("MMA")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(loc="lower right", fontsize=8)
