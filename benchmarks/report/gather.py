"""The contents of a report: runs, tables, charts, pictures and models."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.record import Problem, Row
from benchmarks.report.charts import BarChart, Colours, CurveChart, bar_charts, curve_charts
from benchmarks.report.comparison import RunComparison, compare_runs
from benchmarks.report.model_lines import ModelLine, model_lines
from benchmarks.report.result_tables import Table, best_lines, make_tables, runner_up
from benchmarks.report.runs import LoadedRun, find_runs, load_runs, problem_of
from benchmarks.report.stage_chart import stage_chart
from featplug.io.metric_table import Metric
from featplug.report.inline_images import (
    MAX_PICTURES,
    MAX_PICTURES_OF_FEATURE,
    InlinePicture,
    inline_picture,
)
from featplug.report.model_views import MAX_POINTS, MAX_POINTS_OF_MODEL, ModelView, view_model
from featplug.report.stage_bars import StageChart


@dataclass(frozen=True)
class Headline:
    """The best feature in one metric on one part."""

    part: str
    metric: str
    label: Metric
    best: list[str]
    """Names of the best features; empty where all are equal, or only one exists."""
    value: float
    second: str | None
    second_value: float | None


@dataclass(frozen=True)
class Scene:
    """A model of one feature."""

    series: str
    colour: int
    view: ModelView


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
    pictures: list[tuple[str, InlinePicture]] = field(default_factory=list)
    """Names of features and their pictures."""
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
    runs: Iterable[Path], compared: tuple[Path, Path] | None = None, title: str = "Local features"
) -> Report:
    """Read runs, and make tables, charts and pictures of them.

    A picture or model that cannot be read becomes a problem of the report.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: nothing can be reported or compared.
    """
    folders, not_searched = find_runs([*runs, *(compared or ())])
    loaded, problems = load_runs(folders)
    problems += not_searched
    comparison = None
    if compared is not None:
        comparison = compare_runs(*(_only_run(folder, loaded) for folder in compared))
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


def _only_run(folder: Path, loaded: list[LoadedRun]) -> LoadedRun:
    folders = {inside.resolve() for inside in find_runs([folder])[0]}
    matching = [entry for entry in loaded if entry.folder.resolve() in folders]
    if len(folders) > 1 or not matching:
        raise ValueError(f"{folder} is not one readable run; give --compare two folders of runs.")
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
                    [line.series for line in best],
                    (best or having)[0].cells[name].mean,
                    second.series if second else None,
                    second.cells[name].mean if second else None,
                )
            )
    return headlines


def _rows(table: Table) -> Iterable[tuple[str, LoadedRun, Row]]:
    return ((line.series, loaded, row) for line in table.lines for loaded, row in line.rows)


def _add_pictures(sections: list[Section], problems: list[Problem]) -> None:
    """Add pictures up to the limit of a page: every feature's first, then their second."""
    left = MAX_PICTURES
    for section in sections:
        by_series: dict[str, dict[Path, tuple[LoadedRun, str, str]]] = {}
        for series, loaded, row in _rows(section.table):
            for picture in row.pictures:
                title = picture.title.removeprefix(f"{row.feature}, ")
                of_series = by_series.setdefault(series, {})
                of_series.setdefault(loaded.folder / picture.path, (loaded, picture.path, title))
        ranked = [
            (rank, series, *picture)
            for series, of_series in by_series.items()
            for rank, picture in enumerate(of_series.values())
        ]
        for rank, series, loaded, name, title in sorted(ranked, key=lambda entry: entry[0]):
            if left == 0 or rank >= MAX_PICTURES_OF_FEATURE:
                section.num_more_pictures += 1
                continue
            try:
                section.pictures.append((series, inline_picture(loaded.path_of(name), title)))
                left -= 1
            except (OSError, ValueError) as error:
                problems.append(problem_of(f"{loaded.name}: {title}", error))


def _add_scenes(sections: list[Section], colours: Colours, problems: list[Problem]) -> None:
    """Add the first model of each feature, with an equal number of the page's points."""
    models: list[tuple[Section, str, LoadedRun, str]] = []
    for section in sections:
        seen = set()
        for series, loaded, row in _rows(section.table):
            if row.model is not None and series not in seen:
                seen.add(series)
                models.append((section, series, loaded, row.model))
    num_points = min(MAX_POINTS_OF_MODEL, MAX_POINTS // max(len(models), 1))
    for section, series, loaded, model in models:
        try:
            view = view_model(loaded.path_of(model), num_points)
        except (OSError, ValueError) as error:
            problems.append(problem_of(f"{loaded.name}: {series}", error))
            continue
        section.scenes.append(Scene(series, colours(series), view))
