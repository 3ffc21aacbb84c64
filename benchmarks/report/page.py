"""The page: a report in one HTML file, which opens offline."""

import shlex
from datetime import datetime
from pathlib import Path

from benchmarks.record import Run
from benchmarks.report import labels
from benchmarks.report.gather import Report
from benchmarks.report.runs import command_line
from featplug.report.html_page import render


def render_page(report: Report, made: datetime | None = None) -> str:
    """Return the page as HTML, with the time when it was made, by default now."""
    return render(
        "report.html",
        [Path(__file__).with_name("templates")],
        {
            "benchmark": labels.benchmark_title,
            "dataset": labels.dataset_title,
            "protocol": labels.protocol_title,
            "command": command_text,
        },
        made,
        report=report,
    )


def command_text(run: Run) -> str:
    """Return a run's command as a line for a shell."""
    return shlex.join(command_line(run))
