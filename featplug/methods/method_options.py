"""Options of methods as text, ``NAME=VALUE``, and the check of their names and types."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from featplug.io.images import DEFAULT_PREPROCESSING
from featplug.methods.method_table import Conf, MethodTable
from featplug.utils.suggestions import unknown_option

_WORDS = {"None": None, "True": True, "False": False}
"""Values as Python writes them, besides those of TOML."""


def with_options(
    table: MethodTable[Any], conf: Mapping[str, Any], options: Sequence[str], flag: str
) -> Conf:
    """Return a conf with options of its model replaced.

    Args:
        table: the table of the conf.
        conf: a conf dict.
        options: texts ``NAME=VALUE``; ``detector.NAME`` is an option of a describer's detector.
            Values are those of TOML, ``None``, or text without quotation marks.
        flag: the command line's name of the options, for messages.

    Raises:
        ValueError: the method has no such option, or it cannot have the value.
    """
    model = dict(conf["model"])
    for text in options:
        name, equals, value = text.partition("=")
        *parents, option = name.strip().split(".")
        if not (equals and option):
            raise ValueError(f"--{flag} {text}: write NAME=VALUE, such as max_keypoints=2048.")
        owner = model
        for parent in parents:
            if not isinstance(owner.get(parent), Mapping):
                known = [key for key, inner in owner.items() if isinstance(inner, Mapping)]
                raise unknown_option(f"--{flag} {text}: {owner['name']}", parent, known)
            owner[parent] = dict(owner[parent])
            owner = owner[parent]
        where, given = f"--{flag} {text}", {option: _value(value.strip())}
        if option == "name":
            raise ValueError(f"{where}: the name of a method is no option; give another method.")
        name_of_owner = owner["name"] if parents else table.name_of(conf)
        check_options(table, {"name": owner["name"], **given}, where, name_of_owner)
        owner |= given
    return {**conf, "model": model}


def check_options(
    table: MethodTable[Any], model: Mapping[str, Any], where: str, name: str | None = None
) -> None:
    """Check the names and types of the options of a model, and of its detector.

    ``name`` is that of the method in messages, by default that of its class.

    Raises:
        ValueError: the method does not exist, has no such option, or it cannot have the value; the
            message begins with ``where``.
    """
    cls: Any = table.classes.get(model["name"]) or table.method_class(model["name"])
    known: Mapping[str, Any] = cls.all_options()
    for key, value in model.items():
        if key == "name":
            continue
        if key not in known:
            raise unknown_option(f"{where}: {name or model['name']}", key, known)
        default = known[key]
        if key == "detector" and isinstance(value, Mapping):
            check_options(table, value, where)
        elif not _is_like(value, default):
            kind = _KINDS.get(type(default), type(default).__name__)
            raise ValueError(f"{where}: {key} must be {kind}, not {value!r}; correct it.")


_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a table",
}


def _is_like(value: object, default: object) -> bool:
    """Return whether a value has the type of an option's default; None may be anything."""
    if default is None or value is None:
        return True
    for kinds in ((bool,), (int, float), (list, tuple)):
        if isinstance(default, kinds):
            return isinstance(value, kinds) and isinstance(value, bool) == (kinds == (bool,))
    return isinstance(value, type(default))


def check_preprocessing(preprocessing: Mapping[str, Any], where: str) -> None:
    """Check the names of options of preprocessing; raise ValueError for others."""
    for name in preprocessing:
        if name not in DEFAULT_PREPROCESSING:
            raise unknown_option(f"{where}: preprocessing", name, DEFAULT_PREPROCESSING)


def resized(conf: Mapping[str, Any], resize_max: int | None) -> Conf:
    """Return a conf whose images are reduced to a longest side, in pixels.

    Args:
        conf: a conf dict.
        resize_max: the longest side; -1 keeps the size of every image, None that of the conf.

    Raises:
        ValueError: the number is 0 or below -1.
    """
    if resize_max is None:
        return dict(conf)
    if resize_max < 1 and resize_max != -1:
        raise ValueError(f"--resize-max must be 1 or more, or -1 for all, not {resize_max}.")
    limits: Conf = {"resize_max": None if resize_max == -1 else resize_max}
    if conf.get("preprocessing", {}).get("resize_max_sum") is not None:
        limits["resize_max_sum"] = None
    return {**conf, "preprocessing": {**conf.get("preprocessing", {}), **limits}}


def _value(text: str) -> Any:
    """Return a text as a value of TOML, or as it is."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        table = {}
    if list(table) == ["value"]:
        return table["value"]
    try:
        return float(text)  # such as .5, which TOML writes 0.5
    except ValueError:
        return text
