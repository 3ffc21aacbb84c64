"""Tables of a report in other formats: Markdown, CSV, LaTeX (booktabs) and JSON."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.record import RECORD
from benchmarks.report.comparison import RunComparison
from benchmarks.report.gather import Report
from benchmarks.report.labels import (
    NO_BREAK_SPACE,
    benchmark_title,
    dataset_title,
    protocol_title,
)
from benchmarks.report.page import command_text
from benchmarks.report.result_tables import Line, Table
from featplug.io.files import write_whole_text
from featplug.io.metric_table import MINUS, format_value
from featplug.io.typed_json import printable

_ARROWS = {"higher": "↑", "lower": "↓", None: ""}


def output_paths(page: Path, formats: Iterable[str]) -> dict[str, Path]:
    """Return the file of each format: the name of the page with the format as its suffix.

    Raises:
        ValueError: a file would be the page itself, or the record of a run.
    """
    paths = {name: page.with_suffix(f".{name}") for name in formats}
    if page in paths.values():
        raise ValueError(f"{page} would be the page and one of --formats; end --output with .html.")
    for path in (page, *paths.values()):
        if path.name.lower() == RECORD:
            raise ValueError(
                f"{path} is the name of the record of a run, which would be lost; choose another "
                "name for --output."
            )
    return paths


def write_formats(report: Report, page: Path, formats: Iterable[str]) -> list[Path]:
    """Write a report's tables next to its page, and return the files.

    Raises:
        ValueError: see :func:`output_paths`.
    """
    texts = {path: FORMATS[name](report) for name, path in output_paths(page, formats).items()}
    for path, text in texts.items():
        write_whole_text(path, text)
    return list(texts)


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
    commands = "\n".join(command_text(loaded.run) for loaded in report.runs)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", commands)), default=0))
    return "\n".join([*lines, "## Commands", "", fence, commands, fence, ""])


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


_MARKDOWN = re.compile(
    r"[\\`*_{}\[\]<>#|~&$@]"  # tags, entities, links, cells, formulas, mentions
    r"|(?<=www)\.|:(?=//)"  # addresses, which become links by themselves
    r"|^[-+=]"  # lists and rules
)


def _escape_markdown(text: str) -> str:
    text = " ".join(text.split())
    numbered = re.match(r"\d+(?=[.)](\s|$))", text)  # as the start of a numbered list
    start = numbered.end() if numbered else 0
    return text[:start] + "\\" * bool(start) + _MARKDOWN.sub(r"\\\g<0>", text[start:])


def csv_table(report: Report) -> str:
    """Return a line for every metric of every row.

    Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["run", "benchmark", "dataset", "protocol", "part", "feature", "matcher", "seed"]
    writer.writerow([*head, "metric", "value", "unit"])
    for loaded in report.runs:
        for row in loaded.run.rows:
            keys: list[str | float] = [
                loaded.name,
                loaded.run.benchmark,
                row.dataset,
                row.protocol,
                row.part,
            ]
            keys += [row.feature, row.matcher or "", "" if row.seed is None else row.seed]
            for name, entry in row.metrics.items():
                cells = [*keys, name, entry["value"], entry["unit"]]
                writer.writerow(_csv_text(c) if isinstance(c, str) else repr(c) for c in cells)
    return out.getvalue()


def _csv_text(text: str) -> str:
    """Return text that no spreadsheet runs (OWASP, "CSV Injection")."""
    first = unicodedata.normalize("NFKC", text.lstrip()[:1])  # spreadsheets know wide signs, too
    return f"'{text}" if text[:1] in set("\t\r\n") or first in set("=+-@") else text


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
    "[": "{[}",  # which would be an argument of the line break before it
    "]": "{]}",
    "*": "{*}",
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
    text = "".join(_LATEX.get(letter, letter) for letter in re.sub(r"[^\S\xa0]+", " ", text))
    return text.replace("--", "-{}-")


def json_report(report: Report) -> str:
    """Return the whole report: tables with means and spreads, runs with rows, comparisons."""
    record = {
        "title": report.title,
        "tables": [_json_table(table) for table in report.tables],
        "comparison": _json_comparison(report.comparison) if report.comparison else None,
        "problems": [asdict(problem) for problem in report.problems],
        "runs": [
            {"name": loaded.name, "folder": printable(str(loaded.folder)), **asdict(loaded.run)}
            for loaded in report.runs
        ],
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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
                "matcher": line.matcher or None,
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
    heads += ["matcher"] if table.has_matchers() else []
    for label in table.main_metrics.values():
        unit = f" ({label.unit})" if label.unit else ""
        heads.append(f"{label.title}{unit} {_ARROWS[label.better]}".strip())
    return heads


def _names(table: Table, line: Line) -> list[str]:
    names = [line.series] + ([line.part] if len(table.main_parts) > 1 else [])
    return [*names, line.matcher] if table.has_matchers() else names


FORMATS: dict[str, Callable[[Report], str]] = {
    "md": markdown,
    "csv": csv_table,
    "tex": latex,
    "json": json_report,
}
