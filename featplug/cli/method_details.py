"""What ``featplug list`` prints of single methods, families and packages."""

import inspect
from collections.abc import Callable
from typing import Any

from featplug import methods
from featplug.methods import Conf, MethodTable
from featplug.methods.method_names import describer_and_detector, parse_method
from featplug.methods.method_sources import code_record
from featplug.methods.packages import Packages
from featplug.methods.user_classes import load_class
from featplug.utils.errors import has_own_traceback

_LOOK_UPS: tuple[tuple[MethodTable[Any], Callable[[str], Conf]], ...] = (
    (methods.features, methods.feature_conf),
    (methods.matchers, methods.matcher_conf),
    (methods.pair_matchers, methods.pair_matcher_conf),
    (methods.retrieval, methods.retrieval_conf),
)


def found_confs(name: str) -> list[tuple[MethodTable[Any], Conf]]:
    """Return the confs of a name, which may be a feature and a matcher, with their tables.

    Raises:
        ValueError: no table has the name.
    """
    parse_method(name)
    found, errors = [], []
    for table, look_up in _LOOK_UPS:
        try:
            found.append((table, look_up(name)))
        except (ValueError, FileNotFoundError) as error:
            if has_own_traceback(error):
                raise
            errors.append(error)
    if not found and ".py:" in name and describer_and_detector(name)[1] is None:
        load_class(name, *(table.base for table, _ in _LOOK_UPS))  # says which classes would do
    if not found:
        raise errors[0]
    return found


def details(name: str) -> list[str]:
    """Return what a method is, its options and their values, as lines of text."""
    lines: list[str] = []
    for table, conf in found_confs(name):
        model = conf["model"]
        cls: Any = table.classes.get(model["name"]) or table.method_class(model["name"])
        record = code_record(cls)
        source = " ".join(record[key] for key in ("package", "version") if key in record)
        lines += [f"{name}, {table.kind}: {conf.get('paper') or 'no paper'}"]
        lines += [f"  class: {record['class']}" + (f" ({source})" if source else "")]
        if "matcher" in conf:
            two_views = methods.matcher_of(conf, two_views=True)
            pairs = f", for two views {two_views}" if two_views != conf["matcher"] else ""
            lines.append(f"  matcher: {conf['matcher']}{pairs}")
        if "preprocessing" in conf:
            lines.append(f"  preprocessing: {_shown(conf['preprocessing'])}")
        options = {**cls.all_options(), **model}
        lines.append("  options:")
        lines += [f"    {key} = {_shown(options[key])}" for key in options if key != "name"]
        described = inspect.cleandoc(cls.__doc__ or "").replace("\n", "\n    ")
        lines += [f"\n    {described}", ""]
    return lines


def _shown(value: object) -> str:
    """Return a value as ``--option`` takes it."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_shown(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def families_and_packages() -> list[str]:
    """Return which methods of other programs and packages exist, as lines of text."""
    lines = []
    for table, _ in _LOOK_UPS:
        for prefix, family in table.families.items():
            try:
                names = ", ".join(family.names())
            except (ImportError, ValueError) as error:
                names = str(error)
            lines.append(f"{prefix}/NAME, {table.kind}: {names or 'none on this machine'}")
    for group in ("features", "matchers", "retrieval", "datasets"):
        by_package: dict[str, list[str]] = {}
        for name, package in Packages(f"featplug.{group}").names():
            by_package.setdefault(package, []).append(name)
        lines += [
            f"{package}, package with {group}: {', '.join(names)}"
            for package, names in by_package.items()
        ]
    return lines
