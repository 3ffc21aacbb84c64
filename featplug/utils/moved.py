"""Module names of featplug 0.1: importable until 0.3, with a :class:`DeprecationWarning`."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MODULES = {
    "featplug.confs": ("featplug.methods",),
    "featplug.extract": ("featplug.stages.extract",),
    "featplug.images": ("featplug.io.images",),
    "featplug.match": ("featplug.stages.match",),
    "featplug.pairs": ("featplug.stages.pairs", "featplug.io.pair_lists"),
    "featplug.retrieval": ("featplug.stages.retrieve", "featplug.stages.retrieval_pairs"),
    "featplug.store": ("featplug.io.store",),
}
"""Module that README.md or docs/ of 0.1 show, to the modules that its names moved to."""
PACKAGES = {
    "featplug.colmap": (
        "featplug.colmap.cameras",
        "featplug.colmap.database",
        "featplug.colmap.mapping",
        "featplug.colmap.model_files",
        "featplug.colmap.geometric_verification",
    ),
    "featplug.metrics": ("featplug.metrics.poses", "featplug.metrics.homography"),
    "featplug.weights": ("featplug.weights.loading",),
}
"""Package that was a module in 0.1, to the modules that its names moved to."""


class _MovedFinder(MetaPathFinder, Loader):
    """Imports a module of an old name as the module that it became."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MODULES[spec.name]
        _warn(spec.name, " and ".join(new), stacklevel=3)
        alias = ModuleType(spec.name, f"Alias of {', '.join(new)}.")
        alias.__getattr__ = lambda name: _find(spec.name, name, new)  # type: ignore[method-assign]
        return alias

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: attributes are looked up in the new module."""


def install() -> None:
    """Make the old names importable, once."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(_MovedFinder())


def moved_attribute(package: str, name: str) -> object:
    """Return what ``package.name`` of 0.1 is now, for the ``__getattr__`` of that package.

    Raises:
        AttributeError: 0.1 had no such name.
    """
    found = _find(package, name, PACKAGES[package])
    _warn(f"{package}.{name}", getattr(found, "__module__", PACKAGES[package][0]), stacklevel=4)
    return found


def _find(old: str, name: str, modules: Sequence[str]) -> object:
    if not name.startswith("_"):
        for new in modules:
            module = importlib.import_module(new)
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {old!r} has no attribute {name!r}")


def _warn(old: str, new: str, stacklevel: int) -> None:
    text = f"{old} moved to {new}; the old name goes with featplug 0.3."
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)
