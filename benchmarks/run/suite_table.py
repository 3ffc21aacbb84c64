"""The Markdown table of a suite: a line for each method, and columns of every benchmark.

Blocks that measure other methods have a table of their own.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from math import floor, log10
from statistics import fmean

from benchmarks.console import NOTHING, mean_and_spread
from benchmarks.record import Problem, Row, Run
from benchmarks.report.labels import dataset_title, method_titles
from benchmarks.run.suite_file import Block, Suite
from benchmarks.settings import settings_text
from featplug import __version__
from featplug.io.metric_table import find_metric
from featplug.io.results import environment

NOT_MEASURED = "not measured"
_Column = tuple[str, Callable[[Sequence[Row]], str]]
"""Head, and the text of a method's rows, which are its seeds."""


def suite_table(methods: Sequence[str], runs: Sequence[Run]) -> str:
    """Return the table of some runs, with a line for each method.

    Figures are means over the seeds, with the standard deviation after ±.
    """
    groups = _with_own_titles([_without_gaps(*g) for run in runs for g in _groups(run)])
    heads = [
        "method",
        "matcher",
        "settings",
        *(f"{title}: {head}" for title, columns, _ in groups for head, _ in columns),
    ]
    lines = [heads, [*["---"] * 3, *["---:"] * (len(heads) - 3)]]
    titles = method_titles(methods)
    for method in methods:
        cells = [f"`{titles[method]}`", _matchers(method, runs), _settings(method, runs)]
        for _, columns, rows in groups:
            of_method = [row for row in rows if row.feature == method]
            cells += [text(of_method) if of_method else NOT_MEASURED for _, text in columns]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def suite_text(
    suite: Suite, runs: Mapping[str, Run], problems: Sequence[Problem], command: str
) -> str:
    """Return the tables of a suite, what is not measured and why, and how they were made.

    Args:
        suite: the suite.
        runs: word of a block to its run.
        problems: what is not measured, in addition to the problems of the runs.
        command: command that made them.
    """
    by_methods: dict[tuple[str, ...], list[Block]] = {}
    for block in suite.blocks:
        if block.word in runs:
            by_methods.setdefault(block.options.feature, []).append(block)
    text = [f"# {suite.title}", ""]
    for methods, blocks in by_methods.items():
        if len(by_methods) > 1:
            text += [f"## {', '.join(block.name for block in blocks)}", ""]
        text += [suite_table(methods, [runs[block.word] for block in blocks]), ""]
    all_problems = dict.fromkeys(
        [*problems, *(problem for run in runs.values() for problem in run.problems)]
    )
    if all_problems:
        notes = [f"- {problem.subject}: {_escaped(problem.reason)}" for problem in all_problems]
        text += ["Not measured, or only in part:", "", *notes, ""]
    if any("±" in line for line in text):
        text += ["± is the standard deviation over the seeds.", ""]
    machine = environment()
    where = machine["gpu"] or f"{machine['cpu_cores']} cores of {machine['processor']}"
    text.append(f"`{command}`; featplug {__version__}, {date.today()}, {where}.")
    others = {
        word: run.environment.get("featplug")
        for word, run in runs.items()
        if run.environment.get("featplug") != __version__
    }
    text += [f"{word} was measured by featplug {version}." for word, version in others.items()]
    return "\n".join([*text, ""])


_Group = tuple[str, list[_Column], list[Row]]
"""Title, columns and rows."""


def _groups(run: Run) -> list[_Group]:
    """Return the groups of columns of a run: title, columns and rows."""
    groups = []
    for dataset in dict.fromkeys(row.dataset for row in run.rows):
        rows = [row for row in run.rows if row.dataset == dataset and row.part == "all"]
        title = dataset_title(dataset)
        if run.benchmark in _OF_PAIRS:
            groups += [
                (
                    _title_of_protocol(title, protocol, rows),
                    _OF_PAIRS[run.benchmark],
                    [row for row in rows if row.protocol == protocol],
                )
                for protocol in _protocols(rows)
            ]
        elif run.benchmark == "reconstruction":
            columns = [*_RECONSTRUCTION, (_error_head(rows), _errors)]
            groups.append((title, columns, rows))
        elif run.benchmark == "localization":
            parts = dict.fromkeys(row.part for row in run.rows if row.dataset == dataset)
            for part in parts:
                of_part = [r for r in run.rows if (r.dataset, r.part) == (dataset, part)]
                names = [n for n in of_part[0].metrics if n.startswith("recall_")]
                if names:
                    head = " / ".join(_threshold(name) for name in names)
                    column = f"recall in % at {head}", _joined(*names, digits=1)
                    groups.append(
                        (title if part == "all" else f"{title}, {part}", [column], of_part)
                    )
        else:
            parts = dict.fromkeys(row.part for row in run.rows if row.dataset == dataset)
            for part in parts:
                of_part = [r for r in run.rows if (r.dataset, r.part) == (dataset, part)]
                known = {name: find_metric(name) for row in of_part for name in row.metrics}
                headlines = [
                    (metric.title, _joined(name, digits=3))
                    for name, metric in known.items()
                    if metric is not None and metric.role == "headline"
                ]
                groups.append((f"{title}, {part}", headlines, of_part))
    return groups


def _without_gaps(title: str, columns: list[_Column], rows: list[Row]) -> _Group:
    """Return a group without the columns that no row has a figure for."""
    having = [(head, text) for head, text in columns if set(text(rows)) - set(f"{NOTHING} /")]
    return title, having, rows


def _title_of_protocol(title: str, protocol: str, rows: Sequence[Row]) -> str:
    """Return a title with the protocol, if there are others, and with the estimator of poses."""
    estimators = [r.estimator for r in rows if r.protocol == protocol and "pose_auc_5" in r.metrics]
    rules = protocol.partition("+")[0]  # the estimator is behind the plus
    words = [rules] if len({name.partition("+")[0] for name in _protocols(rows)}) > 1 else []
    return ", ".join([title, *words, *dict.fromkeys(filter(None, estimators))])


def _with_own_titles(groups: Sequence[_Group]) -> list[_Group]:
    """Return groups with their protocols in titles that would be the same."""
    counts = Counter(title for title, _, _ in groups)
    return [
        (title if counts[title] == 1 else f"{title}, {rows[0].protocol}", columns, rows)
        for title, columns, rows in groups
    ]


def _protocols(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.protocol for row in rows))


def _threshold(name: str) -> str:
    return name.removeprefix("recall_").replace("_", ", ").replace("deg", "°")


def _joined(*names: str, digits: int = 0) -> Callable[[Sequence[Row]], str]:
    """Return the function that joins metrics by slashes, each with its spread over seeds."""
    return lambda rows: " / ".join(_figure(rows, name, digits) for name in names)


def _figure(rows: Sequence[Row], name: str, digits: int) -> str:
    values = [row.metrics[name]["value"] for row in rows if name in row.metrics]
    return mean_and_spread(values, digits) if values else NOTHING


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


def _registered(rows: Sequence[Row]) -> str:
    total = rows[0].metrics["images"]["value"]
    return f"{_figure(rows, 'registered_images', 0)} of {total:.0f}"


_RECONSTRUCTION: list[_Column] = [
    _KEYPOINTS,
    ("registered", _registered),
    ("points", _joined("sparse_points")),
    ("reprojection error in px", _joined("mean_reprojection_error", digits=3)),
]
_ERRORS = "median_position_error", "max_position_error"


def _error_head(rows: Sequence[Row]) -> str:
    """Return the head of the camera errors: in mm for metres, any other unit as it is."""
    units = dict.fromkeys(r.metrics[n]["unit"] for r in rows for n in _ERRORS if n in r.metrics)
    shown = ", ".join("mm" if unit == "m" else unit for unit in units)
    return f"camera error in {shown}, median / largest" if shown else "camera error"


def _errors(rows: Sequence[Row]) -> str:
    return " / ".join(_error(rows, name) for name in _ERRORS)


def _error(rows: Sequence[Row], name: str) -> str:
    """Return the mean with two significant digits, and its spread with as many decimals."""
    entries = [row.metrics[name] for row in rows if name in row.metrics]
    if not entries:
        return NOTHING
    values = [entry["value"] * (1000 if entry["unit"] == "m" else 1) for entry in entries]
    mean = fmean(values)
    return mean_and_spread(values, max(0, 1 - floor(log10(mean))) if mean > 0 else 0)


def _matchers(method: str, runs: Sequence[Run]) -> str:
    """Return the matcher of a method; those of pairs and of scenes where they differ."""
    found: dict[str, None] = {}
    for run in runs:
        found |= dict.fromkeys(
            row.matcher for row in run.rows if row.feature == method and row.matcher
        )
    return " / ".join(method_titles(found).values()) or "–"


def _settings(method: str, runs: Sequence[Run]) -> str:
    """Return limits and thresholds of a method; those of all runs where they contradict."""
    rows = [row for run in runs for row in run.rows if row.feature == method]
    texts = dict.fromkeys(settings_text(row.settings) for row in rows)
    shown = [text for text in texts if not any(o != text and o.startswith(text) for o in texts)]
    return " / ".join(filter(None, shown)) or "–"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
