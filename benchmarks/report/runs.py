"""The runs of a report: those of benchmarks, and those of pipelines in the same form."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from benchmarks.record import RECORD, Picture, Problem, Row, Run, model_sizes
from benchmarks.scene_names import DEMO_WORLDS, metrics_by_part
from benchmarks.settings import recorded_settings
from featplug.io.results import read_results
from featplug.io.run_folder import UNFINISHED, complete
from featplug.io.typed_json import printable
from pipelines.localization_picture import FAILURES, PICTURE
from pipelines.run_record import PipelineRecord

_PICTURES = {PICTURE: "cameras and matches", FAILURES: "failures"}


@dataclass(frozen=True)
class LoadedRun:
    """A run and its folder."""

    folder: Path
    name: str
    """Name of the folder, with as much of its path as distinguishes it from the others."""
    run: Run

    def path_of(self, name: str) -> Path:
        """Return the path of a file or folder that the run's record names.

        Raises:
            ValueError: it is not below the folder of the run, or a link on the way to it, or in it,
                leads out of that.
        """
        return _inside(self.folder, name)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise ValueError(
            f"{folder / RECORD} names {name!r}, which is not below the folder of the run, and is "
            "left out; copy it into that folder, and name it by its path from there."
        )
    for entry in (path, *(path.iterdir() if path.is_dir() else ())):
        # Path.resolve raises RuntimeError for a link to itself.
        if not Path(os.path.realpath(entry)).is_relative_to(os.path.realpath(folder)):
            raise ValueError(
                f"{entry} is a link that leads out of the folder of the run, and is left out; "
                "replace it by a copy."
            )
    return path


def find_runs(paths: Iterable[Path]) -> tuple[list[Path], list[Problem]]:
    """Find the folders of runs: the given ones, or those that they contain.

    Returns:
        The folders, and a problem for each folder that was not searched: one that cannot be listed,
        or a link that leads out of the given folder.

    Raises:
        FileNotFoundError: a given folder does not exist, or contains no run.
    """
    folders: dict[Path, Path] = {}
    problems: list[Problem] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; give the folders of runs.")
        folder = path.parent if path.is_file() else path
        inside = list(_topmost_runs(folder, folder, problems))
        if not inside:
            raise FileNotFoundError(f"{path} contains no run (no {RECORD}).")
        folders |= {folder.resolve(): folder for folder in inside}
    return list(folders.values()), list(dict.fromkeys(problems))


def _topmost_runs(folder: Path, root: Path, problems: list[Problem]) -> Iterator[Path]:
    """Yield the topmost folders with a record; records below belong to the run above them."""
    complete(folder)
    if os.path.lexists(folder / RECORD):
        yield folder
        return
    try:
        children = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        problems.append(problem_of(str(folder), error))
        return
    for child in children:
        if child.name == UNFINISHED:
            continue
        if not child.is_symlink():
            yield from _topmost_runs(child, root, problems)
        elif not child.resolve().is_relative_to(root.resolve()):
            reason = (
                "is a link that leads out of the given folder; give the folder that it leads to"
            )
            problems.append(problem_of(str(child), ValueError(f"{child} {reason}.")))


def load_runs(folders: Sequence[Path]) -> tuple[list[LoadedRun], list[Problem]]:
    """Read runs; unreadable ones become problems of the report.

    Raises:
        ValueError: no run can be read.
    """
    runs, problems = [], []
    for folder, name in zip(folders, _names(folders), strict=True):
        try:
            runs.append(LoadedRun(folder, name, _load(folder)))
        except (OSError, ValueError) as error:
            problems.append(problem_of(name, error))
    if not runs:
        reason = f": {problems[0].reason}" if problems else "; give the folders of runs."
        raise ValueError(f"No run can be reported{reason}")
    return runs, problems


def problem_of(subject: str, error: Exception) -> Problem:
    """Return what could not be read as a problem of the report."""
    reason = str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        reason = f"{error.filename}: {error.strerror}; make it readable, or leave the run out."
    return Problem(printable(subject), printable(reason))


def _names(folders: Sequence[Path]) -> list[str]:
    """Name folders by the ends of their paths, long enough to differ."""
    parts = [PurePath(printable(str(folder.resolve()))).parts for folder in folders]
    names = [path[-1] for path in parts]
    for length in range(2, max(map(len, parts), default=0) + 1):
        names = [
            "/".join(path[-length:]) if names.count(name) > 1 else name
            for path, name in zip(parts, names, strict=True)
        ]
    return names


def _load(folder: Path) -> Run:
    path = _inside(folder, RECORD)
    record = read_results(path, Run, PipelineRecord)
    return record if isinstance(record, Run) else _run_of_pipeline(record, folder)


def _run_of_pipeline(record: PipelineRecord, folder: Path) -> Run:
    """Turn the record of a pipeline into a row for the whole run and one for each condition."""
    pipeline, data = record["pipeline"], record["data"]
    is_sfm = pipeline == "sfm"  # all others localize
    root = data.get("images" if is_sfm else "dataset")
    if root is None:
        key = "data.images" if is_sfm else "data.dataset"
        raise ValueError(f"{folder / RECORD}: {key} is missing; make the run again.")
    # The path is one of the machine that made the run, and nothing to be looked up on this one.
    dataset = re.split(r"[/\\]", re.sub(r"[/\\]+(images[/\\]*)?$", "", root))[-1] or root
    if record["options"].get("dataset") == "demo":
        dataset = DEMO_WORLDS.get(pipeline, dataset)
    conditions = data.get("conditions", [])
    common: dict[str, Any] = {
        "feature": _short_name(record["feature"]),
        "dataset": dataset,
        "protocol": f"pipelines.{pipeline}",
        "seed": record["options"].get("seed"),
        "matcher": _short_name(record["matcher"]),
        "settings": recorded_settings(record),
        "weights": record["weights"],
        "not_comparable": f"made by pipelines.{pipeline}, which follows no protocol",
    }
    by_part = metrics_by_part(record["metrics"], conditions)
    whole = Row(
        **common,
        metrics=by_part.pop("all"),
        stages=record["stages"],
        reused=[stage for stage, number in record.get("reused", {}).items() if number],
        pictures=[
            Picture(name, title) for name, title in _PICTURES.items() if (folder / name).exists()
        ],
        models=model_sizes(record),
        verified_pairs_by_inliers=record.get("verified_pairs_by_inliers", {}),
        model=next((m for m in ("model", "sfm/model") if (folder / m).is_dir()), None),
    )
    parts = [Row(**common, part=part, metrics=metrics) for part, metrics in by_part.items()]
    return Run(
        benchmark="reconstruction" if is_sfm else "localization",
        options=record["options"],
        data={dataset: {"path": root, "fingerprint": data["fingerprint"]}},
        rows=[whole, *parts],
        problems=_problems_of_pipeline(data),
        command=["python", "-m", f"pipelines.{pipeline}", *_arguments(record["options"])],
        environment=record["environment"],
    )


def _short_name(name: str) -> str:
    """Return the name of a conf, or the stem of a file that was given instead."""
    return Path(name).stem if name.endswith(".h5") else name


def _problems_of_pipeline(data: Mapping[str, Any]) -> list[Problem]:
    problems = [Problem(name, reason) for name, reason in data.get("skipped", {}).items()]
    failed = data.get("not_localized", {})
    for name, reason in list(failed.items())[:1]:
        others = f"; {len(failed) - 1} more queries have no pose" if len(failed) > 1 else ""
        problems.append(Problem(name, f"not localized: {reason}{others}"))
    if not_registered := data.get("not_registered", []):
        shown = ", ".join(not_registered[:3]) + (" …" if len(not_registered) > 3 else "")
        problems.append(Problem(shown, f"{len(not_registered)} images are not registered"))
    return problems + [
        Problem(name, f"not drawn: {reason}") for name, reason in data.get("not_drawn", {}).items()
    ]


def _arguments(options: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return options as command line arguments; extraction options have no prefix."""
    arguments: list[str] = []
    for name, value in options.items():
        flag = f"--{prefix}{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            inner = prefix if name == "extraction" else f"{prefix}{name.replace('_', '-')}."
            arguments += _arguments(value, inner)
        elif value is True:
            arguments.append(flag)
        elif isinstance(value, list | tuple):
            arguments += [flag, *map(str, value)] if value else []
        elif value is not None and value is not False:
            arguments += [flag, str(value)]
    return arguments


def command_line(run: Run) -> list[str]:
    """Return the command of a run as a user types it, with the names of modules."""
    first, *arguments = run.command or [""]
    path = Path(first)
    if path.suffix != ".py" or not {"benchmarks", "pipelines"} & set(path.parts):
        return list(run.command)
    parts = list(path.with_suffix("").parts)
    package = max(i for i, part in enumerate(parts) if part in ("benchmarks", "pipelines"))
    module = [part for part in parts[package:] if part != "__main__"]
    return ["python", "-m", ".".join(module), *arguments]
