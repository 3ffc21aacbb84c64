"""Tables of a report in GitHub's Markdown."""

import re
from collections.abc import Iterable

from benchmarks.report.gather import Report
from benchmarks.report.page import command_text
from benchmarks.report.tables_as_text import TextRow, TextTable, text_tables

_SPECIAL = re.compile(
    r"[\\`*_{}\[\]<>#|~&$@]"  # tags, entities, links, cells, formulas, mentions
    r"|(?<=www)\.|:(?=//)"  # addresses, which become links by themselves
    r"|^[-+=]"  # lists and rules
)


def markdown(report: Report) -> str:
    """Return the main tables, each with the sentences that it is not read without."""
    lines = [f"# {_escape(report.title)}", ""]
    for table in text_tables(report):
        lines += _table(table)
    if report.problems:
        problems = [f"{problem.subject}: {problem.reason}" for problem in report.problems]
        lines += ["## Problems", "", *_list(problems)]
    commands = "\n".join(command_text(loaded.run) for loaded in report.runs)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", commands)), default=0))
    return "\n".join([*lines, "## Commands", "", fence, commands, fence, ""])


def _table(table: TextTable) -> list[str]:
    rule = "".join("---:|" if is_number else "---|" for is_number in table.is_number)
    rows = [_line(map(_escape, table.heads)), f"|{rule}", *map(_row, table.rows)]
    return [f"## {_escape(table.title)}", "", *rows, "", *_list(table.notes)]


def _row(row: TextRow) -> str:
    numbers = [
        f"**{_escape(n)}**" if i in row.bold else _escape(n) for i, n in enumerate(row.numbers)
    ]
    return _line([*map(_escape, row.words), *numbers, *map(_escape, row.after)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _list(sentences: Iterable[str]) -> list[str]:
    items = [f"- {_escape(sentence)}" for sentence in sentences]
    return [*items, ""] if items else []


def _escape(text: str) -> str:
    text = " ".join(text.split())
    numbered = re.match(r"\d+(?=[.)](\s|$))", text)  # as the start of a numbered list
    start = numbered.end() if numbered else 0
    return text[:start] + "\\" * bool(start) + _SPECIAL.sub(r"\\\g<0>", text[start:])
