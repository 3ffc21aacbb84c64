"""Errors about unknown names, with the names that exist and the one that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the error for a name that does not exist; ``kind`` is what has it, as ``feature``."""
    names = list(known)
    return ValueError(
        f"There is no {kind} {name!r}; there are {', '.join(names)}.{did_you_mean(name, names)}"
    )


def unknown_option(owner: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the error for an option that its owner does not have."""
    names = sorted(known)
    return ValueError(
        f"{owner} has no option {name!r}; it has {', '.join(names) or 'none'}."
        f"{did_you_mean(name, names)}"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'sift'?" with the closest known name, or an empty string."""
    by_lower = {other.lower(): other for other in known}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""
