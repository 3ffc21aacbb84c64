"""The contents of a report: runs, tables, charts, pictures and models."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from benchmarks.record import Picture, Problem, Row
from benchmarks.report.charts import (
    BarChart,
    Colours,
    CurveChart,
    bar_charts,
    curve_charts,
    matcher_beside,
)
from benchmarks.report.comparison import RunComparison, compare_runs, parse_side
from benchmarks.report.lines import Line, Verdict
from benchmarks.report.model_lines import ModelLine, model_lines
from benchmarks.report.result_tables import Table, best_lines, make_tables, runner_up
from benchmarks.report.runs import LoadedRun, find_runs, load_runs, problem_of
from benchmarks.report.stage_chart import stage_chart
from featplug.io.metric_table import Metric
from featplug.report.inline_images import MAX_BYTES, InlinePicture, inline_picture, longest_side
from featplug.report.model_views import MAX_POINTS, MAX_POINTS_OF_MODEL, ModelView, view_model
from featplug.report.stage_bars import StageChart

MAX_PICTURE_ROWS = 4
"""Largest number of rows of pictures below a table."""


@dataclass(frozen=True)
class Headline:
    """The best feature in one metric on one part."""

    part: str
    metric: str
    label: Metric
    best: list[Line]
    """Lines with the best figure; empty where all are equal, or only one exists."""
    value: float
    second: Line | None
    """The best of the others."""

    @property
    def is_sure(self) -> bool:
        """Whether the best is better than every other line by a test."""
        return len(self.best) == 1 and self._verdict_of(self.best[0]) == "best"

    @property
    def is_tie(self) -> bool:
        """Whether no test tells the best from the second."""
        return self.second is not None and self._verdict_of(self.second) == "tie"

    def _verdict_of(self, line: Line) -> Verdict:
        return line.cells[self.metric].verdict


@dataclass(frozen=True)
class Scene:
    """A model of one feature."""

    series: str
    colour: int
    view: ModelView


@dataclass(frozen=True)
class SeriesPicture:
    """The picture of one pair by one feature."""

    series: str
    matcher: str
    picture: InlinePicture | None
    """None where the feature has no picture of the pair."""
    counts: dict[str, int]


@dataclass(frozen=True)
class PictureRow:
    """Pictures of one pair by all features, in the same order in all rows of a section."""

    title: str
    pictures: list[SeriesPicture]


@dataclass
class Section:
    """A table, and the charts, pictures and models below it."""

    table: Table
    anchor: str
    headlines: list[Headline]
    curves: list[CurveChart]
    bars: dict[str, list[BarChart]]
    """Charts by part."""
    stages: StageChart | None
    pictures: list[PictureRow] = field(default_factory=list)
    num_more_pictures: int = 0
    models: list[ModelLine] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """Contents of the page and of all other formats."""

    title: str
    runs: list[LoadedRun]
    sections: list[Section]
    problems: list[Problem]
    comparison: RunComparison | None = None

    @property
    def tables(self) -> list[Table]:
        """Tables of the sections."""
        return [section.table for section in self.sections]

    @property
    def benchmarks(self) -> list[str]:
        """Names of the benchmarks, in the order of the page."""
        return list(dict.fromkeys(table.benchmark for table in self.tables))

    @property
    def features(self) -> list[str]:
        """Names of all measured features."""
        return list(dict.fromkeys(row.feature for entry in self.runs for row in entry.run.rows))


def make_report(
    runs: Iterable[Path],
    compared: tuple[Path | str, Path | str] | None = None,
    title: str = "Local features",
) -> Report:
    """Read runs, and make tables, charts and pictures of them.

    A picture or model that cannot be read becomes a problem of the report.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: nothing can be reported or compared.
    """
    sides = [parse_side(str(text)) for text in compared or ()]
    folders, not_searched = find_runs([*runs, *(side.folder for side in sides)])
    loaded, problems = load_runs(folders)
    problems += not_searched
    comparison = None
    if sides:
        run_a, run_b = (_only_run(side.folder, loaded, problems) for side in sides)
        comparison = compare_runs(run_a, run_b, sides[0].method, sides[1].method)
    for entry in loaded:
        problems += [
            Problem(f"{entry.name}: {problem.subject}", problem.reason)
            for problem in entry.run.problems
        ]
    colours = Colours()
    sections = [_section(i, table, colours) for i, table in enumerate(make_tables(loaded))]
    _add_pictures(sections, problems)
    _add_scenes(sections, colours, problems)
    return Report(title, loaded, sections, problems, comparison)


def _only_run(folder: Path, loaded: list[LoadedRun], problems: list[Problem]) -> LoadedRun:
    folders = {inside.resolve() for inside in find_runs([folder])[0]}
    if len(folders) > 1:
        names = ", ".join(sorted(map(str, folders))[:3])
        raise ValueError(f"{folder} has several runs; give --compare one of them: {names}.")
    matching = [entry for entry in loaded if entry.folder.resolve() in folders]
    if not matching:
        reason = next((p.reason for p in problems if folder.name in p.subject), "it is damaged")
        raise ValueError(f"{folder} cannot be compared: {reason}")
    return matching[0]


def _section(number: int, table: Table, colours: Colours) -> Section:
    for line in table.lines:
        colours(line.series)
    return Section(
        table,
        f"table-{number}",
        _headlines(table),
        curve_charts(table, colours),
        bar_charts(table, colours),
        stage_chart(table),
        models=model_lines(table),
    )


def _headlines(table: Table) -> list[Headline]:
    headlines = []
    for name, label in table.metrics.items():
        for part in table.parts_of(name) if label.role == "headline" else []:
            lines = table.of_parts([part])
            having = [line for line in lines if name in line.cells]
            best = best_lines(lines, name, label)
            second = runner_up(lines, name, label)
            headlines.append(
                Headline(
                    part,
                    name,
                    label,
                    best,
                    (best or having)[0].cells[name].mean,
                    second,
                )
            )
    return headlines


def _rows(table: Table) -> Iterator[tuple[Line, LoadedRun, Row]]:
    return ((line, loaded, row) for line in table.lines for loaded, row in line.rows)


_OfSeries = dict[str, tuple[LoadedRun, Line, Picture]]
"""Series to its picture of one pair."""


def _add_pictures(sections: list[Section], problems: list[Problem]) -> None:
    """Add rows of pictures up to the limit of a page: the first ones of all sections come first."""
    ranked: list[tuple[int, Section, str, _OfSeries]] = []
    for section in sections:
        for rank, (title, of_series) in enumerate(_by_pair(section.table).items()):
            if rank < MAX_PICTURE_ROWS:
                ranked.append((rank, section, title, of_series))
            else:
                section.num_more_pictures += len(of_series)
    ranked.sort(key=lambda entry: entry[0])
    size = longest_side(sum(len(of_series) for *_, of_series in ranked))
    bytes_left = MAX_BYTES
    for _, section, title, of_series in ranked:
        row = _picture_row(title, of_series, size, problems)
        needed = sum(len(each.picture.data) for each in row.pictures if each.picture)
        if needed > bytes_left:
            section.num_more_pictures += len(of_series)
        elif needed:
            section.pictures.append(row)
            bytes_left -= needed
    for section in sections:
        _align(section)


def _by_pair(table: Table) -> dict[str, _OfSeries]:
    """Return the pictures of a table by what they show."""
    pairs: dict[str, _OfSeries] = {}
    for line, loaded, row in _rows(table):
        for picture in row.pictures:
            shown = _pair_title(*picture.pair) if len(picture.pair) == 2 else picture.title
            title = shown.removeprefix(f"{row.feature}, ")
            pairs.setdefault(title, {}).setdefault(line.series, (loaded, line, picture))
    return pairs


def _pair_title(name0: str, name1: str) -> str:
    path0, path1 = PurePosixPath(name0), PurePosixPath(name1)
    return f"{name0} and {path1.name if path0.parent == path1.parent else name1}"


def _picture_row(
    title: str, of_series: _OfSeries, size: int, problems: list[Problem]
) -> PictureRow:
    pictures = []
    for series, (loaded, line, picture) in of_series.items():
        shown = None
        try:
            shown = inline_picture(loaded.path_of(picture.path), title, size)
        except (OSError, ValueError) as error:
            problems.append(problem_of(f"{loaded.name}: {picture.title}", error))
        pictures.append(SeriesPicture(series, matcher_beside(line), shown, picture.counts))
    return PictureRow(title, pictures)


def _align(section: Section) -> None:
    """Give all rows of a section the same features, in the order of the table."""
    matchers = {each.series: each.matcher for row in section.pictures for each in row.pictures}
    order = [
        series
        for series in dict.fromkeys(line.series for line in section.table.lines)
        if series in matchers
    ]
    for row in section.pictures:
        known = {each.series: each for each in row.pictures}
        row.pictures[:] = [
            known.get(series, SeriesPicture(series, matchers[series], None, {})) for series in order
        ]


def _add_scenes(sections: list[Section], colours: Colours, problems: list[Problem]) -> None:
    """Add the first model of each feature, with an equal number of the page's points."""
    models: list[tuple[Section, str, LoadedRun, str]] = []
    for section in sections:
        seen = set()
        for line, loaded, row in _rows(section.table):
            if row.model is not None and line.series not in seen:
                seen.add(line.series)
                models.append((section, line.series, loaded, row.model))
    num_points = min(MAX_POINTS_OF_MODEL, MAX_POINTS // max(len(models), 1))
    for section, series, loaded, model in models:
        try:
            view = view_model(loaded.path_of(model), num_points)
        except (OSError, ValueError) as error:
            problems.append(problem_of(f"{loaded.name}: {series}", error))
            continue
        section.scenes.append(Scene(series, colours(series), view))
