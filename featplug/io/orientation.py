"""The turn between a photograph as stored and upright, by EXIF's orientation.

All files have coordinates of the image as stored, as COLMAP has: keypoints, sizes, cameras, masks.
Methods see it upright: extraction turns the pixels, and turns what it finds back; matchers are
handed upright positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Orientation = Literal["exif", "stored"]
"""Whether photographs are turned upright by their EXIF data, or taken as they are stored."""
MIRRORED = frozenset({2, 4, 5, 7})
"""Orientations of images that are stored as seen in a mirror, which no camera model describes."""

_MATRICES = {
    1: ((1, 0), (0, 1)),
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, -1), (1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, 1), (-1, 0)),
}
"""EXIF's orientation to the matrix that turns a direction (x, y) of the stored image upright."""


def check_orientation(orientation: str) -> None:
    """Raise ValueError if ``orientation`` is none of :data:`Orientation`."""
    if orientation not in get_args(Orientation):
        raise ValueError(
            f"orientation must be one of {', '.join(get_args(Orientation))}, not {orientation!r}."
        )


@dataclass(frozen=True)
class Turn:
    """The turn of one image; on both sides, integers are pixel centres."""

    size: tuple[int, int]
    """(width, height) of the image as stored."""
    orientation: int = 1
    """EXIF's orientation, 1 to 8."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) of the upright image."""
        width, height = self.size
        return (width, height) if self.orientation < 5 else (height, width)

    def upright_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Turn pixels H×W or H×W×C, which may be reduced, upright."""
        if self.orientation == 1:
            return pixels
        if self.orientation >= 5:
            pixels = pixels.swapaxes(0, 1)
        across, down = (sum(row) for row in _MATRICES[self.orientation])
        return np.ascontiguousarray(pixels[::down, ::across])

    def upright_arrays(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Turn ``keypoints`` N×2, ``oris`` N, ``lafs`` N×2×3 and ``image_size`` upright.

        Args:
            arrays: arrays of a feature file; others stay as they are.
        """
        matrix, origin = self._affine()
        turned = self._turned(arrays, matrix, origin)
        if "image_size" in arrays:
            turned["image_size"] = np.array(self.upright_size, arrays["image_size"].dtype)
        return turned

    def stored_arrays(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Turn the arrays of the upright image back; see :meth:`upright_arrays`."""
        matrix, origin = self._affine()
        return self._turned(arrays, matrix.T, -matrix.T @ origin)

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Return M 2×2 and o 2 of x' = M x + o, which turns points of the stored image upright."""
        matrix = np.array(_MATRICES[self.orientation])
        last = np.array(self.upright_size) - 1
        return matrix, np.where(matrix.sum(1) < 0, last, 0)

    def _turned(
        self, arrays: Mapping[str, np.ndarray], matrix: np.ndarray, origin: np.ndarray
    ) -> dict[str, np.ndarray]:
        turned = dict(arrays)
        if self.orientation == 1:
            return turned
        if "keypoints" in arrays:
            points = arrays["keypoints"]
            turned["keypoints"] = points @ matrix.T.astype(points.dtype) + origin.astype(
                points.dtype
            )
        if "oris" in arrays:  # degrees from the x towards the y axis
            first = np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0]))
            oris = arrays["oris"]
            sign = round(np.linalg.det(matrix))
            turned["oris"] = ((sign * oris + first) % 360).astype(oris.dtype)
        if "lafs" in arrays:
            lafs = arrays["lafs"]
            turned["lafs"] = matrix.astype(lafs.dtype) @ lafs
            turned["lafs"][..., 2] += origin.astype(lafs.dtype)
        return turned
