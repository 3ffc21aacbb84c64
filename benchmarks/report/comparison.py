"""Comparison of two runs, A − B, with the significance of differences over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from benchmarks.report.result_tables import Line, Table, make_tables
from benchmarks.report.runs import LoadedRun
from featplug.io.metric_table import Metric

MIN_SEEDS = 3
"""Number of common seeds that a test needs."""
LEVEL = 0.05
"""Level of significance, after the adjustment for many tests."""


@dataclass(frozen=True)
class Difference:
    """One metric of one feature in both runs."""

    benchmark: str
    dataset: str
    protocol: str
    part: str
    series: str
    """Name of the feature, or of both where they differ."""
    metric: str
    label: Metric
    mean_a: float
    mean_b: float
    num_pairs: int
    """Number of common seeds."""
    p_value: float | None
    """Result of the paired t-test; None with too few seeds."""
    adjusted: float | None = None
    """p-value adjusted for all tests of the comparison (Benjamini and Hochberg 1995)."""

    @property
    def difference(self) -> float:
        """Difference A − B."""
        return self.mean_a - self.mean_b

    @property
    def verdict(self) -> str:
        """Conclusion in words."""
        if self.adjusted is None:
            return f"too few seeds ({self.num_pairs} of {MIN_SEEDS})"
        if self.adjusted >= LEVEL:
            return "no significant difference"
        if self.label.better is None:
            return "differs"
        a_is_better = (self.difference > 0) == (self.label.better == "higher")
        return "A is better" if a_is_better else "B is better"


@dataclass(frozen=True)
class RunComparison:
    """Differences of two runs."""

    name_a: str
    name_b: str
    differences: list[Difference]
    only_a: list[str]
    """Features on parts that only A has."""
    only_b: list[str]


def compare_runs(run_a: LoadedRun, run_b: LoadedRun) -> RunComparison:
    """Compare two runs in the metrics that tables always show.

    Compared rows have the same benchmark, data set, protocol, part and feature; where each run has
    one feature only, these are compared. Means are over all seeds, tests over the common ones.

    Raises:
        ValueError: the runs have nothing in common.
    """
    features_a, features_b = ({row.feature for row in run.run.rows} for run in (run_a, run_b))
    both = None
    if len(features_a) == len(features_b) == 1 and features_a != features_b:
        both = f"{features_a.pop()} − {features_b.pop()}"
    lines_a, lines_b = _lines(run_a, both), _lines(run_b, both)
    differences = [
        difference
        for key, (table, line) in lines_a.items()
        if key in lines_b
        for difference in _differences(key, table, line, lines_b[key][1])
    ]
    if not differences:
        raise ValueError(
            f"{run_a.name} and {run_b.name} have no feature on the same data by the same protocol."
        )
    return RunComparison(
        run_a.name,
        run_b.name,
        _adjust(differences),
        [_describe(key) for key in lines_a if key not in lines_b],
        [_describe(key) for key in lines_b if key not in lines_a],
    )


_Key = tuple[str, str, str, str, str]
"""Benchmark, data set, protocol, part and series."""


def _lines(run: LoadedRun, series: str | None) -> dict[_Key, tuple[Table, Line]]:
    return {
        (t.benchmark, t.dataset, t.protocol, line.part, series or line.series): (t, line)
        for t in make_tables([run])
        for line in t.lines
    }


def _describe(key: _Key) -> str:
    _, dataset, _, part, series = key
    return f"{series} on {dataset}" + (f", {part}" if part != "all" else "")


def _differences(key: _Key, table: Table, line_a: Line, line_b: Line) -> list[Difference]:
    differences = []
    for name, label in table.main_metrics.items():
        if name not in line_a.cells or name not in line_b.cells:
            continue
        by_seed_a, by_seed_b = _by_seed(line_a, name), _by_seed(line_b, name)
        seeds = sorted(set(by_seed_a) & set(by_seed_b))
        pairs = np.array([[by_seed_a[seed], by_seed_b[seed]] for seed in seeds]).reshape(-1, 2)
        differences.append(
            Difference(
                *key,
                name,
                label,
                line_a.cells[name].mean,
                line_b.cells[name].mean,
                len(pairs),
                paired_p_value(pairs[:, 0], pairs[:, 1]),
            )
        )
    return differences


def _by_seed(line: Line, name: str) -> dict[int, float]:
    """Return a metric by seed; rows without a seed are not samples."""
    return {
        row.seed: float(row.metrics[name]["value"])
        for _, row in line.rows
        if row.seed is not None and name in row.metrics
    }


def paired_p_value(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return the two-sided p-value of a paired t-test of N values with N.

    None for fewer than :data:`MIN_SEEDS`, and where all differences are the same and not zero: a
    test over seeds is meaningless for values that do not vary with the seed.
    """
    if len(a) < MIN_SEEDS:
        return None
    difference = np.asarray(a, float) - np.asarray(b, float)
    if np.ptp(difference) <= 1e-12 * np.abs(difference).max():
        return 1.0 if difference[0] == 0 else None
    return float(stats.ttest_rel(a, b).pvalue)


def _adjust(differences: Sequence[Difference]) -> list[Difference]:
    tested = [d.p_value for d in differences if d.p_value is not None]
    adjusted = iter(stats.false_discovery_control(tested) if tested else [])
    return [
        d if d.p_value is None else replace(d, adjusted=float(next(adjusted))) for d in differences
    ]
