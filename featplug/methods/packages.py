"""Methods and data sets of installed packages, which their entry points name.

An entry point is a class, whose name is that of the entry point, or a module, which registers its
methods itself. Nothing of a package is imported before :meth:`Packages.load`.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any

from featplug.utils.errors import described, own_traceback

_LOADING: ContextVar[str | None] = ContextVar("loading", default=None)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """An entry point that was imported."""

    name: str
    package: str
    found: Any
    """The class, module or other object."""


class Packages:
    """The entry points of one group, such as ``featplug.features``; an empty name has none."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._loaded: dict[metadata.EntryPoint, object] = {}

    def names(self) -> list[tuple[str, str]]:
        """List the names of the entry points with their packages, without an import."""
        return [(entry.name, _package(entry)) for entry in self._entries()]

    def warn_of(self, names: Collection[str], kind: str) -> None:
        """Log which packages have methods of names that featplug uses for its own."""
        for name, package in self.names():
            if name in names:
                log_once(f"{package} has a {kind} {name!r}, too; featplug's own is used.")

    def load(self, is_wanted: Callable[[Entry], bool], name: str | None = None) -> Iterator[Entry]:
        """Import entry points, and yield those that are no modules and that ``is_wanted`` accepts.

        A package that cannot be imported, or whose entry ``is_wanted`` raises ValueError for, is
        logged once and left out.

        Args:
            is_wanted: whether an entry point is to be yielded.
            name: only the entry points of that name, whose errors are raised, and modules, which
                may register any name.
        """
        for entry in self._entries():
            if name is not None and entry.name != name and entry.attr:
                continue
            package = _package(entry)
            token = _LOADING.set(package)
            try:
                if entry not in self._loaded:
                    with own_traceback():
                        self._loaded[entry] = entry.load()
                loaded = Entry(entry.name, package, self._loaded[entry])
                yields = not isinstance(loaded.found, ModuleType) and is_wanted(loaded)
            except Exception as error:
                if entry.name == name:
                    raise
                log_once(f"{package} is left out: {entry.value}: {described(error)}")
                continue
            finally:
                _LOADING.reset(token)
            if yields:
                yield loaded

    def _entries(self) -> list[metadata.EntryPoint]:
        return list(metadata.entry_points(group=self.group)) if self.group else []


def _package(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module.partition(".")[0]


@cache
def log_once(message: str) -> None:
    """Log a warning, the first time."""
    logger.warning("%s", message)


def owner_of(cls: type) -> str:
    """Return the package that a class comes from: the one that is imported now, or its module's."""
    return _LOADING.get() or cls.__module__.partition(".")[0]
