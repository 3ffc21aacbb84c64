"""Tables of runs: one for each benchmark, data set and protocol, with a line for each feature."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from benchmarks.published import Comparison, Published, compare, context
from benchmarks.record import Row
from benchmarks.report.caveats import caveats
from benchmarks.report.equal_numbers import columns_at_equal_numbers
from benchmarks.report.evidence import Evidence, EvidenceReader
from benchmarks.report.labels import (
    MAIN_PARTS,
    benchmark_order,
    method_titles,
    metric_label,
    metric_order,
    part_order,
)
from benchmarks.report.lines import Cell, Entry, Line, judge
from benchmarks.report.runs import LoadedRun
from featplug.io.metric_table import Metric

_Key = TypeVar("_Key", bound=Hashable)

_SAME_SERIES = {
    *("dataset", "scenes", "images", "feature", "features", "matches", "methods", "weights"),
    *("seed", "seeds", "num_seeds"),
    *("outputs", "device", "num_workers", "memory_gib", "overwrite", "reference", "parts"),
    "feature_dir",
}
"""Options that may differ between runs whose rows are seeds of one series."""


@dataclass(frozen=True)
class ComparedLine:
    """A figure of a line next to a published one."""

    line: Line
    comparison: Comparison
    label: Metric
    """Label of both figures, with the published number's unit."""

    @property
    def source(self) -> tuple[str, str]:
        """Source of the published number, and its caveat."""
        number = self.comparison.published
        return f"{number.source}, {number.table}", self.comparison.caveat


@dataclass(frozen=True)
class Table:
    """A benchmark on a data set by a protocol."""

    benchmark: str
    dataset: str
    protocol: str
    metrics: dict[str, Metric]
    """Columns, in their order."""
    lines: list[Line]
    published: list[ComparedLine] = field(default_factory=list)
    """Published numbers of its features, comparable or not."""
    others: list[tuple[Published, Metric]] = field(default_factory=list)
    """Published numbers of other methods by the same protocol."""
    caveats: list[str] = field(default_factory=list)
    """Sentences that every format shows: what ± and bold mean, and what is unlike elsewhere."""

    @cached_property
    def parts(self) -> list[str]:
        """Parts of the lines, the usual ones first."""
        return list(self._lines_by_part)

    @cached_property
    def _lines_by_part(self) -> dict[str, list[Line]]:
        return _by_part(self.lines)

    @cached_property
    def main_parts(self) -> list[str]:
        """Parts of the first table: all if they are few, else the usual ones."""
        usual = [part for part in self.parts if part in MAIN_PARTS]
        return self.parts if len(self.parts) <= 4 or not usual else usual

    @cached_property
    def main_metrics(self) -> dict[str, Metric]:
        """Columns that are always shown."""
        shown = {name: label for name, label in self.metrics.items() if label.role != "detail"}
        return shown or self.metrics

    def is_detail(self, line: Line) -> bool:
        """Whether a line is empty in the columns that are always shown."""
        return not any(name in line.cells for name in self.main_metrics)

    def parts_of(self, name: str) -> list[str]:
        """Return the part of a metric's summary, ``all``, or the main parts without it."""
        having = {line.part for line in self.lines if name in line.cells}
        return ["all"] if "all" in having else [part for part in self.main_parts if part in having]

    @cached_property
    def sources(self) -> list[tuple[str, str]]:
        """Sources of the compared numbers and their caveats, each once."""
        return list(dict.fromkeys(entry.source for entry in self.compared))

    @cached_property
    def compared(self) -> list[ComparedLine]:
        """Published numbers that can be compared with ours."""
        return [entry for entry in self.published if entry.comparison.reason is None]

    @cached_property
    def not_compared(self) -> list[ComparedLine]:
        """Published numbers that cannot be compared with ours."""
        return [entry for entry in self.published if entry.comparison.reason is not None]

    def of_parts(self, parts: Iterable[str]) -> list[Line]:
        """Return the lines of some parts, in the order of these."""
        return [line for part in parts for line in self._lines_by_part.get(part, [])]

    def has_matchers(self) -> bool:
        """Whether a line has a matcher."""
        return any(line.matcher for line in self.lines)

    def has_settings(self) -> bool:
        """Whether a line has settings."""
        return any(line.settings for line in self.lines)

    def has_seeds(self) -> bool:
        """Whether a line has several seeds."""
        return any(line.num_seeds > 1 for line in self.lines)


def make_tables(runs: Sequence[LoadedRun]) -> list[Table]:
    """Sort the rows of runs into tables, in the order of the page."""
    entries = ((loaded, row) for loaded in runs for row in loaded.run.rows)
    grouped = _grouped(
        entries, lambda loaded, row: (loaded.run.benchmark, row.dataset, row.protocol)
    )
    keys = sorted(grouped, key=lambda key: benchmark_order(key[0]))
    return [_table(*key, grouped[key]) for key in keys]


def _grouped(
    entries: Iterable[Entry], key: Callable[[LoadedRun, Row], _Key]
) -> dict[_Key, list[Entry]]:
    groups: dict[_Key, list[Entry]] = {}
    for loaded, row in entries:
        groups.setdefault(key(loaded, row), []).append((loaded, row))
    return groups


def _table(benchmark: str, dataset: str, protocol: str, entries: list[Entry]) -> Table:
    units = {
        name: entry["unit"] for _, row in entries for name, entry in reversed(row.metrics.items())
    }
    names = dict.fromkeys(name for _, row in entries for name in row.metrics)
    reader = EvidenceReader()
    lines = [
        _line(series, part, rows, reader.of_line(rows))
        for series, of_series in _series(entries).items()
        for part, rows in _grouped(of_series, lambda _, row: row.part).items()
    ]
    lines.sort(key=lambda line: part_order(line.part))
    columns = columns_at_equal_numbers(names, lines)
    metrics = {name: metric_label(name, units[name], benchmark) for name in metric_order(columns)}
    for of_part in _by_part(lines).values():
        for name, label in metrics.items():
            judge(of_part, name, label)
    rows = [(line, line.mean_row()) for line in lines]
    published = [
        ComparedLine(line, comparison, _label_of(comparison.published, metrics))
        for line, row in rows
        for comparison in compare(benchmark, row, line.rows[0][0].run.options)
    ]
    # Published numbers are loaded once, so an equal number is the same object.
    ours = {id(entry.comparison.published) for entry in published}
    numbers = {id(number): number for _, row in rows for number in context(benchmark, row)}
    others = [(n, _label_of(n, metrics)) for key, n in numbers.items() if key not in ours]
    sentences = [*caveats(lines, metrics), *reader.problems]
    return Table(benchmark, dataset, protocol, metrics, lines, published, others, sentences)


def _by_part(lines: Iterable[Line]) -> dict[str, list[Line]]:
    parts: dict[str, list[Line]] = {}
    for line in lines:
        parts.setdefault(line.part, []).append(line)
    return parts


def _series(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Sort rows by feature, and separate rows of one feature that are not seeds of each other.

    The name has the matcher where a feature has several, and the run where its rows repeat or its
    options or weights differ.
    """
    matchers: dict[str, set[str | None]] = {}
    for _, row in entries:
        matchers.setdefault(row.feature, set()).add(row.matcher)

    titles = method_titles(matchers)

    def name_of(_: LoadedRun, row: Row) -> str:
        with_matcher = len(matchers[row.feature]) > 1 and row.matcher
        title = titles[row.feature]
        return f"{title} + {row.matcher}" if with_matcher else title

    series: dict[str, list[Entry]] = {}
    for name, rows in _grouped(entries, name_of).items():
        keys = {(row.part, row.seed) for _, row in rows}
        runs = {id(loaded): loaded for loaded, _ in rows}
        weights = {str([record.get("sha256") for record in row.weights]) for _, row in rows}
        settings = {str(_settings(loaded.run.options)) for loaded in runs.values()}
        differ = len(weights) > 1 or len(settings) > 1 or len(keys) < len(rows)
        if len(runs) > 1 and differ:
            for run_name, of_run in _grouped(rows, lambda loaded, _: loaded.name).items():
                series[f"{name} ({run_name})"] = of_run
        else:
            series[name] = rows
    return series


def _settings(options: Any) -> Any:
    """Return options without those that may differ between seeds of one series."""
    if isinstance(options, Mapping):
        return {k: _settings(v) for k, v in sorted(options.items()) if k not in _SAME_SERIES}
    return options


def _line(series: str, part: str, rows: list[Entry], evidence: Evidence) -> Line:
    values: dict[str, list[float]] = {}
    for _, row in rows:
        for name, entry in row.metrics.items():
            values.setdefault(name, []).append(float(entry["value"]))
    cells = {
        name: Cell(tuple(of_metric), evidence.estimate(name)) for name, of_metric in values.items()
    }
    return Line(series, part, rows, cells, evidence)


def best_lines(lines: Sequence[Line], name: str, label: Metric) -> list[Line]:
    """Return the lines with the best figures: one, or several that are equal as shown.

    Whether one is better than the others by a test is a :attr:`Cell.verdict`.

    Empty where the metric has no direction, fewer than two lines have it, or all are equal.
    """
    having = [line for line in lines if name in line.cells]
    if label.better is None or len(having) < 2:
        return []
    shown = [round(line.cells[name].mean, label.digits) for line in having]
    top = (max if label.better == "higher" else min)(shown)
    best = [line for line, value in zip(having, shown, strict=True) if value == top]
    return [] if len(best) == len(having) else best


def runner_up(lines: Sequence[Line], name: str, label: Metric) -> Line | None:
    """Return the best of the other lines, where :func:`best_lines` returns any."""
    best = best_lines(lines, name, label)
    others = [line for line in lines if name in line.cells and line not in best]
    if not best:
        return None
    pick = max if label.better == "higher" else min
    return pick(others, key=lambda line: line.cells[name].mean)


def _label_of(number: Published, metrics: Mapping[str, Metric]) -> Metric:
    """Return the label of a published number and of ours next to it, in the published unit."""
    label = metrics[number.metric]
    if number.unit == "%" and label.unit != "%":
        # A hundredth of the fraction is as fine as its third digit.
        return replace(label, unit="%", digits=max(label.digits - 2, 1))
    return label
