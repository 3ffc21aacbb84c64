"""Classes that featplug does not have: ``package.module:Class`` and ``my_file.py:Class``.

A file is imported as a module of its own, named after its path, and again after it, or a module of
its folder that it imports, has changed. :func:`sources` are the files that such code consists of.
"""

import ast
import hashlib
import importlib.util
import inspect
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import featplug
from featplug.io.artifact import file_hash
from featplug.utils.errors import USER_MODULE, own_traceback

_SOURCES = "__featplug_sources__"
"""Attribute of a module with its :func:`sources`, as they were when it was imported."""
_OPTIONS = {
    "Extractor": "--feature",
    "GlobalExtractor": "--retrieval",
    "Matcher": "--matcher, or FEATURE+MATCHER",
    "PairMatcher": "--feature",
}
"""Class of featplug.base to the option that takes its name."""
_IS_HELPER = "__featplug_is_helper__"
"""Attribute of the modules that a user's file imported."""


def load_class(name: str, *bases: type) -> type:
    """Import a class by its name.

    Args:
        name: ``package.module:Class`` or ``path/to/my_file.py:Class``.
        bases: classes of :mod:`featplug.base`; the class must derive from one of them.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the module or the class does not exist, or the class is of another form. What
            the module itself raises on import is raised as it is.
    """
    place, colon, attribute = name.rpartition(":")
    if not (colon and attribute):
        raise ValueError(f"{name} lacks the class; write {name.rstrip(':')}:Class.")
    module = load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    expected = " or ".join(f"featplug.base.{base.__name__}" for base in bases)
    if not (isinstance(found, type) and issubclass(found, bases)):
        able = [key for key, value in vars(module).items() if _would_do(value, bases)]
        problem = f"{name} is not a class derived from {expected}"
        if found is None:
            problem = f"{name}: there is no class {attribute!r} derived from {expected}"
        remedy = f"use {' or '.join(able)}" if able else "derive the class from it"
        for kind in getattr(found, "__mro__", ()):
            if kind.__name__ in _OPTIONS:
                remedy = f"it is a {kind.__name__}, for {_OPTIONS[kind.__name__]}"
        raise ValueError(f"{problem}; {remedy}.")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        base = next(base.__name__ for base in bases if issubclass(found, base))
        raise ValueError(
            f"{name} does not implement {', '.join(missing)}, as featplug.base.{base} describes; "
            "write it."
        )
    return found


def _would_do(value: object, bases: tuple[type, ...]) -> bool:
    is_method = isinstance(value, type) and issubclass(value, bases)
    return is_method and not inspect.isabstract(value)


def load_file(path: Path) -> ModuleType:
    """Import a Python file under a name of its own, once for each of its contents.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    path = path.expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; correct the path.")
    place = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    name = f"{USER_MODULE}{place}_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and _is_unchanged(known):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be imported; give a Python file.")
    module = importlib.util.module_from_spec(spec)
    _forget_helpers(path.parent)
    before = set(sys.modules)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        with own_traceback():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
        _find_modules_in(path.parent)  # what functions of the file import later
    for helper in set(sys.modules) - before - {name}:
        if _own_file(sys.modules[helper]) is not None:
            vars(sys.modules[helper])[_IS_HELPER] = True
    sources(module)
    return module


def _forget_helpers(folder: Path) -> None:
    """Let a file of a folder import its own modules: not those of another folder, nor old ones."""
    for name, module in list(sys.modules.items()):
        # Not by getattr, for which some packages import what they have not needed yet.
        if getattr(module, "__dict__", {}).get(_IS_HELPER):
            file = _own_file(module)
            is_of_folder = file is not None and file.is_relative_to(folder)
            if not (is_of_folder and _is_unchanged(module)):
                del sys.modules[name]


def _is_unchanged(module: ModuleType) -> bool:
    return all(
        path.is_file() and file_hash(path) == digest for path, digest in sources(module).items()
    )


def sources(module: ModuleType) -> dict[Path, str]:
    """Return the files of a user's module, and of the modules that it imports, with their hashes.

    Modules of Python, of installed packages and of featplug are left out. The hashes are those of
    the first call, which :func:`load_class` makes when it imports the module.
    """
    if _own_file(module) is None:
        return {}
    if _SOURCES not in vars(module):
        files: dict[Path, str] = {}
        _add_sources(module, files)
        vars(module)[_SOURCES] = files
    return vars(module)[_SOURCES]


def _add_sources(module: ModuleType, files: dict[Path, str]) -> None:
    path = _own_file(module)
    if path is None or path in files:
        return
    files[path] = file_hash(path)
    for name in _imported(path, module.__package__ or ""):
        if isinstance(used := sys.modules.get(name), ModuleType):
            _add_sources(used, files)


def _imported(path: Path, package: str) -> Iterator[str]:
    """Return the names of modules that a source file may import, at any place in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _own_file(module: ModuleType) -> Path | None:
    """Return the source file of a module that is neither Python's, installed, nor featplug's."""
    name = getattr(module, "__file__", None)
    if not isinstance(name, str) or not name.endswith(".py") or not Path(name).is_file():
        return None
    is_installed = any(Path(name).is_relative_to(folder) for folder in _installed_folders())
    return None if is_installed else Path(name)


@cache
def _installed_folders() -> list[str]:
    """List the folders of Python, of installed packages and of featplug."""
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [*folders, *site.getsitepackages(), site.getusersitepackages(), *featplug.__path__]


def _load_module(name: str) -> ModuleType:
    _find_modules_in(Path.cwd())  # where the user's own modules are
    try:
        with own_traceback():
            module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a module that the user's module needs
        raise ValueError(
            f"There is no module {error.name!r}; install it, or give a file: my_file.py:Class."
        ) from error
    sources(module)
    return module


def _find_modules_in(folder: Path) -> None:
    """Let Python find the modules of a folder, after all others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def class_name(cls: type) -> str:
    """Return the name by which :func:`load_class` finds a class."""
    module = cls.__module__
    place = sys.modules[module].__file__ if module.startswith(USER_MODULE) else module
    return f"{place}:{cls.__qualname__}"


def recorded_name(name: str) -> str:
    """Return a class's name for records, without the folder of its file."""
    place, colon, attribute = name.rpartition(":")
    return f"{Path(place).name}:{attribute}" if colon and place.endswith(".py") else name
