"""The rows of a leaderboard's tables: measured ones and published ones, and what filters need."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from benchmarks.published import Published
from benchmarks.report.result_tables import Cell, Line, Table
from benchmarks.site.sent_run import slug, unique
from featplug.io.metric_table import Metric

AUTHORS, FEATPLUG, FILE, NO_WEIGHTS = "authors", "featplug", "own file", "none"
_ORIGINS = {"official": AUTHORS, "featplug": FEATPLUG}
_BUDGETS = (512, 1024, 2048, 4096, 8192)
_LONGEST_NAME = 90


@dataclass(frozen=True)
class SiteRow:
    """A method on a part of a data set, measured by a run or published by a paper."""

    method: str
    part: str
    cells: dict[str, Cell]
    matcher: str = ""
    settings: str = ""
    """Limits, thresholds and estimator, as text."""
    keypoints: float | None = None
    """Number of keypoints of an image: the largest allowed one, else the mean; None if unknown."""
    weights: str = ""
    """Origin of the weights; empty for published numbers."""
    feature: str = ""
    """Name of the method in records, by which its card is found; empty for published numbers."""
    runs: tuple[str, ...] = ()
    """Names of the runs; empty for published numbers."""
    is_comparable: bool = True
    notes: tuple[str, ...] = ()
    """Sentences: source and caveat of published numbers, or why a row is not comparable."""

    @property
    def is_published(self) -> bool:
        """Whether a paper has the numbers."""
        return not self.runs

    @property
    def shown_method(self) -> str:
        """Name that fits a table."""
        return shortened(self.method)


def shortened(name: str) -> str:
    """Return a name that fits a table."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


@dataclass(frozen=True)
class SiteTable:
    """A table and its page."""

    name: str
    """Name of the page's file, without its suffix."""
    table: Table
    rows: list[SiteRow]

    @property
    def measured(self) -> list[SiteRow]:
        """Rows of runs."""
        return [row for row in self.rows if not row.is_published]

    @property
    def published(self) -> list[SiteRow]:
        """Rows of papers."""
        return [row for row in self.rows if row.is_published]

    @property
    def runs(self) -> list[str]:
        """Names of its runs."""
        return list(dict.fromkeys(name for row in self.rows for name in row.runs))

    @cached_property
    def best(self) -> list[tuple[Metric, float, list[str]]]:
        """Main metric, best value and the best methods of the first part, where they are better.

        Of at most two metrics.
        """
        part = self.table.main_parts[0]
        best = []
        for name, label in self.table.main_metrics.items():
            rows = [r for r in self.measured if r.part == part and name in r.cells]
            rows = [row for row in rows if row.cells[name].is_best]
            if rows:
                best.append((label, rows[0].cells[name].mean, [row.method for row in rows]))
        return best[:2]

    @property
    def legend(self) -> list[str]:
        """Sentences that explain the table."""
        own = ["Published numbers are those that papers print."] if self.published else []
        return [*self.table.caveats, *own]

    @cached_property
    def parts(self) -> list[str]:
        """Parts of its rows; a filter where there are several."""
        return list(dict.fromkeys(row.part for row in self.rows))

    @cached_property
    def choices(self) -> dict[str, list[str]]:
        """Name of a filter to its choices; only filters that tell rows apart."""
        keypoints = [row.keypoints for row in self.rows if row.keypoints is not None]
        choices = {
            "rows": ["measured", "published"] if 0 < len(self.published) < len(self.rows) else [],
            "part": self.parts,
            "matcher": sorted({row.matcher for row in self.rows if row.matcher}),
            "keypoints": [str(n) for n in _BUDGETS if keypoints and min(keypoints) <= n],
            "weights": sorted({row.weights for row in self.rows if row.weights}),
            "comparable": ["yes", "no"] if len({r.is_comparable for r in self.rows}) > 1 else [],
        }
        if keypoints and len({_budget(number) for number in keypoints}) < 2:
            choices["keypoints"] = []
        needed = {"rows": 1, "keypoints": 1, "comparable": 1}
        return {name: c for name, c in choices.items() if len(c) >= needed.get(name, 2)}


def _budget(keypoints: float) -> int:
    return next((number for number in _BUDGETS if keypoints <= number), _BUDGETS[-1] * 2)


def site_tables(tables: Iterable[Table], notes: dict[str, tuple[str, ...]]) -> list[SiteTable]:
    """Return the tables of a site, each with a name of its own.

    Args:
        tables: tables of runs.
        notes: run and data set, joined by ``/``, to sentences about its data.
    """
    made: list[SiteTable] = []
    for table in tables:
        words = slug("-".join((table.benchmark, table.dataset, table.protocol)), "table")
        name = unique(words, {each.name for each in made})
        rows = [_measured_row(table, line, notes) for line in _main_lines(table)]
        made.append(SiteTable(name, table, [*rows, *_published_rows(table)]))
    return made


def _main_lines(table: Table) -> list[Line]:
    return [line for line in table.of_parts(table.main_parts) if not table.is_detail(line)]


def _measured_row(table: Table, line: Line, notes: dict[str, tuple[str, ...]]) -> SiteRow:
    row = line.mean_row()
    runs = tuple(dict.fromkeys(loaded.name for loaded, _ in line.rows))
    about_data = [note for run in runs for note in notes.get(f"{run}/{table.dataset}", ())]
    reason = [f"Not comparable: {row.not_comparable.rstrip('.')}."] if row.not_comparable else []
    origins = [_ORIGINS.get(str(file.get("origin")), FILE) for file in row.weights]
    return SiteRow(
        line.series,
        line.part,
        line.cells,
        line.matcher,
        line.settings,
        _keypoints(line),
        " and ".join(dict.fromkeys(origins)) or NO_WEIGHTS,
        row.feature,
        runs,
        not row.not_comparable,
        (*reason, *about_data),
    )


def _keypoints(line: Line) -> float | None:
    loaded, row = line.rows[0]
    for allowed in (row.settings.get("max_keypoints"), loaded.run.options.get("max_keypoints")):
        if isinstance(allowed, int) and allowed > 0:
            return float(allowed)
    cell = line.cells.get("mean_keypoints") or line.cells.get("keypoints")
    return None if cell is None else cell.mean


def _published_rows(table: Table) -> list[SiteRow]:
    """Return a row for each method and source of the numbers that this protocol's papers print."""
    numbers = [(entry.comparison.published, entry.label) for entry in table.published]
    by_key: dict[tuple[str, ...], SiteRow] = {}
    for number, label in [*numbers, *table.others]:
        part = _part(table, number)
        if number.protocol != table.protocol or part is None:
            continue
        name = number.feature + (f" ({number.variant})" if number.variant else "")
        key = (name, part, number.source, number.table, number.caveat, str(number.settings))
        if key not in by_key:
            note = f"Published: {number.source}, {number.table}. {number.caveat}".rstrip()
            settings = ", ".join(f"{k} {v}" for k, v in number.settings.items() if v is not None)
            budget = number.settings.get("max_keypoints")
            keypoints = float(budget) if isinstance(budget, int) and budget > 0 else None
            by_key[key] = SiteRow(
                name, part, {}, settings=settings, keypoints=keypoints, notes=(note,)
            )
        by_key[key].cells[number.metric] = Cell((_in_unit_of(number, table.metrics, label),))
    order = {part: i for i, part in enumerate(table.main_parts)}
    return sorted(by_key.values(), key=lambda row: order[row.part])


def _part(table: Table, number: Published) -> str | None:
    """Return the table's name of a number's part, which may be written otherwise."""
    return next((part for part in table.main_parts if part.lower() == number.part.lower()), None)


def _in_unit_of(number: Published, metrics: dict[str, Metric], label: Metric) -> float:
    """Return a published value in the unit of the column."""
    unit = metrics[number.metric].unit
    if label.unit == "%" and unit != "%":
        return number.value / 100
    if unit == "%" and label.unit != "%":
        return number.value * 100
    return number.value


def words_of(row: SiteRow) -> str:
    """Return the text of a row that the search looks in."""
    text = " ".join(
        [row.method, row.matcher, row.part, row.weights, row.settings, *row.runs, *row.notes]
    )
    return re.sub(r"\s+", " ", text).lower()
