"""The lock of an output folder, which a run holds from its start to its end."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featplug.io.locks import NO_LOCKS, are_locks_used, locking_error, open_locked

LOCK = ".lock"
"""Name of the lock file. It is the system that locks it: one that a kill leaves locks nothing."""

_held: dict[Path, tuple[int, int | None]] = {}
"""Thread that has locked a folder, and descriptor of the lock file, of each locked folder."""


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock a folder for this thread while the block runs; the folder is made if it is missing.

    The block may lock the folder again, as a stage of a run does; the outermost block unlocks it.
    A folder that was made here and is still empty is removed. As with HDF5 files, there is no lock
    where ``HDF5_USE_FILE_LOCKING`` is ``FALSE``.

    Raises:
        ValueError: another process or thread uses the folder, or its disk has no locks.
    """
    folder = Path(folder)
    place = folder.resolve()
    thread = threading.get_ident()
    if place in _held:
        if _held[place][0] != thread:
            raise ValueError(
                f"{folder} is in use by another run of this process; wait for it, or use another "
                "folder."
            )
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        _held[place] = thread, _lock(folder)
        try:
            yield
        finally:
            _unlock(folder, _held.pop(place)[1])
    finally:
        for path in made:
            with suppress(OSError):  # it has something in it
                path.rmdir()


def _lock(folder: Path) -> int | None:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if not are_locks_used():
            return None
        try:
            return open_locked(folder / LOCK)
        except FileNotFoundError:  # the process that had made the folder has removed it
            continue
        except OSError as error:
            if error.errno in NO_LOCKS:
                (folder / LOCK).unlink(missing_ok=True)
            raise locking_error(error, folder, "folder") or error from error


def _unlock(folder: Path, descriptor: int | None) -> None:
    if descriptor is not None:
        with suppress(OSError):  # Windows keeps open files
            (folder / LOCK).unlink()
        os.close(descriptor)


def _close_in_child() -> None:
    """Close the lock files in a forked process, which may outlive the one that holds the lock."""
    for place, (thread, descriptor) in _held.items():
        if descriptor is not None:
            os.close(descriptor)
            _held[place] = thread, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
