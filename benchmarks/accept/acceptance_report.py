"""The verdicts of an acceptance as JSON, Markdown and a page that opens offline."""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from benchmarks.accept.acceptance_plan import Plan
from benchmarks.accept.verdicts import Verdict, Word
from benchmarks.record import Problem, counted
from benchmarks.report import labels
from featplug import __version__
from featplug.io.metric_table import find_metric, format_value
from featplug.io.results import environment
from featplug.report.html_page import render

_HEADS = ("method", "data", "part", "metric", "published", "ours", "ours − published",
          "tolerance", "verdict", "source")  # fmt: skip
_NUM_TEXTS = 4
_NO_NUMBER = "no number is published; the figures are in report.html"
MEANING = (
    "Within: the figure differs from the published one by no more than the tolerance, which is "
    "half a unit of the last printed digit and half of the figure's 95 % interval over pairs, "
    "queries or seeds. Above is better than published, below is worse; figures of which more is "
    "not better differ."
)


@dataclass(frozen=True)
class _Line:
    """One compared number, as text."""

    texts: tuple[str, ...]
    figures: tuple[str, ...]
    verdict: str
    source: str
    url: str
    caveat: str


def json_text(verdicts: Sequence[Verdict], plan: Plan, problems: Sequence[Problem]) -> str:
    """Return everything as JSON."""
    record = {
        "format": 1,
        "featplug": __version__,
        "environment": environment(),
        "verdicts": [verdict.as_json() for verdict in verdicts],
        "problems": [asdict(problem) for problem in problems],
        "without_weights": plan.without_weights,
        "missing": plan.missing,
    }
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def markdown(
    folder: Path, verdicts: Sequence[Verdict], plan: Plan, problems: Sequence[Problem]
) -> str:
    """Return the verdicts as tables of Markdown."""
    text = [f"# Acceptance of {folder}", "", f"{summary(verdicts)}. {MEANING}", ""]
    lines = _compared(verdicts)
    if lines:
        text += [_row(_HEADS), "|" + "---|" * _NUM_TEXTS + "---:|" * 4 + "---|" * 2]
        for line in lines:
            source = f"[{line.source}]({line.url})" + (f": {line.caveat}" if line.caveat else "")
            text.append(_row((*line.texts, *line.figures, line.verdict, source)))
        text.append("")
    if reasons := not_compared(verdicts, plan):
        text += ["## Not compared", "", _row(("method", "data", "numbers", "reason"))]
        text += ["|---|---|---:|---|", *(_row((*key[:2], n, key[2])) for key, n in reasons), ""]
    if notes := _notes(plan, problems):
        text += ["## Missing", "", *(f"- {_cell(note)}" for note in notes), ""]
    command = shlex.join(["featplug", "bench", "accept", *_arguments()])
    return "\n".join([*text, f"`{command}`; featplug {__version__}.", ""])


def page(folder: Path, verdicts: Sequence[Verdict], plan: Plan, problems: Sequence[Problem]) -> str:
    """Return the verdicts as one HTML page."""
    return render(
        "accept.html",
        [Path(__file__).with_name("templates")],
        title=f"Acceptance of {folder}",
        summary=summary(verdicts),
        meaning=MEANING,
        heads=_HEADS,
        num_texts=_NUM_TEXTS,
        lines=_compared(verdicts),
        reasons=not_compared(verdicts, plan),
        notes=_notes(plan, problems),
    )


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return how many numbers have which verdict, in words."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    shown = [f"{counts[word]:,} {word}" for word in get_args(Word) if counts[word]]
    return f"{counted(len(verdicts), 'published number')}: {', '.join(shown) or 'none measured'}"


def not_compared(verdicts: Sequence[Verdict], plan: Plan) -> list[tuple[tuple[str, str, str], int]]:
    """Return method, data and reason of what is not compared, and how many numbers these are."""
    counts = Counter((v.feature, v.dataset, v.reason) for v in verdicts if v.reason)
    for task in plan.tasks:
        if not task.numbers:
            counts.update({(m, task.data.name, _NO_NUMBER): 0 for m in task.methods})
    return list(counts.items())


def _compared(verdicts: Sequence[Verdict]) -> list[_Line]:
    order = {"below": 0, "above": 2}
    compared = [v for v in verdicts if v.difference is not None]
    compared.sort(key=lambda verdict: order.get(verdict.verdict, 1))
    return [_line(verdict) for verdict in compared]


def _line(v: Verdict) -> _Line:
    known = find_metric(v.metric)
    title = (known.title if known else v.metric) + (f", {v.unit}" if v.unit != "fraction" else "")
    texts = (v.feature, labels.dataset_title(v.dataset), v.part, title)
    digits = _digits(v)
    figures = [format_value(value, digits) for value in (v.published, v.ours or 0.0)]
    figures.append(format_value(v.difference or 0.0, digits, sign=True))
    figures.append(format_value(v.tolerance or 0.0, digits))
    return _Line(texts, tuple(figures), v.verdict, f"{v.source}, {v.table}", v.url, v.caveat)


def _digits(v: Verdict) -> int:
    """Return a number of decimals that shows the tolerance with two digits."""
    tolerance, digits = v.tolerance or 1.0, 0
    while tolerance < 10 and digits < 6:
        tolerance, digits = tolerance * 10, digits + 1
    return digits


def _notes(plan: Plan, problems: Sequence[Problem]) -> list[str]:
    return [
        *(f"{problem.subject}: {problem.reason}" for problem in problems),
        *(f"{name}: {how}" for name, how in plan.without_weights.items()),
        *dict.fromkeys(plan.missing.values()),
    ]


def _arguments() -> list[str]:
    return sys.argv[3:] if sys.argv[1:3] == ["bench", "accept"] else sys.argv[1:]


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
