"""Runs of benchmarks as they are sent to a leaderboard: a zip file without the machine's folders.

It has a folder for each run, with these files:

=================== ==============================================================================
``results.json``    the record, without pictures and models, whose files are not sent
``config.toml``     the options, where the run left them
``pairs/NAME.csv``  the values of each pair (:mod:`benchmarks.pair_values`)
=================== ==============================================================================

A zip file of others is read with limits and by these names only; nothing of it is unpacked.
"""

import json
import re
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.pair_values import PairValues, read_pair_values, write_pair_values
from benchmarks.record import RECORD, Run, read_run
from benchmarks.report.runs import LoadedRun, command_line, problem_of
from benchmarks.site.private_names import distinct_names, without_folders
from featplug import __version__
from featplug.cli.config_file import CONFIG
from featplug.io.files import write_whole
from featplug.io.results import SCHEMA_VERSION
from featplug.io.text_files import read_text
from featplug.io.typed_json import MAX_BYTES, as_type

_ENTRY = re.compile(
    rf"([a-z0-9][a-z0-9.-]{{0,99}})/({re.escape(RECORD)}|{re.escape(CONFIG)}|"
    r"pairs/[a-z0-9][a-z0-9.-]{0,99}\.csv)"
)
"""Name of a file in a zip file: the run's and its own."""
_MAX_CONFIG = 2**20
_MAX_ZIP, _MAX_CONTENTS, _MAX_FILES = 64 << 20, 256 << 20, 2000
_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of all files in a zip file, whose bytes then depend on their contents only."""


@dataclass(frozen=True)
class SentRun:
    """A run without what only its machine knows."""

    name: str
    run: Run
    config: str | None
    """Text of ``config.toml``; None where the run left none."""
    pair_values: dict[str, PairValues]
    """Path in the zip file to the values of pairs."""

    def files(self) -> dict[str, bytes]:
        """Return the contents of each file."""
        record = {"schema_version": SCHEMA_VERSION, **asdict(self.run)}
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        files = {RECORD: text.encode()}
        if self.config is not None:
            files[CONFIG] = self.config.encode()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pairs.csv"
            for name, values in self.pair_values.items():
                write_pair_values(path, values)
                files[name] = path.read_bytes()
        return files


def slug(name: str, default: str = "run") -> str:
    """Return a name as part of an address: small letters, digits, points and dashes."""
    words = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
    return re.sub(r"\.{2,}", ".", words)[:60].strip("-.") or default


def unique(name: str, taken: Mapping[str, Any] | set[str]) -> str:
    """Return a name with the first number, from 2 on, that makes it another than those taken."""
    number, new = 1, name
    while new in taken:
        number += 1
        new = f"{name}-{number}"
    return new


def run_to_send(folder: Path) -> SentRun:
    """Read the run in a folder.

    Values of pairs that cannot be read become a problem of the run.

    Raises:
        FileNotFoundError: it has no record.
        ValueError: it is damaged, of another version, or no benchmark's.
    """
    folder = Path(folder)
    folder = folder.parent if folder.is_file() else folder
    config = _clean_config(folder / CONFIG) if (folder / CONFIG).is_file() else None
    return _cleaned(slug(folder.resolve().name), folder, read_run(folder), config)


def write_sent_runs(path: Path, runs: Sequence[SentRun]) -> None:
    """Write runs, each with a name of its own, as a zip file; the same runs make the same bytes."""

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w") as archive:
            for sent in sorted(runs, key=lambda sent: sent.name):
                for name, contents in sorted(sent.files().items()):
                    info = zipfile.ZipInfo(f"{sent.name}/{name}", _DATE)
                    info.external_attr = 0o644 << 16
                    archive.writestr(info, contents, zipfile.ZIP_DEFLATED, 9)

    write_whole(path, write, read_sent_runs)


def read_sent_runs(path: Path) -> list[SentRun]:
    """Read a zip file of :func:`write_sent_runs`, which may come from anybody.

    Returns:
        The runs. A single one has the name of the file, others have it before their own.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is no such file, is damaged or too large; the message names the file.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, contents in _unpacked(path).items():
                file = Path(folder) / name  # of the pattern
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(contents)
            runs = [run_to_send(place) for place in sorted(Path(folder).iterdir())]
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(str(error).replace(folder, str(path))) from error
    stem = slug(path.stem)
    names = [stem] if len(runs) == 1 else [f"{stem}-{sent.name}" for sent in runs]
    return [replace(sent, name=name) for sent, name in zip(runs, names, strict=True)]


def _unpacked(path: Path) -> dict[str, bytes]:
    """Return the contents of a zip file by name."""
    remedy = "make it again by `featplug bench submit`"
    if path.stat().st_size > _MAX_ZIP:
        raise ValueError(f"{path} is larger than {_MAX_ZIP >> 20} MiB; {remedy} from one run.")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if len(entries) > _MAX_FILES or total > _MAX_CONTENTS:
                raise ValueError(
                    f"{path} has {len(entries)} files of {total >> 20} MiB, more than {_MAX_FILES} "
                    f"files or {_MAX_CONTENTS >> 20} MiB; {remedy} from one run."
                )
            if problem := _problem_of_names(entries):
                raise ValueError(f"{path} {problem}; {remedy}.")
            return {entry.filename: _contents(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(f"{path} is no zip file, or damaged ({reason}); {remedy}.") from error


def _problem_of_names(entries: list[zipfile.ZipInfo]) -> str | None:
    """Return what is wrong with the files in a zip file, as the end of a sentence, or None."""
    names: set[str] = set()
    for entry in entries:
        name = entry.filename
        if not _ENTRY.fullmatch(name):
            return f"has the file {name!r:.80}, which no run that is sent has"
        if name in names:
            return f"has the file {name!r:.80} twice"
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return f"has the file {name!r:.80} in a compression of its own"
        names.add(name)
    lacking = [run for run in _folders(names) if f"{run}/{RECORD}" not in names]
    return None if names and not lacking else f"lacks {'/'.join([*lacking[:1], RECORD])}"


def _folders(names: Iterable[str]) -> list[str]:
    return sorted({name.partition("/")[0] for name in names})


def _contents(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    limit = _MAX_CONFIG if entry.filename.endswith(CONFIG) else MAX_BYTES
    with archive.open(entry) as file:
        contents = file.read(limit + 1)  # whatever size the entry announces
    if len(contents) > limit:
        raise ValueError(
            f"{archive.filename}: {entry.filename} is larger than {limit >> 20} MiB; send several "
            "runs of fewer methods."
        )
    return contents


def _clean_config(path: Path) -> str:
    text = read_text(path, "configuration", _MAX_CONFIG)
    try:
        table = without_folders(tomllib.loads(text))
        name = str(table.get("command", ""))
        heading = f"# featplug {__version__}; "
        if re.fullmatch(r"[a-z -]+", name):
            heading += f"`featplug {name} --config {CONFIG}` makes this run again, "
        return f"{heading}with your own paths.\n{tomli_w.dumps(table)}"
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a TOML file ({error}); remove it, or make the run again."
        ) from error


def _cleaned(name: str, folder: Path, run: Run, config: str | None) -> SentRun:
    loaded, problems = LoadedRun(folder, name, run), list(run.problems)
    values: dict[str, PairValues] = {}
    sent_as: dict[str, str] = {}
    for path in dict.fromkeys(row.pair_values for row in run.rows if row.pair_values):
        try:
            found = read_pair_values(loaded.path_of(path))
        except (OSError, ValueError) as error:
            problem = problem_of("values of pairs", error)
            problems.append(replace(problem, reason=problem.reason.replace(f"{folder}/", "")))
            continue
        stem = unique(slug(Path(path).stem), {Path(name).stem for name in values})
        sent_as[path] = f"pairs/{stem}.csv"
        values[sent_as[path]] = found
    features = distinct_names(row.feature for row in run.rows)
    matchers = distinct_names(row.matcher for row in run.rows if row.matcher)
    plain = without_folders(
        asdict(replace(run, command=command_line(run), problems=list(dict.fromkeys(problems))))
    )
    for row, original in zip(plain["rows"], run.rows, strict=True):
        row |= {
            "feature": features[original.feature],
            "matcher": matchers.get(original.matcher or ""),
            "pair_values": sent_as.get(original.pair_values or ""),
            "pictures": [],
            "model": None,
        }
    return SentRun(name, as_type(plain, Run, folder / RECORD), config, values)


def rejections(run: Run) -> list[str]:
    """Return why others could not check a run, as ends of sentences; empty if they can."""
    reasons = [] if run.rows else ["has no figures; measure something first"]
    for name, data in run.data.items():
        if not data.get("fingerprint"):
            reasons.append(f"has no fingerprint of the data set {name}; measure again")
    for row in run.rows:
        for file in row.weights:
            if not file.get("sha256"):
                reasons.append(
                    f"has no SHA-256 of the weights {file['name']} of {row.feature}; measure again"
                )
    return list(dict.fromkeys(reasons))


def data_notes(run: Run) -> dict[str, str]:
    """Return a note for each data set of a run whose files are not those that are known."""
    table = (resources.files("benchmarks.site") / "known_data.toml").read_text("utf-8")
    known = tomllib.loads(table)
    return {
        name: f"other files of {name} than those known ({', '.join(known[name].values())})"
        for name, data in run.data.items()
        if name in known and data.get("fingerprint") not in known[name]
    }
