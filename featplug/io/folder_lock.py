"""The lock of an output folder, which a run holds from its start to its end."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import portalocker

LOCK = ".lock"
"""Name of the lock file. It is the system that locks it: one that a kill leaves locks nothing."""

_held: dict[Path, IO[str] | None] = {}
"""Folders that this process has locked, and their open lock files."""


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock a folder for this process while the block runs; the folder is made if it is missing.

    The block may lock the folder again, as a stage of a run does; the outermost block unlocks it.
    A folder that was made here and is still empty is removed. As with HDF5 files, there is no lock
    where ``HDF5_USE_FILE_LOCKING`` is ``FALSE``.

    Raises:
        ValueError: another process uses the folder, or its disk has no locks.
    """
    folder = Path(folder)
    place = folder.resolve()
    if place in _held:
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        _held[place] = _lock(folder)
        try:
            yield
        finally:
            _unlock(folder, _held.pop(place))
    finally:
        for path in made:
            with suppress(OSError):  # it has something in it
                path.rmdir()


def _lock(folder: Path) -> IO[str] | None:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() in ("FALSE", "0"):
            return None
        try:
            file = (folder / LOCK).open("a")
        except FileNotFoundError:  # the process that had made the folder has removed it
            continue
        try:
            portalocker.lock(file, portalocker.LOCK_EX | portalocker.LOCK_NB)
            if _is_in_place(file, folder):
                return file
        except portalocker.AlreadyLocked as error:
            file.close()
            raise ValueError(
                f"{folder} is in use by another process; wait for it, or use another folder."
            ) from error
        except portalocker.LockException as error:
            _unlock(folder, file)
            raise _explained(folder, error) from error
        except BaseException:
            file.close()
            raise
        file.close()


def _is_in_place(file: IO[str], folder: Path) -> bool:
    """Return whether a lock file has not been removed by the process that held it before."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), (folder / LOCK).stat())
    except FileNotFoundError:
        return False


def _unlock(folder: Path, file: IO[str] | None) -> None:
    if file is not None:
        with suppress(OSError):  # Windows keeps open files
            (folder / LOCK).unlink()
        file.close()


def _explained(folder: Path, error: portalocker.LockException) -> Exception:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
        return ValueError(
            f"The disk of {folder} has no file locks; set HDF5_USE_FILE_LOCKING=FALSE, and see to "
            "it yourself that only one process uses the folder."
        )
    return cause if isinstance(cause, OSError) else error


def _close_in_child() -> None:
    """Close the lock files in a forked process, which may outlive the one that holds the lock."""
    for file in _held.values():
        if file is not None:
            file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
