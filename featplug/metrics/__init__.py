"""Figures computed from poses, homographies, epipolar geometry and patches."""

from featplug.utils.moved import moved_attribute


def __getattr__(name: str) -> object:
    return moved_attribute(__name__, name)
