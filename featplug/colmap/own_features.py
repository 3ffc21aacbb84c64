"""COLMAP's own features and matchers: what this pycolmap has, and how it is set up and asked.

Those besides SIFT run in ONNX, which pycolmap's wheels are built without (4.2). pycolmap 3.13 has
SIFT alone, as :class:`pycolmap.Sift`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pycolmap

from featplug.utils.suggestions import unknown_option


def extractor_types() -> list[str]:
    """List COLMAP's kinds of features, such as ``SIFT`` and ``ALIKED_N32``."""
    return _members("FeatureExtractorType") or ["SIFT"]


def matcher_types() -> list[str]:
    """List COLMAP's kinds of matchers, such as ``ALIKED_LIGHTGLUE``; none before pycolmap 4.0."""
    return _members("FeatureMatcherType")


def _members(enumeration: str) -> list[str]:
    members = getattr(getattr(pycolmap, enumeration, None), "__members__", {})
    return [name for name in members if name != "UNDEFINED"]


def word(kind: str) -> str:
    """Return a kind as it is written in names: ``ALIKED_N32`` is ``aliked-n32``."""
    return kind.lower().replace("_", "-")


def family_of(kind: str) -> str:
    """Return what comes before the variant: ``ALIKED`` for ``ALIKED_N32``."""
    return kind.partition("_")[0]


def typed_options(cls: Any, enumeration: str, kind: str) -> Any:
    """Return COLMAP's default options of a kind of feature or matcher."""
    members = getattr(pycolmap, enumeration, None)
    return cls() if members is None else cls(members.__members__[kind])


def set_options(options: Any, values: Mapping[str, Any], owner: str) -> None:
    """Set entries of a pycolmap option struct.

    Raises:
        ValueError: it has no such entry, or the entry cannot have the value.
    """
    known = options.todict()
    for name, value in values.items():
        if name not in known:
            raise unknown_option(owner, name, known)
        try:
            setattr(options, name, value)
        except TypeError as error:
            kind = type(known[name]).__name__
            raise ValueError(f"{owner}: {name} must be {kind}, not {value!r}.") from error


@contextmanager
def asked_of_colmap(name: str, instead: str) -> Iterator[None]:
    """Silence COLMAP's log in the block, and explain what it raises.

    Args:
        name: what COLMAP is asked for, such as ``colmap/aliked-n32``.
        instead: what does the same without COLMAP; may be empty.

    Raises:
        ValueError: COLMAP cannot do it.
    """
    level = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        if "ONNX" not in reason:
            raise ValueError(f"{name}: COLMAP reports: {reason}") from error
        raise ValueError(
            f"{name} needs ONNX, which this pycolmap {pycolmap.__version__} was built without; "
            "build COLMAP and pycolmap from source with -DONNX_ENABLED=ON "
            "(https://colmap.github.io/install.html)"
            f"{f', or use {instead}, which needs neither' if instead else ''}."
        ) from error
    finally:
        pycolmap.logging.minloglevel = level
