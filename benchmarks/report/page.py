"""The page: a report in one HTML file, which opens offline."""

import base64
import hashlib
import json
import shlex
from datetime import datetime
from importlib import resources
from pathlib import Path

import jinja2

from benchmarks.record import Run
from benchmarks.report import labels
from benchmarks.report.gather import Report
from benchmarks.report.runs import command_line

_SCRIPTS = ("report.js", "viewer.js")


def render_page(report: Report, made: datetime | None = None) -> str:
    """Return the page as HTML, with the time when it was made, by default now."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(_files("templates"))),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": labels.format_value,
        "benchmark": labels.benchmark_title,
        "dataset": labels.dataset_title,
        "protocol": labels.protocol_title,
        "command": command_text,
        "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    }
    scripts = [_asset(name) for name in _SCRIPTS]
    return environment.get_template("report.html").render(
        report=report,
        made=made or datetime.now().astimezone(),
        style=_asset("style.css"),
        scripts=scripts,
        script_hashes=[_content_hash(script) for script in scripts],
    )


def _files(folder: str) -> Path:
    return Path(str(resources.files("benchmarks.report"))) / folder


def _asset(name: str) -> str:
    return (_files("assets") / name).read_text("utf-8")


def _content_hash(script: str) -> str:
    """Hash a script for the Content-Security-Policy, which allows no other on the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def command_text(run: Run) -> str:
    """Return a run's command as a line for a shell."""
    return shlex.join(command_line(run))
