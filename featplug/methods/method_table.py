"""The tables of methods: names to confs and classes, of featplug and of installed packages.

Files of :mod:`featplug.extractors` and :mod:`featplug.matchers` are imported when a table is first
read, so that a command that needs no method does not wait for torch. The methods of packages are
imported when a name is not featplug's, or when all names are listed.
"""

import logging
import pkgutil
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from featplug.methods.packages import Entry, Packages, owner_of
from featplug.methods.user_classes import class_name, load_class
from featplug.utils.suggestions import unknown_name

if TYPE_CHECKING:
    from featplug.base import Extractor, GlobalExtractor, Matcher, PairMatcher

Conf = dict[str, Any]
"""One entry of a table, in hloc's form."""

PREPROCESSING: Conf = {
    # In colour for SIFT, too: a JPEG's own luma differs from the grey of its colours by rounding,
    # and SIFT's keypoints must be the same ones where another method describes them.
    "grayscale": False,
    "resize_max": 1600,
}
"""How images are read for features, unless a method says otherwise."""

STRONGEST = 4096
"""Number of keypoints of an image that guided matching begins with, see
:mod:`featplug.matchers.guided`."""
LAST = 1000
"""Place in lists of methods that have none."""
_BASES = {"featplug.matchers": ("Matcher", "PairMatcher")}
"""Classes of featplug.base that entry points of a group may have, where they are several."""
_NAME = re.compile(r"[\w-][\w.-]*")
_Method = TypeVar("_Method")
_Class = TypeVar("_Class", bound=type)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Family:
    """Methods of another program, called ``PREFIX/NAME``."""

    names: Callable[[], Sequence[str]]
    """Lists the names that this machine has."""
    conf: Callable[[str], Conf]
    """Returns the conf of a name; raises ValueError for one that does not exist."""


class MethodTable(Mapping[str, Conf], Generic[_Method]):
    """The confs of one kind by name, and the class of each method.

    Args:
        kind: name of an entry in messages.
        package: package whose files register themselves.
        base: name of the class in :mod:`featplug.base` that methods derive from.
        output: beginning of the confs' ``output``.
        group: entry points of installed packages that have such methods.
        defaults: entries of the conf that is made of a class, which may have them as attributes.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        base: str,
        output: str,
        group: str = "",
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.output = kind, output
        self.families: dict[str, Family] = {}
        """Prefix to the methods of another program."""
        self.added: dict[str, Conf] = {}
        """Confs of the user's own files."""
        self._package, self._base_name = package, base
        self._defaults = defaults or {}
        self._packages = Packages(group)
        self._confs: dict[str, Conf] = {}
        self._outside: dict[str, dict[str, Conf]] = {}
        """Name to the confs of that name by the package that registered it."""
        self._places: dict[str, int] = {}
        self._classes: dict[str, type] = {}
        self._is_complete = False
        self._lock = threading.RLock()

    def register(
        self, confs: Mapping[str, Conf], order: int = LAST, **shared: Any
    ) -> Callable[[_Class], _Class]:
        """Return the decorator of a method's class that adds its confs.

        Args:
            confs: entries of each named conf; ``model`` without ``name``.
            order: place of the confs in lists; those without one come last.
            shared: entries of all the confs.

        Raises:
            ValueError: another method has a conf of the same name, or a name has a character
                that others mean something by.
        """

        def decorate(cls: _Class) -> _Class:
            method = self._method_name(cls)
            for name, own in confs.items():
                check_name(name, method)
                model = {"name": method, **own.get("model", {})}
                head = {"output": f"{self.output}-{name}", "model": model}
                conf = {**head, **shared, **own, "model": model}
                if ":" in method:
                    self._outside.setdefault(name, {})[owner_of(cls)] = conf
                    continue
                taken = self._confs.get(name, conf)["model"]["name"]
                if taken != method:
                    raise ValueError(f"{method} cannot register {name!r}: {taken} has that name.")
                self._confs[name], self._places[name] = conf, order
            self._classes[method] = cls
            return cls

        return decorate

    def _method_name(self, cls: type) -> str:
        """Return the name of the file for a method of ours, ``module:Class`` for any other."""
        package, _, file = cls.__module__.rpartition(".")
        return file if package == self._package else class_name(cls)

    def _complete(self) -> dict[str, Conf]:
        """Import the files that register methods, once."""
        with self._lock:
            if not self._is_complete:
                self._is_complete = True  # before the imports, which may read the table
                try:
                    for module in pkgutil.iter_modules(import_module(self._package).__path__):
                        import_module(f"{self._package}.{module.name}")
                except BaseException:
                    self._is_complete = False
                    raise
                self._confs = {
                    name: self._confs[name]
                    for name in sorted(self._confs, key=self._places.__getitem__)
                }
                self._packages.warn_of(self._confs, self.kind)
        return self._confs

    @property
    def base(self) -> type[_Method]:
        """The class that methods derive from."""
        return getattr(import_module("featplug.base"), self._base_name)

    @property
    def bases(self) -> tuple[type, ...]:
        """The classes that what the group of entry points names derives from."""
        names = _BASES.get(self._packages.group, (self._base_name,))
        return tuple(getattr(import_module("featplug.base"), name) for name in names)

    @property
    def classes(self) -> Mapping[str, type]:
        """Classes of the registered methods, by the ``name`` of their confs' ``model``."""
        self._complete()
        return self._classes

    def method_class(self, method: str) -> type[Any]:
        """Return the class of a method, the ``name`` of a conf's ``model``.

        Raises:
            ValueError: no such method exists, or the class is not one.
        """
        if method in self.classes:
            return self._checked(self.classes[method], method)
        if ":" not in method:
            raise unknown_name(self.kind, method, self._classes)
        return load_class(method, self.base)

    def _checked(self, found: object, name: str) -> type:
        if isinstance(found, type) and issubclass(found, self.base):
            return found
        raise ValueError(f"{name!r} is not a class derived from featplug.base.{self._base_name}.")

    def _has_class(self, entry: Entry) -> bool:
        """Return whether an entry point is a class of this table; raise ValueError for others."""
        if isinstance(entry.found, type) and issubclass(entry.found, self.bases):
            check_name(entry.name, entry.package)
            return issubclass(entry.found, self.base)
        expected = " or ".join(f"featplug.base.{base.__name__}" for base in self.bases)
        raise ValueError(
            f"{entry.package}: the entry point {entry.name!r} of {self._packages.group} is not a "
            f"class derived from {expected}; correct the package."
        )

    @property
    def prefixes(self) -> Collection[str]:
        """Prefixes of the families, whose names may have a ``+``."""
        self._complete()
        return self.families.keys()

    def class_conf(self, cls: type) -> Conf:
        """Return the conf of a class, without ``output``: a registered one, or its attributes."""
        method = self._method_name(cls)
        others = (conf for confs in self._outside.values() for conf in confs.values())
        for conf in (*self._complete().values(), *others):
            if conf["model"]["name"] == method:
                return {key: value for key, value in conf.items() if key != "output"}
        made: Conf = {"model": {"name": method}}
        for key, default in self._defaults.items():
            value = getattr(cls, key, default)
            kind = str if default is None else type(default)
            if value is not default and not isinstance(value, kind):
                raise ValueError(f"{method}: {key} must be a {kind.__name__}, not {value!r}.")
            made[key] = {**default, **value} if isinstance(default, dict) else value
        return made

    def add(self, name: str, conf: Conf, where: str) -> None:
        """Add a conf of the user's; another one of that name is replaced.

        Raises:
            ValueError: featplug has a conf of that name; the message begins with ``where``.
        """
        if name in self._complete():
            raise ValueError(f"{where}: featplug has a {self.kind} {name!r}; choose another name.")
        self.added[name] = conf

    def build(self, model_conf: Mapping[str, Any]) -> _Method:
        """Build a method from the ``model`` entry of a conf.

        Args:
            model_conf: ``name``, a registered method, ``module:Class`` or ``file.py:Class``, and
                the method's options.

        Raises:
            ValueError: no such method or option exists, or the class is not a method.
        """
        return self.method_class(model_conf["name"])(model_conf).eval()

    def __getitem__(self, name: str) -> Conf:
        confs = self._complete()
        if name in confs:
            return confs[name]
        if name in self.added:
            return self.added[name]
        if name not in self._outside:
            self._import_packages(name)
        owners = self._outside[name]
        if len(owners) > 1:
            raise ValueError(
                f"{' and '.join(owners)} both register the {self.kind} {name!r}; uninstall one, or "
                f"use a class of one: {' or '.join(c['model']['name'] for c in owners.values())}."
            )
        return next(iter(owners.values()))

    def name_of(self, conf: Mapping[str, Any]) -> str:
        """Return the name of a conf for messages."""
        output = str(conf.get("output", conf["model"]["name"]))
        names = {own["output"]: name for name, own in self._complete().items()}
        word = names.get(output, output.removeprefix(f"{self.output}-"))
        return str(conf.get("name", word))

    def knows(self, name: str) -> bool:
        """Return whether a name is featplug's, added or of a package, of which none is imported."""
        known = (self._complete(), self.added, self._outside, dict(self._packages.names()))
        return any(name in names for names in known)

    def _import_packages(self, name: str | None = None) -> None:
        """Import the methods of packages: all, or those that may have a name."""
        with self._lock:
            for entry in self._packages.load(self._has_class, name):
                conf = {"output": f"{self.output}-{entry.name}", **self.class_conf(entry.found)}
                self._outside.setdefault(entry.name, {})[entry.package] = conf
            if name is not None and name not in self._outside:
                self._import_packages()

    def __iter__(self) -> Iterator[str]:
        confs = self._complete()
        self._import_packages()
        yield from confs
        others = [*self.added, *(name for name, by in self._outside.items() if len(by) == 1)]
        yield from (name for name in dict.fromkeys(others) if name not in confs)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def check_name(name: str, owner: str) -> None:
    """Raise ValueError for a name of a method that has characters of other meaning."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{owner}: {name!r} cannot be the name of a method; use letters, digits, '-', '_' and "
            "'.'."
        )


features: "MethodTable[Extractor]" = MethodTable(
    "feature",
    "featplug.extractors",
    "Extractor",
    "feats-featplug",
    "featplug.features",
    {
        "preprocessing": PREPROCESSING,
        "matcher": "NN-mutual",
        "two_view_matcher": None,
        "paper": "",
        "dimensions": "",
    },
)
"""Named feature confs."""
matchers: "MethodTable[Matcher]" = MethodTable(
    "matcher", "featplug.matchers", "Matcher", "matches-featplug", "featplug.matchers"
)
"""Named matcher confs."""
pair_matchers: "MethodTable[PairMatcher]" = MethodTable(
    "pair matcher",
    "featplug.matchers",
    "PairMatcher",
    "matches-featplug",
    "featplug.matchers",
    {"preprocessing": PREPROCESSING, "paper": ""},
)
"""Named confs of detector-free methods, which match two images without keypoints of each."""
retrieval: "MethodTable[GlobalExtractor]" = MethodTable(
    "retrieval",
    "featplug.extractors",
    "GlobalExtractor",
    "global-feats-featplug",
    "featplug.retrieval",
    {"preprocessing": {"grayscale": False, "resize_max": 1024}, "paper": ""},
)
"""Named retrieval confs."""
