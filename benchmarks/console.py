"""The console output of a run: tables, published numbers next to its own, and problems."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from tabulate import tabulate

from benchmarks.published import compare
from benchmarks.record import RECORD, Run
from featplug.io.run_folder import UNFINISHED

NOTHING = "–"
"""Entry of a table without a figure."""


def table_lines(cells: Sequence[Sequence[str]], align: str = "<") -> list[str]:
    """Lay out a table, a row of heads and rows of figures, without its empty columns.

    ``align`` has ``<`` or ``>`` for each of the first columns; the others are flush right.
    """
    sides = align.ljust(len(cells[0]), ">")
    shown = [i for i in range(len(sides)) if any(row[i] not in ("", NOTHING) for row in cells[1:])]
    text = tabulate(
        [[row[i] for i in shown] for row in cells],
        tablefmt="plain",
        disable_numparse=True,
        colalign=["left" if sides[i] == "<" else "right" for i in shown],
    )
    return [line.rstrip() for line in text.splitlines()]


def short_number(value: float, sign: str = "") -> str:
    """Format a number with four digits, or all before the point where those are more."""
    return f"{value:{sign}.4g}" if abs(value) < 1e4 else f"{value:{sign},.0f}"


def mean_and_spread(values: Sequence[float], decimals: int) -> str:
    """Format the mean of values, and their standard deviation (n - 1) unless all are equal."""
    mean = f"{fmean(values):,.{decimals}f}"
    is_constant = max(values) == min(values)
    return mean if is_constant else f"{mean} ± {stdev(values):,.{decimals}f}"


def published_lines(run: Run) -> list[str]:
    """Compare a run with published numbers, and list each reason against a comparison once."""
    labels = ["dataset", "feature", "part", "seed", "metric"]
    cells = [[*labels, "measured", "published", "difference", "by"]]
    caveats: list[str] = []
    reasons: list[tuple[str, str, str | None]] = []
    for row in run.rows:
        reasons.append((row.protocol, row.dataset, row.not_comparable))
        for comparison in compare(run.benchmark, row, run.options):
            number, difference = comparison.published, comparison.difference
            if difference is None:
                reasons.append((row.protocol, row.dataset, comparison.reason))
                continue
            source = f"{number.source}, {number.table}"
            unit = " %" if number.unit == "%" else ""
            labels = [row.dataset, row.feature, "" if row.part == "all" else row.part]
            labels += ["" if row.seed is None else str(row.seed), comparison.metric]
            figures = [f"{short_number(v)}{unit}" for v in (comparison.ours, number.value)]
            by = f"{source} ({number.variant})" if number.variant else source
            cells.append([*labels, *figures, short_number(difference, "+"), by])
            if comparison.caveat:
                caveats.append(f"{source}: {comparison.caveat}")
    lines = []
    if len(cells) > 1:
        lines += ["", "next to published numbers:", *table_lines(cells, "<<<<<>>><")]
    return [*lines, *dict.fromkeys(caveats)] + [
        f"{protocol} on {dataset}: not compared with published numbers: {reason}"
        for protocol, dataset, reason in dict.fromkeys(reasons)
        if reason
    ]


def conclude(run: Run, outputs: Path, lines: Iterable[str] = ()) -> None:
    """Print a run whose record is in ``outputs``: its tables, comparisons and problems.

    Raises:
        ValueError: nothing could be measured.
    """
    for line in [*lines, *published_lines(run)]:
        print(line)
    for problem in run.problems:
        print(f"not measured: {problem.subject}: {problem.reason}")
    record = outputs / RECORD
    if not run.rows:
        kept = outputs / UNFINISHED / RECORD  # where an earlier record keeps its place
        record = kept if kept.exists() else record
        raise ValueError(f"Nothing could be measured; the reasons are above and in {record}.")
    print(f"all figures are in {record}")
