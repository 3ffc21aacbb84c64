"""Tables of runs: one of each benchmark, dataset and protocol, a line for each feature and part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.published import Comparison, Published, compare, context
from benchmarks.record import Row
from benchmarks.report.labels import (
    MAIN_PARTS,
    benchmark_order,
    is_better,
    metric_label,
    metric_order,
    part_order,
)
from benchmarks.report.runs import LoadedRun
from featplug.io.metric_names import Metric

_SAME_SERIES = {
    *("dataset", "scenes", "images", "feature", "weights", "seed", "seeds", "num_seeds"),
    *("outputs", "device", "num_workers", "memory_gib", "overwrite", "reference", "parts"),
}
"""Options that may differ between runs whose rows are seeds of one series."""


@dataclass(frozen=True)
class Cell:
    """A metric of a feature over its seeds."""

    values: tuple[float, ...]
    is_best: bool = False

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n − 1); None for one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Line:
    """A feature on a part of a dataset."""

    series: str
    """Name of the feature, with what tells it from others of that name."""
    part: str
    rows: list[tuple[LoadedRun, Row]]
    """One for each seed."""
    cells: dict[str, Cell]

    @property
    def num_seeds(self) -> int:
        """How many rows it is made of."""
        return len(self.rows)


@dataclass(frozen=True)
class Beside:
    """A figure of a line beside a published one."""

    line: Line
    comparison: Comparison
    label: Metric
    """How both are shown: in the published number's unit."""

    @property
    def source(self) -> tuple[str, str]:
        """Where the published number is from, and what to bear in mind."""
        number = self.comparison.published
        return f"{number.source}, {number.table}", self.comparison.caveat


@dataclass(frozen=True)
class Table:
    """A benchmark on a dataset by a protocol."""

    benchmark: str
    dataset: str
    protocol: str
    metrics: dict[str, Metric]
    """In the order of the columns."""
    lines: list[Line]
    published: list[Beside] = field(default_factory=list)
    """Whatever was published of its features, comparable or not."""
    others: list[tuple[Published, Metric]] = field(default_factory=list)
    """What was published of other methods by the same protocol."""

    @property
    def parts(self) -> list[str]:
        """Those it has, the usual ones first."""
        return list(dict.fromkeys(line.part for line in self.lines))

    @property
    def main_parts(self) -> list[str]:
        """Those to look at first: all of a few; of many, the usual ones."""
        usual = [part for part in self.parts if part in MAIN_PARTS]
        return self.parts if len(self.parts) <= 4 or not usual else usual

    @property
    def main_metrics(self) -> dict[str, Metric]:
        """Those that are always shown."""
        shown = {name: label for name, label in self.metrics.items() if label.role != "detail"}
        return shown or self.metrics

    def is_detail(self, line: Line) -> bool:
        """Whether a line has nothing in the columns that are always shown."""
        return not any(name in line.cells for name in self.main_metrics)

    def parts_of(self, name: str) -> list[str]:
        """Parts to show a metric of, where one is enough: all, else the main ones."""
        having = {line.part for line in self.lines if name in line.cells}
        return ["all"] if "all" in having else [part for part in self.main_parts if part in having]

    @property
    def sources(self) -> list[tuple[str, str]]:
        """Where the compared numbers are from, and what to bear in mind, each once."""
        return list(dict.fromkeys(entry.source for entry in self.compared))

    @property
    def not_comparable(self) -> list[str]:
        """Why published numbers of the protocol do not hold for lines, each reason once."""
        reasons = (row.not_comparable for line in self.lines for _, row in line.rows)
        return list(dict.fromkeys(reason.rstrip(".") for reason in reasons if reason))

    @property
    def compared(self) -> list[Beside]:
        """Published numbers that ours may be compared with."""
        return [entry for entry in self.published if entry.comparison.reason is None]

    @property
    def not_compared(self) -> list[Beside]:
        """Published numbers that ours may not be compared with."""
        return [entry for entry in self.published if entry.comparison.reason is not None]

    def of_parts(self, parts: Iterable[str]) -> list[Line]:
        """Lines of some parts."""
        wanted = set(parts)
        return [line for line in self.lines if line.part in wanted]

    def has_seeds(self) -> bool:
        """Whether a line is of several seeds."""
        return any(line.num_seeds > 1 for line in self.lines)


def make_tables(runs: Sequence[LoadedRun]) -> list[Table]:
    """Sort the rows of runs into tables, in the order of the page."""
    grouped: dict[tuple[str, str, str], list[tuple[LoadedRun, Row]]] = {}
    for loaded in runs:
        for row in loaded.run.rows:
            key = (loaded.run.benchmark, row.dataset, row.protocol)
            grouped.setdefault(key, []).append((loaded, row))
    keys = sorted(grouped, key=lambda key: benchmark_order(key[0]))
    return [_table(*key, grouped[key]) for key in keys]


def _table(
    benchmark: str, dataset: str, protocol: str, entries: list[tuple[LoadedRun, Row]]
) -> Table:
    units = {
        name: entry["unit"] for _, row in entries for name, entry in reversed(row.metrics.items())
    }
    ordered = metric_order(name for name in dict.fromkeys(_metric_names(entries)))
    metrics = {name: metric_label(name, units[name], benchmark) for name in ordered}
    lines = [
        _line(series, part, rows)
        for series, of_series in _series(entries).items()
        for part, rows in _by_part(of_series).items()
    ]
    order = {name: i for i, name in enumerate(dict.fromkeys(line.series for line in lines))}
    lines.sort(key=lambda line: (part_order(line.part), order[line.series]))
    lines = [line for part in _by_line_part(lines) for line in _mark_best(part, metrics)]
    published = [entry for line in lines for entry in _beside(benchmark, line, metrics)]
    # Published numbers are read once, so that the same number is the same object.
    ours = {id(entry.comparison.published) for entry in published}
    numbers = {id(n): n for line in lines for n in context(benchmark, mean_row(line))}
    others = [(n, _label_of(n, metrics)) for key, n in numbers.items() if key not in ours]
    return Table(benchmark, dataset, protocol, metrics, lines, published, others)


def _metric_names(entries: Iterable[tuple[LoadedRun, Row]]) -> Iterable[str]:
    return (name for _, row in entries for name in row.metrics)


def _series(
    entries: Sequence[tuple[LoadedRun, Row]],
) -> dict[str, list[tuple[LoadedRun, Row]]]:
    """Sort rows by feature, and tell rows of one feature apart that are not seeds of each other.

    The name has the matcher where a feature has several, and the run where its rows repeat or its
    options or weights differ.
    """
    found: dict[str, list[tuple[LoadedRun, Row]]] = {}
    matchers: dict[str, set[str | None]] = {}
    for _, row in entries:
        matchers.setdefault(row.feature, set()).add(row.matcher)
    for loaded, row in entries:
        with_matcher = len(matchers[row.feature]) > 1 and row.matcher
        name = f"{row.feature} + {row.matcher}" if with_matcher else row.feature
        found.setdefault(name, []).append((loaded, row))
    told_apart: dict[str, list[tuple[LoadedRun, Row]]] = {}
    for name, rows in found.items():
        keys = [(row.part, row.seed) for _, row in rows]
        runs = {id(loaded): loaded for loaded, _ in rows}
        weights = {str([record.get("sha256") for record in row.weights]) for _, row in rows}
        settings = {str(_settings(loaded.run.options)) for loaded in runs.values()}
        differ = len(weights) > 1 or len(settings) > 1
        if len(runs) > 1 and (differ or len(set(keys)) < len(keys)):
            for loaded, row in rows:
                told_apart.setdefault(f"{name} ({loaded.name})", []).append((loaded, row))
        else:
            told_apart[name] = rows
    return told_apart


def _settings(options: Any) -> Any:
    """Leave out of options what may differ between seeds of one series."""
    if isinstance(options, Mapping):
        return {k: _settings(v) for k, v in sorted(options.items()) if k not in _SAME_SERIES}
    return options


def _by_part(
    rows: Sequence[tuple[LoadedRun, Row]],
) -> dict[str, list[tuple[LoadedRun, Row]]]:
    found: dict[str, list[tuple[LoadedRun, Row]]] = {}
    for loaded, row in rows:
        found.setdefault(row.part, []).append((loaded, row))
    return found


def _line(series: str, part: str, rows: list[tuple[LoadedRun, Row]]) -> Line:
    values: dict[str, list[float]] = {}
    for _, row in rows:
        for name, entry in row.metrics.items():
            values.setdefault(name, []).append(float(entry["value"]))
    return Line(series, part, rows, {name: Cell(tuple(found)) for name, found in values.items()})


def _by_line_part(lines: Sequence[Line]) -> list[list[Line]]:
    parts = dict.fromkeys(line.part for line in lines)
    return [[line for line in lines if line.part == part] for part in parts]


def _mark_best(lines: list[Line], metrics: Mapping[str, Metric]) -> list[Line]:
    """Mark the best of each metric among features on one part; there is none of one."""
    best = {name: best_lines(lines, name, label) for name, label in metrics.items()}
    return [
        replace(
            line,
            cells={
                name: replace(cell, is_best=any(line is found for found in best[name]))
                for name, cell in line.cells.items()
            },
        )
        for line in lines
    ]


def best_lines(lines: Sequence[Line], name: str, label: Metric) -> list[Line]:
    """Give the best in a metric: one, or several that are equal as shown.

    Empty where the metric has no direction, fewer than two have it, or all are equal.
    """
    having = [line for line in lines if name in line.cells]
    if label.better is None or len(having) < 2:
        return []
    shown = {id(line): round(line.cells[name].mean, label.digits) for line in having}
    top = (max if label.better == "higher" else min)(shown.values())
    best = [line for line in having if shown[id(line)] == top]
    return [] if len(best) == len(having) else best


def runner_up(lines: Sequence[Line], name: str, label: Metric) -> Line | None:
    """Give the best of those that are not the best."""
    best = best_lines(lines, name, label)
    second: Line | None = None
    for line in lines:
        if name not in line.cells or any(line is found for found in best):
            continue
        mean = line.cells[name].mean
        if second is None or is_better(mean, second.cells[name].mean, label):
            second = line
    return second if best else None


def _beside(benchmark: str, line: Line, metrics: Mapping[str, Metric]) -> list[Beside]:
    found = []
    for comparison in compare(benchmark, mean_row(line), line.rows[0][0].run.options):
        found.append(Beside(line, comparison, _label_of(comparison.published, metrics)))
    return found


def _label_of(number: Published, metrics: Mapping[str, Metric]) -> Metric:
    """Say how a published number is shown, and ours beside it: in its unit."""
    label = metrics[number.metric]
    if number.unit == "%" and label.unit != "%":
        # A hundredth of the fraction is as fine as its third digit.
        return replace(label, unit="%", digits=max(label.digits - 2, 1))
    return label


def mean_row(line: Line) -> Row:
    """Give one row in place of those of all seeds; what is wrong with one, is with the mean."""
    first = line.rows[0][1]
    reasons = dict.fromkeys(row.not_comparable for _, row in line.rows if row.not_comparable)
    metrics = {
        name: {**_entry(line, name), "value": cell.mean} for name, cell in line.cells.items()
    }
    return replace(first, metrics=metrics, not_comparable=" ".join(reasons) or None)


def _entry(line: Line, name: str) -> dict[str, Any]:
    return next(row.metrics[name] for _, row in line.rows if name in row.metrics)
