"""Several benchmarks of one list of methods, in one command.

``python -m benchmarks.suite peers --dataset DIR --scenes DIR [DIR …]`` measures the methods of
``suites/peers.toml`` and writes one page and one Markdown table. What is measured already is not
measured again.
"""

import logging
import shlex
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, NotRequired, TypedDict

import tyro

from benchmarks import localization
from benchmarks.choices import FileOptions, SeedOptions, check_max_keypoints, problem_of
from benchmarks.localization import LocalizationBenchmark
from benchmarks.matching.__main__ import MatchingOptions
from benchmarks.matching.protocols import PROTOCOLS
from benchmarks.pairs.pair_benchmark import run_pair_benchmark
from benchmarks.reconstruction.evaluate_scene import run_benchmark
from benchmarks.reconstruction.options import ReconstructionOptions
from benchmarks.record import Problem, Run
from benchmarks.report.gather import make_report
from benchmarks.report.page import render_page
from benchmarks.suite_table import suite_table
from featplug import __version__
from featplug.cli.command_line import Unprefixed, leave_config, run_command
from featplug.io.files import write_whole_text
from featplug.io.text_files import read_text
from featplug.io.typed_json import as_type
from featplug.utils.suggestions import unknown_name, unknown_option
from pipelines.run_options import values_of

PAGE, TABLE = "report.html", "table.md"
"""Names of the page and of the table in the output folder."""
_FOLDER = files("benchmarks") / "suites"

logger = logging.getLogger(__name__)


class Suite(TypedDict):
    """What a suite's file says."""

    methods: list[str]
    """Names of the methods, in the order of the table."""
    title: NotRequired[str]
    max_keypoints: NotRequired[int]
    """Number of keypoints of each image; -1 for all."""


@dataclass(frozen=True)
class SuiteOptions(SeedOptions, FileOptions):
    """A list of methods, and the data to measure them on."""

    benchmark: ClassVar[str] = "suite"

    suite: tyro.conf.Positional[str]
    """Suite of methods: peers, or a TOML file with methods = [NAME, …], and a title and
    max_keypoints if you like."""
    dataset: Path | None = None
    """Folder of image pairs for the benchmark of matching."""
    scenes: tuple[Path, ...] = ()
    """Folders of scenes for the benchmark of reconstruction; demo renders one."""
    queries: Path | None = None
    """Folder of a data set for the benchmark of localization; demo renders one."""
    pipeline: str = "aachen"
    """Name of the data set whose layout the folder of the queries has, such as aachen or inloc."""

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        return self.outputs or Path("outputs") / f"suite-{Path(self.suite).stem}"

    def check(self) -> None:
        """Check the request, before the long work.

        Raises:
            ValueError: nothing is to be measured, or the seeds do not fit.
        """
        self.chosen_seeds()
        if self.dataset is None and not self.scenes and self.queries is None:
            raise ValueError(
                "Nothing is to be measured; give --dataset DIR, --scenes DIR, or --queries DIR."
            )


def read_suite(name: str) -> Suite:
    """Read a suite of featplug by its name, or one of a file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no such suite exists, or the file is no suite.
    """
    path = Path(name)
    if path.suffix != ".toml":
        known = sorted(Path(entry.name).stem for entry in _FOLDER.iterdir())
        if name not in known:
            raise unknown_name("suite", name, known)
        path = Path(str(_FOLDER / f"{name}.toml"))
    try:
        suite = as_type(tomllib.loads(read_text(path, "suite")), Suite, path)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not a suite: {error}; correct it.") from error
    for key in suite:
        if key not in Suite.__annotations__:
            raise unknown_option(str(path), key, Suite.__annotations__)
    check_max_keypoints(f"{path}: max_keypoints", suite.get("max_keypoints"))
    if not suite["methods"]:
        raise ValueError(f'{path} has no methods; list their names: methods = ["sift"].')
    return suite


def measure_suite(options: SuiteOptions, progress: bool = False) -> tuple[list[Run], list[Problem]]:
    """Run the benchmarks of a suite, and write the page and the table after each of them.

    A benchmark that fails becomes a problem, and so does each method that fails in one.

    Raises:
        FileNotFoundError: the suite's file does not exist.
        ValueError: the request does not fit, or nothing could be measured.
    """
    options.check()
    suite = read_suite(options.suite)
    options = replace(
        options,
        feature=options.feature or tuple(suite["methods"]),
        max_keypoints=(
            suite.get("max_keypoints") if options.max_keypoints is None else options.max_keypoints
        ),
    )
    folder = options.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    problems: list[Problem] = []
    for name, measure in _benchmarks(options, progress):
        logger.info("suite %s: %s", options.suite, name)
        try:
            run = measure()
        except (ValueError, OSError) as error:
            problems.append(problem_of(name, error))
            continue
        if not run.rows:
            problems += run.problems
            continue
        runs.append(run)
        write_whole_text(folder / TABLE, f"{suite_table(options.feature, runs)}\n{_made_by(run)}\n")
        report = make_report([folder / run.benchmark for run in runs], title=_title(suite))
        write_whole_text(folder / PAGE, render_page(report))
    if not runs:
        reasons = "; ".join(f"{problem.subject}: {problem.reason}" for problem in problems)
        raise ValueError(f"Nothing could be measured: {reasons}")
    return runs, problems


def _made_by(run: Run) -> str:
    """Return a sentence on how a table was made: the command, the version, the day, the machine."""
    command = shlex.join(["python", "-m", "benchmarks.suite", *run.command[1:]])
    machine = run.environment
    where = machine["gpu"] or f"{machine['cpu_cores']} cores of {machine['processor']}"
    return f"`{command}`; featplug {__version__}, {date.today()}, {where}."


def _title(suite: Suite) -> str:
    return suite.get("title", "Local features")


def _benchmarks(options: SuiteOptions, progress: bool) -> Iterator[tuple[str, Callable[[], Run]]]:
    """Yield the requested benchmarks, each in a folder of its own."""
    shared = values_of(FileOptions, options)
    seeds = values_of(SeedOptions, options)

    def outputs(name: str) -> dict[str, Any]:
        return {**shared, "outputs": options.output_dir / name}

    dataset, queries = options.dataset, options.queries
    if dataset is not None:
        matching = MatchingOptions(dataset, **outputs("matching"))
        yield "matching", lambda: run_pair_benchmark(matching, PROTOCOLS, progress)[0]
    if options.scenes:
        scenes = ReconstructionOptions(options.scenes, **outputs("reconstruction"), **seeds)
        yield "reconstruction", lambda: run_benchmark(scenes, progress)
    if queries is not None:
        benchmark = LocalizationBenchmark(
            queries, options.pipeline, **outputs("localization"), **seeds
        )
        yield "localization", lambda: localization.measure(benchmark, progress)


def main(options: Unprefixed[SuiteOptions]) -> None:
    """Measure a list of methods by several benchmarks, and write one page and one table.

    The same command resumes: features, matches, models and figures of an earlier run in the output
    folder are reused.
    """
    runs, problems = measure_suite(options, progress=True)
    folder = options.output_dir
    leave_config(options)
    print(read_text(folder / TABLE, "table"))
    for problem in [*problems, *(problem for run in runs for problem in run.problems)]:
        print(f"not measured: {problem.subject}: {problem.reason}")
    print(f"the table is in {folder / TABLE}, the page in {folder / PAGE}")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.suite")
