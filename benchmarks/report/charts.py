"""Geometry of charts: curves with bands, bars with whiskers.

The templates make SVG of it, and escape every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from benchmarks.record import Curve
from benchmarks.report.labels import format_value
from benchmarks.report.result_tables import Line, Table
from featplug.io.metric_names import Metric

WIDTH, HEIGHT = 420, 300
"""Size of a chart of curves, in its own units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 40

MAX_COLOURS = 10
"""Number of colours of the style; more series repeat them with dashes."""


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
    """Index of the x that is read off at first: 3 px, as in papers, else the last."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[CurveLine]

    @property
    def readout(self) -> list[CurveLine]:
        """Lines in the order of their values where they are read off at first."""
        return sorted(self.lines, key=lambda line: -line.y[self.start])

    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Bar:
    """A bar of one series; places are per cent of the width."""

    series: str
    colour: int
    end: float
    text: str
    whisker: tuple[float, float] | None
    seeds: list[float]
    """Places of the values of single seeds."""
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
        """Return the number of a series' colour, which may exceed those of the style."""
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
    """Return the curves of a line's seeds over the range of the first one."""
    found = [row.curves[name] for _, row in line.rows if name in row.curves]
    return [curve for curve in found if curve.x == found[0].x and curve.x]


def _curve_chart(title: str, name: str, lines: list[Line], colours: Colours) -> CurveChart:
    curves = {line.series: _curves(line, name) for line in lines}
    first = next(iter(curves.values()))[0]
    longest = max((found[0].x for found in curves.values()), key=len)
    values = np.concatenate([np.ravel([c.y for c in found]) for found in curves.values()])
    low_x = min(min(found[0].x) for found in curves.values())
    high_x = max(max(found[0].x) for found in curves.values())
    y_ticks = _ticks(min(0.0, float(values.min())), float(values.max()))
    x_ticks = [tick for tick in _ticks(low_x, high_x) if low_x <= tick <= high_x]
    low_y, high_y = y_ticks[0], y_ticks[-1]

    def place_x(x: Sequence[float]) -> np.ndarray:
        at = (np.asarray(x, float) - low_x) / (high_x - low_x or 1.0)
        return _LEFT + at * (WIDTH - _LEFT - _RIGHT)

    def place_y(y: Sequence[float] | np.ndarray) -> np.ndarray:
        at = (np.asarray(y, float) - low_y) / (high_y - low_y or 1.0)
        return HEIGHT - _BOTTOM - at * (HEIGHT - _TOP - _BOTTOM)

    drawn = []
    for line in lines:
        found = curves[line.series]
        y = np.array([curve.y for curve in found], float)
        mean, x = y.mean(0), place_x(found[0].x)
        band = None
        if len(y) > 1:
            spread = y.std(0, ddof=1)
            upper = np.column_stack([x, place_y(mean + spread)])
            lower = np.column_stack([x, place_y(mean - spread)])[::-1]
            band = _path(np.concatenate([upper, lower])) + "Z"
        number = colours(line.series)
        at_chart = np.interp(longest, found[0].x, mean).tolist()
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
        longest.index(3) if 3 in longest else len(longest) - 1,
        [Tick(round(float(place_x([tick])[0]), 1), f"{tick:g}") for tick in x_ticks],
        [Tick(round(float(place_y([tick])[0]), 1), f"{tick:g}") for tick in y_ticks],
        drawn,
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers around a range."""
    if high - low < 1e-12:
        high = low + 1.0
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [round(float(tick), 10) for tick in ticks]


def _path(points: np.ndarray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def bar_charts(table: Table, colours: Colours) -> dict[str, list[BarChart]]:
    """Draw the main metrics that have a direction, where several features have them.

    Returns:
        Charts by part.
    """
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
        id(entry.line): entry.comparison.published.value
        / (1 if entry.label.unit == label.unit else 100)
        for entry in table.compared
        if entry.comparison.metric == name
    }
    most = max(
        100.0 if label.unit == "%" else 1e-12,
        *(line.cells[name].mean + (line.cells[name].spread or 0.0) for line in lines),
        *(max(line.cells[name].values) for line in lines),
        *(published[id(line)] for line in lines if id(line) in published),
    )

    def place(value: float) -> float:
        return round(float(np.clip(100 * value / most, 0, 100)), 2)

    bars = []
    for line in lines:
        cell = line.cells[name]
        text = format_value(cell.mean, label.digits)
        whisker = None
        if cell.spread is not None:
            text += f" ± {format_value(cell.spread, label.digits)}"
            whisker = place(cell.mean - cell.spread), place(cell.mean + cell.spread)
        seeds = [place(value) for value in cell.values] if len(cell.values) > 1 else []
        bars.append(
            Bar(
                line.series,
                colours(line.series) % MAX_COLOURS,
                place(cell.mean),
                text,
                whisker,
                seeds,
                cell.is_best,
                place(published[id(line)]) if id(line) in published else None,
            )
        )
    return BarChart(label.title, label.unit or "", label.better, bars)
