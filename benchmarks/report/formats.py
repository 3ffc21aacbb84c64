"""Tables of a report in other formats: Markdown, CSV, LaTeX (booktabs) and JSON."""

from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.record import RECORD
from benchmarks.report.csv_format import csv_table
from benchmarks.report.gather import Report
from benchmarks.report.json_format import json_report
from benchmarks.report.latex_format import latex
from benchmarks.report.markdown_format import markdown
from featplug.io.files import write_whole_text

FORMATS: dict[str, Callable[[Report], str]] = {
    "md": markdown,
    "csv": csv_table,
    "tex": latex,
    "json": json_report,
}
"""Suffix to the function that writes the format."""


def output_paths(page: Path, formats: Iterable[str]) -> dict[str, Path]:
    """Return the file of each format: the name of the page with the format as its suffix.

    Raises:
        ValueError: a file would be the page itself, or the record of a run.
    """
    paths = {name: page.with_suffix(f".{name}") for name in formats}
    if page in paths.values():
        raise ValueError(f"{page} would be the page and one of --formats; end --output with .html.")
    for path in (page, *paths.values()):
        if path.name.lower() == RECORD:
            raise ValueError(
                f"{path} is the name of the record of a run, which would be lost; choose another "
                "name for --output."
            )
    return paths


def write_formats(report: Report, page: Path, formats: Iterable[str]) -> list[Path]:
    """Write a report's tables next to its page, and return the files.

    Raises:
        ValueError: see :func:`output_paths`.
    """
    texts = {path: FORMATS[name](report) for name, path in output_paths(page, formats).items()}
    for path, text in texts.items():
        write_whole_text(path, text)
    return list(texts)
