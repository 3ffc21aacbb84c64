"""History of a training run: values of each logged quantity over the steps, and their curves."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from featplug.io.files import write_whole, write_whole_text
from featplug.io.text_files import number, read_lines, whole_number


def append_history(path: Path, step: int, values: Mapping[str, float]) -> None:
    """Append rows of step, name and value to ``history.csv``."""
    with path.open("a", newline="") as file:
        csv.writer(file).writerows([step, key, f"{value:.6g}"] for key, value in values.items())


def drop_later(path: Path, step: int) -> None:
    """Drop the rows after the step from which a run resumes."""
    if not path.is_file():
        return
    kept = [f"{at},{name},{value:.6g}\n" for at, name, value in _rows(path) if at <= step]
    write_whole_text(path, "".join(kept))


def read_history(path: Path) -> dict[str, np.ndarray]:
    """Read ``history.csv`` as steps and values, N×2, of each name.

    Raises:
        ValueError: a line is not a step, a name and a value; the last one may be cut off by a kill.
    """
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for step, name, value in _rows(path):
        series[name].append((step, value))
    return {name: np.array(values) for name, values in series.items()}


def _rows(path: Path) -> Iterator[tuple[int, str, float]]:
    lines = read_lines(path, "training history")
    for at, line in lines:
        where, words = f"{path}, line {at}", line.split(",")
        if len(words) != 3:
            if at == lines[-1][0]:
                return
            raise ValueError(f"{where}: expected `step,name,value`, got {line[:60]!r}; correct it.")
        step = whole_number(words[0], where, "a step", 0)
        yield step, words[1], number(words[2], where, "a value", finite=False)


def draw_curves(history: Path, picture: Path) -> None:
    """Draw ``history.csv`` as a PNG: a panel per quantity, with running means of many values."""
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
    write_whole(picture, lambda part: figure.savefig(part, format="png", dpi=100))
