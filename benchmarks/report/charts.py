"""Geometry of charts, which the templates turn into SVG: curves with bands, bars with whiskers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from benchmarks.record import Curve
from benchmarks.report.result_tables import Line, Table
from featplug.io.metric_table import Metric
from featplug.report.stage_bars import MAX_COLOURS

WIDTH, HEIGHT = 420, 300
"""Size of a chart of curves, in units of its SVG."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 40
_SHOWN_FIRST = (3, 1000)
_FIRST_COUNT = 100
"""Values of a chart that reaches this number need no decimals."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class CurveLine:
    """A curve of one series."""

    series: str
    colour: int
    dash: int
    path: str
    band: str | None
    """Outline of mean ± spread; None for one seed."""
    y: list[float]
    """Values at the chart's x."""


@dataclass(frozen=True)
class CurveChart:
    """Curves of several series."""

    title: str
    x_label: str
    y_label: str
    x: list[float]
    x_at: list[float]
    start: int
    """Index of the x whose values the page shows first: 3 px as in papers, 1,000 matches, else the
    last."""
    digits: int
    """Number of decimals of the values: none for counts."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[CurveLine]

    @property
    def readout(self) -> list[CurveLine]:
        """Lines in the order of their values at ``start``."""
        return sorted(self.lines, key=lambda line: -line.y[self.start])

    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Bar:
    """A bar of one series; positions are per cent of the width."""

    series: str
    colour: int
    end: float
    text: str
    whisker: tuple[float, float] | None
    seeds: list[float]
    """Positions of the values of single seeds."""
    is_best: bool
    published: float | None


@dataclass(frozen=True)
class BarChart:
    """Bars of one metric."""

    title: str
    unit: str
    better: str | None
    bars: list[Bar]


class Colours:
    """Colours of the series, the same on the whole page."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, series: str) -> int:
        """Return the number of a series' colour; it may exceed :data:`MAX_COLOURS`."""
        return self._known.setdefault(series, len(self._known))


def curve_charts(table: Table, colours: Colours) -> list[CurveChart]:
    """Draw a chart for each curve of each of a table's main parts."""
    charts = []
    names = dict.fromkeys(
        name for line in table.lines for _, row in line.rows for name in row.curves
    )
    for name in names:
        for part in table.main_parts:
            lines = [line for line in table.of_parts([part]) if _curves(line, name)]
            if lines:
                title = _curves(lines[0], name)[0].y_label
                title += f", {part}" if len(table.parts) > 1 else ""
                charts.append(_curve_chart(title, name, lines, colours))
    return charts


def _curves(line: Line, name: str) -> list[Curve]:
    """Return the curves of a line's seeds that have the same x as the first one."""
    curves = [row.curves[name] for _, row in line.rows if name in row.curves]
    return [curve for curve in curves if curve.x == curves[0].x and curve.x]


def _curve_chart(title: str, name: str, lines: list[Line], colours: Colours) -> CurveChart:
    curves = [_curves(line, name) for line in lines]
    first = curves[0][0]
    longest = max((of_line[0].x for of_line in curves), key=len)
    all_x = np.concatenate([of_line[0].x for of_line in curves])
    all_y = np.concatenate([curve.y for of_line in curves for curve in of_line])
    low_x, high_x = float(all_x.min()), float(all_x.max())
    x_ticks = [tick for tick in _ticks(low_x, high_x) if low_x <= tick <= high_x]
    y_ticks = _ticks(min(0.0, float(all_y.min())), float(all_y.max()))
    place_x = _axis(low_x, high_x, _LEFT, WIDTH - _RIGHT)
    place_y = _axis(y_ticks[0], y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    drawn = []
    for line, of_line in zip(lines, curves, strict=True):
        y = np.array([curve.y for curve in of_line], float)
        mean, x = y.mean(0), place_x(of_line[0].x)
        band = None
        if len(y) > 1:
            spread = y.std(0, ddof=1)
            upper = np.column_stack([x, place_y(mean + spread)])
            lower = np.column_stack([x, place_y(mean - spread)])[::-1]
            band = _path(np.concatenate([upper, lower])) + "Z"
        number = colours(line.series)
        at_chart = np.interp(longest, of_line[0].x, mean).tolist()
        drawn.append(
            CurveLine(
                line.series,
                number % MAX_COLOURS,
                number // MAX_COLOURS % 3,
                _path(np.column_stack([x, place_y(mean)])),
                band,
                [round(value, 6) for value in at_chart],
            )
        )
    return CurveChart(
        title,
        first.x_label,
        first.y_label,
        longest,
        place_x(longest).round(1).tolist(),
        next((longest.index(x) for x in _SHOWN_FIRST if x in longest), len(longest) - 1),
        3 if y_ticks[-1] < _FIRST_COUNT else 0,
        [Tick(round(float(place_x(tick)), 1), f"{tick:g}") for tick in x_ticks],
        [Tick(round(float(place_y(tick)), 1), f"{tick:g}") for tick in y_ticks],
        drawn,
    )


def _axis(low: float, high: float, start: float, end: float) -> Callable[[ArrayLike], np.ndarray]:
    """Return the linear map from values to their positions on an axis."""
    scale = (end - start) / (high - low or 1.0)
    return lambda values: start + (np.asarray(values, float) - low) * scale


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers that enclose a range."""
    if high - low < 1e-12:
        high = low + 1.0
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [round(float(tick), 10) for tick in ticks]


def _path(points: np.ndarray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def bar_charts(table: Table, colours: Colours) -> dict[str, list[BarChart]]:
    """Return charts by part, of the main metrics that have a direction and several features."""
    charts: dict[str, list[BarChart]] = {}
    for name, label in table.main_metrics.items():
        for part in table.parts_of(name) if label.better is not None else []:
            lines = [line for line in table.of_parts([part]) if name in line.cells]
            if len(lines) > 1:
                chart = _bar_chart(table, lines, name, label, colours)
                charts.setdefault(part, []).append(chart)
    return charts


def _bar_chart(
    table: Table, lines: list[Line], name: str, label: Metric, colours: Colours
) -> BarChart:
    published = {
        entry.line: entry.comparison.published.value
        / (1 if entry.label.unit == label.unit else 100)
        for entry in table.compared
        if entry.comparison.metric == name
    }
    cells = [line.cells[name] for line in lines]
    most = max(
        100.0 if label.unit == "%" else 1e-12,
        *(cell.mean + (cell.half or 0.0) for cell in cells),
        *(max(cell.values) for cell in cells),
        *(published[line] for line in lines if line in published),
    )

    def place(value: float) -> float:
        return round(float(np.clip(100 * value / most, 0, 100)), 2)

    bars = []
    for line, cell in zip(lines, cells, strict=True):
        whisker, seeds = None, []
        if cell.half is not None:
            whisker = place(cell.mean - cell.half), place(cell.mean + cell.half)
            seeds = [place(value) for value in cell.values]
        bars.append(
            Bar(
                line.series,
                colours(line.series) % MAX_COLOURS,
                place(cell.mean),
                cell.text(label.digits),
                whisker,
                seeds,
                cell.is_best,
                place(published[line]) if line in published else None,
            )
        )
    return BarChart(label.title, label.unit or "", label.better, bars)
