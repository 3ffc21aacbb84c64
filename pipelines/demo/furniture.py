"""What stands on the town's square and streets: church, fountain, trees, poster columns, stalls."""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.demo import textures
from pipelines.demo.builder import Builder, Name, Place, Tile
from pipelines.demo.geometry import UP, direction
from pipelines.demo.textures import Colour, vary

_CHURCH_STONE = (178, 166, 142)
_PIXELS_PER_METRE = 40


def furnish(b: Builder) -> None:
    """Furnish the square and the streets."""
    _church(b.at((-5, 25.5)))
    _fountain(b.at((-1, 9)))
    _poster_column(b.at((9.5, 3.5)))
    _poster_column(b.at((-25, -9.6, 0.1)))
    for place in ((11.5, 9), (11.5, 14), (11.5, 26), (-12.5, 5), (-12.5, 10.5)):
        _tree(b.at(place))
    for place in ((24, -9.4), (-9, -9.4), (30, 19.8)):
        _tree(b.at(place), 0.7)
    for x, y in ((6, -10.6), (-30, -10.6), (33, -10.6), (-21, -1.4), (28, -1.4), (12, 18)):
        _lantern(b.at((x, y, 0.1)))
    for place in ((-7, 3.5), (4, 13), (8.5, 20), (-11, 15)):
        _lantern(b.at(place))
    for place in ((-4, 4.0), (5.5, 6.5), (13, 18.5), (-8.5, 12.5)):
        _stall(b.at(place, direction(b.rng.uniform(0, np.pi))))


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
    low = b.at(slope)
    b.add((0, 0, 0), (length,), slope, texture, tile)
    low.add((0, 0, 0), (length,), (0, 0, -valance), texture, tile)
    low.add((0, 0, 0), (length,), -np.array(slope), "white", 3)


def _church(b: Builder) -> None:
    front = b.texture(_church_wall(b.rng, 9.0, 9.5, 2, door=True))
    left, right = (b.texture(_church_wall(b.rng, 10.0, 9.5, 3)) for _ in range(2))
    nave = b.at((-4.5, -5))
    at_left, at_right, at_back = nave.around(9, 10)
    nave.panel((0, 0, 0), (9, 9.5), front)
    at_left.panel((0, 0, 0), (10, 9.5), left)
    at_right.panel((0, 0, 0), (10, 9.5), right)
    at_back.panel((0, 0, 0), (9, 9.5), "stone", 5)
    nave.panel((0, 0, 9.5), (9, 5), b.texture(_rose(b.rng)), gable=True)
    at_back.panel((0, 0, 9.5), (9, 5), "stone", 5, gable=True)
    add_roof(nave.at((0, 0, 9.5)), (9, 10, 5), "roof2", 1.06)
    for x in (-4.5, -1.6, 1.6, 4.5):
        b.box((x, -5.35, 0), (0.6, 0.7, 7.0), "stone", 5, "flrt")
    tower = b.at((7.2, -1.5))
    for z, width, height, windows in ((0, 5.4, 9.0, 1), (9.0, 5.0, 6.5, 2), (15.5, 4.6, 5.5, 2)):
        tower.box((0, 0, z), (width + 0.3, width + 0.3, 0.35), "stone", 5)
        for quarter in range(4):
            along = direction(quarter * np.pi / 2)
            corner = width / 2 * (np.cross(along, UP) - along) + z * UP
            is_entrance = z == 0 and quarter == 0
            wall = b.texture(_church_wall(b.rng, width, height, windows, is_entrance, z > 15))
            tower.at(corner, along).panel((0, 0, 0), (width, height), wall)
    tower.box((0, 0, 21), (5.1, 5.1, 0.4), "stone", 5, "fblrtu")
    tower.prism((0, 0, 21.4), (3.3, 10.0), ["roof2"] * 4, 4.2, spire=True)


def _church_wall(
    rng: np.random.Generator,
    width: float,
    height: float,
    num_windows: int,
    door: bool = False,
    clock: bool = False,
) -> np.ndarray:
    rows, columns = round(height * _PIXELS_PER_METRE), round(width * _PIXELS_PER_METRE)
    wall = _masonry(rng, rows, columns, vary(rng, _CHURCH_STONE, 8))
    lit = np.zeros((rows, columns), np.uint8)
    for k in range(num_windows):
        x = int((k + 0.5) * columns / num_windows)
        half = int(min(0.16 * columns / num_windows, 24) + 8)
        top, bottom, rise = int(0.3 * rows), int(0.74 * rows), int(1.5 * half)
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
        wall[top:, x - half : x + half] = textures.planks(rng, rows - top, 2 * half, (92, 62, 42))
        lit[top - half - 12 :, x - half - 12 : x + half + 12] = 0
    if clock:
        _clock(wall, lit, np.array([columns // 2, int(0.16 * rows)]), int(0.13 * rows))
    weather = 0.07 * textures.rough(rng, rows, columns, (12, 50, 150))
    return np.dstack([textures.shaded(wall, weather), lit])


def _masonry(rng: np.random.Generator, rows: int, columns: int, stone: Colour) -> np.ndarray:
    return textures.masonry(rng, rows, columns, (16, 30), (stone, (126, 116, 98)), 1.4, 13)


def _arch(
    picture: np.ndarray,
    place: tuple[int, int, int],
    size: tuple[int, int],
    colour: Colour | int,
    line: int = cv2.LINE_AA,
) -> None:
    """Draw a rectangle with half an ellipse above: middle, top and bottom; half width and rise."""
    (x, top, bottom), (half, _) = place, size
    cv2.rectangle(picture, (x - half, top), (x + half, bottom), colour, -1)
    cv2.ellipse(picture, (x, top), size, 0, 180, 360, colour, -1, line)


def _clock(wall: np.ndarray, lit: np.ndarray, centre: np.ndarray, radius: int) -> None:
    def place(angle: float, length: float) -> list[int]:
        towards = np.array([np.sin(angle), -np.cos(angle)])
        return np.round(centre + length * radius * towards).astype(int).tolist()

    middle = centre.tolist()
    cv2.circle(wall, middle, radius, (236, 230, 208), -1, cv2.LINE_AA)
    cv2.circle(wall, middle, radius, (150, 116, 40), 3, cv2.LINE_AA)
    cv2.circle(lit, middle, radius, 150, -1)
    for hour in np.arange(12) * np.pi / 6:
        cv2.line(wall, place(hour, 0.72), place(hour, 0.92), (30, 28, 26), 2, cv2.LINE_AA)
    for angle, length in ((0.9, 0.78), (5.1, 0.5)):
        cv2.line(wall, middle, place(angle, length), (24, 22, 22), 3, cv2.LINE_AA)


def _rose(rng: np.random.Generator) -> np.ndarray:
    rows, columns = 200, 360
    wall = _masonry(rng, rows, columns, _CHURCH_STONE)
    lit = np.zeros((rows, columns), np.uint8)
    x, y = columns // 2, int(0.66 * rows)
    cv2.circle(wall, (x, y), 46, (204, 194, 170), -1, cv2.LINE_AA)
    cv2.circle(wall, (x, y), 40, (60, 54, 60), -1, cv2.LINE_AA)
    for ring, count, size in ((27, 12, 6), (13, 6, 5), (0, 1, 6)):
        for angle in np.arange(count) * (2 * np.pi) / count:
            place = x + round(ring * np.cos(angle)), y + round(ring * np.sin(angle))
            cv2.circle(wall, place, size, rng.integers(40, 200, 3).tolist(), -1, cv2.LINE_AA)
            cv2.circle(lit, place, size, 150, -1)
    return np.dstack([wall, lit])


def _fountain(b: Builder) -> None:
    water = textures.grained(b.rng, 96, 96, (74, 104, 112), 0.2, (3, 9, 30))
    surface = b.texture(water, wraps=True)
    b.prism((0, 0, 0), (2.6, 0.75), ["stone"] * 8, 4)
    b.box((0, 0, 0.65), (3.6, 3.6, 0.05), surface, 2, "t")
    b.prism((0, 0, 0.6), (0.6, 2.2), ["stone"] * 8, 3)
    b.prism((0, 0, 2.4), (1.1, 0.3), ["white"] * 8, 3)
    b.box((0, 0, 2.7), (0.5, 0.5, 1.5), "white", 2)
    b.prism((0, 0, 4.2), (0.5, 0.8), ["iron"] * 6, 1, spire=True)


def _poster_column(b: Builder) -> None:
    posters = [b.texture(textures.poster(b.rng, 150, 72)) for _ in range(8)]
    b.prism((0, 0, 0), (0.78, 0.5), ["stone"] * 8, 3)
    b.prism((0, 0, 0.5), (0.72, 2.3), posters)
    b.prism((0, 0, 2.8), (0.82, 0.2), ["iron"] * 8, 1)
    b.prism((0, 0, 3.0), (0.86, 0.6), ["iron"] * 8, 1, spire=True)


def _tree(b: Builder, size: float = 1.0) -> None:
    """Add a lime clipped to a box, as on French and Flemish squares."""
    width, height = size * b.rng.uniform(2.4, 3.0), size * b.rng.uniform(2.2, 3.0)
    crown = b.shifted()
    b.box((0, 0, 0), (0.28, 0.28, 2.6), "bark", 1.5, "fblr")
    crown.box((0, 0, 2.4), (width, width, height), "leaves", 3, "fblrtu")
    b.box((0, 0, 2.4 + height), (0.6 * width, 0.6 * width, 0.35), "leaves", 3)
    b.box((0, 0, 0), (1.1, 1.1, 0.35), "stone", 3)


def _lantern(b: Builder) -> None:
    b.box((0, 0, 0), (0.11, 0.11, 3.6), "iron", 1, "fblr")
    b.box((0, 0, 0), (0.32, 0.32, 0.6), "iron", 1)
    head = b.at((0, 0, 3.6))
    head.box((0, 0, 0), (0.34, 0.34, 0.5), "glow", 1, "fblru")
    head.prism((0, 0, 0.5), (0.36, 0.3), ["iron"] * 4, 1, spire=True)
    b.lamps.append(head.point(z=0.3))


def _stall(b: Builder) -> None:
    """Add a market stall: crates of fruit under a striped roof on posts."""
    rng = b.rng
    for x in (-0.8, 0.0, 0.8):
        crate = textures.planks(rng, 40, 40, vary(rng, (140, 108, 70), 20))
        for _ in range(26):
            centre, fruit = rng.integers(4, 36, 2).tolist(), vary(rng, (180, 70, 40), 70)
            cv2.circle(crate, centre, 4, fruit, -1, cv2.LINE_AA)
        b.box((x, 0, 0), (0.78, 0.9, 0.85), b.texture(crate))
    for x, y in ((-1.3, -0.8), (-1.3, 0.8), (1.3, -0.8), (1.3, 0.8)):
        b.box((x, y, 0), (0.07, 0.07, 2.2), "wood", 1, "fblr")
    stripes = textures.stripes(rng, vary(rng, (60, 90, 140), 60), (234, 228, 214))
    cloth, ridge = b.texture(stripes, wraps=True), b.at((-1.45, 0, 2.75))
    for x, length, y in ((0, 2.9, -1), (2.9, -2.9, 1)):
        add_canvas(ridge.at((x,)), length, (0, y, -0.55), 0.22, cloth, (1.6, 1.2))
