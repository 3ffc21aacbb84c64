"""Modules such as ``hloc.extractors.featplug_doap``, made when hloc imports them.

hloc's ``dynamic_load`` imports the module of a conf's model and takes its only class. Such a module
exists for each method of :mod:`featplug.methods`, without a file.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from featplug.hloc.confs import MODEL_PREFIX, extractor_confs, matcher_confs, method_of

_CONFS = {"hloc.extractors": extractor_confs, "hloc.matchers": matcher_confs}


class ModelFinder(MetaPathFinder, Loader):
    """Finds the models of our confs in hloc's two packages of models."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a model of ours, None for any other module."""
        package, _, model = fullname.rpartition(".")
        if package not in _CONFS or not model.startswith(MODEL_PREFIX):
            return None
        is_class = ":" in method_of(model)  # which dynamic_load is asked for by a conf only
        models = {conf["model"]["name"] for conf in _CONFS[package]().values()}
        return ModuleSpec(fullname, self) if is_class or model in models else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the model's class into its module."""
        # Imported here, as it imports hloc.
        model = import_module("featplug.hloc.shims").make_model(module.__name__)
        setattr(module, model.__name__, model)


def install() -> None:
    """Let Python find our models, once."""
    if not any(isinstance(finder, ModelFinder) for finder in sys.meta_path):
        sys.meta_path.append(ModelFinder())


def uninstall() -> None:
    """Forget our models and how to find them."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, ModelFinder)]
    for name in [name for name in sys.modules if name.startswith(tuple(_CONFS))]:
        package, _, model = name.rpartition(".")
        if model.startswith(MODEL_PREFIX):
            del sys.modules[name]
            vars(sys.modules[package]).pop(model, None)
