"""COLMAP: databases, cameras, models, mapping."""

from featplug.utils.interrupts import own_handlers_kept
from featplug.utils.moved import moved_attribute

with own_handlers_kept():
    import pycolmap as _pycolmap  # noqa: F401


def __getattr__(name: str) -> object:
    return moved_attribute(__name__, name)
