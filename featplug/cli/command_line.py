"""How every command of the project reads its arguments, starts its work and fails."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar, get_type_hints

import tyro

from featplug import __version__
from featplug.cli.config_file import read_config, write_config
from featplug.cli.program import Command, Entry, Group, command_name

_T = TypeVar("_T")
Unprefixed = Annotated[_T, tyro.conf.arg(name="")]
"""Dataclass of options whose names have no common start on the command line."""


class RunOptions(Protocol):
    """Options of a command that fills a folder."""

    @property
    def output_dir(self) -> Path:
        """Folder of the run."""


@dataclass(frozen=True)
class _Call:
    """What the command line asks for."""

    name: str
    """Name of the command in ``featplug``."""
    function: Callable[..., Any]
    arguments: Mapping[str, Any]


_CALL: ContextVar[_Call | None] = ContextVar("call", default=None)


def leave_config(options: RunOptions) -> None:
    """Write ``config.toml``, which makes the run again, into the folder of the run.

    A run calls this once, when its inputs are checked and its work starts. Nothing is written for
    options that are not the command line's own: those of a run inside a benchmark or notebook.
    """
    call = _CALL.get()
    if call is not None and any(value is options for value in call.arguments.values()):
        write_config(options.output_dir, call.name, call.function, call.arguments)


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
    try:
        program = _dispatch(command, prog, words)
    except BrokenPipeError:  # the reader of the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        change = " without --overwrite" if "--overwrite" in words else ""
        print(f"{prog}: stopped; run the same command again{change} to resume.", file=sys.stderr)
        sys.exit(130)
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
        tyro.cli(_with_shared_options(command, name, defaults), prog=prog, args=words)
    return None


def _config_path(words: Sequence[str]) -> Path | None:
    """Return the value of ``--config``, which the parser's defaults depend on."""
    for index, word in enumerate(words):
        option, _, value = word.partition("=")
        if option == "--config":
            value = value or " ".join(words[index + 1 : index + 2])
            return Path(value) if value else None
    return None


def with_signature(
    run: Callable[..., Any], function: Callable[..., Any], parameters: Iterable[inspect.Parameter]
) -> Callable[..., Any]:
    """Return ``run`` as a command that shows these parameters and another function's docstring.

    Args:
        run: function that takes arguments by name.
        function: function with the docstring.
        parameters: parameters of the command, annotated with types rather than text.
    """
    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in named}
    run.__doc__ = function.__doc__
    return run


def typed_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a function with their types, which may be written as text."""
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
