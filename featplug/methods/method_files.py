"""Methods in a TOML file of the user's, in hloc's form.

::

    [features.sift-fine]
    model = { name = "sift", contrast_threshold = 0.005 }
    preprocessing = { resize_max = 3200 }
    matcher = "NN-strict"

    [matchers.NN-strict]
    model = { name = "NN-ratio", ratio_threshold = 0.7 }

``model.name`` is the name of a method, whose conf is changed by what the table has, or of a class.
"""

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from featplug.io.text_files import read_text
from featplug.methods import (
    feature_conf,
    is_pair_matcher,
    matcher_conf,
    pair_matcher_conf,
    retrieval_conf,
)
from featplug.methods.method_names import located
from featplug.methods.method_options import check_options, check_preprocessing
from featplug.methods.method_table import (
    Conf,
    MethodTable,
    check_name,
    features,
    matchers,
    pair_matchers,
    retrieval,
)
from featplug.utils.errors import has_own_traceback
from featplug.utils.suggestions import did_you_mean

_Found = TypeVar("_Found")
_TABLES = ("matchers", "features", "retrieval")
"""Tables of a file, in the order in which they may refer to each other."""
_KEYS = {
    "features": ("matcher", "two_view_matcher", "paper", "dimensions", "preprocessing"),
    "matchers": ("paper", "preprocessing"),
    "retrieval": ("paper", "preprocessing"),
}
_MAX_BYTES = 2**20


def add_methods(paths: Iterable[Path]) -> None:
    """Add the methods of files to the tables.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is not TOML, or something in it does not fit; or two files have a method
            of the same name.
    """
    places: dict[tuple[str, str], str] = {}
    for path in paths:
        document = _document(path)
        for kind in _TABLES:
            for name, entry in document.get(kind, {}).items():
                where = f"{path}, [{kind}.{name}]"
                if (other := places.setdefault((kind, name), where)) != where:
                    raise ValueError(f"{where}: {other} has that name, too; rename one.")
                _add(kind, name, entry, where, path.absolute().parent)


def _document(path: Path) -> dict[str, Any]:
    text = read_text(path, "file of methods", _MAX_BYTES)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a TOML file ({error}); correct it.") from error
    for key, entries in document.items():
        if key not in _TABLES:
            suggestion = did_you_mean(key, _TABLES)
            raise ValueError(
                f"{path}: [{key}] is unknown; tables are [features.NAME], [matchers.NAME] and "
                f"[retrieval.NAME].{suggestion}"
            )
        if not isinstance(entries, dict):
            raise ValueError(f"{path}: {key} must be tables, [{key}.NAME], not {entries!r}.")
    return document


def _add(kind: str, name: str, entry: object, where: str, folder: Path) -> None:
    """Check one table, and add it."""
    check_name(name, where)
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be a table with model, not {entry!r}.")
    known = ("model", "output", *_KEYS[kind])
    for key, value in entry.items():
        if key not in known:
            raise ValueError(
                f"{where}: there is no key {key!r}; there are {', '.join(known)}."
                f"{did_you_mean(key, known)}"
            )
        expected = dict if key in ("model", "preprocessing") else str
        if not isinstance(value, expected):
            form = "a table" if expected is dict else "text"
            raise ValueError(f"{where}: {key} must be {form}, not {value!r}.")
    model = entry.get("model", {})
    if not isinstance(model.get("name"), str):
        raise ValueError(f'{where} needs model = {{ name = "METHOD" }}; add it.')
    table, base = _base(kind, located(model["name"], folder), where)
    conf: Conf = {**base, "name": name, "output": f"{table.output}-{name}", **entry}
    conf["model"] = {**base["model"], **model, "name": base["model"]["name"]}
    if "preprocessing" in entry:
        check_preprocessing(entry["preprocessing"], where)
        conf["preprocessing"] = {**base.get("preprocessing", {}), **entry["preprocessing"]}
    check_options(table, conf["model"], where)
    if "featplug" not in conf["output"]:
        raise ValueError(
            f"{where}: output must contain 'featplug', so that no other tool resumes the files, "
            f"not {conf['output']!r}."
        )
    for key in ("matcher", "two_view_matcher"):
        if key in entry:
            conf[key] = located(entry[key], folder)
            _in_file(matcher_conf, conf[key], where)
    table.add(name, conf, where)


def _base(kind: str, name: str, where: str) -> tuple[MethodTable[Any], Conf]:
    """Return the table of a method, and the conf that is changed."""
    if kind == "features":
        if name not in features and name in features.classes:
            return features, features.class_conf(features.classes[name])
        return features, _in_file(feature_conf, name, where)
    if kind == "retrieval":
        return retrieval, _in_file(retrieval_conf, name, where)
    for table in (matchers, pair_matchers):
        if name not in table and name in table.classes:
            return table, table.class_conf(table.classes[name])
    if _in_file(is_pair_matcher, name, where):
        return pair_matchers, _in_file(pair_matcher_conf, name, where)
    return matchers, _in_file(matcher_conf, name, where)


def _in_file(look_up: Callable[[str], _Found], name: str, where: str) -> _Found:
    """Look a name up, with the place in the file where it is written in what is raised."""
    try:
        return look_up(name)
    except (ValueError, FileNotFoundError) as error:
        if has_own_traceback(error):
            raise
        raise ValueError(f"{where}: {error}") from error
