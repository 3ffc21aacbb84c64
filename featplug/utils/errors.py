"""Exceptions of other libraries in the words of a message."""


def first_line(error: Exception | str) -> str:
    """Return the first line of an exception's message, or its kind where there is none."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def described(error: Exception) -> str:
    """Return the first line of an exception's message, with its kind where that tells something."""
    line = next(iter(str(error).splitlines()), "")[:200]
    if line and isinstance(error, ValueError | RuntimeError):
        return line
    return f"{type(error).__name__}: {line}".rstrip(": ")
