"""A large office: desks, shelves, posters, doors, and windows through which no laser comes back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipelines.demo import textures
from pipelines.demo.surfaces import Scene, SceneBuilder
from pipelines.demo.textures import Texture, opaque, vary

SIZE = (12.0, 8.0, 3.0)
"""Along x, along y, and high, in metres; the origin is a corner of the floor."""
SCANS = ((2.2, 2.4), (9.6, 2.2), (9.4, 5.9), (2.4, 5.8), (6.0, 4.0))
"""Where a scanner may stand, in the order of use."""

_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Room:
    """The room, and what a laser scanner does not see of it."""

    scene: Scene
    glass: tuple[int, ...]
    """Textures from which no laser comes back."""


def build_room(seed: int) -> Room:
    """Build the room; another seed, other things in it."""
    rng = np.random.default_rng([seed, 11])
    builder = SceneBuilder()
    glass: list[int] = []
    lamp = builder.texture(Texture(np.full((8, 8, 4), (250, 248, 240, 255), np.uint8), True))
    _shell(rng, builder, lamp)
    walls = (
        # Left end of the wall as one looks at it, and the direction to its right.
        (np.array([0, SIZE[1], 0.0]), np.array([1.0, 0, 0]), SIZE[0]),
        (np.array([SIZE[0], SIZE[1], 0.0]), np.array([0, -1.0, 0]), SIZE[1]),
        (np.array([SIZE[0], 0, 0.0]), np.array([-1.0, 0, 0]), SIZE[0]),
        (np.array([0, 0, 0.0]), np.array([0, 1.0, 0]), SIZE[1]),
    )
    for k, (left, along, length) in enumerate(walls):
        _hang(rng, builder, glass, left, along, length, windows=k == 0)
    for x, y, angle in (
        (4.2, 2.0, 0),
        (4.2, 5.6, 90),
        (7.4, 1.6, 180),
        (7.8, 5.9, 0),
        (1.0, 4.1, 90),
    ):
        _desk(rng, builder, glass, np.array([x, y, 0.0]), float(angle))
    for x, y, angle in ((11.75, 4.0, 90), (6.0, 0.25, 0), (0.25, 7.0, 270), (0.25, 1.2, 270)):
        _shelf(rng, builder, np.array([x, y, 0.0]), float(angle))
    concrete = textures.shaded((198, 196, 188), 0.06 * textures.rough(rng, 480, 64, (2, 6, 25)))
    pillar = builder.texture(opaque(concrete))
    builder.add_box(
        np.array([6.0, 2.6, 0]), np.array([1.0, 0]), (0.4, 0.4, 3.0), pillar, None, "fblr"
    )
    builder.lamps.extend(np.array([x, y, SIZE[2] - 0.2]) for x in (2, 6, 10) for y in (2.0, 6.0))
    return Room(builder.scene(lamp), tuple(glass))


def _shell(rng: np.random.Generator, builder: SceneBuilder, lamp: int) -> None:
    length, width, height = SIZE
    boards = np.rot90(textures.planks(rng, 512, 512, (150, 112, 78))).copy()
    floor = builder.texture(opaque(boards, wraps=True))
    panels = textures.masonry(rng, 256, 256, (62, 62), (212, 210, 204), (150, 148, 144), 2, 5)
    ceiling = builder.texture(opaque(panels, wraps=True))
    x, y = np.array([length, 0, 0]), np.array([0, width, 0])
    builder.add(y, x, -y, floor, (4, 4))
    builder.add(height * _UP, x, y, ceiling, (2.4, 2.4))
    rug = textures.masonry(rng, 160, 240, (9, 9), (126, 62, 58), (66, 50, 66), 2, 34)
    rug[8:-8, 8:-8] = textures.photograph(rng, 144, 224) // 2 + rug[8:-8, 8:-8] // 2
    corner = np.array([4.9, 5.0, 0.01])
    builder.add(corner, np.array([2.4, 0, 0]), np.array([0, -1.6, 0]), builder.texture(opaque(rug)))
    for u in (2, 6, 10):
        for v in (2.0, 6.0):
            corner = np.array([u - 0.6, v - 0.3, height - 0.02])
            builder.add(corner, np.array([1.2, 0, 0]), np.array([0, 0.6, 0]), lamp, (1, 1))
    for left, right in ((0 * x, y), (y, x), (x + y, -y), (x, -x)):
        span = float(np.linalg.norm(right))
        colour = vary(rng, (222, 216, 202), 10)
        rows, columns = round(height * 64), round(span * 64)
        paint = textures.shaded(colour, 0.03 * textures.rough(rng, rows, columns, (2, 5, 30, 120)))
        paint[: round(0.02 * 64)] = 120
        paint[-round(0.12 * 64) :] = vary(rng, (110, 92, 74))
        builder.add(left + height * _UP, right, -height * _UP, builder.texture(opaque(paint)))


def _hang(
    rng: np.random.Generator,
    builder: SceneBuilder,
    glass: list[int],
    left: np.ndarray,
    along: np.ndarray,
    length: float,
    windows: bool,
) -> None:
    """Cover a wall with windows, a door, a board, pictures."""
    inwards = np.array([along[1], -along[0], 0.0])

    def put(x: float, z: float, width: float, height: float, pixels: np.ndarray, out: float) -> int:
        texture = builder.texture(opaque(pixels))
        corner = left + x * along + (z + height) * _UP + out * inwards
        builder.add(corner, width * along, -height * _UP, texture)
        return texture

    x = rng.uniform(0.3, 0.6)
    turn = int(rng.integers(3))
    while True:
        kind = "window" if windows else ("pictures", "door", "board")[turn % 3]
        turn += 1
        width = {"window": 1.7, "door": 1.0, "board": 2.2, "pictures": rng.uniform(1.6, 2.4)}[kind]
        if x + width > length - 0.3:
            return
        if kind == "window":
            glass.append(put(x, 0.95, width, 1.6, _window(rng), 0.01))
            sill = left + (x + width / 2) * along + 0.88 * _UP + 0.1 * inwards
            wood = builder.texture(opaque(textures.planks(rng, 16, 128, (196, 190, 178))))
            builder.add_box(sill, along, (width + 0.2, 0.2, 0.06), wood, None, "flrtu")
        elif kind == "door":
            door = textures.planks(rng, 134, 64, vary(rng, (124, 88, 60), 30))
            cv2.circle(door, (56, 70), 3, (206, 190, 120), -1, cv2.LINE_AA)
            sign = textures.lettering(
                rng, 16, 36, (226, 222, 210), (40, 40, 46), textures.word(rng)[:4]
            )
            door[30:46, 14:50] = sign
            put(x, 0, width, 2.1, door, 0.02)
        elif kind == "board":
            put(x, 0.9, width, 1.3, _board(rng), 0.03)
        else:
            across = x
            while across + 0.5 < x + width:
                wide = float(rng.uniform(0.42, 0.8))
                for z in (0.75, 1.7):
                    tall = float(rng.uniform(0.6, 0.85))
                    kind_of = textures.poster if rng.random() < 0.6 else _framed
                    pixels = kind_of(rng, round(160 * tall), round(160 * wide))
                    put(across, z + rng.uniform(-0.08, 0.1), wide, tall, pixels, 0.015)
                across += wide + rng.uniform(0.1, 0.3)
        x += width + rng.uniform(0.35, 0.8)


def _framed(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    frame = np.full((height, width, 3), vary(rng, (94, 66, 40), 30), np.uint8)
    edge = max(3, width // 18)
    frame[edge:-edge, edge:-edge] = textures.photograph(rng, height - 2 * edge, width - 2 * edge)
    return frame


def _window(rng: np.random.Generator) -> np.ndarray:
    pane = textures.photograph(rng, 176, 187)
    pane = (0.6 * pane + 90).clip(0, 255).astype(np.uint8)
    for x in (0, 90, 179):
        pane[:, x : x + 8] = (232, 230, 224)
    pane[:8], pane[84:92], pane[-8:] = (232, 230, 224), (232, 230, 224), (222, 220, 214)
    return pane


def _board(rng: np.random.Generator) -> np.ndarray:
    """A whiteboard with notes and drawings."""
    board = textures.shaded((228, 230, 230), 0.02 * textures.rough(rng, 208, 352, (3, 40)))
    for _ in range(9):
        ink = [(40, 60, 160), (170, 40, 44), (30, 110, 60), (40, 40, 44)][int(rng.integers(4))]
        x, y = rng.integers([10, 24], [250, 190]).tolist()
        if rng.random() < 0.6:
            cv2.putText(
                board, textures.word(rng).lower(), (x, y), cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
                float(rng.uniform(0.6, 1.1)), ink, 2, cv2.LINE_AA,
            )  # fmt: skip
        else:
            points = np.array([x, y]) + rng.integers(-30, 70, (5, 2))
            cv2.polylines(board, [points.astype(np.int32)], False, ink, 2, cv2.LINE_AA)
    cv2.rectangle(board, (0, 0), (351, 207), (130, 132, 134), 8)
    return board


def _desk(
    rng: np.random.Generator,
    builder: SceneBuilder,
    glass: list[int],
    place: np.ndarray,
    angle: float,
) -> None:
    """A desk with a screen, books and papers, and a chair."""
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle)), 0.0])
    across = np.array([-along[1], along[0], 0.0])
    wood = builder.texture(opaque(textures.planks(rng, 96, 192, vary(rng, (166, 128, 88), 25))))
    builder.add_box(place + 0.7 * _UP, along, (1.7, 0.85, 0.05), wood, None, "fblrtu")
    for x in (-0.7, 0.7):
        builder.add_box(place + x * along, along, (0.35, 0.7, 0.7), wood, None, "fblr")
    top = place + 0.75 * _UP
    dark = builder.texture(
        opaque(textures.shaded((42, 43, 46), 0.1 * textures.rough(rng, 48, 64, (2, 9))))
    )
    screen = builder.texture(opaque(_screen(rng)))
    glass.append(screen)
    foot = top + rng.uniform(-0.3, 0.3) * along + 0.15 * across
    builder.add_box(foot, along, (0.12, 0.1, 0.12), dark, None, "fblr")
    builder.add_box(foot + 0.1 * _UP, along, (0.62, 0.06, 0.4), dark, None, "fblrt")
    corner = foot - 0.29 * along + 0.48 * _UP - 0.031 * across
    builder.add(corner, 0.58 * along, -0.36 * _UP, screen)
    for _ in range(4):
        spot = top + rng.uniform(-0.75, 0.75) * along + rng.uniform(-0.35, 0.05) * across
        cover = builder.texture(opaque(textures.poster(rng, 90, 66)))
        turned = along + rng.uniform(-0.4, 0.4) * across
        size = (0.22, 0.3, float(rng.uniform(0.01, 0.08)))
        builder.add_box(spot, turned, size, cover, None, "fblrt")
    seat = place - 0.85 * across + rng.uniform(-0.2, 0.2) * along
    cloth = textures.masonry(rng, 64, 64, (5, 5), vary(rng, (70, 88, 120), 50), (40, 42, 48), 1, 18)
    fabric = builder.texture(opaque(cloth))
    builder.add_box(seat, along, (0.08, 0.08, 0.45), dark, None, "fblr")
    builder.add_box(seat + 0.43 * _UP, along, (0.46, 0.46, 0.08), fabric, None, "fblrtu")
    builder.add_box(
        seat - 0.2 * across + 0.55 * _UP, along, (0.44, 0.06, 0.5), fabric, None, "fblrt"
    )


def _screen(rng: np.random.Generator) -> np.ndarray:
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


def _shelf(
    rng: np.random.Generator, builder: SceneBuilder, place: np.ndarray, angle: float
) -> None:
    """Shelves of books; its back stands at the wall behind."""
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle)), 0.0]) * -1
    out = np.array([along[1], -along[0], 0.0])
    width, height, scale = 1.8, 2.1, 120
    front = textures.planks(rng, int(height * scale), int(width * scale), (132, 100, 70))
    for k in range(5):
        bottom = int((height - 0.1 - k * 0.4) * scale)
        x = 8
        front[bottom - 40 : bottom, 6:-6] = (36, 28, 24)
        while x < front.shape[1] - 24:
            thick, tall = int(rng.integers(4, 13)), int(rng.integers(26, 40))
            colour = rng.integers(30, 220, 3)
            front[bottom - tall : bottom, x : x + thick] = colour
            front[bottom - tall + 5 : bottom - tall + 9, x + 1 : x + thick - 1] = 255 - colour
            x += thick + int(rng.random() < 0.15) * 10 + 1
    texture = builder.texture(opaque(front))
    wood = builder.texture(opaque(textures.planks(rng, 256, 64, (132, 100, 70))))
    builder.add_box(place, along, (width, 0.4, height), wood, None, "lrt")
    corner = place - width / 2 * along + 0.2 * out + height * _UP
    builder.add(corner, width * along, -height * _UP, texture)
