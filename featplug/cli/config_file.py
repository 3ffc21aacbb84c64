"""``config.toml``: the options of a run as a file that repeats the run.

A key is an option as ``--help`` shows it, a table the common prefix of options, such as
``[camera]`` of ``--camera.model``; ``command`` is the command of the options. None is written as
``"None"``, as on the command line, and left out where it is the default.
"""

import dataclasses
import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tomli_w
import tyro

from featplug import __version__
from featplug.io.files import write_whole_text
from featplug.io.text_files import read_text
from featplug.utils.suggestions import did_you_mean

CONFIG = "config.toml"
"""Name of the file in a run's folder."""
_MAX_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class _Option:
    """An argument of a command, or a field of one of its dataclasses."""

    name: str
    hint: Any
    """Type, without annotations."""
    default: Any
    """``tyro.MISSING`` where a value is required."""
    is_merged: bool
    """Whether the command line shows the fields of this dataclass without a common prefix."""

    @property
    def is_group(self) -> bool:
        """Whether the option is a dataclass of options."""
        return dataclasses.is_dataclass(self.hint)

    def changed(self, values: dict[str, Any]) -> Any:
        """Return the default of a dataclass with other values in some of its fields."""
        if self.default is not tyro.MISSING:
            return dataclasses.replace(self.default, **values)
        required = {o.name: o.default for o in _options(self.hint) if o.default is tyro.MISSING}
        return self.hint(**required | values)

    def typed(self, value: Any, where: str) -> Any:
        """Return a TOML value as the type of the option; raise ValueError if it has another."""
        try:
            return _converted(value, self.hint)
        except TypeError:
            expected = inspect.formatannotation(self.hint).replace("pathlib.", "")
            message = f"{where}: {self.name} must be {expected}, not {value!r}; correct it."
            raise ValueError(message) from None


def write_config(
    folder: Path,
    name: str,
    command: Callable[..., Any],
    arguments: Mapping[str, Any],
    working: Path | None = None,
) -> None:
    """Write the arguments of the command of that name; a reader never sees half of the file.

    It is made for ``folder``, but written to the folder ``working`` if one is given.
    """
    path = folder / CONFIG
    heading = f"# featplug {__version__}; `featplug {name} --config {path}` makes this run again.\n"
    table = to_table(command, arguments)
    table.pop("overwrite", None)  # a rerun resumes
    text = heading + tomli_w.dumps({"command": name, **table})
    write_whole_text((working or folder) / CONFIG, text)


def read_config(path: Path, name: str, command: Callable[..., Any]) -> dict[str, Any]:
    """Read the configuration of a run as defaults of a command's arguments.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not TOML, is of another command, or has a key or value that does not fit.
    """
    text = read_text(path, "configuration", _MAX_BYTES)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a TOML file ({error}); correct it.") from error
    other = table.pop("command", name)
    if other != name:
        remedy = f"run `featplug {other} --config {path}`"
        raise ValueError(f"{path} belongs to the command {other!r}, not {name!r}; {remedy}.")
    return from_table(command, table, str(path))


def to_table(holder: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command, or the fields of a dataclass, as a TOML table."""
    table: dict[str, Any] = {}
    for option in _options(holder):
        value = values[option.name]
        if option.is_group:
            inner = to_table(option.hint, vars(value))
            table |= inner if option.is_merged else {option.name: inner}
        elif value is not None or option.default is not None:
            table[option.name] = _plain(value)
    return table


def from_table(holder: Callable[..., Any], table: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the arguments of a command, or the fields of a dataclass, that a TOML table has.

    A required option that the table lacks is ``tyro.MISSING``, which the command line must set.

    Raises:
        ValueError: a key or value does not fit; the message has it and ``where``.
    """
    left = {key.replace("-", "_"): value for key, value in table.items()}
    known: list[str] = []
    values = _take(holder, left, known, where)
    if key := next(iter(left), None):
        suggestion = did_you_mean(key, known)
        raise ValueError(f"{where}: there is no option {key!r}.{suggestion} Correct the key.")
    return values


def _take(
    holder: Callable[..., Any], table: dict[str, Any], known: list[str], where: str
) -> dict[str, Any]:
    """Move the values of options out of a table, and note the keys that it may have."""
    values: dict[str, Any] = {}
    for option in _options(holder):
        if option.is_merged:
            values[option.name] = option.changed(_take(option.hint, table, known, where))
            continue
        known.append(option.name)
        value = table.pop(option.name, tyro.MISSING)
        if option.is_group:
            inner = {} if value is tyro.MISSING else value
            if not isinstance(inner, dict):
                raise ValueError(f"{where}: {option.name} must be a table, not {value!r}.")
            inner = from_table(option.hint, inner, f"{where}, [{option.name}]")
            values[option.name] = option.changed(inner)
        elif value is not tyro.MISSING:
            values[option.name] = option.typed(value, where)
    return values


def _options(holder: Callable[..., Any]) -> Iterator[_Option]:
    """List the arguments of a function, or the fields of a dataclass."""
    hints = get_type_hints(holder, include_extras=True)
    if dataclasses.is_dataclass(holder):
        defaults = {
            field.name: field.default if factory is dataclasses.MISSING else factory()
            for field in dataclasses.fields(holder)
            for factory in [field.default_factory]
        }
    else:
        defaults = {p.name: p.default for p in inspect.signature(holder).parameters.values()}
    for name, default in defaults.items():
        if default in (dataclasses.MISSING, inspect.Parameter.empty):
            default = tyro.MISSING
        hint, marks = hints[name], getattr(hints[name], "__metadata__", ())
        hint = get_args(hint)[0] if marks else hint
        is_merged = tyro.conf.OmitArgPrefixes in marks or any(
            getattr(mark, "name", None) == "" for mark in marks
        )
        yield _Option(name, hint, default, is_merged)


def _plain(value: Any) -> Any:
    if value is None:
        return "None"
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_table(type(value), vars(value))
    if isinstance(value, Path):  # such that the file holds from any folder
        return str(value.absolute() if value.exists() else value)
    return value


def _converted(value: Any, hint: Any) -> Any:
    """Return a TOML value as the type of an option; raise TypeError if it has another."""
    origin, members = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _converted(value, members[0])
    if origin in (Union, UnionType):
        for member in sorted(members, key=lambda member: member is not NoneType):
            try:
                return _converted(value, member)
            except TypeError:
                continue
    elif origin is Literal:
        if value in members:
            return value
    elif origin in (tuple, Sequence) and isinstance(value, list):
        kinds = members[:1] * len(value) if members[1:] in ((...,), ()) else members
        if len(kinds) == len(value):
            return tuple(map(_converted, value, kinds))
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return hint(**from_table(hint, value, hint.__name__))
    elif hint is NoneType:
        if value == "None":
            return None
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is float and type(value) is int:
        return float(value)
    elif type(value) is hint:
        return value
    raise TypeError
