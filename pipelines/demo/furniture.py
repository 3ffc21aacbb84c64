"""What stands on the town's square and streets: church, fountain, trees, poster columns, stalls."""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.demo import textures
from pipelines.demo.builder import Builder, Name, Place, Tile
from pipelines.demo.geometry import UP, direction
from pipelines.demo.textures import Colour, Random, Size, vary

_CHURCH_STONE = (178, 166, 142)
_PIXELS_PER_METRE = 40


def furnish(b: Builder) -> None:
    """Furnish the square and the streets."""
    _add_church(b.at((-5, 25.5)))
    _add_fountain(b.at((-1, 9)))
    _add_poster_column(b.at((9.5, 3.5)))
    _add_poster_column(b.at((-25, -9.6, 0.1)))
    for place in ((11.5, 9), (11.5, 14), (11.5, 26), (-12.5, 5), (-12.5, 10.5)):
        _add_tree(b.at(place))
    for place in ((24, -9.4), (-9, -9.4), (30, 19.8)):
        _add_tree(b.at(place), 0.7)
    for x, y in ((6, -10.6), (-30, -10.6), (33, -10.6), (-21, -1.4), (28, -1.4), (12, 18)):
        _add_lantern(b.at((x, y, 0.1)))
    for place in ((-7, 3.5), (4, 13), (8.5, 20), (-11, 15)):
        _add_lantern(b.at(place))
    for place in ((-4, 4.0), (5.5, 6.5), (13, 18.5), (-8.5, 12.5)):
        _add_stall(b.at(place, direction(b.rng.uniform(0, np.pi))))


def add_roof(b: Builder, size: Place, texture: Name, overhang: float = 1.0) -> None:
    """Add a roof of a width, depth and rise whose ridge runs inwards."""
    width, depth, rise = size
    for y, length, side in ((depth, -depth, -width / 2), (0, depth, width / 2)):
        slope = overhang * side, 0, -overhang * rise
        b.add((width / 2, y, rise), (0, length), slope, texture, 4.2)


def add_canvas(
    b: Builder, length: float, slope: Place, valance: float, texture: Name, tile: Tile
) -> None:
    """Add a sloping cloth with a valance, from the place of its top-left corner."""
    b.add((0, 0, 0), (length,), slope, texture, tile)
    b.at(slope).add((0, 0, 0), (length,), (0, 0, -valance), texture, tile)
    b.at(slope).add((0, 0, 0), (length,), -np.array(slope), "white", 3)


def _add_church(b: Builder) -> None:
    front = b.paint(_church_wall, (9.0, 9.5), 2, True)
    sides = [b.paint(_church_wall, (10.0, 9.5), 3) for _ in range(2)]
    nave = b.at((-4.5, -5))
    *others, back = nave.around(9, 10)
    nave.panel((0, 0, 0), (9, 9.5), front)
    for side, wall in zip(others, sides, strict=True):
        side.panel((0, 0, 0), (10, 9.5), wall)
    back.panel((0, 0, 0), (9, 9.5), "stone", 5)
    nave.panel((0, 0, 9.5), (9, 5), b.paint(_rose), gable=True)
    back.panel((0, 0, 9.5), (9, 5), "stone", 5, gable=True)
    add_roof(nave.at((0, 0, 9.5)), (9, 10, 5), "roof2", 1.06)
    for x in (-4.5, -1.6, 1.6, 4.5):
        b.box((x, -5.35, 0), (0.6, 0.7, 7.0), "stone", 5, "flrt")
    tower = b.at((7.2, -1.5))
    for z, width, height, windows in ((0, 5.4, 9.0, 1), (9.0, 5.0, 6.5, 2), (15.5, 4.6, 5.5, 2)):
        tower.box((0, 0, z), (width + 0.3, width + 0.3, 0.35), "stone", 5)
        for quarter in range(4):
            along, door = direction(quarter * np.pi / 2), z == 0 and quarter == 0
            wall = b.paint(_church_wall, (width, height), windows, door, z > 15)
            corner = width / 2 * (np.cross(along, UP) - along) + z * UP
            tower.at(corner, along).panel((0, 0, 0), (width, height), wall)
    tower.box((0, 0, 21), (5.1, 5.1, 0.4), "stone", 5, "fblrtu")
    tower.prism((0, 0, 21.4), (3.3, 10.0), ["roof2"] * 4, 4.2, spire=True)


def _church_wall(
    rng: Random, metres: Place, num_windows: int, door: bool = False, clock: bool = False
) -> np.ndarray:
    columns, rows = size = [round(length * _PIXELS_PER_METRE) for length in metres]
    wall = _stones(rng, size[::-1], vary(rng, _CHURCH_STONE, 8))
    lit = np.zeros((rows, columns), np.uint8)
    half, top, bottom = (
        int(min(0.16 * columns / num_windows, 24) + 8),
        int(0.3 * rows),
        int(0.74 * rows),
    )
    for k in range(num_windows):
        x, rise = int((k + 0.5) * columns / num_windows), int(1.5 * half)
        for grow, colour in ((7, (206, 196, 172)), (3, (96, 88, 76))):
            _arch(wall, (x, top, bottom + grow), (half + grow, rise + grow), colour)
        glass = np.zeros((rows, columns), np.uint8)
        _arch(glass, (x, top, bottom), (half, rise), 255, cv2.LINE_8)
        cells = rng.integers(30, 170, (rows // 7 + 1, columns // 7 + 1, 3)).astype(np.uint8)
        panes = np.repeat(np.repeat(cells, 7, 0), 7, 1)[:rows, :columns]
        panes[::7], panes[:, ::7] = 24, 24
        wall[glass > 0] = panes[glass > 0]
        lit[glass > 0] = 120
    if door:
        x, half, top = columns // 2, int(0.09 * columns) + 14, rows - int(2.4 * _PIXELS_PER_METRE)
        for grow, colour in ((12, (198, 188, 164)), (7, (120, 110, 94)), (0, (72, 50, 36))):
            _arch(wall, (x, top, rows), (half + grow, half + grow), colour)
        boards = textures.planks(rng, (rows - top, 2 * half), (92, 62, 42))
        wall[top:, x - half : x + half] = boards
        lit[top - half - 12 :, x - half - 12 : x + half + 12] = 0
    if clock:
        _clock(wall, lit, np.array([columns // 2, int(0.16 * rows)]), int(0.13 * rows))
    weather = 0.07 * textures.rough(rng, (rows, columns), (12, 50, 150))
    return np.dstack([textures.shaded(wall, weather), lit])


def _stones(rng: Random, size: Size, colour: Colour) -> np.ndarray:
    return textures.masonry(rng, size, (16, 30), (colour, (126, 116, 98)), 1.4, 13)


def _arch(
    picture: np.ndarray, place: Size, size: Size, colour: Colour | int, line: int = cv2.LINE_AA
) -> None:
    """Draw a rectangle with half an ellipse above: middle, top and bottom; half width and rise."""
    (x, top, bottom), (half, _) = place, size
    cv2.rectangle(picture, (x - half, top), (x + half, bottom), colour, -1)
    cv2.ellipse(picture, (x, top), size, 0, 180, 360, colour, -1, line)


def _clock(wall: np.ndarray, lit: np.ndarray, centre: np.ndarray, radius: int) -> None:
    def hand(angle: float, start: float, end: float, colour: Colour, thick: int) -> None:
        towards = np.array([np.sin(angle), -np.cos(angle)])
        inner, outer = (np.round(centre + r * radius * towards).astype(int) for r in (start, end))
        cv2.line(wall, inner.tolist(), outer.tolist(), colour, thick, cv2.LINE_AA)

    cv2.circle(wall, centre.tolist(), radius, (236, 230, 208), -1, cv2.LINE_AA)
    cv2.circle(wall, centre.tolist(), radius, (150, 116, 40), 3, cv2.LINE_AA)
    cv2.circle(lit, centre.tolist(), radius, 150, -1)
    for hour in range(12):
        hand(hour * np.pi / 6, 0.72, 0.92, (30, 28, 26), 2)
    hand(0.9, 0, 0.78, (24, 22, 22), 3)
    hand(5.1, 0, 0.5, (24, 22, 22), 3)


def _rose(rng: Random) -> np.ndarray:
    wall, lit = _stones(rng, (200, 360), _CHURCH_STONE), np.zeros((200, 360), np.uint8)
    x, y = 180, 132
    cv2.circle(wall, (x, y), 46, (204, 194, 170), -1, cv2.LINE_AA)
    cv2.circle(wall, (x, y), 40, (60, 54, 60), -1, cv2.LINE_AA)
    for ring, count, radius in ((27, 12, 6), (13, 6, 5), (0, 1, 6)):
        for angle in np.arange(count) * (2 * np.pi) / count:
            place = x + round(ring * np.cos(angle)), y + round(ring * np.sin(angle))
            cv2.circle(wall, place, radius, rng.integers(40, 200, 3).tolist(), -1, cv2.LINE_AA)
            cv2.circle(lit, place, radius, 150, -1)
    return np.dstack([wall, lit])


def _add_fountain(b: Builder) -> None:
    b.paint(textures.grained, (96, 96), (74, 104, 112), 0.2, (3, 9, 30), name="water")
    b.prism((0, 0, 0), (2.6, 0.75), ["stone"] * 8, 4)
    b.box((0, 0, 0.65), (3.6, 3.6, 0.05), "water", 2, "t")
    b.prism((0, 0, 0.6), (0.6, 2.2), ["stone"] * 8, 3)
    b.prism((0, 0, 2.4), (1.1, 0.3), ["white"] * 8, 3)
    b.box((0, 0, 2.7), (0.5, 0.5, 1.5), "white", 2)
    b.prism((0, 0, 4.2), (0.5, 0.8), ["iron"] * 6, 1, spire=True)


def _add_poster_column(b: Builder) -> None:
    posters = [b.paint(textures.poster, (150, 72)) for _ in range(8)]
    b.prism((0, 0, 0), (0.78, 0.5), ["stone"] * 8, 3)
    b.prism((0, 0, 0.5), (0.72, 2.3), posters)
    b.prism((0, 0, 2.8), (0.82, 0.2), ["iron"] * 8, 1)
    b.prism((0, 0, 3.0), (0.86, 0.6), ["iron"] * 8, 1, spire=True)


def _add_tree(b: Builder, size: float = 1.0) -> None:
    """Add a lime clipped to a box, as on French and Flemish squares."""
    width, height = size * b.rng.uniform(2.4, 3.0), size * b.rng.uniform(2.2, 3.0)
    crown = b.shifted()
    b.box((0, 0, 0), (0.28, 0.28, 2.6), "bark", 1.5, "fblr")
    crown.box((0, 0, 2.4), (width, width, height), "leaves", 3, "fblrtu")
    b.box((0, 0, 2.4 + height), (0.6 * width, 0.6 * width, 0.35), "leaves", 3)
    b.box((0, 0, 0), (1.1, 1.1, 0.35), "stone", 3)


def _add_lantern(b: Builder) -> None:
    b.box((0, 0, 0), (0.11, 0.11, 3.6), "iron", 1, "fblr")
    b.box((0, 0, 0), (0.32, 0.32, 0.6), "iron", 1)
    head = b.at((0, 0, 3.6))
    head.box((0, 0, 0), (0.34, 0.34, 0.5), "glow", 1, "fblru")
    head.prism((0, 0, 0.5), (0.36, 0.3), ["iron"] * 4, 1, spire=True)
    b.lamps.append(head.point(z=0.3))


def _add_stall(b: Builder) -> None:
    """Add a market stall: crates of fruit under a striped roof on posts."""
    rng = b.rng
    for x in (-0.8, 0.0, 0.8):
        crate = textures.planks(rng, (40, 40), vary(rng, (140, 108, 70), 20))
        for _ in range(26):
            centre, fruit = rng.integers(4, 36, 2).tolist(), vary(rng, (180, 70, 40), 70)
            cv2.circle(crate, centre, 4, fruit, -1, cv2.LINE_AA)
        b.box((x, 0, 0), (0.78, 0.9, 0.85), b.texture(crate))
    for x, y in ((-1.3, -0.8), (-1.3, 0.8), (1.3, -0.8), (1.3, 0.8)):
        b.box((x, y, 0), (0.07, 0.07, 2.2), "wood", 1, "fblr")
    colours = vary(rng, (60, 90, 140), 60), (234, 228, 214)
    cloth, ridge = b.paint(textures.stripes, colours, name="cloth"), b.at((-1.45, 0, 2.75))
    for x, length, y in ((0, 2.9, -1), (2.9, -2.9, 1)):
        add_canvas(ridge.at((x,)), length, (0, y, -0.55), 0.22, cloth, (1.6, 1.2))
