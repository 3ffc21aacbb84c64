"""The methods of a suite: names, or tables of a name with a matcher, options and weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featplug.utils.suggestions import unknown_option

_KEYS = ("name", "matcher", "option", "weights")
_FILE_OF_CLASS = re.compile(r"[^@+]+\.py(?=:)")


@dataclass(frozen=True)
class _Method:
    name: str
    weights: str | None = None
    options: tuple[str, ...] = ()
    """Options as NAME=VALUE."""


def method_options(
    listed: Any, folder: Path, where: str, more: Sequence[str] = ()
) -> dict[str, list[Any]]:
    """Return the options of a benchmark for the methods of a suite.

    Args:
        listed: what the suite has in ``methods``.
        folder: folder of the suite, in which files of classes are looked up first.
        where: start of messages.
        more: names of further methods.

    Raises:
        ValueError: a method is neither a name nor a table of one.
    """
    methods = [_method(entry, folder, where) for entry in as_list(listed, "methods", where)]
    methods += [_Method(name) for name in more]
    known: dict[str, _Method] = {}
    for method in methods:
        if known.setdefault(method.name, method) != method:
            raise ValueError(
                f"{where}: {method.name} is listed with two sets of options, of which a block has "
                "one for each method; write the other one into a block of its own."
            )
    options: dict[str, list[Any]] = {
        "feature": [method.name for method in methods],
        "weights": [[m.name, m.weights] for m in methods if m.weights is not None],
        "option": [[m.name, option] for m in methods for option in m.options],
    }
    return {name: value for name, value in options.items() if value}


def as_list(value: Any, name: str, where: str) -> list[Any]:
    """Return a value that must be a list; raise ValueError if it is none."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: {name} must be a list, such as [{value!r}]; correct it.")
    return value


def beside(folder: Path, file: str) -> str:
    """Return the path of a file in a folder, or the file as it is where that does not exist."""
    path = folder.absolute() / file
    return str(path) if path.exists() else file


def _method(entry: Any, folder: Path, where: str) -> _Method:
    if isinstance(entry, str):
        return _Method(_FILE_OF_CLASS.sub(lambda file: beside(folder, file[0]), entry))
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError(
            f"{where}: expected the name of a method, or a table such as "
            f'{{ name = "sift", matcher = "NN-ratio" }}, got {entry!r}.'
        )
    name, matcher, weights = entry["name"], entry.get("matcher"), entry.get("weights")
    for key in entry:
        if key not in _KEYS:
            raise unknown_option(f"{where}: the method {name}", key, _KEYS)
    options = entry.get("option", [])
    if isinstance(options, dict):
        options = [f"{key}={value}" for key, value in options.items()]
    texts = [text for text in (matcher, weights) if text is not None]
    if not isinstance(options, list) or not all(isinstance(t, str) for t in [*texts, *options]):
        raise ValueError(
            f"{where}: of the method {name}, matcher and weights must be texts and option a table; "
            "correct them."
        )
    whole = name if matcher is None else f"{name}+{matcher}"
    return _Method(_method(whole, folder, where).name, weights, tuple(options))
