"""What is known of the code of methods, for the provenance of files and records of runs."""

import hashlib
import sys
from importlib import metadata
from pathlib import Path

from torch import nn

import featplug
from featplug.base import Extractor, GlobalExtractor, Matcher, PairMatcher
from featplug.methods.user_classes import class_name, recorded_name, sources


def source_records(method: nn.Module) -> list[dict[str, str]]:
    """Return a record of the class of a method, and of those of the methods that it uses.

    Returns:
        ``class``; ``package`` and ``version`` of the installed package that it comes from; and for
        classes that are not installed, such as a user's own file, the ``sha256`` of its source, as
        imported: of the file, or of all the :func:`~.user_classes.sources` of the class.
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
    files: dict[Path, str] = {}
    for base in cls.__mro__:
        files |= sources(sys.modules[base.__module__])
    if files:
        hashes = sorted(files.values())
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
