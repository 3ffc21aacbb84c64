"""Packages that only some commands need, and that an extra of featplug installs."""

from importlib import import_module
from typing import Any


def require(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Raises:
        ValueError: it is not installed, or cannot be loaded.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ValueError(
            f"This needs {package} ({error}); run `pip install 'featplug[{extra}]'`."
        ) from error
