"""Weights files: registry, loading, download, import of the authors' checkpoints."""

from featplug.utils.moved import moved_attribute


def __getattr__(name: str) -> object:
    return moved_attribute(__name__, name)
