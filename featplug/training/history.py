"""Curves of a training run: each logged quantity over the steps."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np


def read_history(path: Path) -> dict[str, np.ndarray]:
    """Read what a run logged.

    Args:
        path: ``history.csv``, rows of step, name, value.

    Returns:
        For each name its steps and values, N×2.
    """
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with path.open(newline="") as file:
        for step, name, value in csv.reader(file):
            series[name].append((float(step), float(value)))
    return {name: np.array(values) for name, values in series.items()}


def draw_curves(history: Path, picture: Path) -> None:
    """Draw one panel for each quantity, and the running mean where there are many values.

    Args:
        history: ``history.csv``.
        picture: a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = read_history(history)
    columns = 3
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for index, (name, values) in enumerate(series.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.plot(*values.T, color="0.7" if len(values) > 200 else "C0", linewidth=1)
        if len(values) > 200:
            window = len(values) // 50
            mean = np.convolve(values[:, 1], np.ones(window) / window, "valid")
            axes.plot(values[window - 1 :, 0], mean, color="C0", linewidth=1.5)
        axes.set(title=name, xlabel="step")
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)
