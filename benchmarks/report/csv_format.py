"""Every figure of a report as CSV, one line each."""

import csv
import io
import unicodedata
from collections.abc import Iterator

from benchmarks.record import Row
from benchmarks.report.gather import Report
from benchmarks.report.lines import Cell, Line

_OF_ROW = ["run", "benchmark", "dataset", "protocol", "part", "feature", "matcher", "seed"]
_OF_METHOD = ["settings", "estimator", "weights"]
_OF_METRIC = ["metric", "value", "unit"]
_OF_LINE = ["mean", "half", "low", "high", "half_is", "verdict", "not_comparable"]

_BASES = {
    "pairs": "half of a 95 % interval over {pairs} pairs",
    "pairs and seeds": "half of a 95 % interval over {pairs} pairs and {seeds} seeds",
    "seeds": "standard deviation over {seeds} seeds",
    None: "",
}


def csv_table(report: Report) -> str:
    """Return a line for every metric of every row.

    ``mean`` and what follows are of all seeds of the method: ``half`` is the number behind ±, which
    ``half_is`` explains, ``low`` and ``high`` are the ends of the interval, ``verdict`` tells
    whether the figure is bold (:data:`benchmarks.report.lines.Verdict`). Text that a spreadsheet
    would take for a formula begins with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_OF_ROW, *_OF_METRIC, *_OF_METHOD, *_OF_LINE])
    lines = {
        id(row): line for table in report.tables for line in table.lines for _, row in line.rows
    }
    for loaded in report.runs:
        for row in loaded.run.rows:
            line = lines[id(row)]
            start = [loaded.name, loaded.run.benchmark, row.dataset, row.protocol, row.part]
            keys = [*start, row.feature, row.matcher, row.seed]
            method = [line.settings, row.estimator, _weights(row)]
            for name, entry in row.metrics.items():
                figures = [name, entry["value"], entry["unit"]]
                cells = [*keys, *figures, *method, *_of_line(line, name), row.not_comparable]
                writer.writerow(map(_cell, cells))
    return out.getvalue()


def _weights(row: Row) -> str:
    return ", ".join(f"{file['name']} ({file.get('origin') or 'file'})" for file in row.weights)


def _of_line(line: Line, metric: str) -> Iterator[str | float | None]:
    cell = line.cells[metric]
    yield cell.mean
    yield cell.half
    yield from cell.interval or (None, None)
    yield _half_is(cell)
    yield cell.verdict


def _half_is(cell: Cell) -> str:
    pairs = 0 if cell.estimate is None else cell.estimate.num_pairs
    return _BASES[cell.basis].format(pairs=pairs, seeds=len(cell.values))


def _cell(value: str | float | None) -> str:
    """Return a number in full, or text that no spreadsheet runs (OWASP, "CSV Injection")."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)
    first = unicodedata.normalize("NFKC", value.lstrip()[:1])  # spreadsheets know wide signs, too
    is_formula = value[:1] in set("\t\r\n") or first in set("=+-@")
    return f"'{value}" if is_formula else value
