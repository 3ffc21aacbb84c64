"""Runs a module of hloc, or a script that uses it, as Python would, with our confs registered.

``python -m hloc.extract_features`` builds a second table of confs, in ``__main__``, which
:func:`featplug.hloc.register` cannot reach. Such a module is therefore executed in two parts, and
our confs are added to its table in between; pycolmap is replaced in hloc's triangulation likewise.
"""

import __future__

import ast
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from featplug.hloc import two_view_geometries
from featplug.hloc.registration import Registration, add_extractors, add_matchers, register

_FUTURE_FLAGS = sum(
    getattr(__future__, name).compiler_flag for name in __future__.all_feature_names
)
_Namespace = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """A module or script to run as ``__main__``."""

    name: str
    """Name in ``sys.argv[0]``."""
    path: str
    """Path in tracebacks."""
    source: bytes
    spec: ModuleSpec | None
    """Spec of a module; None for a script."""


def prepare(name: str, also: Sequence[str] = ()) -> tuple[Program, Registration]:
    """Find a program, put its folder first on the path as Python does, and register.

    Args:
        name: a script's path, a module of hloc, with or without ``hloc.``, or any other module.
        also: further features and matchers to add, see :func:`~.registration.register`.

    Raises:
        FileNotFoundError: the script does not exist.
        ImportError: hloc cannot be used.
        ValueError: the module does not exist or cannot be run.
    """
    is_script = name.endswith(".py") or Path(name).is_file()
    if is_script and not Path(name).is_file():
        raise FileNotFoundError(f"There is no script {name}.")
    # Before anything is searched: hloc itself may be in that folder.
    search_first(Path(name).resolve().parent if is_script else Path.cwd())
    registration = register(*also)
    if is_script:
        path = Path.cwd() / name
        return Program(name, str(path), path.read_bytes(), None), registration
    return _find_module(name), registration


def search_first(folder: Path) -> None:
    """Replace the folder of our own program on the path, as Python does for a program."""
    if not sys.flags.safe_path:
        sys.path[0] = str(folder)


def _find_module(name: str) -> Program:
    full_names = [name] if name.partition(".")[0] == "hloc" else [f"hloc.{name}", name]
    for full_name in full_names:
        spec = _find_spec(full_name)
        if spec is not None and spec.submodule_search_locations is not None:
            inside = _module_names(spec.submodule_search_locations)
            spec = _find_spec(f"{full_name}.__main__")
            if spec is None:
                raise ValueError(f"{full_name} is a package; name one of its modules: {inside}.")
        if spec is not None:
            source = spec.loader.get_source(spec.name) if spec.loader else None  # type: ignore[attr-defined]
            if source is None or spec.origin is None:
                raise ValueError(f"{full_name} has no Python source that could be run.")
            return Program(spec.origin, spec.origin, source.encode(), spec)
    raise ValueError(
        f"There is neither a module of hloc, nor another module, nor a script {name!r}; hloc has "
        f"{_module_names(sys.modules['hloc'].__path__)}."
    )


def _module_names(folders: Iterable[str]) -> str:
    return ", ".join(module.name for module in pkgutil.iter_modules(folders))


def _find_spec(name: str) -> ModuleSpec | None:
    """Return a module's spec; None where it, or a package of its name, does not exist."""
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        return None


def run(program: Program, registration: Registration, arguments: Sequence[str]) -> None:
    """Run a program of :func:`prepare` as ``__main__``; tracebacks begin at the program."""
    additions: dict[str, _Addition] = {
        "hloc.extract_features": (
            _assigns_confs,
            lambda names: add_extractors(names["confs"], registration.matchers, registration.also),
        ),
        "hloc.match_features": (
            _assigns_confs,
            lambda names: add_matchers(names["confs"], registration.also),
        ),
        "hloc.triangulation": (_imports_pycolmap, two_view_geometries.configure),
    }
    main = ModuleType("__main__")
    main.__file__ = program.path
    addition = None
    if program.spec is not None:
        main.__spec__, main.__package__ = program.spec, program.spec.parent
        main.__loader__ = program.spec.loader
        addition = additions.get(program.spec.name)
    sys.modules["__main__"] = main
    sys.argv = [program.name, *arguments]
    try:
        if addition is None:
            exec(_compile(program.source, program.path), vars(main))  # noqa: S102
        else:
            _run_with_addition(program, vars(main), *addition)
    except BaseException as error:
        _hide_own_frames(error, vars(main))
        raise


def _compile(source: bytes | ast.Module, path: str, flags: int = 0) -> CodeType:
    return compile(source, path, "exec", flags=flags, dont_inherit=True)


def _run_with_addition(
    program: Program,
    namespace: _Namespace,
    is_last: Callable[[ast.stmt], bool],
    add: Callable[[_Namespace], Any],
) -> None:
    """Execute a module, and ``add`` right after the last statement that ``is_last`` is true for."""
    body = ast.parse(program.source, program.path).body
    if program.spec is not None and program.spec.name == "hloc.triangulation":
        _complete_arguments(body)
    end = max(i for i, statement in enumerate(body, start=1) if is_last(statement))
    first = _compile(ast.Module(body[:end], []), program.path)
    exec(first, namespace)  # noqa: S102
    add(namespace)
    flags = first.co_flags & _FUTURE_FLAGS
    exec(_compile(ast.Module(body[end:], []), program.path, flags), namespace)  # noqa: S102


_Addition = tuple[Callable[[ast.stmt], bool], Callable[[_Namespace], Any]]
"""Test of the statement that a module is interrupted after, and what is done then."""


def _imports_pycolmap(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import) and any(
        entry.name == "pycolmap" for entry in statement.names
    )


def _complete_arguments(body: Sequence[ast.stmt]) -> None:
    """Complete the command line of hloc's triangulation, which ends with a KeyError.

    At commit c13273b it reads ``mapper_options`` without declaring the option, and has another name
    for the reference model than ``main``.
    """
    words = {
        node.value
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    before, after = [], []
    if "mapper_options" in words and "--mapper_options" not in words:
        before = ast.parse('parser.add_argument("--mapper_options", nargs="+", default=[])').body
    if "--reference_sfm_model" in words:
        after = ast.parse('args["reference_model"] = args.pop("reference_sfm_model")').body
    for block in (statement for statement in body if isinstance(statement, ast.If)):
        for i, statement in enumerate(block.body):
            if "parser.parse_args" in ast.unparse(statement):
                for added in (*before, *after):
                    for node in ast.walk(added):
                        ast.copy_location(node, statement)
                block.body[i : i + 1] = [*before, statement, *after]
                return


def _assigns_confs(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.AnnAssign):
        return isinstance(statement.target, ast.Name) and statement.target.id == "confs"
    return isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "confs" for target in statement.targets
    )


def _hide_own_frames(error: BaseException, namespace: _Namespace) -> None:
    """Let the traceback that Python prints at the end begin with the program's first frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is not namespace:
        trace = trace.tb_next
    shown = sys.excepthook  # the program's own, if it set one

    def show(kind: type[BaseException], value: BaseException, full: Any) -> None:
        if value is error:
            value.__traceback__ = full = trace
        shown(kind, value, full)

    sys.excepthook = show
