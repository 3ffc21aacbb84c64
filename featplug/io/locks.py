"""Locks on files; the system removes them when a process ends, also by a kill."""

import errno
import os
from pathlib import Path

import portalocker

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""Error numbers of a disk without file locks."""
_BINARY = getattr(os, "O_BINARY", 0)
"""Flag that keeps Windows from changing line ends."""


def are_locks_used() -> bool:
    """Return whether files are locked: as in HDF5, unless ``HDF5_USE_FILE_LOCKING`` is FALSE."""
    return os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() not in ("FALSE", "0")


def open_locked(path: Path) -> int:
    """Open a file to read and write, made if it is missing, and lock it for this process alone.

    The lock is the one that HDF5 takes, too.

    Returns:
        The file's descriptor; the lock ends when it is closed.

    Raises:
        BlockingIOError: another process has locked the file.
        OSError: it cannot be opened, or its disk has no locks, see :func:`locking_error`.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666)
        try:
            if not are_locks_used():
                return descriptor
            _lock(descriptor)
            if _is_in_place(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def locking_error(error: OSError, path: Path, kind: str) -> ValueError | None:
    """Return the sentence on a lock that :func:`open_locked` did not get; None for other errors.

    ``path``, a ``kind`` such as "folder", is what the lock protects.
    """
    if isinstance(error, BlockingIOError):
        return ValueError(
            f"{path} is in use by another process; wait for it, or use another {kind}."
        )
    if error.errno in NO_LOCKS:
        return ValueError(
            f"The disk of {path} has no file locks; set HDF5_USE_FILE_LOCKING=FALSE, and see to "
            f"it yourself that only one process uses the {kind}."
        )
    return None


def _lock(descriptor: int) -> None:
    try:
        portalocker.lock(descriptor, portalocker.LOCK_EX | portalocker.LOCK_NB)
    except portalocker.AlreadyLocked as error:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    except portalocker.LockException as error:
        causes = [c for c in (error.__cause__, *error.args) if isinstance(c, OSError)]
        raise (causes or [OSError(errno.ENOLCK, str(error))])[0] from None


def _is_in_place(descriptor: int, path: Path) -> bool:
    """Return whether no other process removed or replaced a file before it was locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
