"""The measurement of a suite: its blocks in processes of their own, the page and the table."""

import logging
import os
import shlex
import shutil
import time
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import tomli_w
import tyro

from benchmarks.choices import DEFAULT, MEASURED_NOW, problem_of
from benchmarks.record import RECORD, Problem, Run, read_run, write_run
from benchmarks.report.formats import write_formats
from benchmarks.report.gather import make_report
from benchmarks.report.page import render_page
from benchmarks.run.block_process import BlockProcess
from benchmarks.run.suite_data import DATA, given_data
from benchmarks.run.suite_file import Block, Suite, chosen_blocks, read_suite
from benchmarks.run.suite_table import suite_text
from featplug.base import choose_device
from featplug.cli.command_line import leave_config
from featplug.cli.config_file import CONFIG, to_table
from featplug.cli.program import BENCHMARKS
from featplug.io.artifact import value_hash
from featplug.io.files import write_whole_text
from featplug.io.folder_lock import locked_folder
from featplug.io.run_folder import UNFINISHED
from pipelines.run_options import plain

PAGE, TABLE, SUITE = "report.html", "table.md", "suite.toml"
"""Names of the page, the table and a copy of the suite in the output folder."""
_POLL_SECONDS = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SuiteOptions:
    """A suite, and where its data are."""

    benchmark: ClassVar[str] = "run"

    suite: tyro.conf.Positional[str]
    """Suite: a TOML file, or the name of one of featplug's: quick, overview, readme."""
    data: tuple[str, ...] = ()
    """Folders of data sets, each as NAME=DIR, with the name that the suite has, such as
    oxford=DIR; the others are looked up next to the file and in the folder $FEATPLUG_DATA."""
    feature: tuple[str, ...] = ()
    """Names of methods to measure in addition to the suite's, such as my_file.py:Class."""
    only: tuple[str, ...] = ()
    """Blocks to measure: NAME, BENCHMARK.NAME, or BENCHMARK for all of one. The page keeps what
    earlier runs measured of the others."""
    device: str | None = None
    """Device of torch, such as cpu or cuda:1, instead of the suite's."""
    jobs: int | None = None
    """Number of benchmarks to measure at the same time, each in a process of its own; by default 2
    on a CPU, 1 on a GPU. Benchmarks of speed run alone."""
    formats: tuple[Literal["md", "csv", "tex", "json"], ...] = ()
    """Further formats of the page's tables, written next to it."""
    outputs: Path | None = None
    """Folder for everything; by default outputs/bench/ and the name of the suite."""

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        return self.outputs or Path("outputs") / "bench" / Path(self.suite).stem

    def num_jobs(self, num_cores: int) -> int:
        """Return the number of benchmarks that run at the same time.

        Raises:
            ValueError: it is below 1, or the device does not exist.
        """
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"--jobs must be 1 or more, not {self.jobs}.")
        on_cpu = choose_device(self.device).type == "cpu"
        return self.jobs or (min(2, num_cores) if on_cpu else 1)


def measure_suite(
    options: SuiteOptions, command: Sequence[str] | None = None
) -> tuple[list[Run], list[Problem]]:
    """Measure the blocks of a suite, and write the page and the table after each of them.

    A block that fails becomes a problem, and so does each method that fails in one. Where the
    process of a block dies, the block is measured again, without the method that it died of; what
    was measured before is reused.

    Args:
        options: the suite, and where its data are.
        command: command line that the table shows, without ``featplug``; by default that of these
            options.

    Returns:
        The runs of all blocks of the suite, also of earlier calls, and the problems of this call.

    Raises:
        FileNotFoundError: the suite's file does not exist.
        ValueError: the request does not fit, or nothing could be measured.
    """
    num_cores = _num_cores()
    options.num_jobs(num_cores)  # raises where it does not fit
    suite = read_suite(options.suite, given_data(options.data), options.feature)
    waiting = [BlockRun(block, options) for block in chosen_blocks(suite, options.only)]
    folder = options.output_dir
    with locked_folder(folder):
        _check_same_suite(folder, suite.path)
        leave_config(options)
        if suite.path.resolve() != (folder / SUITE).resolve():
            shutil.copyfile(suite.path, folder / SUITE)
        words = command or command_words("bench run", "suite", options)
        measurement = _Measurement(suite, options, num_cores, words)
        measurement.run(waiting)
        problems = [*measurement.problems, *measurement.not_read]
        if not measurement.measured_now:
            of_runs = [problem for run in measurement.runs for problem in run.problems]
            reasons = "; ".join(f"{p.subject}: {p.reason}" for p in problems or of_runs)
            raise ValueError(f"Nothing could be measured: {reasons}")
    return measurement.runs, problems


def _check_same_suite(folder: Path, path: Path) -> None:
    """Raise ValueError if an output folder is that of another suite of the same name."""
    try:
        before = Path(tomllib.loads((folder / CONFIG).read_text("utf-8"))["suite"])
    except (OSError, KeyError, TypeError, ValueError):
        return
    if before.is_file() and before.resolve() != path.resolve():
        raise ValueError(
            f"{folder} has the results of another suite, {before}; name another folder for those "
            f"of {path} by --outputs."
        )


def command_words(command: str, first: str, options: Any) -> list[str]:
    """Return a command line without ``featplug``: what is not a default of a class of options.

    Args:
        command: name of the command.
        first: name of the option that is typed without its name.
        options: the options.
    """
    words = [*command.split(), str(getattr(options, first))]
    for entry in fields(options):
        value = getattr(options, entry.name)
        if entry.name != first and value != entry.default:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{entry.name.replace('_', '-')}", *map(str, values)]
    return words


def _num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class BlockRun:
    """A block on its way to a result."""

    def __init__(self, block: Block, suite_options: SuiteOptions) -> None:
        self.block = block
        self.folder = suite_options.output_dir / block.word
        self.is_alone: bool = block.options.runs_alone
        """Whether nothing else may run at the same time."""
        self.left_out: list[Problem] = []
        """Methods that the process died of."""
        self.shared_features: Path | None = None
        """Folder of features that two blocks must not write at the same time."""
        changes: dict[str, Any] = {"outputs": self.folder}
        if suite_options.device is not None:
            changes["device"] = suite_options.device
        if "feature_dir" in {entry.name for entry in fields(block.options)}:
            place = Path(block.options.dataset)
            word = f"{place.name}-{value_hash(str(place.resolve()))[:8]}"
            self.shared_features = suite_options.output_dir / "features" / word
            changes["feature_dir"] = self.shared_features
        self.options = replace(block.options, **changes)
        self._start = self._began_at = 0.0
        self._shown = ""

    def begin(self, num_threads: int | None) -> BlockProcess:
        """Start the process, and leave its command's options next to its folder."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / MEASURED_NOW).unlink(missing_ok=True)
        command = self.block.benchmark
        table = to_table(BENCHMARKS[command].load(), {"options": self.options})
        config = self.folder.with_name(f"{self.folder.name}.toml")
        write_whole_text(config, tomli_w.dumps({"command": f"bench {command}", **table}))
        self._start, self._began_at = time.monotonic(), config.stat().st_mtime
        logger.info("%s: started", self.block.name)
        return BlockProcess(command, config, config.with_suffix(".log"), num_threads)

    def method_now(self) -> str:
        """Return the method that is being measured, or was when the process died; or ''."""
        try:
            return (self.folder / MEASURED_NOW).read_text("utf-8")
        except OSError:
            return ""

    def log_method(self) -> None:
        """Log the method that is being measured, once."""
        method = self.method_now()
        if method and method != self._shown:
            logger.info("%s: %s", self.block.name, method)
            self._shown = method

    def leave_out(self, method: str, reason: str) -> bool:
        """Leave a method out; return whether others are left."""
        logger.warning("%s: %s is left out: %s", self.block.name, method, reason)
        self.left_out.append(Problem(method, reason))
        before = self.options
        names = before.feature or (() if getattr(before, "features", ()) else (DEFAULT,))
        changes: dict[str, Any] = {"feature": tuple(name for name in names if name != method)}
        for name in ("weights", "option"):  # pairs
            changes[name] = tuple(p for p in getattr(before, name, ()) if p[0] != method)
        for name in ("features", "matches"):  # texts NAME=FILE
            texts = getattr(before, name, ())
            changes[name] = tuple(text for text in texts if text.partition("=")[0] != method)
        known = {entry.name for entry in fields(before)}
        self.options = replace(before, **{k: v for k, v in changes.items() if k in known})
        return self.options != before and bool(changes["feature"] or changes["features"])

    def reasons(self) -> list[Problem]:
        """Return why nothing could be measured, where the record of this call has the reasons."""
        for folder in (self.folder / UNFINISHED, self.folder):
            with suppress(OSError, ValueError):
                if (folder / RECORD).stat().st_mtime < self._began_at:
                    continue
                run = read_run(folder)
                problems = [] if run.rows else run.problems
                return [Problem(f"{self.block.name}, {p.subject}", p.reason) for p in problems]
        return []

    def finish(self) -> None:
        """Add the methods that were left out to the record."""
        if self.left_out:
            run = read_run(self.folder)
            run.problems += [problem for problem in self.left_out if problem not in run.problems]
            write_run(self.folder, run)
        logger.info("%s: done in %.0f s", self.block.name, time.monotonic() - self._start)


def read_block(folder: Path, block: Block) -> Run | None:
    """Read the run of a block in a suite's output folder, also of an earlier call; None without.

    Raises:
        OSError: the record cannot be read.
        ValueError: the record is damaged, or of other data than the block's.
    """
    if not (folder / block.word / RECORD).exists():
        return None
    run = read_run(folder / block.word)
    for name in ("dataset", "scenes"):
        now, then = plain(getattr(block.options, name, None)), run.options.get(name)
        if now is not None and then is not None and _absolute(now) != _absolute(then):
            raise ValueError(
                f"{folder / block.word} was measured on {_shown(then)}, not on {_shown(now)}; "
                "measure the block again, or name another folder by --outputs."
            )
    return run


def _absolute(paths: Any) -> list[str]:
    return [str(Path(path).resolve()) for path in (paths if isinstance(paths, list) else [paths])]


def _shown(paths: Any) -> str:
    return ", ".join(map(str, paths if isinstance(paths, list) else [paths]))


class _Measurement:
    """The blocks of a suite, some of them at the same time."""

    def __init__(
        self, suite: Suite, options: SuiteOptions, num_cores: int, command: Sequence[str]
    ) -> None:
        self._suite, self._folder = suite, options.output_dir
        self._command = shlex.join(["featplug", *command])
        self._formats = options.formats
        self._num_jobs = num_jobs = options.num_jobs(num_cores)
        self._num_threads = None if num_jobs == 1 else max(1, num_cores // num_jobs)
        self._running: dict[BlockRun, BlockProcess] = {}
        self.runs: list[Run] = []
        """Runs of all blocks, also of earlier calls."""
        self.measured_now: set[str] = set()
        """Words of the blocks that this call measured."""
        self.problems: list[Problem] = []
        if suite.missing:
            reason = (
                f"not found in {suite.path.parent} or ${DATA}; give --data NAME=DIR, or the folder "
                f"that has them as {DATA}"
            )
            self.problems.append(Problem(", ".join(suite.missing), reason))
        self.not_read: list[Problem] = []
        """Records of earlier calls that cannot be read."""

    def run(self, waiting: list[BlockRun]) -> None:
        """Measure blocks, in their order as far as they may run at the same time."""
        ended: list[BlockRun] = []
        try:
            while waiting or self._running:
                for entry in list(waiting):
                    if self._may_begin(entry):
                        waiting.remove(entry)
                        self._running[entry] = entry.begin(self._num_threads)
                if ended:  # while the next ones run
                    self._write()
                time.sleep(_POLL_SECONDS)
                for entry in self._running:
                    entry.log_method()
                ended = [e for e, process in self._running.items() if not process.is_running()]
                waiting += [entry for entry in ended if self._conclude(entry)]
            self._write()
        finally:
            for process in self._running.values():
                process.end()

    def _may_begin(self, entry: BlockRun) -> bool:
        if len(self._running) >= self._num_jobs:
            return False
        if self._running and (entry.is_alone or any(e.is_alone for e in self._running)):
            return False
        in_use = [running.shared_features for running in self._running]
        return entry.shared_features is None or entry.shared_features not in in_use

    def _conclude(self, entry: BlockRun) -> bool:
        """Take up how a block ended; return whether it is to be measured again."""
        process = self._running.pop(entry)
        reason, name, method = process.failure, entry.block.name, entry.method_now()
        if reason is None:
            entry.finish()
            self.measured_now.add(entry.block.word)
            return False
        if process.is_killed and method and self._num_jobs > 1 and not entry.is_alone:
            # Another block may have taken its memory.
            logger.warning("%s: %s: %s; it is tried again alone", name, method, reason)
            entry.is_alone = True
            return True
        if process.is_killed and method:
            if entry.leave_out(method, reason):
                return True
            found = []
        else:
            logger.warning("%s: %s", name, reason)
            found = entry.reasons() or [Problem(name, reason)]
        left_out = [Problem(f"{name}, {p.subject}", p.reason) for p in entry.left_out]
        self.problems += [p for p in [*left_out, *found] if p not in self.problems]
        return False

    def _write(self) -> None:
        """Write the table and the page of all blocks that have results, also earlier ones."""
        runs: dict[str, Run] = {}
        self.not_read = []
        for block in self._suite.blocks:
            try:
                if (run := read_block(self._folder, block)) is not None:
                    runs[block.word] = run
            except (ValueError, OSError) as error:
                self.not_read.append(problem_of(block.name, error))
        self.runs = list(runs.values())
        measured = {word: run for word, run in runs.items() if run.rows}
        if measured:
            report = make_report(
                [self._folder / word for word in measured], title=self._suite.title
            )
            loaded = {entry.folder.name: entry for entry in report.runs}
            earlier = runs.keys() - self.measured_now
            text = suite_text(
                self._suite,
                {word: loaded[word] for word in measured if word in loaded},
                [*self.problems, *self.not_read],
                self._command,
                earlier,
            )
            write_whole_text(self._folder / TABLE, text)
            write_whole_text(self._folder / PAGE, render_page(report))
            write_formats(report, self._folder / PAGE, self._formats)
