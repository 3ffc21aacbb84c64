"""Exceptions of other libraries in the words of a message, and of users' own code as they are."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER_MODULE = "featplug_user_file_"
"""Beginning of the names of modules that were imported from users' files."""


def first_line(error: Exception | str) -> str:
    """Return the first line of an exception's message, or its kind where there is none."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def described(error: Exception) -> str:
    """Return the first line of an exception's message, with its kind where that tells something.

    What a user's own file raised also has its place there.
    """
    line = next(iter(str(error).splitlines()), "")[:200]
    if not line or not isinstance(error, ValueError | RuntimeError):
        line = f"{type(error).__name__}: {line}".rstrip(": ")
    return line + _place(error)


def _place(error: Exception) -> str:
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
        vars(error)[_MARK] = True
        raise


def has_own_traceback(error: BaseException) -> bool:
    """Return whether an exception was raised inside :func:`own_traceback`."""
    return _MARK in vars(error)


_MARK = "featplug_shows_traceback"
