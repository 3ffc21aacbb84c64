"""Local features for COLMAP and hloc: extract, match, reconstruct, localise and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featplug.utils import moved

if TYPE_CHECKING:
    from featplug.hloc import register, unregister

__version__ = "0.2.0"
__all__ = ["__version__", "register", "unregister"]


def __getattr__(name: str) -> Any:
    """Give hloc's plug-in only when it is asked for."""
    if name in ("register", "unregister"):
        from featplug import hloc

        return getattr(hloc, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


moved.install()
