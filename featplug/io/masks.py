"""Masks of photographs, with COLMAP's names: black where an image has no keypoints.

The mask of ``folder/name.jpg`` is ``folder/name.jpg.png`` in the folder of the masks, or
``folder/name.png``. It has the pixels of the image as stored; an image without one is used whole.
"""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from featplug.io.image_files import open_image
from featplug.io.images import read_image
from featplug.io.orientation import Turn

logger = logging.getLogger(__name__)


class Masks:
    """The masks of images in a folder.

    Args:
        folder: the folder.
        names: names of the images.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has a mask of none of the images.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"There is no folder of masks {self.folder}.")
        self._paths: dict[str, Path] = {}
        """Image name to the path of its mask."""
        images = set(names)
        for name in names:
            colmaps, short = f"{name}.png", f"{name.rpartition('.')[0]}.png"
            # A short name may be that of another image, where both are in one folder.
            candidates = [colmaps] if short in images else [colmaps, short]
            paths = (self.folder / candidate for candidate in candidates)
            if found := next((path for path in paths if path.is_file()), None):
                self._paths[name] = found
        if names and not self._paths:
            raise ValueError(
                f"{self.folder} has a mask of none of the {len(names)} images; that of {names[0]} "
                f"is expected at {self.folder / names[0]}.png."
            )
        if without := [name for name in names if name not in self._paths]:
            _log_once(
                f"{self.folder}: {len(without)} of {len(names)} images have no mask and are used "
                f"whole, the first is {without[0]}."
            )

    def path(self, name: str) -> Path | None:
        """Return the path of an image's mask, or None."""
        return self._paths.get(name)

    def read(self, name: str, turn: Turn) -> np.ndarray | None:
        """Read the mask of an image: H×W bool, true where it may have keypoints; None without one.

        Args:
            name: name of the image.
            turn: size of the image as stored, and its turn.

        Raises:
            ValueError: the mask cannot be read, or has another size than the image.
        """
        path = self.path(name)
        if path is None:
            return None
        mask = _read_mask(path)
        size = (mask.shape[1], mask.shape[0])
        if size != turn.size:
            shown = [f"{width}×{height}" for width, height in (size, turn.size)]
            as_stored = " as stored, before EXIF turns it" if size == turn.upright_size else ""
            raise ValueError(
                f"{path}: the mask has {shown[0]} pixels, and the image {name} has "
                f"{shown[1]}{as_stored}; save the mask in the image's size."
            )
        return mask


@cache
def _log_once(text: str) -> None:
    logger.warning(text)


def _read_mask(path: Path) -> np.ndarray:
    """Read a mask, H×W bool: true but where it is black, or where it is transparent."""
    with open_image(path) as file:
        if file.mode.startswith("I"):  # 16 bits: labels above 0 would be rounded to 0
            return np.asarray(file) > 0
        alpha = np.asarray(file.getchannel("A")) > 0 if "A" in file.getbands() else None
    mask = read_image(path, grayscale=True) > 0
    return mask if alpha is None else mask & alpha


def mask_of(masks: Masks | None, name: str) -> Path | None:
    """Return the path of the mask of an image, or None without one."""
    return None if masks is None else masks.path(name)


def is_visible(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return which points N×2, integer = pixel centre, a mask H×W leaves: N bool.

    As in COLMAP, a point belongs to the pixel that it lies in.
    """
    height, width = mask.shape
    x, y = np.floor(points + 0.5).astype(int).T
    return mask[y.clip(0, height - 1), x.clip(0, width - 1)]
