"""Records of runs without what only their machine knows: its folders and its user.

A path becomes the name of its file or folder, wherever it stands in a text. Results do not depend
on where the data lay, and what is measured is identified by fingerprints.
"""

import getpass
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_FOLDERS = re.compile(
    r"(?<![\w.\\/~<])(?:file://)?(?:~\w*|\.\.|[A-Za-z]:|\\)?[/\\]"  # the root
    r"(?:[^\s/\\:*?\"'<>|,;()\[\]=]+[/\\])*(?=[^\s/\\])"  # folders, which something follows
)
"""Folders at the start of a path: of Unix, Windows, a network or the user's own."""
_WHOLE = re.compile(r"(?:~\w*|\.\.|[A-Za-z]:|\\)?[/\\]")
_SENTENCE = re.compile(r"[;:,.!?]\s|\s[/~]|[\"'\n]|\.$")
"""What a text has that begins with a path and is more than that."""
_SHORTEST = 3
"""Letters of a user's or machine's name below which it is part of many words."""
_COMMON = {"root", "user", "users", "admin", "ubuntu", "runner", "localhost", "home"}


def without_folders(values: Any) -> Any:
    """Return a value of JSON or TOML whose texts have no absolute paths."""
    known = sorted(set(_known_folders(values)), key=len, reverse=True)
    return _map_texts(values, lambda text: _shortened(text, known))


def distinct_names(names: Iterable[str]) -> dict[str, str]:
    """Return each name without folders; different names stay different."""
    short: dict[str, str] = {}
    for name in sorted(set(names)):
        plain, number = without_folders(name), 1
        while (unique := plain if number == 1 else f"{plain} ({number})") in short.values():
            number += 1
        short[name] = unique
    return short


def personal_words(values: Any) -> dict[str, str]:
    """Return words of a value that are names of this user or machine, each with its first key."""
    names = {_user(), Path.home().name, platform.node().partition(".")[0]}
    names = {n for n in names if len(n) >= _SHORTEST and n.lower() not in _COMMON}
    found: dict[str, str] = {}
    for where, text in _texts(values):
        for name in sorted(names):
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text):
                found.setdefault(name, where)
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in containers
        return ""


def _known_folders(values: Any) -> Iterator[str]:
    """Yield the user's folder, and those of all texts that are one absolute path, with their own.

    They may have spaces, so that only these texts show where they end.
    """
    yield f"{Path.home()}/"
    for _, text in _texts(values):
        if _WHOLE.match(text) and not _SENTENCE.search(text):
            ends = [found.end() for found in re.finditer(r"[/\\]", text)]
            yield from (text[:end] for end in ends[1:])


def _shortened(text: str, known: Iterable[str]) -> str:
    for folder in known:
        if folder in text:
            text = re.sub(rf"(?<![\w.]){re.escape(folder)}", "", text)
    return _FOLDERS.sub("", text)


def _map_texts(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_texts(entry, change) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_map_texts(entry, change) for entry in value]
    return value


def _texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(entry, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            yield from _texts(entry, f"{where}[{number}]")
