"""COLMAP: databases, cameras, models, mapping."""

import pycolmap as _pycolmap  # noqa: F401 (first of all, as it takes over the signals)

from featplug.utils.interrupts import reinstall
from featplug.utils.moved import moved_attribute

reinstall()


def __getattr__(name: str) -> object:
    return moved_attribute(__name__, name)
