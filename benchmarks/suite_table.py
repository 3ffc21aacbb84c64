"""The Markdown table of a suite: a line for each method, and columns of every benchmark."""

from collections.abc import Callable, Sequence
from math import floor, log10
from statistics import fmean

from benchmarks.console import NOTHING, mean_and_spread
from benchmarks.record import Row, Run
from benchmarks.report.labels import dataset_title, method_titles

NOT_MEASURED = "not measured"
_Column = tuple[str, Callable[[Sequence[Row]], str]]
"""Head, and the text of a method's rows, which are its seeds."""


def suite_table(methods: Sequence[str], runs: Sequence[Run]) -> str:
    """Return the table of a suite, with a line for each method and the reasons for gaps.

    Figures are means over the seeds, with the standard deviation after ±.
    """
    groups = [group for run in runs for group in _groups(run)]
    heads = [
        "method",
        "matcher",
        *(f"{title}: {head}" for title, columns, _ in groups for head, _ in columns),
    ]
    lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)]]
    titles = method_titles(methods)
    for method in methods:
        cells = [f"`{titles[method]}`", _matchers(method, runs)]
        for _, columns, rows in groups:
            of_method = [row for row in rows if row.feature == method]
            cells += [text(of_method) if of_method else NOT_MEASURED for _, text in columns]
        lines.append(cells)
    text = [f"| {' | '.join(map(_escaped, line))} |" for line in lines]
    problems = {problem: None for run in runs for problem in run.problems}
    notes = [f"- {problem.subject}: {_escaped(problem.reason)}" for problem in problems]
    if notes:
        text += ["", "Not measured, or only in part:", "", *notes]
    return "\n".join([*text, ""])


def _groups(run: Run) -> list[tuple[str, list[_Column], list[Row]]]:
    """Return the groups of columns of a run: title, columns and rows."""
    groups = []
    for dataset in dict.fromkeys(row.dataset for row in run.rows):
        rows = [row for row in run.rows if row.dataset == dataset and row.part == "all"]
        title = dataset_title(dataset)
        if run.benchmark == "matching":
            groups += [
                (
                    title if len(_protocols(rows)) == 1 else f"{title}, {protocol}",
                    _MATCHING,
                    [row for row in rows if row.protocol == protocol],
                )
                for protocol in _protocols(rows)
            ]
        elif run.benchmark == "reconstruction":
            columns = [*_RECONSTRUCTION, (_error_head(rows), _errors)]
            groups.append((title, columns, rows))
        else:
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
    return groups


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


_MATCHING: list[_Column] = [
    ("MMA 3 px", _joined("mma_3", digits=3)),
    ("right / wrong per pair", _joined("right_matches", "wrong_matches")),
    ("right among first 500 / 1,000", _joined("right_among_500", "right_among_1000")),
]


def _registered(rows: Sequence[Row]) -> str:
    total = rows[0].metrics["images"]["value"]
    return f"{_figure(rows, 'registered_images', 0)} of {total:.0f}"


_RECONSTRUCTION: list[_Column] = [
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


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
