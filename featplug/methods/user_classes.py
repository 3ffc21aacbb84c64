"""Classes that featplug does not have: ``package.module:Class`` and ``my_file.py:Class``.

A file is imported as a module of its own, named after its path, and again after it changed.
"""

import hashlib
import importlib.util
import inspect
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from featplug.io.artifact import file_hash
from featplug.utils.errors import own_traceback

_FILE_MODULE = "featplug_user_file_"
"""Beginning of the names of modules that were imported from files."""


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
        raise ValueError(f"{problem}; {remedy}.")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ValueError(
            f"{name} does not implement {', '.join(missing)}, as {expected} describes; write it."
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
    name, digest = f"{_FILE_MODULE}{place}_{path.stem}", file_hash(path)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__featplug_hash__", None) == digest:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be imported; give a Python file.")
    module = importlib.util.module_from_spec(spec)
    vars(module)["__featplug_hash__"] = digest
    sys.modules[name] = module  # dataclasses look their module up
    _find_modules_in(path.parent)
    try:
        with own_traceback():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _load_module(name: str) -> ModuleType:
    _find_modules_in(Path.cwd())  # where the user's own modules are
    try:
        with own_traceback():
            return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a module that the user's module needs
        raise ValueError(
            f"There is no module {error.name!r}; install it, or give a file: my_file.py:Class."
        ) from error


def _find_modules_in(folder: Path) -> None:
    """Let Python find the modules of a folder, after all others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def class_name(cls: type) -> str:
    """Return the name by which :func:`load_class` finds a class."""
    module = cls.__module__
    place = sys.modules[module].__file__ if module.startswith(_FILE_MODULE) else module
    return f"{place}:{cls.__qualname__}"


def recorded_name(name: str) -> str:
    """Return a class's name for records, without the folder of its file."""
    place, colon, attribute = name.rpartition(":")
    return f"{Path(place).name}:{attribute}" if colon and place.endswith(".py") else name
