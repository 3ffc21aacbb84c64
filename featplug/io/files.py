"""Writing files and folders that are never seen half written."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file or folder that appears, or replaces another, only when it is whole.

    Args:
        path: the file or folder.
        write: writes it to the path that it is called with, next to ``path``; the folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        if part.is_dir() and path.is_dir():
            shutil.rmtree(path)
        part.replace(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)


def write_whole_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 by :func:`write_whole`."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
