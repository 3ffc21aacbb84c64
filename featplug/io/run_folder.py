"""The output folder of a run, whose results all change at once.

A run makes its results in a working folder inside the output folder. They are flushed to the disk
and read back there, and only then all of them take the places of an earlier run's results. A run
that fails or is killed before leaves these as they are; one that is killed while the files are
renamed is completed by the next one, and by :func:`complete`, which readers call.
"""

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featplug.io.files import (
    discard,
    flush,
    flush_folder,
    not_written,
    recover,
    remove,
    write_whole_text,
)
from featplug.io.folder_lock import locked_folder
from featplug.utils.interrupts import delayed_interrupts

RECORD = "run.json"
"""Name of the record of the images that a folder has a run of."""
UNFINISHED = "unfinished"
"""Name of the working folder."""
_FINISHED, _REPLACED = ".finished", ".replaced"
_OBSOLETE = ".obsolete.json"


@contextmanager
def run_folder(folder: Path, kept: Collection[str] = ()) -> Iterator[Path]:
    """Lock an output folder for a run, and return its empty working folder.

    Args:
        folder: the output folder; it is made if it is missing, and removed if it stays empty.
        kept: names in the working folder that stay when the run fails, for the next one to resume
            from. Logs always stay until that one starts.

    Raises:
        ValueError: another process uses the folder.
    """
    working = Path(folder) / UNFINISHED
    with locked_folder(folder):
        _complete(Path(folder))
        _empty(working, kept)
        working.mkdir(exist_ok=True)
        try:
            yield working
        finally:
            _complete(Path(folder))  # where a second Ctrl-C came between two renames
            _empty(working, [*kept, *(path.name for path in working.glob("*.log"))])


def replace_results(folder: Path, obsolete: Collection[str] = ()) -> None:
    """Let everything in the working folder take its place in the output folder.

    Args:
        folder: the output folder, see :func:`run_folder`.
        obsolete: names of an earlier run's results, which go if this run has not made them.

    Raises:
        ValueError: the disk does not hold the results.
    """
    working = folder / UNFINISHED
    made = {path.name for path in working.iterdir()}
    write_whole_text(working / _OBSOLETE, json.dumps(sorted(set(obsolete) - made)))
    try:
        flush(working)
    except OSError as error:
        raise not_written(working, error.strerror or str(error)) from error
    with delayed_interrupts():
        working.rename(folder / _FINISHED)
        _complete(folder)
    working.mkdir()


def complete(folder: Path) -> None:
    """Complete the results that a killed run had finished, unless the folder is in use."""
    if _is_own_folder(folder / _FINISHED):
        with suppress(OSError, ValueError), locked_folder(folder):
            _complete(folder)


def _complete(folder: Path) -> None:
    finished, replaced = folder / _FINISHED, folder / _REPLACED
    if not _is_own_folder(finished):
        return
    if not _is_own_folder(replaced):
        remove(replaced)
    replaced.mkdir(exist_ok=True)
    listed = finished / _OBSOLETE
    for name in _obsolete_names(listed):
        _set_aside(folder / name, replaced)
    # The record comes last: without the other results it says nothing.
    made = sorted(finished.iterdir(), key=lambda path: (path.is_file(), path.suffix == ".json"))
    for path in made:
        if path != listed:
            if path.is_symlink() or path.is_dir():  # neither replaces a folder
                _set_aside(folder / path.name, replaced)
            path.replace(folder / path.name)
    flush_folder(folder)
    discard(replaced)
    discard(finished)


def _is_own_folder(path: Path) -> bool:
    """Return whether a path is a folder, and no link to one elsewhere, which is not of the run."""
    return path.is_dir() and not path.is_symlink()


def _obsolete_names(listed: Path) -> list[str]:
    """Read the names of results; those that lead out of the folder are none."""
    try:
        names = json.loads(listed.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    texts = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return [name for name in texts if name == Path(name).name and name not in ("", "..")]


def _set_aside(path: Path, replaced: Path) -> None:
    if os.path.lexists(path):
        discard(replaced / path.name)
        path.rename(replaced / path.name)


def _empty(working: Path, kept: Collection[str]) -> None:
    """Remove a working folder but for what is kept."""
    for name in kept:
        recover(working / name)
    for path in working.iterdir() if working.is_dir() else ():
        if path.name not in kept:
            discard(path)
    with suppress(OSError):  # something is kept, or there is no folder
        working.rmdir()
