"""Photographs as phones store them: turned or mirrored, with the orientation that undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from featplug.io.exif import ORIENTATION
from featplug.io.orientation import Turn

ORIENTATIONS = range(1, 9)
_INVERSE = {6: 8, 8: 6}


def write_turned(path: Path, upright: np.ndarray, orientation: int) -> Turn:
    """Write a picture H×W or H×W×3 so that EXIF's orientation turns it upright."""
    size = (upright.shape[1], upright.shape[0])
    stored = Turn(size, _INVERSE.get(orientation, orientation)).upright_pixels(upright)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored).save(path, exif=exif.tobytes(), quality=95)
    return Turn((stored.shape[1], stored.shape[0]), orientation)


def write_all_turns(
    folder: Path, upright: np.ndarray, orientations: Sequence[int] = ORIENTATIONS
) -> dict[str, Turn]:
    """Write a picture in each of EXIF's orientations; return name to turn."""
    return {f"{o}.png": write_turned(folder / f"{o}.png", upright, o) for o in orientations}
