"""The Markdown table of a suite: a line for each method, and columns of every benchmark.

Blocks that measure other methods have a table of their own.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import floor, log10

from benchmarks.console import NOTHING
from benchmarks.record import Problem, Row, Run
from benchmarks.report.labels import benchmark_title, dataset_title, method_titles
from benchmarks.report.lines import Cell, Line
from benchmarks.report.result_tables import Table, make_tables
from benchmarks.report.runs import LoadedRun
from benchmarks.run.suite_file import Block, Suite
from benchmarks.settings import settings_text
from featplug import __version__
from featplug.io.metric_table import format_value
from featplug.io.results import environment

NOT_MEASURED = "not measured"
_Column = tuple[str, Callable[[Line], str]]
"""Head, and the text of a method's line."""


def suite_table(methods: Sequence[str], runs: Sequence[LoadedRun]) -> str:
    """Return the table of some runs, with a line for each method.

    Figures, their ± and what is bold are those of the page.
    """
    tables = make_tables(runs)
    groups = _with_own_titles([_without_gaps(group) for t in tables for group in _groups(t)])
    heads = [
        "method",
        "matcher",
        "settings",
        *(f"{group.title}: {head}" for group in groups for head, _ in group.columns),
    ]
    cells = [heads, [*["---"] * 3, *["---:"] * (len(heads) - 3)]]
    titles = method_titles(methods)
    rows = [row for loaded in runs for row in loaded.run.rows]
    for method in methods:
        of_method = [row for row in rows if row.feature == method]
        texts = [f"`{titles[method]}`", _matchers(of_method), _settings(of_method)]
        for group in groups:
            # Where a method has several lines, such as of two seeds' settings, the first is shown.
            line = next((line for line in group.lines if _method(line) == method), None)
            texts += [NOT_MEASURED if line is None else text(line) for _, text in group.columns]
        cells.append(texts)
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in cells)


def suite_text(
    suite: Suite,
    runs: Mapping[str, LoadedRun],
    problems: Sequence[Problem],
    command: str,
    earlier: Collection[str] = (),
) -> str:
    """Return the tables of a suite, what is not measured and why, and how they were made.

    Args:
        suite: the suite.
        runs: word of a block to its run.
        problems: what is not measured, in addition to the problems of the runs.
        command: command that made them.
        earlier: words of the blocks that earlier calls measured.
    """
    by_methods: dict[tuple[str, ...], list[Block]] = {}
    for block in suite.blocks:
        if block.word in runs:
            methods = _methods(block, runs[block.word].run)
            by_methods.setdefault(methods, []).append(block)
    text = [f"# {suite.title}", ""]
    for methods, blocks in by_methods.items():
        if len(by_methods) > 1:
            text += [f"## {', '.join(block.name for block in blocks)}", ""]
        text += [suite_table(methods, [runs[block.word] for block in blocks]), ""]
    of_runs = (problem for loaded in runs.values() for problem in loaded.run.problems)
    all_problems = dict.fromkeys([*problems, *of_runs])
    if all_problems:
        notes = [f"- {problem.subject}: {_escaped(problem.reason)}" for problem in all_problems]
        text += ["Not measured, or only in part:", "", *notes, ""]
    text += [
        f"- {benchmark_title(t.benchmark)}, {dataset_title(t.dataset)}: {' '.join(t.caveats)}"
        for t in make_tables([*runs.values()])
        if t.caveats
    ]
    text.append("")
    machine = environment()
    where = machine["gpu"] or f"{machine['cpu_cores']} cores of {machine['processor']}"
    text.append(f"`{command}`; featplug {__version__}, {date.today()}, {where}.")
    for word, loaded in runs.items():
        if word in earlier:
            version = loaded.run.environment.get("featplug")
            text.append(f"{word} was measured by an earlier call, by featplug {version}.")
    return "\n".join([*text, ""])


def _method(line: Line) -> str:
    return line.rows[0][1].feature


def _methods(block: Block, run: Run) -> tuple[str, ...]:
    """Return the methods of a block: those that are named, and others that have figures."""
    return tuple(dict.fromkeys([*block.options.feature, *(row.feature for row in run.rows)]))


@dataclass(frozen=True)
class _Group:
    """Columns of one protocol on one data set."""

    title: str
    protocol: str
    columns: list[_Column]
    lines: list[Line]


def _groups(table: Table) -> Iterator[_Group]:
    """Yield the groups of columns of a table."""
    title = dataset_title(table.dataset)
    if table.benchmark in _OF_PAIRS:
        lines = table.of_parts(["all"])
        names = [title, *dict.fromkeys(filter(None, map(_estimator, lines)))]
        yield _Group(", ".join(names), table.protocol, _OF_PAIRS[table.benchmark], lines)
    elif table.benchmark == "reconstruction":
        lines = table.of_parts(["all"])
        columns = [*_RECONSTRUCTION, (_error_head(lines), _errors)]
        yield _Group(title, table.protocol, columns, lines)
    else:
        for part in table.parts:
            lines = table.of_parts([part])
            columns = _recalls(table) if table.benchmark == "localization" else _headlines(table)
            whole = title if part == "all" else f"{title}, {part}"
            yield _Group(whole, table.protocol, columns, lines)


def _estimator(line: Line) -> str | None:
    """Return the estimator of poses; that of homographies is not shown."""
    return line.rows[0][1].estimator if "pose_auc_5" in line.cells else None


def _recalls(table: Table) -> list[_Column]:
    names = [name for name in table.metrics if name.startswith("recall_")]
    head = " / ".join(_threshold(name) for name in names)
    return [(f"recall in % at {head}", _joined(*names, digits=1))] if names else []


def _headlines(table: Table) -> list[_Column]:
    return [
        (metric.title + (f" in {metric.unit}" if metric.unit else ""), _joined(name, digits=3))
        for name, metric in table.metrics.items()
        if metric.role == "headline"
    ]


def _without_gaps(group: _Group) -> _Group:
    """Return a group without the columns that no line has a figure for."""

    def has_figure(text: Callable[[Line], str]) -> bool:
        return any(set(text(line)) - set(f"{NOTHING} /") for line in group.lines)

    return replace(group, columns=[entry for entry in group.columns if has_figure(entry[1])])


def _with_own_titles(groups: Sequence[_Group]) -> list[_Group]:
    """Return groups with their protocols in titles that would be the same."""
    counts = Counter(group.title for group in groups)
    return [
        group
        if counts[group.title] == 1
        else replace(group, title=f"{group.title}, {group.protocol}")
        for group in groups
    ]


def _threshold(name: str) -> str:
    return name.removeprefix("recall_").replace("_", ", ").replace("deg", "°")


def _joined(*names: str, digits: int = 0) -> Callable[[Line], str]:
    """Return the function that joins metrics by slashes, each with its ±."""
    return lambda line: " / ".join(_figure(line.cells.get(name), digits) for name in names)


def _figure(cell: Cell | None, digits: int, scale: float = 1) -> str:
    """Return a figure, bold where it is better than all others by a test."""
    if cell is None:
        return NOTHING
    text = format_value(scale * cell.mean, digits)
    if cell.half:
        text += f" ± {format_value(scale * cell.half, digits)}"
    return f"**{text}**" if cell.is_best else text


_KEYPOINTS: _Column = "keypoints", _joined("mean_keypoints")
_MATCHING: list[_Column] = [
    _KEYPOINTS,
    ("MMA 3 px", _joined("mma_3", digits=3)),
    ("right / wrong per pair", _joined("right_matches", "wrong_matches")),
    ("right among first 500 / 1,000", _joined("right_among_500", "right_among_1000")),
    ("AP", _joined("average_precision", digits=3)),
]
_POSES: list[_Column] = [
    _KEYPOINTS,
    ("AUC at 5° / 10° / 20°", _joined("pose_auc_5", "pose_auc_10", "pose_auc_20", digits=3)),
    ("mAA at 10°", _joined("pose_maa_10", digits=3)),
    ("matches per pair", _joined("mean_matches")),
]
_OF_PAIRS = {"matching": _MATCHING, "relative-pose": _POSES}


def _registered(line: Line) -> str:
    total = line.cells["images"].mean
    return f"{_figure(line.cells.get('registered_images'), 0)} of {total:.0f}"


_RECONSTRUCTION: list[_Column] = [
    _KEYPOINTS,
    ("registered", _registered),
    ("points", _joined("sparse_points")),
    ("reprojection error in px", _joined("mean_reprojection_error", digits=3)),
]
_ERRORS = "median_position_error", "max_position_error"


def _error_head(lines: Sequence[Line]) -> str:
    """Return the head of the camera errors: in mm for metres, any other unit as it is."""
    units = dict.fromkeys(unit for line in lines for name in _ERRORS if (unit := _unit(line, name)))
    shown = ", ".join("mm" if unit == "m" else unit for unit in units)
    return f"camera error in {shown}, median / largest" if shown else "camera error"


def _errors(line: Line) -> str:
    return " / ".join(_error(line, name) for name in _ERRORS)


def _unit(line: Line, name: str) -> str | None:
    return next((row.metrics[name]["unit"] for _, row in line.rows if name in row.metrics), None)


def _error(line: Line, name: str) -> str:
    """Return the mean with two significant digits, and its ± with as many decimals."""
    cell = line.cells.get(name)
    if cell is None:
        return NOTHING
    scale = 1000 if _unit(line, name) == "m" else 1
    mean = scale * cell.mean
    return _figure(cell, max(0, 1 - floor(log10(mean))) if mean > 0 else 0, scale)


def _matchers(rows: Sequence[Row]) -> str:
    """Return the matcher of a method; those of pairs and of scenes where they differ."""
    found = dict.fromkeys(row.matcher for row in rows if row.matcher)
    return " / ".join(method_titles(found).values()) or NOTHING


def _settings(rows: Sequence[Row]) -> str:
    """Return limits and thresholds of a method; those of all runs where they contradict."""
    texts = dict.fromkeys(settings_text(row.settings) for row in rows)
    shown = [text for text in texts if not any(o != text and o.startswith(text) for o in texts)]
    return " / ".join(filter(None, shown)) or NOTHING


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
