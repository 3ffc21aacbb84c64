"""A whole report as JSON."""

import json
from dataclasses import asdict
from typing import Any

from benchmarks.report.comparison import RunComparison
from benchmarks.report.gather import Report
from benchmarks.report.lines import Cell, Line
from benchmarks.report.result_tables import Table
from featplug.io.typed_json import printable


def json_report(report: Report) -> str:
    """Return the whole report: tables with means and intervals, runs with rows, comparisons."""
    record = {
        "title": report.title,
        "tables": [_table(table) for table in report.tables],
        "comparison": _comparison(report.comparison) if report.comparison else None,
        "problems": [asdict(problem) for problem in report.problems],
        "runs": [
            {"name": loaded.name, "folder": printable(str(loaded.folder)), **asdict(loaded.run)}
            for loaded in report.runs
        ],
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _table(table: Table) -> dict[str, Any]:
    return {
        "benchmark": table.benchmark,
        "dataset": table.dataset,
        "protocol": table.protocol,
        "caveats": table.caveats,
        "metrics": {name: asdict(label) for name, label in table.metrics.items()},
        "lines": [_line(line) for line in table.lines],
        "published": [
            {
                "feature": entry.line.series,
                "part": entry.line.part,
                **asdict(entry.comparison),
                "difference": entry.comparison.difference,
            }
            for entry in table.published
        ],
    }


def _line(line: Line) -> dict[str, Any]:
    row = line.rows[0][1]
    return {
        "feature": line.series,
        "part": line.part,
        "matcher": line.matcher or None,
        "settings": row.settings,
        "estimator": row.estimator,
        "seeds": [row.seed for _, row in line.rows],
        "metrics": {name: _cell(cell) for name, cell in line.cells.items()},
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "mean": cell.mean,
        "spread": cell.spread,
        "interval": cell.interval,
        "basis": cell.basis,
        "values": list(cell.values),
        "verdict": cell.verdict,
        "best": cell.is_best,
    }


def _comparison(comparison: RunComparison) -> dict[str, Any]:
    record = asdict(comparison)
    for entry, difference in zip(record["differences"], comparison.differences, strict=True):
        entry |= {"difference": difference.difference, "verdict": difference.verdict}
    return record
