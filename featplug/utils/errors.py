"""Exceptions of other libraries in the words of a message, and of users' own code as they are."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

USER_MODULE = "featplug_user_file_"
"""Beginning of the names of modules that were imported from users' files."""


def first_line(error: BaseException | str) -> str:
    """Return the first line of an exception's message, or its kind where there is none."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def described(error: BaseException) -> str:
    """Return the first line of an exception's message, with its kind where that tells something.

    What a user's own file raised also has its place there.
    """
    line = next(iter(str(error).splitlines()), "")[:200]
    if not line or not isinstance(error, ValueError | RuntimeError):
        line = f"{type(error).__name__}: {line}".rstrip(": ")
    return line + _place(error)


def _place(error: BaseException) -> str:
    """Return file and line of the innermost frame in a user's file, if there is one."""
    frames = [
        f"{Path(frame.f_code.co_filename).name}, line {number}"
        for frame, number in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(USER_MODULE)
    ]
    return f" ({frames[-1]})" if frames else ""


@contextmanager
def own_traceback() -> Iterator[None]:
    """Mark what a user's module raises on import: commands show its traceback, not a sentence."""
    try:
        yield
    except Exception as error:
        vars(error)[_MARK] = _of_module(error.__traceback__)
        raise


def _of_module(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback after the frames of those that import a module."""
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__"))
        if name.partition(".")[0] not in _IMPORTERS:
            break
        trace = trace.tb_next
    return trace  # None for what does not compile


def has_own_traceback(error: BaseException) -> bool:
    """Return whether an exception was raised inside :func:`own_traceback`."""
    return _MARK in vars(error)


def show_own_traceback(error: BaseException) -> None:
    """Print what a user's module raised, as Python does, without the frames that led to it."""
    error.__traceback__ = vars(error)[_MARK]
    sys.excepthook(type(error), error, error.__traceback__)


_MARK = "featplug_own_traceback"
_IMPORTERS = ("featplug", "contextlib", "importlib", "_frozen_importlib")
"""Packages whose frames lead to a user's module."""
