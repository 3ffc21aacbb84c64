"""A world under construction: faces are added in the frame of whatever is being built."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pipelines.demo.geometry import UP, Faces, direction
from pipelines.demo.textures import Painter

Place = Sequence[float] | np.ndarray
Name = int | str  # a texture: its index, or its name among the builder's materials
Names = Sequence[Name]
Tile = float | Sequence[float] | None  # metres of one repetition; None: once on the whole face

_SIDES = {
    # Corner, edge to the right and edge down of a box's sides, from its upper front left corner.
    "f": ((0, 0, 0), (1, 0, 0), (0, 0, -1)),
    "b": ((1, 1, 0), (-1, 0, 0), (0, 0, -1)),
    "l": ((0, 1, 0), (0, -1, 0), (0, 0, -1)),
    "r": ((1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "t": ((0, 1, 0), (1, 0, 0), (0, -1, 0)),
    "u": ((0, 0, -1), (1, 0, 0), (0, 1, 0)),
}


@dataclass(frozen=True)
class Texture:
    """An image on faces."""

    pixels: np.ndarray  # H×W×4 uint8: RGB as displayed, and light that is sent out at night
    wraps: bool = False  # whether it repeats beyond its borders


@dataclass(frozen=True)
class Scene:
    """A world to be photographed."""

    faces: Faces
    textures: list[Texture]
    lamps: np.ndarray  # L×3 places of the lamps that burn at night
    lamp_texture: int  # texture of what shines by itself; −1 if nothing does
    glass: list[int]  # textures from which no laser comes back


class Builder(Painter):
    """Collects faces, textures and lamps.

    Coordinates are those of its frame: x runs along a front, to the right of someone who looks at
    it, y inwards, away from them, and z up. A builder in another frame adds to the same world.
    """

    def __init__(self, rng: np.random.Generator, textures: Sequence[Texture] = ()) -> None:
        super().__init__(rng)
        self.textures = list(textures)
        self.materials: dict[str, int] = {}  # textures that many share; "glow" shines by itself
        self.lamps: list[np.ndarray] = []
        self.glass: list[int] = []
        self._rows: list[tuple[Any, ...]] = []
        self._origin, self._along, self._offset = np.zeros(3), direction(0), np.zeros(2)

    @property
    def _inwards(self) -> np.ndarray:
        return np.array([-self._along[1], self._along[0], 0.0])

    def at(self, place: Place = (0, 0, 0), along: np.ndarray | None = None) -> Self:
        """Return a builder in a frame at a place of this frame; ``along`` is its x in the world."""
        other = copy(self)
        other._origin = self.point(*place)
        other._along = self._along if along is None else along
        return other

    def around(self, width: float, depth: float) -> list[Self]:
        """Return builders at the left ends of the left, right and back side of a house."""
        ends = ((0, depth), (0, -1)), ((width, 0), (0, 1)), ((width, depth), (-1, 0))
        return [self.at(corner, self.vector(*along)) for corner, along in ends]

    def shifted(self) -> Self:
        """Return a builder that moves repeated textures at random, so that no two look alike."""
        other = copy(self)
        other._offset = self.rng.random(2)
        return other

    def vector(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
        """Return a vector of the frame in the world."""
        return x * self._along + y * self._inwards + z * UP

    def point(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
        """Return a point of the frame in the world."""
        return self._origin + x * self._along + y * self._inwards + z * UP

    def texture(self, pixels: np.ndarray, name: str = "") -> int:
        """Add a texture, RGB or with its light; with a name, it repeats. Return its index."""
        if pixels.shape[2] == 3:
            pixels = np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)])
        index = self.materials[name] = len(self.textures)
        self.textures.append(Texture(pixels, wraps=bool(name)))
        return index

    def add(
        self, corner: Place, right: Place, down: Place, texture: Name, tile: Tile = None
    ) -> None:
        """Add a face from its top-left corner and its edges to the right and down."""
        span = self.point(*corner), self.vector(*right), self.vector(*down)
        self._append(span, texture, tile)

    def _append(
        self, span: Sequence[np.ndarray], texture: Name, tile: Tile, gable: bool = False
    ) -> None:
        corner, right, down = span
        extent = np.array([np.linalg.norm(right), np.linalg.norm(down)])
        scale = 1 / (extent if tile is None else np.broadcast_to(np.asarray(tile, float), 2))
        offset = np.zeros(2) if tile is None else self._offset
        index = self.materials[texture] if isinstance(texture, str) else texture
        axes = right / extent[0], down / extent[1]
        self._rows.append((corner, *axes, extent, gable, index, scale, offset))

    def panel(
        self, place: Place, size: Place, texture: Name, tile: Tile = None, gable: bool = False
    ) -> None:
        """Add an upright face of a width and height that looks to the front, bottom left first."""
        (x, y, z), (width, height) = place, size
        span = self.point(x, y, z + height), self.vector(width), self.vector(z=-height)
        self._append(span, texture, tile, gable)

    def box(
        self, place: Place, size: Place, texture: Name, tile: Tile = None, sides: str = "fblrt"
    ) -> None:
        """Add sides (front, back, …, under) of a box from the middle of its bottom."""
        width, depth, height = size
        centre = self.at(place, self._along / np.hypot(self._along[0], self._along[1]))
        left_front = centre.at((-width / 2, -depth / 2, height))
        for side in sides:
            corner, right, down = np.array(_SIDES[side]) * size
            left_front.add(corner, right, down, texture, tile)

    def prism(
        self, place: Place, size: Place, sides: Names, tile: Tile = None, spire: bool = False
    ) -> None:
        """Add a prism, or a spire, of a radius and height, and a texture for each of its sides."""
        count, (radius, height), centre = len(sides), size, self.point(*place)
        angles = np.pi / count + np.arange(count + 1) * 2 * np.pi / count
        rim = centre + radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
        for k, texture in enumerate(sides):
            # Seen from outside, what is next counter-clockwise from above lies to the right.
            right, down = rim[k + 1] - rim[k], -height * UP
            if spire:
                down = (rim[k] + rim[k + 1]) / 2 - centre + down
            self._append((rim[k] - down, right, down), texture, tile, spire)

    def faces(self) -> Faces:
        """Return all faces so far."""
        return Faces(*(np.array(column) for column in zip(*self._rows, strict=True)))

    def scene(self) -> Scene:
        """Return all that was built."""
        lamps = np.array(self.lamps).reshape(-1, 3)
        return Scene(self.faces(), self.textures, lamps, self.materials.get("glow", -1), self.glass)
