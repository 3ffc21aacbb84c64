"""The lines of a table: figures of a method, what their ± is, and whether one is the best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from benchmarks.bootstrap import Estimate
from benchmarks.record import Row
from benchmarks.report.evidence import Basis, Evidence, compare_lines
from benchmarks.report.labels import method_titles
from benchmarks.report.runs import LoadedRun
from benchmarks.settings import settings_text
from featplug.io.metric_table import Metric, format_value

Entry = tuple[LoadedRun, Row]

LEVEL = 0.05
"""Level of significance of a test."""

Verdict = Literal["best", "tie", "worse", "undecided", "not compared"]
"""Result of the comparison of a line with the best one of its part.

``best``: better than every other line, each by a test. ``tie``: the best line, or one that is not
worse by a test, where there are several of these. ``worse``: worse than the best line by a test.
``undecided``: no pairs or seeds to test with. ``not compared``: alone, or a metric without a better
direction.
"""


@dataclass
class Cell:
    """A metric of a method over its seeds."""

    values: tuple[float, ...]
    estimate: Estimate | None = None
    """The metric and its interval over pairs; None where the pairs are not known."""
    verdict: Verdict = "not compared"

    @property
    def is_best(self) -> bool:
        """Whether the figure is bold: better than all others by a test; a tie is not."""
        return self.verdict == "best"

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n − 1); None for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def basis(self) -> Basis | None:
        """What ± is made from.

        It is half of a 95 % interval over pairs, or pairs and seeds, or the standard deviation over
        seeds.
        """
        if self.estimate is not None:
            return "pairs and seeds" if self.estimate.num_seeds > 1 else "pairs"
        return None if self.spread is None else "seeds"

    @property
    def half(self) -> float | None:
        """The number behind ±, see :attr:`basis`; None where nothing is known."""
        return self.spread if self.estimate is None else self.estimate.half

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the 95 % interval; None where the pairs are not known."""
        return None if self.estimate is None else self.estimate.interval

    def text(self, digits: int) -> str:
        """Format the mean, and ± where it is known."""
        half = "" if self.half is None else f" ± {format_value(self.half, digits)}"
        return format_value(self.mean, digits) + half


@dataclass(frozen=True, eq=False)
class Line:
    """A feature on a part of a data set."""

    series: str
    """Name of the feature, and of its matcher or run where others have the same name."""
    part: str
    rows: list[Entry]
    """One row for each seed."""
    cells: dict[str, Cell]
    evidence: Evidence
    """Pairs and seeds that tests use."""

    @property
    def matcher(self) -> str:
        """Name of the matcher, without the folder of a file; empty where there is none."""
        (title,) = method_titles([self.rows[0][1].matcher or ""]).values()
        return title

    @property
    def settings(self) -> str:
        """Limit of keypoints, size of images, thresholds, estimator; empty where none is known."""
        row = self.rows[0][1]
        return settings_text(row.settings, row.estimator)

    @property
    def num_seeds(self) -> int:
        """Number of seeds; 1 where rows have none."""
        return len({row.seed for _, row in self.rows})

    def mean_row(self) -> Row:
        """Return one row of means over seeds; a reason against comparing one row holds for it."""
        rows = [row for _, row in self.rows]
        reasons = dict.fromkeys(row.not_comparable for row in rows if row.not_comparable)
        metrics: dict[str, Any] = {}
        for name, cell in self.cells.items():
            entry = next(row.metrics[name] for row in rows if name in row.metrics)
            metrics[name] = {**entry, "value": cell.mean}
        return replace(rows[0], metrics=metrics, not_comparable=" ".join(reasons) or None)


def judge(lines: Sequence[Line], name: str, label: Metric) -> None:
    """Set the verdicts of the lines of one part in a metric.

    The best line is bold where each of the others is worse than it by a paired test, of which none
    needs an adjustment for their number, as all have to hold (Berger 1982). Figures that are equal
    as shown are a tie.
    """
    having = [line for line in lines if name in line.cells]
    if label.better is None or len(having) < 2:
        return
    pick = max if label.better == "higher" else min
    best = pick(having, key=lambda line: line.cells[name].mean)
    top = best.cells[name]
    verdicts = []
    for line in having:
        if line is best:
            continue
        cell = line.cells[name]
        test = compare_lines(name, best.evidence, line.evidence)
        if test is None:
            cell.verdict = "undecided"
        else:
            differs = round(cell.mean, label.digits) != round(top.mean, label.digits)
            cell.verdict = "worse" if differs and test.p_value < LEVEL else "tie"
        verdicts.append(cell.verdict)
    if "tie" in verdicts:
        top.verdict = "tie"
    else:
        top.verdict = "undecided" if "undecided" in verdicts else "best"
