"""A large office: desks, shelves, posters, doors, and windows through which no laser comes back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from pipelines.demo import textures
from pipelines.demo.builder import Builder, Scene
from pipelines.demo.geometry import direction
from pipelines.demo.textures import Random, Size, vary

SIZE = (12.0, 8.0, 3.0)
"""Extent along x and y, and height, in metres; the origin is a corner of the floor."""
SCANS = ((2.2, 2.4), (9.6, 2.2), (9.4, 5.9), (2.4, 5.8), (6.0, 4.0))
"""Where a scanner may stand, in the order of use."""

_DESKS = ((4.2, 2.0, 0), (4.2, 5.6, 90), (7.4, 1.6, 180), (7.8, 5.9, 0), (1.0, 4.1, 90))
_SHELVES = ((11.75, 4.0, 90), (6.0, 0.25, 0), (0.25, 7.0, 270), (0.25, 1.2, 270))
_LAMPS = tuple((x, y) for x in (2.0, 6.0, 10.0) for y in (2.0, 6.0))


@lru_cache(maxsize=1)
def build_room(seed: int) -> Scene:
    """Build the room; another seed puts other things in it."""
    b = Builder(np.random.default_rng([seed, 11]))
    b.texture(np.full((8, 8, 4), (250, 248, 240, 255), np.uint8), "glow")
    _add_floor_and_ceiling(b)
    length, width, height = SIZE
    walls = (
        (b.at((0, 0), b.vector(y=1)), width),
        (b.at((0, width), b.vector(1)), length),
        (b.at((length, width), b.vector(y=-1)), width),
        (b.at((length, 0), b.vector(-1)), length),
    )
    for wall, span in walls:
        _paint(wall, span)
    _hang(*walls[1], ["window"])
    for k in (2, 3, 0):
        _hang(*walls[k], ["pictures", "door", "board"])
    for x, y, angle in _DESKS:
        _add_desk(b.at((x, y), direction(np.radians(angle))))
    for x, y, angle in _SHELVES:
        _add_shelf(b.at((x, y), -direction(np.radians(angle))))
    concrete = b.paint(textures.grained, (480, 64), (198, 196, 188), 0.06, (2, 6, 25))
    b.box((6.0, 2.6, 0), (0.4, 0.4, 3.0), concrete, None, "fblr")
    b.lamps.extend(b.point(x, y, height - 0.2) for x, y in _LAMPS)
    return b.scene()


def _add_floor_and_ceiling(b: Builder) -> None:
    rng, (length, width, height) = b.rng, SIZE
    b.texture(np.rot90(textures.planks(rng, (512, 512), (150, 112, 78))), "boards")
    colours = (212, 210, 204), (150, 148, 144)
    b.paint(textures.masonry, (256, 256), (62, 62), colours, 2, 5, name="panels")
    b.add((0, width), (length,), (0, -width), "boards", 4)
    b.add((0, 0, height), (length,), (0, width), "panels", 2.4)
    rug = textures.masonry(rng, (160, 240), (9, 9), ((126, 62, 58), (66, 50, 66)), 2, 34)
    rug[8:-8, 8:-8] = textures.photograph(rng, (144, 224)) // 2 + rug[8:-8, 8:-8] // 2
    b.add((4.9, 5.0, 0.01), (2.4,), (0, -1.6), b.texture(rug))
    for x, y in _LAMPS:
        b.add((x - 0.6, y - 0.3, height - 0.02), (1.2,), (0, 0.6), "glow", 1)


def _paint(b: Builder, length: float) -> None:
    size, colour = (round(SIZE[2] * 64), round(length * 64)), vary(b.rng, (222, 216, 202), 10)
    paint = textures.grained(b.rng, size, colour, 0.03, (2, 5, 30, 120))
    paint[:1] = 120
    paint[-8:] = vary(b.rng, (110, 92, 74))
    b.panel((0, 0, 0), (length, SIZE[2]), b.texture(paint))


def _hang(b: Builder, length: float, kinds: Sequence[str]) -> None:
    """Cover a wall with things of several kinds by turns."""
    rng = b.rng
    x = rng.uniform(0.3, 0.6)
    turn = int(rng.integers(3))
    while True:
        kind = kinds[turn % len(kinds)]
        turn += 1
        width = {"window": 1.7, "door": 1.0, "board": 2.2, "pictures": rng.uniform(1.6, 2.4)}[kind]
        if x + width > length - 0.3:
            return
        if kind == "window":
            b.glass.append(b.paint(_window))
            b.panel((x, -0.01, 0.95), (width, 1.6), b.glass[-1])
            wood = b.paint(textures.planks, (16, 128), (196, 190, 178))
            b.box((x + width / 2, -0.1, 0.88), (width + 0.2, 0.2, 0.06), wood, None, "flrtu")
        elif kind == "door":
            b.panel((x, -0.02, 0), (width, 2.1), b.paint(_door))
        elif kind == "board":
            b.panel((x, -0.03, 0.9), (width, 1.3), b.paint(_board))
        else:
            across = x
            while across + 0.5 < x + width:
                wide = float(rng.uniform(0.42, 0.8))
                for z in (0.75, 1.7):
                    tall = float(rng.uniform(0.6, 0.85))
                    paint = textures.poster if rng.random() < 0.6 else _framed
                    picture = b.paint(paint, (round(160 * tall), round(160 * wide)))
                    b.panel((across, -0.015, z + rng.uniform(-0.08, 0.1)), (wide, tall), picture)
                across += wide + rng.uniform(0.1, 0.3)
        x += width + rng.uniform(0.35, 0.8)


def _framed(rng: Random, size: Size) -> np.ndarray:
    frame = np.full((*size, 3), vary(rng, (94, 66, 40), 30), np.uint8)
    edge = max(3, size[1] // 18)
    inner = size[0] - 2 * edge, size[1] - 2 * edge
    frame[edge:-edge, edge:-edge] = textures.photograph(rng, inner)
    return frame


def _window(rng: Random) -> np.ndarray:
    pane = (0.6 * textures.photograph(rng, (176, 187)) + 90).clip(0, 255).astype(np.uint8)
    for x in (0, 90, 179):
        pane[:, x : x + 8] = (232, 230, 224)
    pane[:8], pane[84:92], pane[-8:] = (232, 230, 224), (232, 230, 224), (222, 220, 214)
    return pane


def _door(rng: Random) -> np.ndarray:
    door = textures.planks(rng, (134, 64), vary(rng, (124, 88, 60), 30))
    cv2.circle(door, (56, 70), 3, (206, 190, 120), -1, cv2.LINE_AA)
    name, colours = textures.word(rng)[:4], ((226, 222, 210), (40, 40, 46))
    door[30:46, 14:50] = textures.lettering(rng, (16, 36), colours, name)
    return door


def _board(rng: Random) -> np.ndarray:
    """Draw notes on a whiteboard."""
    board = textures.grained(rng, (208, 352), (228, 230, 230), 0.02, (3, 40))
    inks = (40, 60, 160), (170, 40, 44), (30, 110, 60), (40, 40, 44)
    for _ in range(9):
        ink, place = inks[int(rng.integers(4))], rng.integers([10, 24], [250, 190])
        if rng.random() < 0.6:
            text, size = textures.word(rng).lower(), float(rng.uniform(0.6, 1.1))
            font = cv2.FONT_HERSHEY_SCRIPT_SIMPLEX
            cv2.putText(board, text, place.tolist(), font, size, ink, 2, cv2.LINE_AA)
        else:
            points = (place + rng.integers(-30, 70, (5, 2))).astype(np.int32)
            cv2.polylines(board, [points], False, ink, 2, cv2.LINE_AA)
    cv2.rectangle(board, (0, 0), (351, 207), (130, 132, 134), 8)
    return board


def _add_desk(b: Builder) -> None:
    """Add a desk with a screen, books and papers, and a chair."""
    rng = b.rng
    wood = b.paint(textures.planks, (96, 192), vary(rng, (166, 128, 88), 25))
    b.box((0, 0, 0.7), (1.7, 0.85, 0.05), wood, None, "fblrtu")
    for x in (-0.7, 0.7):
        b.box((x, 0, 0), (0.35, 0.7, 0.7), wood, None, "fblr")
    dark = b.paint(textures.grained, (48, 64), (42, 43, 46), 0.1, (2, 9))
    b.glass.append(b.paint(_screen))
    foot = b.at((rng.uniform(-0.3, 0.3), 0.15, 0.75))
    foot.box((0, 0, 0), (0.12, 0.1, 0.12), dark, None, "fblr")
    foot.box((0, 0, 0.1), (0.62, 0.06, 0.4), dark)
    foot.panel((-0.29, -0.031, 0.12), (0.58, 0.36), b.glass[-1])
    for _ in range(4):
        place = rng.uniform(-0.75, 0.75), rng.uniform(-0.35, 0.05), 0.75
        cover = b.paint(textures.poster, (90, 66))
        book = b.at(place, b.vector(1, rng.uniform(-0.4, 0.4)))
        book.box((0, 0, 0), (0.22, 0.3, float(rng.uniform(0.01, 0.08))), cover)
    seat = b.at((0, -0.85)).at((rng.uniform(-0.2, 0.2),))
    colours = vary(rng, (70, 88, 120), 50), (40, 42, 48)
    cloth = b.paint(textures.masonry, (64, 64), (5, 5), colours, 1, 18)
    seat.box((0, 0, 0), (0.08, 0.08, 0.45), dark, None, "fblr")
    seat.box((0, 0, 0.43), (0.46, 0.46, 0.08), cloth, None, "fblrtu")
    seat.box((0, -0.2, 0.55), (0.44, 0.06, 0.5), cloth)


def _screen(rng: Random) -> np.ndarray:
    pixels = np.full((104, 168, 3), (24, 28, 38), np.uint8)
    for row in range(8, 98, 7):
        start = 8 + 8 * int(rng.integers(0, 5))
        for _ in range(int(rng.integers(1, 6))):
            end = start + int(rng.integers(8, 30))
            cv2.line(pixels, (start, row), (min(end, 160), row), vary(rng, (150, 170, 150), 60), 2)
            start = end + 5
            if start > 150:
                break
    return pixels


def _add_shelf(b: Builder) -> None:
    """Add shelves of books, whose back stands at the wall behind."""
    rng, oak = b.rng, (132, 100, 70)
    front = textures.planks(rng, (252, 216), oak)  # 120 pixels per metre
    for bottom in (240, 192, 144, 95, 47):
        x = 8
        front[bottom - 40 : bottom, 6:-6] = (36, 28, 24)
        while x < 192:
            thick, tall = int(rng.integers(4, 13)), int(rng.integers(26, 40))
            colour = rng.integers(30, 220, 3)
            front[bottom - tall : bottom, x : x + thick] = colour
            front[bottom - tall + 5 : bottom - tall + 9, x + 1 : x + thick - 1] = 255 - colour
            x += thick + int(rng.random() < 0.15) * 10 + 1
    books, wood = b.texture(front), b.paint(textures.planks, (256, 64), oak)
    b.box((0, 0, 0), (1.8, 0.4, 2.1), wood, None, "lrt")
    b.panel((-0.9, -0.2, 0), (1.8, 2.1), books)
