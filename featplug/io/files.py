"""Writing files and folders that are never seen half written, and whose earlier contents stay.

What is written is made next to its place, flushed to the disk and read back; only then it takes the
place of what was there. A folder cannot be replaced in one step: the old one is renamed before the
new one gets its name, and a kill between the two leaves the old one under the name that
:func:`recover` restores.
"""

import errno
import os
import re
import shutil
import socket
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_PART = re.compile(r"\.(.+)\.([0-9a-f]{8})-(\d+)\.part")
_FLUSHED = os.O_RDWR | getattr(os, "O_BINARY", 0) if os.name == "nt" else os.O_RDONLY
"""Flags to open a file to flush it, which Windows does not for one that is only read."""
_cleaned: set[Path] = set()
"""Folders that this process has rid of the leftovers of others."""


def write_whole(
    path: Path, write: Callable[[Path], Any], check: Callable[[Path], Any] | None = None
) -> None:
    """Write a file or folder that appears, or replaces another, only when it is whole.

    What was there stays when anything fails. Two processes may write the same file at once, but not
    the same folder.

    Args:
        path: the file or folder.
        write: writes it to the path that it is called with, next to ``path``; the folder is made.
        check: reads what was written and raises an exception if it is not good.

    Raises:
        ValueError: the disk is full, or ``check`` says so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _restore(path)
    if path.parent.absolute() not in _cleaned:  # a look into the folder for each file takes long
        _clean(path.parent)
    part = part_path(path)
    try:
        remove(part)  # of a killed process that had the same number
        write(part)
        flush(part)
        if check is not None:
            check(part)
        replace(part, path)
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise not_written(path, error.strerror or str(error)) from error
    finally:
        discard(part)


def write_whole_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 by :func:`write_whole`."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def part_path(path: Path) -> Path:
    """Return where this process makes a file or folder until it is whole."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.part")


def replace(new: Path, path: Path) -> None:
    """Move a file or folder to the place of another one, which is removed last."""
    if not (new.is_dir() and path.is_dir()):
        new.replace(path)
    else:
        old = _old(path)
        path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            old.rename(path)
            raise
        discard(old)
    flush_folder(path.parent)


def recover(path: Path) -> None:
    """Restore a folder that a kill left under another name, and remove what killed runs left."""
    _restore(path)
    if path.parent.is_dir():
        _clean(path.parent)


def _restore(path: Path) -> None:
    old = _old(path)
    if not old.exists():
        return
    if path.exists():
        discard(old)
    else:
        old.rename(path)


def _clean(folder: Path) -> None:
    _cleaned.add(folder.absolute())
    for part in folder.glob(".*.part"):
        if (match := _PART.fullmatch(part.name)) and _has_ended(match[2], match[3]):
            with suppress(OSError):
                remove(part)


def flush(path: Path) -> None:
    """Make the disk keep a file, or all files of a folder; a full disk is found here at last.

    What links lead to is not flushed.
    """
    if path.is_symlink():
        return
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                flush(Path(folder) / name)
            flush_folder(Path(folder))
    elif path.is_file():
        _flush(path)


def flush_folder(folder: Path) -> None:
    """Make the disk keep which files a folder has."""
    with suppress(OSError):  # some file systems cannot, and need not
        _flush(folder)


def is_disk_error(error: OSError) -> bool:
    """Return whether a disk is full: its space, the user's quota of it, or the size of a file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def not_written(path: Path, reason: str) -> ValueError:
    """Return the error that the disk does not hold what was written to a file or folder.

    A path of :func:`write_whole` stands for the one that was to be replaced.
    """
    names = [match[1] if (match := _PART.fullmatch(name)) else name for name in path.parts]
    return ValueError(
        f"{Path(*names)} could not be written whole ({reason}): its disk is full, or fails; free "
        "some space on it or choose another folder, and run the command again."
    )


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; nothing if it does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove what nobody needs any more, or leave it to later processes under another name.

    Files that a program has open cannot be removed from a network disk, nor on Windows.
    """
    try:
        remove(path)
    except OSError:
        with suppress(OSError):
            path.rename(part_path(path))


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _flush(path: Path) -> None:
    descriptor = os.open(path, _FLUSHED)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _has_ended(host: str, process: str) -> bool:
    """Return whether a process has ended, as far as can be known: not on another machine."""
    if host != _host() or os.name != "posix":
        return False
    try:
        os.kill(int(process), 0)
    except OSError as error:  # also of a process of another user
        return isinstance(error, ProcessLookupError)
    return False
