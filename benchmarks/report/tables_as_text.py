"""The tables of a report as text, which Markdown and LaTeX then write each in its own way."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.report.comparison import RunComparison
from benchmarks.report.gather import Report
from benchmarks.report.labels import benchmark_title, dataset_title, protocol_title
from benchmarks.report.lines import Line
from benchmarks.report.result_tables import Table
from featplug.io.metric_table import Metric, format_value

_ARROWS = {"higher": "↑", "lower": "↓", None: ""}


@dataclass(frozen=True)
class TextRow:
    """A row of a table."""

    words: Sequence[str]
    numbers: Sequence[str]
    after: Sequence[str] = ()
    """More words, which follow the numbers."""
    bold: frozenset[int] = frozenset()
    """Indices of the numbers that are bold."""
    group: str = ""
    """Rows of different groups are set apart."""


@dataclass(frozen=True)
class TextTable:
    """A table of text."""

    title: str
    name: Sequence[str]
    """Words of a name that identifies it."""
    heads: Sequence[str]
    rows: list[TextRow]
    notes: list[str] = field(default_factory=list)
    """Sentences below it."""

    @property
    def is_number(self) -> list[bool]:
        """Whether each column has numbers."""
        row = self.rows[0]
        return [False] * len(row.words) + [True] * len(row.numbers) + [False] * len(row.after)


def text_tables(report: Report) -> Iterator[TextTable]:
    """Yield the tables of a report: of each the results, then published numbers; A − B at last."""
    for table in report.tables:
        if (results := _results(table)).rows:
            yield results
        if table.compared:
            yield _published(table)
    if report.comparison is not None:
        yield _comparison(report.comparison)


def _title(table: Table) -> str:
    names = [benchmark_title(table.benchmark), dataset_title(table.dataset)]
    return f"{': '.join(names)}, {protocol_title(table.protocol)}"


def _results(table: Table) -> TextTable:
    """Return the main lines of a table; what all lines share is a column only if it is there."""
    lines = [line for line in table.of_parts(table.main_parts) if not table.is_detail(line)]
    shown = {
        "feature": True,
        "part": len(table.main_parts) > 1,
        "matcher": table.has_matchers(),
        "settings": table.has_settings(),
        "seeds": table.has_seeds(),
    }
    metrics = table.main_metrics
    return TextTable(
        _title(table),
        [table.benchmark, table.dataset, table.protocol],
        [*(name for name, is_shown in shown.items() if is_shown), *map(_head, metrics.values())],
        [_result_row(line, metrics, shown) for line in lines],
        table.caveats,
    )


def _head(label: Metric) -> str:
    unit = f" ({label.unit})" if label.unit else ""
    return f"{label.title}{unit} {_ARROWS[label.better]}".strip()


def _result_row(line: Line, metrics: dict[str, Metric], shown: dict[str, bool]) -> TextRow:
    names = {
        "feature": line.series,
        "part": line.part,
        "matcher": line.matcher,
        "settings": line.settings,
        "seeds": str(line.num_seeds),
    }
    cells = [(line.cells.get(name), label) for name, label in metrics.items()]
    return TextRow(
        [text for name, text in names.items() if shown[name]],
        [cell.text(label.digits) if cell else "" for cell, label in cells],
        bold=frozenset(i for i, (cell, _) in enumerate(cells) if cell and cell.is_best),
        group=line.part,
    )


def _published(table: Table) -> TextTable:
    rows = []
    for entry in table.compared:
        comparison, digits = entry.comparison, entry.label.digits
        numbers = [format_value(v, digits) for v in (comparison.ours, comparison.published.value)]
        numbers.append(format_value(comparison.difference or 0.0, digits, sign=True))
        metric = " ".join(filter(None, (entry.label.title, entry.label.unit)))
        words = [entry.line.series, entry.line.part, metric]
        rows.append(TextRow(words, numbers, [f"[{1 + table.sources.index(entry.source)}]"]))
    return TextTable(
        f"{_title(table)}, next to published numbers",
        [table.benchmark, table.dataset, table.protocol, "published"],
        ["feature", "part", "metric", "ours", "published", "difference", "source"],
        rows,
        [
            f"[{number}] {source}." + (f" {caveat}" if caveat else "")
            for number, (source, caveat) in enumerate(table.sources, 1)
        ],
    )


def _comparison(comparison: RunComparison) -> TextTable:
    rows = []
    for d in comparison.differences:
        numbers = [format_value(value, d.label.digits) for value in (d.mean_a, d.mean_b)]
        half = "" if d.half is None else f" ± {format_value(d.half, d.label.digits)}"
        numbers.append(format_value(d.difference, d.label.digits, sign=True) + half)
        numbers.append("" if d.adjusted is None else f"{d.adjusted:.3g}")
        where = d.dataset if d.part == "all" else f"{d.dataset}, {d.part}"
        rows.append(TextRow([d.series, where, d.label.title], numbers, [d.tested, d.verdict]))
    notes = [
        "p is that of a paired test over the pairs or seeds that both have, adjusted for their "
        "number (Benjamini and Hochberg); ± is half of a 95 % interval over pairs."
    ]
    notes += _only("A", comparison.only_a) + _only("B", comparison.only_b)
    return TextTable(
        f"{comparison.name_a} − {comparison.name_b}",
        ["comparison", comparison.name_a, comparison.name_b],
        ["feature", "data", "metric", "A", "B", "A − B", "p", "tested", "verdict"],
        rows,
        notes,
    )


def _only(side: str, lines: Iterable[str]) -> list[str]:
    text = "; ".join(lines)
    return [f"Only {side} has {text}."] if text else []
