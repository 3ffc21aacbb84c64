"""Where the data of a suite are, which names them by paths relative to a place that may differ."""

import os
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from featplug.utils.suggestions import did_you_mean
from pipelines.datasets.demo import demo_seed

DATA = "FEATPLUG_DATA"
"""Environment variable with the folder of the data sets that suites name."""
_OF_FILES = ("features", "matches")
"""Options that have texts NAME=FILE."""


def given_data(entries: Iterable[str]) -> dict[str, Path]:
    """Return folders by the names of their data sets, from texts ``NAME=DIR``.

    Raises:
        ValueError: a text has another form, or a name is given twice.
    """
    folders: dict[str, Path] = {}
    for entry in entries:
        name, equals, folder = entry.partition("=")
        if not (name and equals and folder):
            raise ValueError(f"--data takes NAME=DIR, such as oxford=DIR, not {entry!r}.")
        if Path(name).as_posix() in folders:
            raise ValueError(f"--data has {name} twice; give it once.")
        folders[Path(name).as_posix()] = Path(folder)
    return folders


class DataPlaces:
    """The folders in which a suite's paths are looked up.

    A given folder stands for the path of its name, or for the start of longer ones. Other paths
    are looked up next to the suite, then in ``$FEATPLUG_DATA``; what is in neither stays as it is.

    Args:
        folder: folder of the suite.
        given: name of a data set to its folder.
    """

    def __init__(self, folder: Path, given: dict[str, Path]) -> None:
        self._given = given
        root = os.environ.get(DATA)
        self._folders = [folder, Path(root)] if root else [folder]
        self._used: set[str] = set()
        self._names: set[str] = set()
        self.missing: dict[str, None] = {}
        """What was not found."""

    def resolve(self, options: Any) -> Any:
        """Return a dataclass of options with the paths of what exists here."""
        resolved: dict[str, Any] = {}
        for entry in fields(options):
            value = getattr(options, entry.name)
            if entry.name == "methods":  # their files are read already
                continue
            if isinstance(value, Path):
                resolved[entry.name] = self._find(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Path):
                resolved[entry.name] = tuple(map(self._find, value))
            elif entry.name in _OF_FILES and value:
                resolved[entry.name] = tuple(map(self._named_file, value))
            elif is_dataclass(value):
                resolved[entry.name] = self.resolve(value)
        return replace(options, **resolved)

    def check_used(self, path: Path) -> None:
        """Raise ValueError if a given data set is none of the suite's, which is at ``path``."""
        for name in self._given:
            if name not in self._used:
                known = sorted(self._names)
                raise ValueError(
                    f"{path} has no data set {name!r}; it has {', '.join(known) or 'none'}."
                    f"{did_you_mean(name, known)}"
                )

    def _find(self, path: Path) -> Path:
        self._names.add(path.as_posix())
        for start in (path, *path.parents):
            if start.as_posix() in self._given:
                self._used.add(start.as_posix())
                return self._given[start.as_posix()] / path.relative_to(start)
        if demo_seed(path) is not None:
            return path
        for place in (folder / path for folder in self._folders):
            if place.exists():
                return place
        self.missing[path.as_posix()] = None
        return path

    def _named_file(self, text: str) -> str:
        name, equals, file = text.partition("=")
        return f"{name}={self._find(Path(file))}" if equals else text
