"""Comparison of two runs, or of two methods, A − B, with the significance of the differences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scipy import stats

from benchmarks.report.evidence import MIN_SEEDS, Basis, compare_lines
from benchmarks.report.lines import LEVEL, Line
from benchmarks.report.result_tables import Table, make_tables
from benchmarks.report.runs import LoadedRun
from featplug.io.metric_table import Metric


@dataclass(frozen=True)
class Side:
    """A run, or a method of it."""

    folder: Path
    method: str | None = None
    """Name of the method as in the run or in its table; None for all."""


def parse_side(text: str) -> Side:
    """Split ``FOLDER`` or ``FOLDER:METHOD``, such as ``outputs/peers:aliked-n16+lightglue``.

    Folders and methods may both have colons: the longest start that exists is the folder.

    Raises:
        FileNotFoundError: no start of the text is a folder.
        ValueError: the name of the method is empty.
    """
    if Path(text).exists():
        return Side(Path(text))
    for end in (i for i in range(len(text) - 1, 0, -1) if text[i] == ":"):
        folder, method = Path(text[:end]), text[end + 1 :]
        if folder.exists():
            if not method.strip():
                raise ValueError(f"{text} has no method after the colon; write FOLDER:METHOD.")
            return Side(folder, method.strip())
    raise FileNotFoundError(
        f"{text} is neither a folder nor FOLDER:METHOD; give the folder of a run, or a folder and "
        "a method, such as outputs/peers:aliked-n16+lightglue."
    )


@dataclass(frozen=True)
class Difference:
    """One metric of one method in both runs, or of two methods."""

    benchmark: str
    dataset: str
    protocol: str
    part: str
    series: str
    """Name of the method, or of both where they differ."""
    metric: str
    label: Metric
    mean_a: float
    mean_b: float
    num_pairs: int
    """Number of common image pairs that were tested; 0 for a test over seeds."""
    num_seeds: int
    """Number of common seeds; 0 where there are none."""
    basis: Basis | None
    """What was tested; None where nothing could be."""
    p_value: float | None
    """Result of the test."""
    half: float | None = None
    """Half of the 95 % interval of the difference on common pairs; None without pairs."""
    adjusted: float | None = None
    """p-value adjusted for all tests of the comparison (Benjamini and Hochberg 1995)."""

    @property
    def difference(self) -> float:
        """Difference A − B."""
        return self.mean_a - self.mean_b

    @property
    def tested(self) -> str:
        """What was tested, in words."""
        pairs = f"{self.num_pairs:,} pairs" if self.num_pairs else ""
        seeds = f"{self.num_seeds} seeds" if self.num_seeds > 1 or not pairs else ""
        return ", ".join(filter(None, (pairs, seeds))) if self.basis else ""

    @property
    def verdict(self) -> str:
        """Conclusion in words."""
        if self.adjusted is None:
            if self.num_seeds == 0:
                return "no pairs or seeds to test"
            if self.num_seeds < MIN_SEEDS:
                return f"too few seeds ({self.num_seeds} of {MIN_SEEDS})"
            return "the same with each seed: nothing to test"
        if self.adjusted >= LEVEL:
            return "no significant difference"
        if self.label.better is None:
            return "differs"
        a_is_better = (self.difference > 0) == (self.label.better == "higher")
        return "A is better" if a_is_better else "B is better"


@dataclass(frozen=True)
class RunComparison:
    """Differences of two runs or methods."""

    name_a: str
    name_b: str
    differences: list[Difference]
    only_a: list[str]
    """Methods on parts that only A has."""
    only_b: list[str]


def compare_runs(
    run_a: LoadedRun, run_b: LoadedRun, method_a: str | None = None, method_b: str | None = None
) -> RunComparison:
    """Compare two runs, or two methods of any, in the metrics that tables always show.

    Compared lines have the same benchmark, data set, protocol, part and method; where each side has
    one method only, these are compared. A test is a paired bootstrap over the pairs that both have,
    or a paired t-test over common seeds; means are of all pairs and seeds, unless the pairs differ:
    then of the common ones.

    Args:
        run_a: run A.
        run_b: run B, which may be the same.
        method_a: method of A; all if None.
        method_b: method of B.

    Raises:
        ValueError: a run does not have the method, or the sides have nothing in common.
    """
    lines_a, lines_b = _lines(run_a, method_a), _lines(run_b, method_b)
    series_a, series_b = ({key[-1] for key in lines} for lines in (lines_a, lines_b))
    if len(series_a) == len(series_b) == 1 and series_a != series_b:
        both = f"{series_a.pop()} − {series_b.pop()}"
        lines_a, lines_b = (
            {(*key[:-1], both): entry for key, entry in lines.items()}
            for lines in (lines_a, lines_b)
        )
    name_a, name_b = (
        run.name if method is None else f"{run.name}: {method}"
        for run, method in ((run_a, method_a), (run_b, method_b))
    )
    differences = [
        difference
        for key, (table, line) in lines_a.items()
        if key in lines_b
        for difference in _differences(key, table, line, lines_b[key][1])
    ]
    if not differences:
        raise ValueError(
            f"{name_a} and {name_b} have no method on the same data by the same protocol."
        )
    return RunComparison(
        name_a,
        name_b,
        _adjust(differences),
        [_describe(key) for key in lines_a if key not in lines_b],
        [_describe(key) for key in lines_b if key not in lines_a],
    )


_Key = tuple[str, str, str, str, str]
"""Benchmark, data set, protocol, part and series."""


def _lines(run: LoadedRun, method: str | None) -> dict[_Key, tuple[Table, Line]]:
    lines = [(table, line) for table in make_tables([run]) for line in table.lines]
    if method is not None:
        known = list(dict.fromkeys(line.series for _, line in lines))
        lines = [(t, line) for t, line in lines if method in (line.series, *_features(line))]
        if not lines:
            raise ValueError(f"{run.name} has no method {method!r}; it has {', '.join(known)}.")
        series = dict.fromkeys(line.series for _, line in lines)
        if len(series) > 1 and method not in series:
            raise ValueError(
                f"{run.name} has several methods {method!r}; name one of {', '.join(series)}."
            )
        lines = [(t, line) for t, line in lines if len(series) == 1 or line.series == method]
    return {
        (t.benchmark, t.dataset, t.protocol, line.part, line.series): (t, line) for t, line in lines
    }


def _features(line: Line) -> set[str]:
    return {row.feature for _, row in line.rows}


def _describe(key: _Key) -> str:
    _, dataset, _, part, series = key
    return f"{series} on {dataset}" + (f", {part}" if part != "all" else "")


def _differences(key: _Key, table: Table, line_a: Line, line_b: Line) -> list[Difference]:
    differences = []
    for name, label in table.main_metrics.items():
        if name not in line_a.cells or name not in line_b.cells:
            continue
        test = compare_lines(name, line_a.evidence, line_b.evidence)
        estimate = None if test is None else test.estimate
        mean_a, mean_b = line_a.cells[name].mean, line_b.cells[name].mean
        if estimate is not None:
            mean_a, mean_b = estimate.sides
        seeds = line_a.evidence.by_seed(name).keys() & line_b.evidence.by_seed(name).keys()
        differences.append(
            Difference(
                *key,
                name,
                label,
                mean_a,
                mean_b,
                num_pairs=0 if estimate is None else estimate.num_pairs,
                num_seeds=len(seeds),
                basis=None if test is None else test.basis,
                p_value=None if test is None else test.p_value,
                half=None if estimate is None else estimate.half,
            )
        )
    return differences


def _adjust(differences: Sequence[Difference]) -> list[Difference]:
    tested = [d.p_value for d in differences if d.p_value is not None]
    adjusted = iter(stats.false_discovery_control(tested) if tested else [])
    return [
        d if d.p_value is None else replace(d, adjusted=float(next(adjusted))) for d in differences
    ]
