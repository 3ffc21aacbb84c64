"""What HDF5 says of files that are damaged, in use or no HDF5, in sentences that help."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featplug.io.files import is_disk_error, not_written
from featplug.io.locks import locking_error
from featplug.utils.errors import first_line

_DISK_FAILURES = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM)
"""Error numbers of reads that say nothing about the file."""


class UnusableDataError(ValueError):
    """Data of an HDF5 file are damaged, or not as they must be; others may be good."""


class ArrayForGroupError(UnusableDataError):
    """An array is where a group of arrays should be."""


@contextmanager
def guarded(path: Path, what: str = "") -> Iterator[None]:
    """Turn whatever h5py raises for damaged data into one sentence.

    Args:
        path: the file.
        what: what is read from it; the whole file by default.

    Raises:
        UnusableDataError: the block raised an exception.
        ValueError: the disk fails, or the memory is full; the data may be good.
    """
    try:
        yield
    except (UnusableDataError, NameError):  # the latter is a mistake of ours
        raise
    except Exception as error:  # h5py's have no common base
        raise _unreadable(path, error) or damaged(path, what, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError | None:
    """Return the error of a disk or a memory that fails, or None where the data are to blame."""
    if isinstance(error, MemoryError):
        return ValueError(f"The memory is too small to read {path}; close other programs.")
    number = getattr(error, "errno", None) or _listed_errno(str(error))
    if number in _DISK_FAILURES:
        return ValueError(
            f"Cannot read {path} ({os.strerror(number)}): see to its disk, and run again."
        )
    return None


def _listed_errno(text: str) -> int:
    """Return the error number in a message of HDF5, 0 if there is none."""
    listed = re.search(r"\berrno = (\d+)", text)
    return int(listed[1]) if listed else 0


def damaged(path: Path, what: str, error: Exception | str) -> UnusableDataError:
    """Return the error of damaged data, all of a file if ``what`` is empty."""
    subject = f"{path}: {what}" if what else f"{path}"
    return UnusableDataError(
        f"{subject} is damaged, or of a kind that cannot be read ({first_line(error)}); copy the "
        "file again, or make it again."
    )


@contextmanager
def stating(path: Path, name: str) -> Iterator[None]:
    """Begin the message of a check of arrays with the file and the image or pair."""
    try:
        yield
    except ValueError as error:
        raise UnusableDataError(f"{path}: {name!r}: {error}; make it again.") from error


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Turn what a block raises that opens a file into what the user can do."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path} is not a file but a pipe or a device; use another name.")
    try:
        yield
    except (UnusableDataError, NameError):
        raise
    except OSError as error:
        raise _explained(path, error) from error
    except Exception as error:
        raise _unreadable(path, error) or damaged(path, "", error) from error


def _explained(path: Path, error: OSError) -> OSError | ValueError:
    """Turn what HDF5 and the system say into what the user can do."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"There is no file {path}.")
    text = str(error).replace(str(path), "")
    unlocked = locking_error(error, path, "file")
    if unlocked is None and "unable to lock file" in text:
        unlocked = locking_error(BlockingIOError(), path, "file")
    if unlocked is not None:
        return unlocked
    if "clear file consistency flags" in text:
        return UnusableDataError(
            f"{path} was left locked by a program that was killed; "
            f"`h5clear -s {path}` (package hdf5-tools) clears that."
        )
    if "file signature not found" in text:
        return UnusableDataError(f"{path} is not an HDF5 file.")
    if is_disk_error(error):
        return not_written(path, os.strerror(error.errno or 0))
    if (unreadable := _unreadable(path, error)) is not None:
        return unreadable
    if error.errno is not None:
        return ValueError(f"Cannot open {path}: {os.strerror(error.errno)}.")
    return damaged(path, "", text)
