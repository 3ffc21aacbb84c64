"""Adds our confs to hloc's tables and our models to hloc's packages, and removes them.

Nothing is remembered between calls: our entries are recognised by the names of their models.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pycolmap

from featplug.hloc import model_finder, two_view_geometries
from featplug.hloc.confs import (
    MODEL_PREFIX,
    extractor_conf,
    extractor_confs,
    matcher_conf_of,
    matcher_confs,
    requested_matcher_conf,
)
from featplug.methods import feature_conf, matcher_conf
from featplug.utils.versions import known_problems, needs_configurations, release

logger = logging.getLogger(__name__)

HLOC_ADDRESS = "https://github.com/cvg/Hierarchical-Localization"
CLONE_VARIABLE = "FEATPLUG_HLOC"
"""Environment variable with the folder of a clone of hloc."""
MIN_VERSION = (1, 5)

_Table = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Registration:
    """Confs of featplug that hloc has."""

    extractors: dict[str, str]
    """Name in ``hloc.extract_features.confs`` of each feature and retrieval conf."""
    matchers: dict[str, str]
    """Name in ``hloc.match_features.confs`` of each matcher conf."""
    also: tuple[str, ...]
    """Further features and matchers that were requested by name."""
    problems: tuple[str, ...]
    """Known problems with these versions, and confs without a free name."""


def register(*also: str) -> Registration:
    """Add every feature, retrieval and matcher conf of ours to hloc's tables.

    A conf keeps its name, or is called ``featplug-NAME`` if hloc has a conf of that name; no conf
    of hloc's is changed. Where pycolmap needs it, hloc's triangulation writes configurations (see
    :mod:`featplug.hloc.two_view_geometries`). Calling it again changes nothing. Problems are logged
    as warnings when something is added.

    Args:
        *also: further matchers to add, and features with their matchers, by any name of
            :mod:`featplug.methods.method_names`, such as ``lisrd@mtldesc`` or ``my_file.py:Class``.

    Raises:
        ImportError: hloc is missing, too old, or another program of that name.
        FileNotFoundError: the file of a class does not exist.
        ValueError: a name in ``also`` is neither a feature nor a matcher.
    """
    _requested(also)
    hloc = import_hloc()
    model_finder.install()
    if needs_configurations(pycolmap.__version__):
        _configure_triangulation()
    matchers, added, lost = add_matchers(hloc.match_features.confs, also)
    extractors, more_added, more_lost = add_extractors(hloc.extract_features.confs, matchers, also)
    problems = (*_version_problems(hloc), *lost, *more_lost)
    if added or more_added:
        for problem in problems:
            logger.warning("%s", problem)
    return Registration(extractors, matchers, also, problems)


def _configure_triangulation() -> None:
    try:
        triangulation = import_module("hloc.triangulation")
    except ModuleNotFoundError as error:
        if error.name != "hloc.triangulation":
            raise _not_importable(error) from error
    else:
        two_view_geometries.configure(vars(triangulation))


def unregister() -> None:
    """Remove from hloc all confs with a model of ours, and the models."""
    for name in ("extract_features", "match_features"):
        table = getattr(sys.modules.get(f"hloc.{name}"), "confs", {})
        for ours in [name for name, conf in table.items() if _model(conf).startswith(MODEL_PREFIX)]:
            del table[ours]
    model_finder.uninstall()
    if (triangulation := sys.modules.get("hloc.triangulation")) is not None:
        two_view_geometries.restore(vars(triangulation))


def add_extractors(
    table: _Table, matchers: Mapping[str, str], also: Collection[str] = ()
) -> tuple[dict[str, str], bool, list[str]]:
    """Add our extractor confs, and those in ``also``, to ``confs`` of hloc's ``extract_features``.

    Args:
        table: the table ``confs``.
        matchers: hloc's names of our matcher confs.
        also: further confs of ours, see :func:`register`.

    Returns:
        Names in hloc by our names, whether any was added, and a sentence for each that was not.
    """
    requested, _ = _requested(also)
    confs = extractor_confs() | {name: extractor_conf(name) for name in requested}
    for name, conf in confs.items():
        for key in ("matcher", "two_view_matcher"):
            matcher = conf.pop(key, None)
            if key == "matcher" and name in requested:
                matcher, _ = matcher_conf_of(name)
            if matcher in matchers:
                conf[key] = matchers[matcher]
    return _add(table, confs)


def add_matchers(table: _Table, also: Iterable[str] = ()) -> tuple[dict[str, str], bool, list[str]]:
    """Add our matcher confs, and those of ``also``, as :func:`add_extractors`."""
    requested, others = _requested(also)
    confs = dict(map(matcher_conf_of, requested))
    confs |= {name: requested_matcher_conf(name) for name in others}
    return _add(table, confs | matcher_confs())


def _requested(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split requested names into those of features and those of matchers.

    Raises:
        FileNotFoundError: the file of a class does not exist.
        ValueError: a name is neither.
    """
    extractors, others = [], []
    for name in names:
        try:
            feature_conf(name)
        except ValueError as error:
            try:
                matcher_conf(name)
            except ValueError:
                raise error from None
            others.append(name)
        else:
            extractors.append(name)
    return extractors, others


def _add(table: _Table, confs: _Table) -> tuple[dict[str, str], bool, list[str]]:
    names: dict[str, str] = {}
    any_added = False
    problems = []
    for own, conf in confs.items():
        for name in _names(own):
            if name not in table:
                table[name] = conf
                any_added = True
            if _model(table[name]) == conf["model"]["name"]:
                names[own] = name
                break
        else:
            problems.append(
                f"hloc has confs {' and '.join(map(repr, _names(own)))} already, so featplug's "
                f"{own!r} is not added; rename one of those before."
            )
    return names, any_added, problems


def _names(own: str) -> tuple[str, str]:
    """Return the names that a conf of ours may have in hloc, the better one first."""
    return own, f"featplug-{own}"


def _model(conf: Any) -> str:
    """Return the name of a conf's model; empty if an entry of hloc's table has none."""
    model = conf.get("model") if isinstance(conf, Mapping) else None
    return str(model.get("name", "")) if isinstance(model, Mapping) else ""


def import_hloc() -> ModuleType:
    """Import and check hloc and its two modules with confs; see :func:`register` for errors.

    hloc is searched in the folder that ``$FEATPLUG_HLOC`` names, a clone, and where Python
    searches.
    """
    clone = os.environ.get(CLONE_VARIABLE, "")
    if clone and not (Path(clone) / "hloc" / "extract_features.py").is_file():
        raise ImportError(
            f"{CLONE_VARIABLE}={clone} is no clone of hloc; correct it, or unset it.", name="hloc"
        )
    try:
        if clone and clone not in sys.path:
            sys.path.insert(0, clone)
        import hloc  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        if error.name != "hloc":
            raise _not_importable(error) from error
        fork = ""
        if importlib.util.find_spec("imcui"):
            fork = " (the copy inside imcui is a fork with other options and cannot be used)"
        raise ImportError(
            f"There is no hloc here{fork}; it is not on PyPI: clone {HLOC_ADDRESS} and "
            f"`pip install -e` it, or let {CLONE_VARIABLE} name the clone.",
            name="hloc",
        ) from error
    except ImportError as error:
        raise _not_importable(error) from error
    where = f"the hloc in {Path(hloc.__file__).parent}" if hloc.__file__ else "the folder hloc"
    version = str(getattr(hloc, "__version__", "without a version"))
    if not version[:1].isdigit():
        raise _rejected(f"{where} is not the localization toolbox")
    if release(version) < MIN_VERSION:
        raise _rejected(f"{where} is {version}, too old for today's pycolmap")
    try:
        from hloc import extract_features, match_features
        from hloc.utils.base_model import dynamic_load  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        raise _not_importable(error) from error
    for module in (extract_features, match_features):
        if not isinstance(getattr(module, "confs", None), dict):
            raise _rejected(f"{where} is a fork: its {module.__name__} has no table of confs")
    # imcui's: the same names, but its reader calls the option otherwise and passes over ours.
    if "resize_force" not in extract_features.ImageDataset.default_conf:
        raise _rejected(f"{where} is a fork, which reads images by other options, as imcui's does")
    return hloc


def _rejected(reason: str) -> ImportError:
    return ImportError(
        f"{reason[0].upper()}{reason[1:]}; featplug needs {HLOC_ADDRESS} of version "
        f"{'.'.join(map(str, MIN_VERSION))} or later.",
        name="hloc",
    )


def _not_importable(error: ImportError) -> ImportError:
    return ImportError(f"hloc is here but cannot be imported: {error}.", name="hloc")


def _version_problems(hloc: ModuleType) -> list[str]:
    """Return known problems with the installed versions of hloc and pycolmap."""
    problems = known_problems({"pycolmap": pycolmap.__version__}, {})
    if importlib.util.find_spec("hloc.utils.database") is not None:
        problems.append(
            f"The hloc in {Path(hloc.__file__ or '').parent} is older than September 2025: its "
            "reconstruction, triangulation and localization need pycolmap before 3.12, which "
            "featplug does not support; update hloc by `git pull`."
        )
    return problems
