"""Verdicts on measured figures: within, above or below a published number, or not comparable.

A figure is within the published one where they differ by no more than the tolerance: half a unit of
the last printed digit, and half of the 95 % interval of the figure. The interval is that of
:mod:`benchmarks.bootstrap` over pairs, of the binomial distribution for recalls over queries, or of
Student's t over seeds; 0 for a figure that has none of these. Above is better than published, below
worse.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from math import hypot, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from scipy import stats

from benchmarks.accept.acceptance_plan import Task
from benchmarks.bootstrap import LEVEL, interval
from benchmarks.pair_values import MEAN_OF_SCENES, read_pair_values
from benchmarks.published import Published, compare
from benchmarks.record import Row, Run
from featplug.io.metric_table import find_metric
from featplug.methods.method_names import file_word

Word = Literal["within", "above", "below", "differs", "not comparable", "not measured"]


@dataclass(frozen=True)
class Verdict:
    """A published number, and what was measured of it."""

    feature: str
    dataset: str
    part: str
    protocol: str
    metric: str
    published: float
    """Printed number."""
    unit: str
    source: str
    table: str
    url: str
    verdict: Word
    """``differs`` is that of figures of which more is not better, outside the tolerance."""
    ours: float | None = None
    """Measured figure in the unit of the published one, mean over seeds."""
    tolerance: float | None = None
    reason: str = ""
    """Reason why nothing is compared."""
    caveat: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus published; None where they are not compared."""
        return None if self.ours is None or self.tolerance is None else self.ours - self.published

    def as_json(self) -> dict[str, Any]:
        """Return the verdict for a JSON file."""
        return {**asdict(self), "difference": self.difference}


def judge(tasks: Iterable[Task], runs: Mapping[tuple[str, str], tuple[Run, Path]]) -> list[Verdict]:
    """Compare what was measured with the published numbers of the tasks.

    Args:
        tasks: the plan.
        runs: block of a task to its run and folder; a task without one was not measured.
    """
    return [
        _verdict(number, *runs.get(task.block, (None, Path())))
        for task in tasks
        for number in task.numbers
    ]


def _verdict(number: Published, run: Run | None, folder: Path) -> Verdict:
    rows = [
        replace(row, dataset=number.dataset)  # whose folder may have any name
        for row in ([] if run is None else run.rows)
        if (row.feature, row.protocol) == (number.feature, number.protocol)
    ]
    of_part = [row for row in rows if row.part.lower() == number.part.lower()]
    compared = [
        comparison
        for row in of_part
        for comparison in compare(number.benchmark, row, run.options if run else None)
        if comparison.published == number
    ]
    if not compared:
        return _without(number, "not measured", _why_not_measured(number, run, rows, folder))
    ours = fmean(comparison.ours for comparison in compared)
    reason = next((c.reason for c in compared if c.reason), None) or _other_weights(of_part)
    if reason:
        return _without(number, "not comparable", reason, ours)
    scale = 100 if number.unit == "%" and of_part[0].metrics[number.metric]["unit"] != "%" else 1
    tolerance = number.half_digit + scale * _half_interval(number.metric, of_part, folder)
    word = _word(number.metric, ours - number.value, tolerance)
    return replace(_without(number, word, "", ours), tolerance=tolerance, caveat=compared[0].caveat)


def _without(number: Published, word: Word, reason: str, ours: float | None = None) -> Verdict:
    return Verdict(
        number.feature,
        number.dataset,
        number.part,
        number.protocol,
        number.metric,
        number.value,
        number.unit,
        number.source,
        number.table,
        number.url,
        word,
        ours,
        reason=reason,
    )


def _word(metric: str, difference: float, tolerance: float) -> Word:
    if abs(difference) <= tolerance:
        return "within"
    known = find_metric(metric)
    if known is None or known.better is None:
        return "differs"
    return "above" if (difference > 0) == (known.better == "higher") else "below"


def _why_not_measured(number: Published, run: Run | None, rows: Sequence[Row], folder: Path) -> str:
    if run is None:
        return "its benchmark did not end"
    problems = [p.reason for p in run.problems if p.subject.startswith(number.feature)]
    if rows and number.benchmark == "localization":
        file = folder / file_word(number.feature) / "submission.txt"
        return f"true poses are not public; submit {file} at visuallocalization.net"
    if rows:
        return f"the data set has no {number.metric} of {number.part}"
    return problems[0] if problems else "the method was not measured"


def _other_weights(rows: Sequence[Row]) -> str | None:
    """Return a reason where the weights are not the authors', whose numbers are published."""
    others = {
        record["name"]: None
        for row in rows
        for record in row.weights
        if record.get("origin") != "official"
    }
    if not others:
        return None
    return f"measured with {', '.join(others)}, not with the authors' weights"


def _half_interval(metric: str, rows: Sequence[Row], folder: Path) -> float:
    """Return half of the 95 % interval of a figure, in the unit of its rows; 0 if not known."""
    files = [row.pair_values for row in rows]
    if all(files):
        with suppress(OSError, ValueError):  # without its file, the seeds alone are known
            found = [read_pair_values(folder / str(f)).of_part(rows[0].part) for f in files]
            scenes = found[0].sequences if rows[0].part == MEAN_OF_SCENES else None
            estimate = interval(metric, [values.values for values in found], scenes)
            if estimate is not None:
                return estimate.half
    values = [row.metrics[metric]["value"] for row in rows]
    of_seeds = 0.0
    if len(values) > 1:
        of_seeds = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * stdev(values)
        of_seeds /= sqrt(len(values))
    number = rows[0].metrics.get("queries_with_true_pose", {}).get("value")
    of_queries = 0.0
    if metric.startswith("recall_") and number:
        rate = fmean(values) / 100
        of_queries = 100 * float(stats.norm.ppf((1 + LEVEL) / 2)) * sqrt(rate * (1 - rate) / number)
    return hypot(of_seeds, of_queries)
