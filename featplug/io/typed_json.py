"""JSON that others wrote: read with limits, and checked against the types that it must have.

A type is what an annotation has: ``str``, ``int``, ``float``, ``Any``, lists and dictionaries of
them, ``X | None``, a dataclass or a ``TypedDict``. ``Annotated[dict[str, Any], Other]`` is checked
as ``Other``.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    NotRequired,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from featplug.io.text_files import read_text

_T = TypeVar("_T")

MAX_BYTES = 32 << 20
"""Largest file that is read; one of three-byte objects takes about 1 GB when it is parsed."""
MAX_DEPTH = 32
MAX_TEXT = 100_000
"""Largest number of characters of one string."""
MAX_NUMBER = 1e20
"""Largest number, either way: sums and squares of such numbers are finite."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TYPE_NAMES: dict[type, str] = {
    **{str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object"},
    **{bool: "true or false", NoneType: "null"},
}


class NonNegative:
    """Mark of a number that is not below zero: ``Annotated[float, NonNegative]``."""


ADDED = {"added": True}
"""Metadata of a dataclass field that older files lack, which then have its default."""


def printable(text: str) -> str:
    """Return text with U+FFFD for control characters, and for others that UTF-8 cannot carry.

    No value can then direct a terminal, or end the writing of a file.
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file with one JSON object.

    Its text is made :func:`printable`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not such a file; the message names the file, and the key if it has one.
    """
    record = _read(Path(path))
    if not isinstance(record, dict):
        raise _unexpected(path, "", "an object", record)
    return _plain(record, path, "")


def read_json_list(path: Path) -> list[Any]:
    """Read a file with one JSON list, as :func:`read_json` does one with an object."""
    values = _read(Path(path))
    if not isinstance(values, list):
        raise _unexpected(path, "", "a list", values)
    return _plain(values, path, "")


def _read(path: Path) -> Any:
    text = read_text(path, "JSON file", MAX_BYTES)
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"{path}: its values are nested too deeply.") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def _distinct(entries: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(entries)
    if len(record) < len(entries):
        names = [name for name, _ in entries]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {_short(repeated)!r} is repeated")
    return record


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _plain(value: Any, path: Path, where: str, depth: int = 0) -> Any:
    """Return a value with clean text, and check its limits."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{path}: {_short(where)}: its values are nested too deeply.")
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise _unexpected(path, where, f"at most {MAX_TEXT:,} characters", value)
        return printable(value)
    if isinstance(value, dict):
        return {
            _plain(key, path, where): _plain(entry, path, _join(where, key), depth + 1)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [_plain(entry, path, f"{where}[{i}]", depth + 1) for i, entry in enumerate(value)]
    if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
        raise _unexpected(path, where, f"a number of at most {MAX_NUMBER:g}", value)
    return value


def as_type(value: Any, kind: type[_T], path: Path, where: str = "") -> _T:
    """Return a value of :func:`read_json` as a type.

    A dataclass needs the keys of all its fields but those that are :data:`ADDED`. Keys that the
    type does not have are left out of a dataclass, and kept in a ``TypedDict``.

    Args:
        value: the value.
        kind: the type.
        path: file of the value, for messages.
        where: keys that lead to it.

    Raises:
        ValueError: it has another type; the message names the file, the key and the type expected.
    """
    return cast(_T, _convert(value, kind, path, where))


def _convert(value: Any, kind: Any, path: Path, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated and arguments[1] is NonNegative:
        number = _convert(value, arguments[0], path, where)
        if number < 0:
            raise _unexpected(path, where, "a number of 0 or more", value)
        return number
    if origin is Annotated:
        return _convert(value, arguments[1], path, where)
    if origin is NotRequired:
        return _convert(value, arguments[0], path, where)
    if origin in (Union, UnionType):
        (other,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _convert(value, other, path, where)
    if is_typeddict(kind) or is_dataclass(kind):
        return _convert_fields(value, kind, path, where)
    plain = origin or kind
    is_number = plain is float and isinstance(value, int)  # whole numbers are written without .0
    if not (isinstance(value, plain) or is_number) or (
        isinstance(value, bool) and plain is not bool
    ):
        raise _unexpected(path, where, _TYPE_NAMES[plain], value)
    if origin is list:
        return [_convert(v, arguments[0], path, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict:
        return {k: _convert(v, arguments[1], path, _join(where, k)) for k, v in value.items()}
    return value


def _convert_fields(value: Any, kind: Any, path: Path, where: str) -> Any:
    if not isinstance(value, dict):
        raise _unexpected(path, where, "an object", value)
    hints, required = _keys(kind)
    for name in hints:
        if name in required and name not in value:
            raise ValueError(f"{path}: {_short(_join(where, name))} is missing.")
    converted = {
        name: _convert(value[name], hint, path, _join(where, name))
        for name, hint in hints.items()
        if name in value
    }
    if is_typeddict(kind):
        return value | converted
    try:
        return kind(**converted)
    except ValueError as error:
        raise ValueError(f"{path}: {_short(where)}: {error}") from error


@cache
def _keys(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the types of all keys of a type, and the keys that it needs."""
    if is_typeddict(kind):
        required = kind.__required_keys__
    else:
        required = frozenset(field.name for field in fields(kind) if field.metadata != ADDED)
    return get_type_hints(kind, include_extras=True), required


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _unexpected(path: Path, where: str, expected: str, value: Any) -> ValueError:
    place = f"{path}: {_short(where)}" if where else f"{path}"
    is_shown = isinstance(value, str | int | float) and not isinstance(value, bool)
    got = _short(ascii(value)) if is_shown else _TYPE_NAMES[type(value)]
    return ValueError(f"{place}: expected {expected}, got {got}.")


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= 60 else f"{text[:57]}…"
