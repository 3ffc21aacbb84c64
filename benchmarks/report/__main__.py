"""``python -m benchmarks.report RUN… -o report.html``: one page of benchmarks and pipelines."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from benchmarks.record import counted
from benchmarks.report.formats import output_paths, write_formats
from benchmarks.report.gather import make_report
from benchmarks.report.page import render_page
from featplug.cli.command_line import run_command
from featplug.io.files import write_whole_text
from featplug.io.typed_json import printable


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html"),
    formats: tuple[Literal["md", "csv", "tex", "json"], ...] = (),
    compare: tuple[str, str] | None = None,
    title: str = "Local features",
) -> None:
    """Make one page of runs, which opens offline: tables, curves, pictures, models, commands.

    Args:
        runs: folders of runs of benchmarks or pipelines, or folders that contain some.
        output: file of the page.
        formats: further formats of the tables, written next to the page.
        compare: A and B, each the folder of a run, or FOLDER:METHOD for one of its methods; the
            page shows A − B, and its significance over image pairs or seeds.
        title: title of the page.
    """
    output_paths(output, formats)
    report = make_report(runs, compare, printable(title))
    write_whole_text(output, render_page(report))
    written = [output, *write_formats(report, output, formats)]
    print(f"{counted(len(report.tables), 'table')} of {counted(len(report.runs), 'run')}:")
    for path in written:
        print(f"  {printable(str(path))} ({path.stat().st_size / 1000:,.0f} kB)")
    for problem in report.problems:
        print(f"  problem: {' '.join(f'{problem.subject}: {problem.reason}'.split())}")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.report")
