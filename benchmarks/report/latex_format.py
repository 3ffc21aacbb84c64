r"""Tables of a report in LaTeX, for the package booktabs, each with a caption and a label.

Every text compiles with pdfLaTeX, too: letters that its fonts lack are written as ``U+65E5``.
"""

import re

from benchmarks.report.gather import Report
from benchmarks.report.labels import NO_BREAK_SPACE
from benchmarks.report.tables_as_text import TextRow, TextTable, text_tables
from featplug.io.metric_table import MINUS

_SPECIAL = {
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
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # which would be an argument of the line break before it
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    MINUS: "$-$",
    NO_BREAK_SPACE: "~",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
}
_LAST_LETTER = "\u017f"
"""Last letter that the fonts of pdfLaTeX have."""
_WIDE = 8
"""Number of columns above which a table is made as wide as the text."""


def latex(report: Report) -> str:
    """Return the main tables, each with the sentences that it is not read without."""
    blocks = [r"% \usepackage{booktabs} \usepackage[T1]{fontenc} \usepackage{graphicx}"]
    labels: set[str] = set()
    for table in text_tables(report):
        blocks.append(_table(table, _label(table, labels)))
    problems = (f"% problem: {p.subject}: {p.reason}" for p in report.problems)
    return "\n\n".join([*blocks, *(" ".join(text.split()) for text in problems)]) + "\n"


def _table(table: TextTable, label: str) -> str:
    columns = "".join("r" if is_number else "l" for is_number in table.is_number)
    is_wide = len(columns) > _WIDE
    lines = [
        r"\begin{table}",
        rf"  \caption{{{escape_latex(table.title)}}}",
        rf"  \label{{{label}}}",
        r"  \centering",
        *([r"  \setlength{\tabcolsep}{3pt}\resizebox{\linewidth}{!}{"] if is_wide else []),
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {' & '.join(map(escape_latex, table.heads))} \\\\",
        r"    \midrule",
    ]
    group = table.rows[0].group
    for row in table.rows:
        if row.group != group:
            group = row.group
            lines.append(r"    \addlinespace")
        lines.append(f"    {' & '.join(_cells(row))} \\\\")
    lines += [r"    \bottomrule", r"  \end{tabular}" + ("}" if is_wide else "")]
    if table.notes:
        notes = " ".join(map(escape_latex, table.notes))
        lines += ["", r"  \smallskip", rf"  \parbox{{\linewidth}}{{\footnotesize {notes}}}"]
    return "\n".join([*lines, r"\end{table}"])


def _cells(row: TextRow) -> list[str]:
    numbers = [
        rf"\textbf{{{escape_latex(number)}}}" if i in row.bold else escape_latex(number)
        for i, number in enumerate(row.numbers)
    ]
    return [*map(escape_latex, row.words), *numbers, *map(escape_latex, row.after)]


def _label(table: TextTable, taken: set[str]) -> str:
    """Return a label of small letters, digits and dashes that no other table has."""
    word = re.sub(r"[^a-z0-9.]+", "-", "-".join(table.name).lower()).strip("-.")[:100]
    label, number = f"tab:{word}", 1
    while label in taken:
        number += 1
        label = f"tab:{word}-{number}"
    taken.add(label)
    return label


def escape_latex(text: str) -> str:
    """Return text that LaTeX shows as it is."""
    letters = re.sub(r"[^\S\xa0]+", " ", text).replace("\xad", "")
    return "".join(map(_letter, letters)).replace("--", "-{}-").replace("''", "'{}'")


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    return letter if letter <= _LAST_LETTER else f"U+{ord(letter):04X}"
