"""Tables of a report in other formats: Markdown, CSV, LaTeX (booktabs) and JSON."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report.comparison import RunComparison
from benchmarks.report.gather import Report
from benchmarks.report.labels import (
    MINUS,
    NO_BREAK_SPACE,
    benchmark_title,
    dataset_title,
    format_value,
    protocol_title,
)
from benchmarks.report.page import command_text
from benchmarks.report.result_tables import Line, Table
from featplug.io.files import write_whole_text

_ARROWS = {"higher": "↑", "lower": "↓", None: ""}


def write_formats(report: Report, output: Path, formats: Sequence[str]) -> list[Path]:
    """Write a report's tables next to its page ``output``, and return the files.

    Files have the name of the page, and a format as their suffix: md, csv, tex or json.
    """
    paths = {name: output.with_suffix(f".{name}") for name in formats}
    for name, path in paths.items():
        write_whole_text(path, FORMATS[name](report))
    return list(paths.values())


def markdown(report: Report) -> str:
    """Return the main tables in GitHub's Markdown."""
    lines = [f"# {_escape_markdown(report.title)}", ""]
    for table in report.tables:
        lines += [f"## {_escape_markdown(_caption(table))}", ""]
        heads = _heads(table)
        numeric = len(heads) - len(_names(table, table.lines[0]))
        lines.append(_markdown_row(map(_escape_markdown, heads)))
        lines.append("|" + "---|" * (len(heads) - numeric) + "---:|" * numeric)
        for line in _main_lines(table):
            lines.append(_markdown_row(_cells(table, line, _escape_markdown, "**{}**")))
        lines.append("")
        lines += _markdown_published(table)
    lines += _markdown_comparison(report.comparison) if report.comparison else []
    if report.problems:
        problems = [f"{problem.subject}: {problem.reason}" for problem in report.problems]
        lines += ["## Problems", "", *(f"- {_escape_markdown(text)}" for text in problems), ""]
    lines += ["## Commands", "", "```"]
    lines += [command_text(loaded.run) for loaded in report.runs]
    return "\n".join([*lines, "```", ""])


def _markdown_row(words: Iterable[str]) -> str:
    return f"| {' | '.join(words)} |"


def _markdown_published(table: Table) -> list[str]:
    if not table.compared:
        return []
    lines = ["| feature | part | metric | ours | published | difference | source |"]
    lines.append("|---|---|---|---:|---:|---:|---|")
    for entry in table.compared:
        comparison, digits = entry.comparison, entry.label.digits
        number = comparison.published
        values = [format_value(value, digits) for value in (comparison.ours, number.value)]
        values.append(format_value(comparison.difference or 0.0, digits, sign=True))
        source, caveat = entry.source
        source += f" ({caveat})" if caveat else ""
        words = [entry.line.series, entry.line.part, entry.label.title, *values, source]
        lines.append(_markdown_row(map(_escape_markdown, words)))
    return [*lines, ""]


def _markdown_comparison(comparison: RunComparison) -> list[str]:
    lines = [f"## {_escape_markdown(f'{comparison.name_a} − {comparison.name_b}')}", ""]
    lines.append("| feature | data | metric | A | B | A − B | p | |")
    lines.append("|---|---|---|---:|---:|---:|---:|---|")
    for d in comparison.differences:
        where = d.dataset if d.part == "all" else f"{d.dataset}, {d.part}"
        numbers = [format_value(value, d.label.digits) for value in (d.mean_a, d.mean_b)]
        numbers.append(format_value(d.difference, d.label.digits, sign=True))
        p = "" if d.adjusted is None else f"{d.adjusted:.3g}"
        words = [d.series, where, d.label.title, *numbers, p, d.verdict]
        lines.append(_markdown_row(map(_escape_markdown, words)))
    return [*lines, ""]


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def csv_table(report: Report) -> str:
    """Return a line for every metric of every row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["run", "benchmark", "dataset", "protocol", "part", "feature", "matcher", "seed"]
    writer.writerow([*head, "metric", "value", "unit"])
    for loaded in report.runs:
        for row in loaded.run.rows:
            keys = [loaded.name, loaded.run.benchmark, row.dataset, row.protocol, row.part]
            keys += [row.feature, row.matcher or "", "" if row.seed is None else str(row.seed)]
            for name, entry in row.metrics.items():
                writer.writerow([*keys, name, repr(entry["value"]), entry["unit"]])
    return out.getvalue()


def latex(report: Report) -> str:
    """Return the main tables in LaTeX, for the package booktabs."""
    blocks = ["% \\usepackage{booktabs}"]
    for table in report.tables:
        heads = [_escape_latex(head) for head in _heads(table)]
        num_names = len(_names(table, table.lines[0]))
        lines = [
            r"\begin{table}",
            rf"  \caption{{{_escape_latex(_caption(table))}}}",
            r"  \centering",
            rf"  \begin{{tabular}}{{{'l' * num_names}{'r' * (len(heads) - num_names)}}}",
            r"    \toprule",
            f"    {' & '.join(heads)} \\\\",
            r"    \midrule",
        ]
        part = table.lines[0].part
        for line in _main_lines(table):
            if line.part != part:
                part = line.part
                lines.append(r"    \addlinespace")
            cells = _cells(table, line, _escape_latex, r"\textbf{{{}}}")
            lines.append(f"    {' & '.join(cells)} \\\\")
        lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    MINUS: "$-$",
    NO_BREAK_SPACE: "~",
    "–": "--",
}


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def json_report(report: Report) -> str:
    """Return the whole report: tables with means and spreads, runs with rows, comparisons."""
    record = {
        "title": report.title,
        "tables": [_json_table(table) for table in report.tables],
        "comparison": _json_comparison(report.comparison) if report.comparison else None,
        "problems": [asdict(problem) for problem in report.problems],
        "runs": [
            {"name": loaded.name, "folder": str(loaded.folder), **asdict(loaded.run)}
            for loaded in report.runs
        ],
    }
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _json_table(table: Table) -> dict[str, Any]:
    return {
        "benchmark": table.benchmark,
        "dataset": table.dataset,
        "protocol": table.protocol,
        "metrics": {name: asdict(label) for name, label in table.metrics.items()},
        "lines": [
            {
                "feature": line.series,
                "part": line.part,
                "seeds": [row.seed for _, row in line.rows],
                "metrics": {
                    name: {
                        "mean": cell.mean,
                        "spread": cell.spread,
                        "values": list(cell.values),
                        "best": cell.is_best,
                    }
                    for name, cell in line.cells.items()
                },
            }
            for line in table.lines
        ],
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


def _json_comparison(comparison: RunComparison) -> dict[str, Any]:
    record = asdict(comparison)
    for entry, difference in zip(record["differences"], comparison.differences, strict=True):
        entry |= {"difference": difference.difference, "verdict": difference.verdict}
    return record


def _cells(table: Table, line: Line, escape: Callable[[str], str], bold: str) -> list[str]:
    """Return the names and main cells of a line, escaped; the best cells are in bold."""
    texts = [escape(name) for name in _names(table, line)]
    for name, label in table.main_metrics.items():
        cell = line.cells.get(name)
        text = escape(cell.text(label.digits)) if cell else ""
        texts.append(bold.format(text) if cell and cell.is_best else text)
    return texts


def _main_lines(table: Table) -> list[Line]:
    return [line for line in table.of_parts(table.main_parts) if not table.is_detail(line)]


def _caption(table: Table) -> str:
    names = [benchmark_title(table.benchmark), dataset_title(table.dataset)]
    return f"{': '.join(names)}, {protocol_title(table.protocol)}"


def _heads(table: Table) -> list[str]:
    heads = ["feature"] + (["part"] if len(table.main_parts) > 1 else [])
    for label in table.main_metrics.values():
        unit = f" ({label.unit})" if label.unit else ""
        heads.append(f"{label.title}{unit} {_ARROWS[label.better]}".strip())
    return heads


def _names(table: Table, line: Line) -> list[str]:
    return [line.series, line.part] if len(table.main_parts) > 1 else [line.series]


FORMATS: dict[str, Callable[[Report], str]] = {
    "md": markdown,
    "csv": csv_table,
    "tex": latex,
    "json": json_report,
}
