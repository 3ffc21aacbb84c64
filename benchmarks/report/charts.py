"""Geometry of charts, which the templates turn into SVG: curves with bands, bars with whiskers.

Charts of one quantity have the same axes in all parts of a table.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from benchmarks.record import Curve
from benchmarks.report.result_tables import Line, Table
from featplug.io.metric_table import Metric, find_metric, generic_name

NUM_COLOURS = 8
"""Number of colours of series; more series repeat them with other dashes."""
WIDTH, HEIGHT = 420, 300
"""Size of a chart of curves, in units of its SVG."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 10, 40
_SHOWN_FIRST = (3, 1000)
_NEAR_ZERO = 0.1
"""Fraction of the largest x; an axis whose smallest x is nearer to 0 begins there."""
_FIRST_COUNT = 100
"""Values of a chart that reaches this number need no decimals."""
_NUM_READ = 50
"""Number of x at which curves that have no x in common are read off."""
_SHARED_UNITS = ("fraction", "%", "matches per pair")
"""Units in which all metrics of a table have one axis."""


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
    shipped: tuple[float, float] | None
    """Position of the point that the conf ships with."""
    y: list[float | None]
    """Values at the chart's x; None where the curve has ended."""
    matcher: str


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
    last that all curves reach."""
    digits: int
    """Number of decimals of the values: none for counts."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[CurveLine]

    @property
    def readout(self) -> list[CurveLine]:
        """Lines in the order of their values at ``start``."""
        return sorted(self.lines, key=lambda line: -(line.y[self.start] or 0.0))

    @property
    def marks_shipped(self) -> bool:
        """Whether a line has the point that its conf ships with."""
        return any(line.shipped for line in self.lines)

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
    matcher: str
    """Name of the matcher, where the name of the series does not have it."""
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
        """Return the colour of a series."""
        return self._number(series) % NUM_COLOURS

    def dash(self, series: str) -> int:
        """Return which of three dashes a series has, none first."""
        return self._number(series) // NUM_COLOURS % 3

    def _number(self, series: str) -> int:
        return self._known.setdefault(series, len(self._known))


def curve_charts(table: Table, colours: Colours) -> list[CurveChart]:
    """Draw a chart for each curve of each of a table's main parts."""
    charts = []
    curves = {
        name: curve
        for line in table.lines
        for _, row in line.rows
        for name, curve in row.curves.items()
    }
    labels = Counter(curve.y_label for curve in curves.values())
    for name, curve in curves.items():
        drawn = [line for line in table.of_parts(table.main_parts) if _curves(line, name)]
        everything = [curve for line in drawn for curve in _curves(line, name)]
        whole = _shapes([line for line in drawn if line.part == "all"], name)
        title = curve.y_label
        if labels[title] > 1:
            title += f" over {curve.x_label}"
        for part in table.main_parts:
            lines = [line for line in drawn if line.part == part]
            if lines and (part == "all" or _shapes(lines, name) != whole):
                of_part = f", {part}" if len(table.parts) > 1 else ""
                charts.append(_curve_chart(title + of_part, name, lines, everything, colours))
    return charts


def _shapes(lines: Sequence[Line], name: str) -> dict[str, list[tuple[list[float], list[float]]]]:
    """Return the curves of lines by series: a part may have all pairs of a data set."""
    return {line.series: [(c.x, c.y) for c in _curves(line, name)] for line in lines}


def _curves(line: Line, name: str) -> list[Curve]:
    """Return the curves of a line's seeds that have the same x as the first one."""
    curves = [row.curves[name] for _, row in line.rows if name in row.curves]
    return [curve for curve in curves if curve.x == curves[0].x and curve.x]


def _curve_chart(
    title: str, name: str, lines: list[Line], everything: Sequence[Curve], colours: Colours
) -> CurveChart:
    """Draw the curves of lines on axes that reach as far as ``everything``."""
    curves = [_curves(line, name) for line in lines]
    first = curves[0][0]
    read_at = _common_x([of_line[0].x for of_line in curves])
    all_x = np.concatenate([curve.x for curve in everything])
    all_y = np.concatenate([curve.y for curve in everything])
    low_x, high_x = float(all_x.min()), float(all_x.max())
    if 0 < low_x < _NEAR_ZERO * high_x:
        low_x = 0.0
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
        shipped = [curve.shipped for curve in of_line if len(curve.shipped) == 2]
        at = np.mean(shipped, axis=0) if shipped else None
        read = np.interp(read_at, of_line[0].x, mean, right=np.nan).tolist()
        drawn.append(
            CurveLine(
                line.series,
                colours(line.series),
                colours.dash(line.series),
                _path(np.column_stack([x, place_y(mean)])),
                band,
                None if at is None else (float(place_x(at[0])), float(place_y(at[1]))),
                [None if np.isnan(value) else round(value, 6) for value in read],
                matcher_beside(line),
            )
        )
    ends = [of_line[0].x[-1] for of_line in curves]
    last_of_all = max(0, int(np.searchsorted(read_at, min(ends), "right")) - 1)
    return CurveChart(
        title,
        first.x_label,
        first.y_label,
        read_at,
        place_x(read_at).round(1).tolist(),
        next((read_at.index(x) for x in _SHOWN_FIRST if x in read_at), last_of_all),
        3 if y_ticks[-1] < _FIRST_COUNT else 0,
        [Tick(round(float(place_x(tick)), 1), f"{tick:g}") for tick in x_ticks],
        [Tick(round(float(place_y(tick)), 1), f"{tick:g}") for tick in y_ticks],
        drawn,
    )


def _common_x(of_curves: Sequence[list[float]]) -> list[float]:
    """Return the x of the longest curve if the others have them, else some from first to last."""
    longest = max(of_curves, key=len)
    if all(x == longest[: len(x)] for x in of_curves):
        return longest
    both = [x for of_curve in of_curves for x in of_curve]
    low, high = min(both), max(both)
    digits = 0 if high - low > _NUM_READ else 3
    inner = np.unique(np.linspace(low, high, _NUM_READ)[1:-1].round(digits))
    return [low, *inner.tolist(), high]


def matcher_beside(line: Line) -> str:
    """Return the name of a line's matcher, where the name of its series does not have it."""
    return "" if line.matcher in line.series else line.matcher


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
    shown = [
        (name, part, lines, _published(table, name))
        for name, label in table.main_metrics.items()
        for part in (table.parts_of(name) if label.better is not None else [])
        if len(lines := [line for line in table.of_parts([part]) if name in line.cells]) > 1
    ]
    longest: dict[str, float] = {}
    for name, _, lines, published in shown:
        reached = [published[line] for line in lines if line in published]
        for cell in (line.cells[name] for line in lines):
            reached += [*cell.values, cell.mean + (cell.half or 0.0)]
        least = 100.0 if table.metrics[name].unit == "%" else 1e-12
        longest[_quantity(name)] = max(least, longest.get(_quantity(name), 0.0), *reached)
    charts: dict[str, list[BarChart]] = {}
    for name, part, lines, published in shown:
        label, most = table.metrics[name], longest[_quantity(name)]
        charts.setdefault(part, []).append(_bar_chart(lines, name, label, most, published, colours))
    return charts


def _quantity(name: str) -> str:
    """Return what is the same for all metrics that have one axis."""
    metric = find_metric(name)
    return metric.unit if metric and metric.unit in _SHARED_UNITS else generic_name(name)


def _published(table: Table, name: str) -> dict[Line, float]:
    """Return the published numbers of lines, in the unit of the table."""
    unit = table.metrics[name].unit
    return {
        entry.line: entry.comparison.published.value / (1 if entry.label.unit == unit else 100)
        for entry in table.compared
        if entry.comparison.metric == name
    }


def _bar_chart(
    lines: list[Line],
    name: str,
    label: Metric,
    most: float,
    published: dict[Line, float],
    colours: Colours,
) -> BarChart:
    """Draw bars on an axis that ends at ``most``."""

    def place(value: float) -> float:
        return round(float(np.clip(100 * value / most, 0, 100)), 2)

    bars = []
    for line in lines:
        cell = line.cells[name]
        whisker, seeds = None, []
        if cell.half is not None:
            whisker = place(cell.mean - cell.half), place(cell.mean + cell.half)
            seeds = [place(value) for value in cell.values]
        bars.append(
            Bar(
                line.series,
                matcher_beside(line),
                colours(line.series),
                place(cell.mean),
                cell.text(label.digits),
                whisker,
                seeds,
                cell.is_best,
                place(published[line]) if line in published else None,
            )
        )
    return BarChart(label.title, label.unit or "", label.better, bars)
