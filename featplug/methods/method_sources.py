"""What is known of the code of methods, for the provenance of files and records of runs."""

import hashlib
import site
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from types import ModuleType

from torch import nn

import featplug
from featplug.base import Extractor, GlobalExtractor, Matcher, PairMatcher
from featplug.io.artifact import file_hash
from featplug.methods.user_classes import class_name, recorded_name


def source_records(method: nn.Module) -> list[dict[str, str]]:
    """Return a record of the class of a method, and of those of the methods that it uses.

    Returns:
        ``class``; ``package`` and ``version`` of the installed package that it comes from; and for
        classes that are not installed, such as a user's own file, the ``sha256`` of its source: of
        the file, or of all files that the class was imported from and that its modules use.
    """
    kinds = (Extractor, GlobalExtractor, Matcher, PairMatcher)
    classes = dict.fromkeys(type(m) for m in method.modules() if isinstance(m, kinds))
    return [code_record(cls) for cls in classes]


def code_record(cls: type) -> dict[str, str]:
    """Return the record of one class, see :func:`source_records`."""
    record = {"class": recorded_name(class_name(cls))}
    top = cls.__module__.partition(".")[0]
    if top == featplug.__name__:
        return record | {"package": top, "version": featplug.__version__}
    if (distribution := _distribution(top)) is not None:
        record |= {"package": distribution.name, "version": distribution.version}
    files: dict[str, Path] = {}
    for base in cls.__mro__:
        _add_own_files(base.__module__, files)
    if files:
        hashes = sorted(file_hash(file) for file in files.values())
        whole = hashlib.sha256("".join(hashes).encode()).hexdigest()
        record["sha256"] = hashes[0] if len(hashes) == 1 else whole
    return record


def _distribution(package: str) -> metadata.Distribution | None:
    """Return the installed distribution that has a package."""
    try:
        return metadata.distribution(package)
    except (metadata.PackageNotFoundError, ValueError):
        names = metadata.packages_distributions().get(package, [])
        return metadata.distribution(names[0]) if names else None


def _add_own_files(name: str, files: dict[str, Path]) -> None:
    """Add the file of a module that is not installed, and of those like it that it uses."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if name in files or file is None or _is_installed(Path(file)):
        return
    files[name] = Path(file)
    for value in list(vars(module).values()):
        is_module = isinstance(value, ModuleType)
        used = value.__name__ if is_module else getattr(value, "__module__", None)
        if isinstance(used, str):
            _add_own_files(used, files)


def _is_installed(file: Path) -> bool:
    """Return whether a file is Python's, an installed package's or featplug's."""
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return any(file.is_relative_to(folder) for folder in (*folders, *featplug.__path__))
