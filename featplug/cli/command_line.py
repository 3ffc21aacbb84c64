"""Reading of arguments, start and failure of every command of the project."""

import argparse
import inspect
import io
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from featplug import __version__
from featplug.cli.config_file import read_config, write_config
from featplug.cli.program import Command, Entry, Group, command_name
from featplug.io.files import is_disk_error, not_written
from featplug.utils.errors import has_own_traceback, show_own_traceback
from featplug.utils.interrupts import Interrupted, interrupts_raised, reinstall

_T = TypeVar("_T")
Unprefixed = Annotated[_T, tyro.conf.arg(name="")]
"""Dataclass of options that have no common prefix on the command line."""


class RunOptions(Protocol):
    """Options of a command that fills a folder."""

    @property
    def output_dir(self) -> Path:
        """Folder of the run."""


@dataclass(frozen=True)
class _Call:
    """The command that runs."""

    name: str
    """Name of the command in ``featplug``."""
    function: Callable[..., Any]
    arguments: Mapping[str, Any]


_CALL: ContextVar[_Call | None] = ContextVar("call", default=None)


def leave_config(
    options: RunOptions, working: Path | None = None, folder: Path | None = None
) -> None:
    """Write ``config.toml``, which repeats the run, into the folder of the run.

    A run calls this once, when nothing of an earlier run in the folder rejects it any more. Nothing
    is written for options that are not the command line's own, such as those of a run inside a
    benchmark.

    Args:
        options: options of the run.
        working: folder to write to, from which the file is moved to that of the run.
        folder: folder of the run, by default the one that the options name.
    """
    call = _CALL.get()
    if call is not None and any(value is options for value in call.arguments.values()):
        write_config(
            folder or options.output_dir, call.name, call.function, call.arguments, working
        )


def run_command(command: Entry | Group, prog: str, arguments: Sequence[str] | None = None) -> None:
    """Run a typed function, or one of a group of commands, as a command line.

    Options can be typed with ``-`` or ``_``. A bad input ends with one line and exit code 2.

    Args:
        command: the function or group.
        prog: how the command is called, for its messages.
        arguments: the command line; that of the process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    program = None
    if isinstance(sys.stdout, io.TextIOWrapper):  # not every path can be printed
        sys.stdout.reconfigure(errors="backslashreplace")

    def report_stop(_: int) -> None:
        change = " without --overwrite" if "--overwrite" in words else ""
        print(f"{prog}: stopped; run the same command again{change} to resume.", file=sys.stderr)

    try:
        with interrupts_raised(report_stop):
            program = _dispatch(command, prog, words)
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if has_own_traceback(error):
            show_own_traceback(error)
            sys.exit(1)
        if not isinstance(error, ValueError | OSError):
            raise
        reason = str(error)
        if isinstance(error, OSError) and is_disk_error(error):
            reason = str(not_written(Path(error.filename or "A file"), str(error.strerror)))
        elif isinstance(error, OSError) and error.filename and error.strerror:
            reason = f"{error.filename}: {error.strerror}; choose another folder or file."
        print(f"{prog}: {reason}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        report_stop(number)
        sys.exit(128 + number)
    if program is not None:
        program()


def _dispatch(command: Entry | Group, prog: str, words: list[str]) -> Callable[[], object] | None:
    """Run the command that the first words name; return a program that has errors of its own."""
    if isinstance(command, Command):
        loaded = command.load()
        if command.reads_own_arguments:
            return partial(loaded, words, prog=prog)
        is_group = isinstance(loaded, Mapping)
        target = Group(command.summary, {"commands": loaded}) if is_group else loaded
        return _dispatch(target, prog, words)
    if isinstance(command, Group):
        if words[:1] == ["--version"]:
            print(f"featplug {__version__}")
        elif words[:1] in ([], ["-h"], ["--help"]):
            print(command.help(prog))
            if not words:
                sys.exit(2)
        else:
            return _dispatch(command.find(words[0], prog), f"{prog} {words[0]}", words[1:])
    elif "--version" in words:
        print(f"featplug {__version__}")
    else:
        name, config = command_name(prog), _config_path(words)
        defaults = {} if config is None else read_config(config, name, command)
        with _FLOWING_HELP:
            tyro.cli(_with_shared_options(command, name, defaults), prog=prog, args=words)
    return None


def _config_path(words: Sequence[str]) -> Path | None:
    """Return the value of ``--config``, which the parser's defaults depend on."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path, nargs="?")
    return parser.parse_known_args(words)[0].config


def with_signature(
    run: Callable[..., Any], function: Callable[..., Any], parameters: Iterable[inspect.Parameter]
) -> Callable[..., Any]:
    """Return ``run``, which takes arguments by name, with another docstring and parameters.

    Args:
        run: function to return.
        function: function with the docstring.
        parameters: parameters, annotated with types rather than text.
    """
    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in named}
    run.__doc__ = re.sub(r"\n {8,}", " ", inspect.getdoc(function) or "")  # each argument a line
    return run


def typed_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a function, annotated with types rather than text."""
    hints = get_type_hints(function, include_extras=True)
    return [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
    ]


def _with_shared_options(
    function: Callable[..., Any], name: str, defaults: Mapping[str, Any]
) -> Callable[..., Any]:
    """Return a function with other defaults, and with the options that all commands have."""

    def run(*, config: Path | None, quiet: bool, **arguments: Any) -> None:
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        loggers = [logging.getLogger(name) for name in ("featplug", "pipelines", "benchmarks")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.WARNING if quiet else logging.INFO)
        # What decoders of images say of damaged files is in our own messages.
        warnings.filterwarnings("ignore", module="PIL")
        reinstall()
        token = _CALL.set(_Call(name, function, arguments))
        try:
            function(**arguments)
        finally:
            _CALL.reset(token)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

    own = [p.replace(default=defaults.get(p.name, p.default)) for p in typed_parameters(function)]
    return with_signature(run, function, [*own, *typed_parameters(_shared)])


def _shared(
    config: Annotated[
        Path | None,
        tyro.conf.arg(help="TOML file with options, such as the config.toml of an earlier run."),
    ] = None,
    quiet: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="Print results only, without progress bars and log."),
    ] = False,
) -> None:
    """Declare the options that all commands have."""


def print_reasons(skipped: Mapping[str, str], start: str = "") -> None:
    """Print the first ten reasons why images or pairs were skipped, and the number of others."""
    for reason in list(skipped.values())[:10]:
        print(f"  {start}{reason}")
    if len(skipped) > 10:
        print(f"  and {len(skipped) - 10} more")


_FLOWING_HELP = ConstructorRegistry()
"""How tyro reads options: help flows, where tyro's own would keep the lines of docstrings."""
_IS_READING: ContextVar[bool] = ContextVar("is_reading", default=False)


@_FLOWING_HELP.struct_rule
def _read_options(info: StructTypeInfo) -> StructConstructorSpec | None:
    if _IS_READING.get():  # tyro's own rules are next
        return None
    token = _IS_READING.set(True)
    try:
        spec = ConstructorRegistry.get_struct_spec(info)
    finally:
        _IS_READING.reset(token)
    if not isinstance(spec, StructConstructorSpec):
        return None
    fields = [replace(field, helptext=partial(_flowing_help, field)) for field in spec.fields]
    return replace(spec, fields=tuple(fields))


def _flowing_help(field: StructFieldSpec) -> str | None:
    text = field.helptext() if callable(field.helptext) else field.helptext
    return None if text is None else " ".join(text.split())
