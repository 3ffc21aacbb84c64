"""The runs of a leaderboard: of folders, and of zip files that others have sent."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.record import Problem
from benchmarks.report.runs import find_runs, problem_of
from benchmarks.site.sent_run import SentRun, read_sent_runs, run_to_send, unique


def collect_runs(paths: Iterable[Path]) -> tuple[list[SentRun], list[Problem]]:
    """Read runs, each with a name of its own; those that cannot be read become problems.

    Args:
        paths: folders of runs, folders that contain some, and zip files of `featplug bench submit`
            or folders with such.

    Raises:
        FileNotFoundError: a path does not exist, or has no run.
        ValueError: no run can be read.
    """
    runs: dict[str, SentRun] = {}
    known: dict[str, str] = {}
    problems: list[Problem] = []
    for path in _places(paths, problems):
        try:
            found = read_sent_runs(path) if path.is_file() else [run_to_send(path)]
        except (OSError, ValueError) as error:
            problems.append(problem_of(path.name, error))
            continue
        for sent in found:
            digest = _digest(sent)
            if digest in known:
                reason = f"it is the same as {known[digest]}, and is shown once"
                problems.append(Problem(path.name, reason))
                continue
            name = unique(sent.name, runs)
            runs[name] = replace(sent, name=name)
            known[digest] = name
    if not runs:
        raise ValueError(f"No run can be shown: {problems[0].reason}")
    return list(runs.values()), problems


def _places(paths: Iterable[Path], problems: list[Problem]) -> Iterator[Path]:
    """Yield the folders and zip files of runs."""
    for path in map(Path, paths):
        zips = sorted(path.glob("*.zip")) if path.is_dir() else []
        if path.suffix == ".zip" and not path.is_dir():
            if not path.exists():
                raise FileNotFoundError(f"{path} does not exist; give folders or files of runs.")
            zips = [path]
        else:
            try:
                folders, not_searched = find_runs([path])
            except FileNotFoundError:
                if not zips:
                    raise
            else:
                problems += not_searched
                yield from folders
        yield from zips


def _digest(sent: SentRun) -> str:
    digest = hashlib.sha256()
    for name, contents in sorted(sent.files().items()):
        digest.update(f"{name} {len(contents)}\n".encode() + contents)
    return digest.hexdigest()
