"""Exceptions of other libraries in the words of a message, and of users' own code as they are."""

from collections.abc import Iterator
from contextlib import contextmanager


def first_line(error: Exception | str) -> str:
    """Return the first line of an exception's message, or its kind where there is none."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def described(error: Exception) -> str:
    """Return the first line of an exception's message, with its kind where that tells something."""
    line = next(iter(str(error).splitlines()), "")[:200]
    if line and isinstance(error, ValueError | RuntimeError):
        return line
    return f"{type(error).__name__}: {line}".rstrip(": ")


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
