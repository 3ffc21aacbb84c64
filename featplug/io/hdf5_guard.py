"""What HDF5 says of files that are damaged, in use or no HDF5, in sentences that help."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featplug.io.files import is_disk_error, not_written


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
    """
    try:
        yield
    except UnusableDataError:
        raise
    except Exception as error:  # h5py's have no common base
        raise damaged(path, what, error) from error


def damaged(path: Path, what: str, error: Exception | str) -> UnusableDataError:
    """Return the error of damaged data, all of a file if ``what`` is empty."""
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    subject = f"{path}: {what}" if what else f"{path}"
    return UnusableDataError(
        f"{subject} is damaged, or of a kind that cannot be read ({reason}); copy the file again, "
        "or make it again."
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
    except UnusableDataError:
        raise
    except OSError as error:
        raise _explained(path, error) from error
    except Exception as error:
        raise damaged(path, "", error) from error


def _explained(path: Path, error: OSError) -> OSError | ValueError:
    """Turn what HDF5 and the system say into what the user can do."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"There is no file {path}.")
    text = str(error).replace(str(path), "")
    if isinstance(error, BlockingIOError) or "unable to lock file" in text:
        return ValueError(f"{path} is in use by another process; wait for it, or use another file.")
    if error.errno in (errno.ENOLCK, errno.ENOTSUP):
        return ValueError(
            f"The disk of {path} has no file locks; set HDF5_USE_FILE_LOCKING=FALSE, and see to "
            "it yourself that only one process writes the file."
        )
    if "clear file consistency flags" in text:
        return UnusableDataError(
            f"{path} was left locked by a program that was killed; "
            f"`h5clear -s {path}` (package hdf5-tools) clears that."
        )
    if "file signature not found" in text:
        return UnusableDataError(f"{path} is not an HDF5 file.")
    if is_disk_error(error):
        return not_written(path, os.strerror(error.errno or 0))
    if error.errno is not None:
        return ValueError(f"Cannot open {path}: {os.strerror(error.errno)}.")
    return damaged(path, "", text)
