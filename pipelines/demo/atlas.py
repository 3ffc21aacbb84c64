"""All textures of a world in one image, reduced by powers of two along each axis (ripmaps).

A face that is seen at a slant is reduced more along one axis than along the other; ripmaps serve
both, so that what a texture shows looks the same from near and from far, straight and at a slant.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipelines.demo.textures import Texture

NUM_LEVELS = 7
_BORDER = 2
_WIDTH = 4096


def pack(sizes: Sequence[tuple[int, int]], width: int) -> tuple[np.ndarray, int, int]:
    """Place rectangles beside each other, on shelves of falling height.

    Args:
        sizes: (width, height) of each.
        width: of the whole; more where a rectangle is wider.

    Returns:
        N×2 top-left corners (x, y), and the height and width of the whole.
    """
    width = max(width, *(columns for columns, _ in sizes))
    places = np.zeros((len(sizes), 2), np.int64)
    x = y = shelf = 0
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i][1]):
        columns, rows = sizes[i]
        if x + columns > width:
            x, y = 0, y + shelf
        if x == 0:
            shelf = rows
        places[i] = x, y
        x += columns
    return places, y + shelf, width


class Atlas:
    """Textures and their ripmaps.

    Args:
        textures: of the world, by their index.
    """

    def __init__(self, textures: Sequence[Texture]) -> None:
        levels = [image for texture in textures for image in _ripmaps(texture)]
        places, height, width = pack([image.shape[1::-1] for image in levels], _WIDTH)
        self.pixels = np.zeros((height, width, 4), np.uint8)
        for (left, top), image in zip(places.tolist(), levels, strict=True):
            self.pixels[top : top + image.shape[0], left : left + image.shape[1]] = image
        sizes = np.array([image.shape[1::-1] for image in levels]) - 2 * _BORDER
        self.levels = np.column_stack([places + _BORDER - 0.5, sizes]).astype(np.float32)
        """(x, y, width, height) of each texture's each level: index (texture · 7 + level along v)
        · 7 + level along u. The place is that of the level's corner in OpenCV's coordinates."""
        self.sizes = np.array([texture.pixels.shape[1::-1] for texture in textures])
        """(width, height) of each texture."""
        self.wraps = np.array([texture.wraps for texture in textures])

    def level_index(self, texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Row of :attr:`levels`, from a texture's index and levels along u and v."""
        return (texture * NUM_LEVELS + v) * NUM_LEVELS + u


def _ripmaps(texture: Texture) -> list[np.ndarray]:
    """All levels with their borders, that along u running fastest."""
    kind = cv2.BORDER_WRAP if texture.wraps else cv2.BORDER_REPLICATE
    levels = []
    reduced_v = texture.pixels
    for _ in range(NUM_LEVELS):
        reduced = reduced_v
        for _ in range(NUM_LEVELS):
            levels.append(cv2.copyMakeBorder(reduced, _BORDER, _BORDER, _BORDER, _BORDER, kind))
            reduced = _halved(reduced, 1)
        reduced_v = _halved(reduced_v, 0)
    return levels


def _halved(image: np.ndarray, axis: int) -> np.ndarray:
    rows, columns = image.shape[:2]
    size = (columns, max(2, -(-rows // 2))) if axis == 0 else (max(2, -(-columns // 2)), rows)
    if size == (columns, rows):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
