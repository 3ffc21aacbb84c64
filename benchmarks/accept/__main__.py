"""``python -m benchmarks.accept DIR``: the papers' numbers on the data sets of a folder."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.accept.acceptance_plan import Plan, make_plan, plan_lines, suite_text
from benchmarks.accept.acceptance_report import json_text, markdown, page
from benchmarks.accept.found_data import Found, find, import_checkpoints
from benchmarks.accept.verdicts import Verdict, judge
from benchmarks.choices import problem_of
from benchmarks.console import table_lines
from benchmarks.record import Problem, Run
from benchmarks.run.measure_suite import (
    SUITE,
    SuiteOptions,
    command_words,
    measure_suite,
    read_block,
)
from benchmarks.run.suite_file import Suite, read_suite
from featplug.cli.command_line import Unprefixed, run_command
from featplug.io.files import write_whole_text
from featplug.weights.registry import FOLDER_VARIABLE

JSON, TABLE, PAGE = "accept.json", "accept.md", "accept.html"
"""Names of the verdicts in the output folder."""


@dataclass(frozen=True)
class AcceptOptions:
    """A folder with data sets, and checkpoints of the authors, and what to measure of it."""

    folder: tyro.conf.Positional[Path]
    """Folder with data sets as they are released, each in a folder of its own, and the authors'
    checkpoints."""
    plan: bool = False
    """Print what would be measured, for about how long, and what is missing; measure nothing."""
    feature: tuple[str, ...] = ()
    """Names of methods to measure; by default all that have published numbers on the data."""
    data: tuple[str, ...] = ()
    """Names of data sets to measure on, as the plan has them; by default all."""
    device: str | None = None
    """Device of torch, such as cpu or cuda:1; by default the best one."""
    jobs: int | None = None
    """Number of benchmarks to measure at the same time; see featplug bench run."""
    outputs: Path = Path("outputs/accept")
    """Folder for everything: imported weights, runs, accept.md, accept.json and accept.html. The
    same command resumes."""


def accept(options: AcceptOptions) -> list[Verdict]:
    """Measure what a folder's data and checkpoints allow, and compare with published numbers.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: nothing can be measured.
    """
    found = find(options.folder, left_out=options.outputs)
    with _weights(found.checkpoints, options.outputs / "weights") as not_imported:
        plan = make_plan(found, options.feature, options.data)
        _print_plan(found, plan, not_imported)
        if not plan.tasks:
            raise ValueError(
                f"{options.folder} has no data set and weights that can be measured; the reasons "
                "are above."
            )
        options.outputs.mkdir(parents=True, exist_ok=True)
        suite = options.outputs / SUITE
        write_whole_text(suite, suite_text(plan.tasks, f"Acceptance of {options.folder}"))
        request = SuiteOptions(
            str(suite), device=options.device, jobs=options.jobs, outputs=options.outputs
        )
        _, problems = measure_suite(request, command_words("bench accept", "folder", options))
    runs, not_read = _read_runs(read_suite(str(suite)), options.outputs)
    verdicts = judge(plan.tasks, runs)
    problems = [*found.problems, *not_imported, *problems, *not_read]
    write_whole_text(options.outputs / JSON, json_text(verdicts, plan, problems))
    write_whole_text(options.outputs / TABLE, markdown(options.folder, verdicts, plan, problems))
    write_whole_text(options.outputs / PAGE, page(options.folder, verdicts, plan, problems))
    return verdicts


def print_plan(options: AcceptOptions) -> None:
    """Print what would be measured, and what is missing.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    found = find(options.folder, left_out=options.outputs)
    with (
        tempfile.TemporaryDirectory() as folder,
        _weights(found.checkpoints, Path(folder)) as not_imported,
    ):
        _print_plan(found, make_plan(found, options.feature, options.data), not_imported)


@contextmanager
def _weights(checkpoints: Sequence[Path], folder: Path) -> Iterator[list[Problem]]:
    """Import checkpoints into a folder that is searched first; yield those that do not fit."""
    earlier = os.environ.get(FOLDER_VARIABLE)
    if not checkpoints:
        yield []
        return
    files = [*checkpoints]
    if earlier is not None:
        files += sorted(path for path in Path(earlier).expanduser().glob("*") if path.is_file())
    problems = import_checkpoints(files, folder)
    os.environ[FOLDER_VARIABLE] = str(folder.resolve())
    try:
        yield problems
    finally:
        del os.environ[FOLDER_VARIABLE]
        if earlier is not None:
            os.environ[FOLDER_VARIABLE] = earlier


def _print_plan(found: Found, plan: Plan, not_imported: Sequence[Problem]) -> None:
    for line in plan_lines(found, plan):
        print(line)
    for problem in not_imported:
        print(f"cannot be used: {problem.subject}: {problem.reason}")


def _read_runs(
    suite: Suite, outputs: Path
) -> tuple[dict[tuple[str, str], tuple[Run, Path]], list[Problem]]:
    """Read what was measured, also earlier, and return what cannot be read."""
    runs, problems = {}, []
    for block in suite.blocks:
        try:
            if (run := read_block(outputs, block)) is not None:
                runs[block.benchmark, block.own_name] = run, outputs / block.word
        except (ValueError, OSError) as error:
            problems.append(problem_of(block.name, error))
    return runs, problems


def main(options: Unprefixed[AcceptOptions]) -> None:
    """Measure the papers' numbers on the data sets of a folder, and say what is reproduced.

    Ends with exit status 1 if a figure is below the published one by more than the tolerance.
    """
    if options.plan:
        print_plan(options)
        return
    verdicts = accept(options)
    cells = [["method", "data", "part", "metric", "published", "ours", "tolerance", "verdict"]]
    for v in verdicts:
        if v.difference is not None:
            figures = [f"{value:.6g}" for value in (v.published, v.ours or 0.0, v.tolerance or 0.0)]
            cells.append([v.feature, v.dataset, v.part, v.metric, *figures, v.verdict])
    if len(cells) > 1:
        for line in table_lines(cells, "<<<<>>><"):
            print(line)
    reasons = {f"{v.verdict}: {v.feature} on {v.dataset}: {v.reason}": None for v in verdicts}
    for line in (line for line in reasons if not line.endswith(": ")):
        print(line)
    print(f"the verdicts are in {options.outputs / TABLE} and {options.outputs / PAGE}")
    if any(v.verdict == "below" for v in verdicts):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.accept")
