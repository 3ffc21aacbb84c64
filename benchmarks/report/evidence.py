"""How sure the figures of a line are: its pairs, its seeds, and tests with both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from benchmarks.bootstrap import Columns, Estimate, difference, interval
from benchmarks.pair_values import MEAN_OF_SCENES, PairValues, read_pair_values
from benchmarks.record import Row
from benchmarks.report.runs import LoadedRun

Basis = Literal["pairs", "pairs and seeds", "seeds"]
"""What a statement is made from."""

MIN_SEEDS = 3
"""Number of common seeds that a test over seeds needs."""
_SAME = 1e-6
"""Relative difference of a figure from that of its pairs, which have nine digits."""


@dataclass(frozen=True)
class Evidence:
    """Pairs and seeds of a line."""

    rows: Sequence[Row]
    """One row for each seed."""
    files: Sequence[PairValues] = ()
    """Values of the line's pairs in the order of ``rows``; none where a row has no file."""
    sources: Sequence[Path] = ()
    """The files of these."""
    not_of_rows: list[str] = field(default_factory=list)
    """Metrics whose values of pairs are not those of the rows: a file is another run's."""

    def columns(self, pairs: Sequence[tuple[str, str]]) -> list[Columns]:
        """Return the values of some pairs, once for each seed."""
        return [
            values.selected([values.index[pair] for pair in pairs]).values
            if values.pairs != list(pairs)
            else values.values
            for values in self.files
        ]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs that all seeds have."""
        return common_pairs(self.files)

    def scenes(self, pairs: Sequence[tuple[str, str]]) -> list[str] | None:
        """Return the scene of each pair where the line's figures are means of scenes, else None."""
        if self.rows[0].part != MEAN_OF_SCENES:
            return None
        first = self.files[0]
        return [first.sequences[first.index[pair]] for pair in pairs]

    def estimate(self, metric: str) -> Estimate | None:
        """Return a metric with its interval; None where its pairs are not known."""
        if not self.files or metric in self.not_of_rows:
            return None
        pairs = self.pairs
        found = interval(metric, self.columns(pairs), self.scenes(pairs))
        if found is None:
            return None
        values = [row.metrics[metric]["value"] for row in self.rows if metric in row.metrics]
        expected = float(np.mean(values))
        if not abs(found.value - expected) <= _SAME * max(1.0, abs(expected)):
            self.not_of_rows.append(metric)
            return None
        return found

    def by_seed(self, metric: str) -> dict[int, float]:
        """Return a metric by seed; rows without a seed are not samples."""
        return {
            row.seed: float(row.metrics[metric]["value"])
            for row in self.rows
            if row.seed is not None and metric in row.metrics
        }


def common_pairs(files: Sequence[PairValues]) -> list[tuple[str, str]]:
    """Return the pairs that all files have, in the order of the first one."""
    if not files:
        return []
    first, *others = files
    if all(values.pairs == first.pairs for values in others):
        return first.pairs
    return [pair for pair in first.pairs if all(pair in values.index for values in others)]


class EvidenceReader:
    """Reads the files of pairs of rows, each once."""

    def __init__(self) -> None:
        self._files: dict[Path, PairValues | None] = {}
        self._problems: list[str] = []
        self._lines: list[Evidence] = []

    @property
    def problems(self) -> list[str]:
        """Why files, or some of their values, cannot be used: a sentence for each."""
        others = [
            f"{line.sources[0]} has other values than its run of {', '.join(line.not_of_rows)}, "
            "which are without ±; run the benchmark again."
            for line in self._lines
            if line.not_of_rows
        ]
        return list(dict.fromkeys(self._problems + others))

    def of_line(self, rows: Sequence[tuple[LoadedRun, Row]]) -> Evidence:
        """Return the evidence of the rows of one method on one part."""
        files = [self._read(loaded, row) for loaded, row in rows]
        known = [values for values in files if values is not None]
        whole = known if len(known) == len(rows) else []
        sources = [loaded.folder / (row.pair_values or "") for loaded, row in rows]
        line = Evidence([row for _, row in rows], whole, sources)
        self._lines.append(line)
        return line

    def _read(self, loaded: LoadedRun, row: Row) -> PairValues | None:
        if row.pair_values is None:
            return None
        path = loaded.folder / row.pair_values
        if path not in self._files:
            try:
                self._files[path] = read_pair_values(loaded.path_of(row.pair_values))
            except (OSError, ValueError) as error:
                self._files[path] = None
                self._problems.append(str(error))
        values = self._files[path]
        return None if values is None else values.of_part(row.part)


@dataclass(frozen=True)
class PairedTest:
    """A test of the difference of a metric of two lines."""

    p_value: float
    basis: Basis
    number: int
    """Number of common pairs, or of common seeds where there are no pairs."""
    estimate: Estimate | None = None
    """Difference on the common pairs and its interval; None for a test over seeds."""


def compare_lines(metric: str, a: Evidence, b: Evidence) -> PairedTest | None:
    """Test the difference A − B: by a bootstrap over common pairs, or a t-test over common seeds.

    None where neither can be done.
    """
    if a.files and b.files and a.estimate(metric) and b.estimate(metric):
        pairs = common_pairs([*a.files, *b.files])
        found = difference(metric, a.columns(pairs), b.columns(pairs), a.scenes(pairs))
        if found is not None:
            basis: Basis = "pairs and seeds" if found.num_seeds > 1 else "pairs"
            return PairedTest(found.p_value, basis, found.num_pairs, found)
    values_a, values_b = a.by_seed(metric), b.by_seed(metric)
    seeds = sorted(values_a.keys() & values_b.keys())
    p_value = paired_p_value(
        np.array([values_a[seed] for seed in seeds]), np.array([values_b[seed] for seed in seeds])
    )
    return None if p_value is None else PairedTest(p_value, "seeds", len(seeds))


def paired_p_value(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return the two-sided p-value of a paired t-test of N values with N.

    None for fewer than :data:`MIN_SEEDS`, and where all differences are the same and not zero: a
    test over seeds is meaningless for values that do not vary with the seed.
    """
    if len(a) < MIN_SEEDS:
        return None
    differences = np.asarray(a, float) - np.asarray(b, float)
    if np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return 1.0 if differences[0] == 0 else None
    return float(stats.ttest_rel(a, b).pvalue)
