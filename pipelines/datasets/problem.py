"""What is wrong with a data set on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError


@dataclass(frozen=True)
class Problem:
    """A file that is missing or damaged."""

    reason: str
    remedy: str
    """Where to get it."""


def image_problem(path: Path, size: tuple[int, int] | None) -> str | None:
    """Say what is wrong with an image's header, or None.

    Args:
        path: the image.
        size: (width, height) that it must have; any if None.
    """
    if not path.is_file():
        return f"There is no image {path}."
    try:
        with Image.open(path) as image:
            found = image.size
    except (OSError, UnidentifiedImageError):
        return f"{path} is not an image, or damaged."
    if size is not None and size != found:
        return (
            f"{path} has {found[0]}×{found[1]} pixels, its camera in the lists {size[0]}×{size[1]}."
        )
    return None
