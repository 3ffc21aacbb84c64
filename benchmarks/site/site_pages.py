"""The pages of a leaderboard: an index, one page for each table, and the cards of the methods.

All links are relative, the pages ask for nothing from elsewhere, and the same runs make the same
bytes.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.record import Problem
from benchmarks.report import labels
from benchmarks.report.page import command_text
from benchmarks.report.result_tables import make_tables
from benchmarks.report.runs import LoadedRun
from benchmarks.site.method_cards import method_cards, search_address
from benchmarks.site.private_names import without_folders
from benchmarks.site.sent_run import SentRun, data_notes
from benchmarks.site.site_runs import collect_runs
from benchmarks.site.site_tables import SiteTable, shortened, site_tables, words_of
from featplug.report.html_page import render

_TEMPLATES = (
    Path(__file__).with_name("templates"),
    Path(labels.__file__).with_name("templates"),
)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Time that no page shows: pages depend on the runs only."""


@dataclass(frozen=True)
class Site:
    """Contents of a site."""

    runs: list[SentRun]
    tables: list[SiteTable]
    problems: list[Problem]


def make_site(paths: Iterable[Path], title: str) -> tuple[Site, dict[str, bytes]]:
    """Read runs, and return the site and its files by their paths in it.

    Raises:
        FileNotFoundError: a path does not exist, or has no run.
        ValueError: no run can be read.
    """
    runs, problems = collect_runs(paths)
    files = {
        f"runs/{sent.name}/{name}": contents
        for sent in runs
        for name, contents in sent.files().items()
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, contents in files.items():  # tables read values of pairs from the run's folder
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents)
        root = Path(folder) / "runs"
        tables = [
            replace(table, caveats=[text.replace(f"{root}/", "") for text in table.caveats])
            for table in make_tables([LoadedRun(root / s.name, s.name, s.run) for s in runs])
        ]
    site = Site(runs, site_tables(tables, _notes(runs)), [*problems, *_problems_of(runs)])
    cards = method_cards(row for sent in runs for row in sent.run.rows)
    common = {"title": title, "cards": cards}
    shown = replace(site, problems=[Problem(**each) for each in _problems_to_show(site)])
    pages = {"index.html": _render("site_index.html", site=shown, **common, **_index(site))}
    pages["methods.html"] = _render("site_methods.html", **common)
    for page in site.tables:
        own = [sent for sent in runs if sent.name in page.runs]
        text = _render("site_table.html", page=page, runs=own, **common)
        pages[f"tables/{page.name}.html"] = text
    return site, files | {name: text.encode() for name, text in pages.items()}


def _render(template: str, **contents: Any) -> str:
    filters: dict[str, Callable[..., Any]] = {
        "benchmark": labels.benchmark_title,
        "dataset": labels.dataset_title,
        "protocol": labels.protocol_title,
        "command": command_text,
        "short": shortened,
        "search": search_address,
        "words": words_of,
    }
    return render(template, _TEMPLATES, filters, _NEVER, ["filters.js"], **contents)


def _problems_to_show(site: Site) -> list[dict[str, str]]:
    """Return the problems without the folders of this machine, which the console shows."""
    return without_folders([asdict(problem) for problem in site.problems])


def _index(site: Site) -> dict[str, Any]:
    benchmarks = dict.fromkeys(each.table.benchmark for each in site.tables)
    return {"benchmarks": sorted(labels.benchmark_title(name) for name in benchmarks)}


def _notes(runs: Sequence[SentRun]) -> dict[str, tuple[str, ...]]:
    """Return sentences about the data of each run: files that are not those of the others."""
    notes: dict[str, tuple[str, ...]] = {}
    seen: dict[str, dict[str, None]] = {}
    for sent in runs:
        for name, data in sent.run.data.items():
            seen.setdefault(name, {}).setdefault(str(data.get("fingerprint")))
    for sent in runs:
        unknown = data_notes(sent.run)
        for name, data in sent.run.data.items():
            sentences = [f"Measured on {unknown[name]}."] if name in unknown else []
            if len(seen[name]) > 1:
                sentences.append(f"Fingerprint of the data: {data.get('fingerprint')!s:.8}.")
            notes[f"{sent.name}/{name}"] = tuple(sentences)
    return notes


def _problems_of(runs: Sequence[SentRun]) -> list[Problem]:
    return [
        Problem(f"{sent.name}: {problem.subject}", problem.reason)
        for sent in runs
        for problem in sent.run.problems
    ]
