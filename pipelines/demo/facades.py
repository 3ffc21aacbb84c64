"""Painted fronts of houses: walls, windows, doors, shops, signs, and what weather does to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pipelines.demo import textures
from pipelines.demo.textures import Colour, Texture, vary

PIXELS_PER_METRE = 48

_WALLS: tuple[Colour, ...] = (
    (206, 188, 148),
    (196, 160, 122),
    (176, 118, 96),
    (212, 206, 192),
    (158, 170, 160),
    (206, 178, 112),
    (150, 160, 178),
    (198, 146, 132),
    (184, 196, 168),
)
_BRICKS: tuple[Colour, ...] = ((148, 80, 62), (126, 72, 58), (168, 112, 78), (178, 152, 118))
_PAINTS: tuple[Colour, ...] = (
    (62, 84, 66),
    (96, 44, 40),
    (58, 70, 98),
    (88, 70, 52),
    (226, 222, 212),
    (40, 42, 46),
)


@dataclass(frozen=True)
class Facade:
    """A painted front, and where its relief belongs."""

    texture: Texture
    wall: Colour
    """Mean colour of its wall."""
    sills: list[tuple[float, float, float]]
    """Of each window's sill: left end, height above ground, width; in metres."""
    balconies: list[tuple[float, float, float]]
    """The same of the doors to balconies."""
    awning: tuple[float, float] | None
    """Left end and width of the shop's awning, in metres."""


class _Painter:
    """Draws in metres, x to the right and z up from the foot of the front's left end."""

    def __init__(self, rng: np.random.Generator, pixels: np.ndarray) -> None:
        self.rng, self.pixels = rng, pixels
        self.lit = np.zeros(pixels.shape[:2], np.uint8)

    def box(self, x: float, z: float, width: float, height: float) -> tuple[int, int, int, int]:
        left, right = round(x * PIXELS_PER_METRE), round((x + width) * PIXELS_PER_METRE)
        rows = self.pixels.shape[0]
        top = rows - round((z + height) * PIXELS_PER_METRE)
        return left, top, right, rows - round(z * PIXELS_PER_METRE)

    def fill(self, x: float, z: float, width: float, height: float, colour: Colour) -> None:
        left, top, right, bottom = self.box(x, z, width, height)
        cv2.rectangle(self.pixels, (left, top), (right - 1, bottom - 1), colour, -1)

    def paste(
        self,
        x: float,
        z: float,
        width: float,
        height: float,
        paint: Callable[..., np.ndarray],
        *more: object,
    ) -> None:
        left, top, right, bottom = self.box(x, z, width, height)
        left, top = max(0, left), max(0, top)
        picture = paint(self.rng, bottom - top, right - left, *more)
        target = self.pixels[top:bottom, left:right]
        target[:] = picture[: target.shape[0], : target.shape[1]]

    def glass(self, x: float, z: float, width: float, height: float, lit: int) -> None:
        """A pane: sky above, dark below, curtains at times, a lit room at night."""
        left, top, right, bottom = self.box(x, z, width, height)
        rng, (rows, columns) = self.rng, (bottom - top, right - left)
        fall = np.linspace(1.0, 0.35, rows)[:, None] + 0.12 * textures.noise(rng, rows, columns, 14)
        pane = textures.shaded(vary(rng, (74, 88, 104), 14), (fall - 1).astype(np.float32))
        light = np.full((rows, columns), lit, np.float32)
        if rng.random() < 0.55:
            folds = 0.16 * np.sin(np.arange(columns) * rng.uniform(0.5, 1.1) + rng.uniform(0, 6))
            cloth = textures.shaded(
                vary(rng, (202, 196, 182), 20), np.repeat(folds[None], rows, 0).astype(np.float32)
            )
            part = int(columns * rng.uniform(0.15, 0.4))
            pane[:, :part], pane[:, columns - part :] = cloth[:, :part], cloth[:, columns - part :]
            light *= 0.75
        light *= 0.8 + 0.2 * textures.noise(rng, rows, columns, 20)
        self.pixels[top:bottom, left:right] = pane
        self.lit[top:bottom, left:right] = light


def paint_facade(rng: np.random.Generator, width: float, height: float, shop: bool) -> Facade:
    """Paint the front of a house.

    Args:
        rng: source of randomness: another one, another house.
        width: in metres.
        height: in metres, to the eaves.
        shop: whether there is a shop on the ground floor.
    """
    rows, columns = round(height * PIXELS_PER_METRE), round(width * PIXELS_PER_METRE)
    kind = str(rng.choice(["plaster", "brick", "timber", "plaster"]))
    wall = vary(rng, _WALLS[int(rng.integers(len(_WALLS)))])
    if kind == "brick":
        wall = vary(rng, _BRICKS[int(rng.integers(len(_BRICKS)))])
        pixels = textures.masonry(rng, rows, columns, (4.6, 12), wall, (176, 168, 154), 1.1)
    else:
        pixels = textures.plaster(rng, rows, columns, wall)
    painter = _Painter(rng, pixels)
    ground = rng.uniform(3.3, 4.0)
    num_floors = max(1, int((height - ground - 0.3) / 2.9))
    floor = (height - ground - 0.3) / num_floors
    if kind == "timber":
        _timber(painter, width, ground, floor, num_floors)
    awning = _ground_floor(painter, width, ground, shop)
    sills, balconies = _upper_floors(painter, width, ground, floor, num_floors)
    if rng.random() < 0.25 and not shop:
        _ivy(painter, width, height)
    dirt = np.linspace(-0.05, -0.22, rows)[:, None] ** 3 * 4 + 0.05 * textures.rough(
        rng, rows, columns, (9, 40, 130)
    )
    pixels[:] = textures.shaded(pixels, dirt.astype(np.float32))
    texture = Texture(np.dstack([pixels, painter.lit]))
    return Facade(texture, wall, sills, balconies, awning)


def _timber(painter: _Painter, width: float, ground: float, floor: float, floors: int) -> None:
    """Half-timbering: posts, beams and braces."""
    rng, pixels = painter.rng, painter.pixels
    beam = vary(rng, (74, 52, 38), 12)
    thick = max(4, round(0.17 * PIXELS_PER_METRE))
    bays = max(2, round(width / 1.6))

    def point(x: float, z: float) -> tuple[int, int]:
        left, top, *_ = painter.box(x, z, 0, 0)
        return left, top

    for k in range(floors + 1):
        z = ground + k * floor
        cv2.line(pixels, point(0, z), point(width, z), beam, thick, cv2.LINE_AA)
    for k in range(floors):
        low, high = ground + k * floor, ground + (k + 1) * floor
        for bay in range(bays + 1):
            x = width * bay / bays
            cv2.line(pixels, point(x, low), point(x, high), beam, thick, cv2.LINE_AA)
            if bay < bays and rng.random() < 0.45:
                ends = (x, x + width / bays) if rng.random() < 0.5 else (x + width / bays, x)
                cv2.line(
                    pixels, point(ends[0], low), point(ends[1], high), beam, thick, cv2.LINE_AA
                )


def _ground_floor(
    painter: _Painter, width: float, ground: float, shop: bool
) -> tuple[float, float] | None:
    """Base, door, and a shop window with its sign or plain windows; gives the awning's place."""
    rng = painter.rng
    paint = vary(rng, _PAINTS[int(rng.integers(len(_PAINTS)))], 12)
    if rng.random() < 0.6:
        stone = vary(rng, (148, 140, 128), 18)
        painter.paste(
            0, 0, width, ground - 0.25, textures.masonry, (17, 34), stone, (92, 86, 80), 1.6
        )
    painter.fill(0, 0, width, 0.5, vary(rng, (92, 88, 84), 12))
    door_width = rng.uniform(1.0, 1.35)
    door_left = rng.uniform(0.35, 0.9) if rng.random() < 0.5 else width - door_width - 0.6
    painter.fill(door_left - 0.14, 0, door_width + 0.28, 2.75, vary(rng, (196, 188, 172), 20))
    painter.paste(door_left, 0.1, door_width, 2.0, textures.planks, paint)
    painter.glass(door_left, 2.15, door_width, 0.45, int(rng.choice([0, 150])))
    free = (
        (door_left + door_width + 0.5, width - 0.4)
        if door_left < width / 2
        else (0.4, door_left - 0.5)
    )
    span = free[1] - free[0]
    if not shop:
        count = max(1, int(span / 1.7))
        for k in range(count):
            x = free[0] + (k + 0.5) * span / count - 0.5
            painter.fill(x - 0.1, 0.95, 1.2, 1.75, vary(rng, (206, 198, 182), 8))
            painter.glass(x, 1.05, 1.0, 1.5, int(rng.choice([0, 0, 170])))
        if rng.random() < 0.6:
            painter.paste(free[0] + 0.1, 0.6, 0.75, 1.05, textures.poster)
        return None
    painter.fill(free[0], 0.45, span, 2.35, paint)
    panes = max(1, round(span / 1.6))
    for k in range(panes):
        x, pane = free[0] + 0.12 + k * (span - 0.12) / panes, (span - 0.12) / panes - 0.12
        painter.glass(x, 0.75, pane, 1.9, 220)
        for _ in range(int(rng.integers(1, 4))):  # goods and bills in the window
            w, h = rng.uniform(0.3, 0.55), rng.uniform(0.4, 0.75)
            place = x + rng.uniform(0.05, max(0.06, pane - w - 0.05)), rng.uniform(0.8, 1.7)
            painter.paste(*place, min(w, pane - 0.1), h, textures.poster)
    sign = vary(rng, _PAINTS[int(rng.integers(len(_PAINTS)))], 20)
    ink = (238, 228, 190) if sum(sign) < 380 else (52, 34, 30)
    painter.paste(free[0], 2.8, span, 0.6, textures.lettering, sign, ink, textures.word(rng))
    left, top, right, bottom = painter.box(free[0], 2.8, span, 0.6)
    painter.lit[top:bottom, left:right] = 90
    return (free[0], span) if rng.random() < 0.5 else None


def _upper_floors(
    painter: _Painter, width: float, ground: float, floor: float, floors: int
) -> tuple[list[tuple[float, float, float]], list[tuple[float, float, float]]]:
    rng = painter.rng
    frame = vary(rng, (216, 210, 198), 14) if rng.random() < 0.7 else vary(rng, (96, 66, 46), 12)
    shutters = vary(rng, _PAINTS[int(rng.integers(len(_PAINTS)))], 15)
    has_shutters, has_lintels = rng.random(2) < (0.45, 0.5)
    count = max(1, int(width / rng.uniform(1.9, 2.7)))
    window_width = rng.uniform(0.85, 1.15)
    window_height = min(rng.uniform(1.4, 1.8), floor - 0.9)
    bars = int(rng.integers(1, 4))
    sills: list[tuple[float, float, float]] = []
    balconies: list[tuple[float, float, float]] = []
    for k in range(floors):
        z = ground + k * floor + 0.75
        for column in range(count):
            x = (column + 0.5) * width / count - window_width / 2
            balcony = k > 0 and rng.random() < 0.12
            low, tall = (z - 0.65, window_height + 0.65) if balcony else (z, window_height)
            painter.fill(x - 0.1, low - 0.06, window_width + 0.2, tall + 0.16, frame)
            lit = int(rng.choice([0, 0, 0, 140, 210]))
            pane = window_width / 2 - 0.04
            for side in (x, x + window_width / 2 + 0.04):
                painter.glass(side, low + 0.04, pane, tall - 0.08, lit)
            for bar in range(1, bars):
                painter.fill(x, low + bar * tall / bars - 0.02, window_width, 0.05, frame)
            if has_lintels:
                painter.fill(x - 0.18, low + tall + 0.1, window_width + 0.36, 0.16, frame)
            if has_shutters:
                for left in (x - 0.1 - window_width / 2, x + window_width + 0.1):
                    if (
                        left > 0.02
                        and left + window_width / 2 < width - 0.02
                        and rng.random() < 0.93
                    ):
                        painter.paste(left, low, window_width / 2, tall, textures.planks, shutters)
            (balconies if balcony else sills).append((x - 0.12, low - 0.06, window_width + 0.24))
    return sills, balconies


def _ivy(painter: _Painter, width: float, height: float) -> None:
    rng, pixels = painter.rng, painter.pixels
    rows, columns = pixels.shape[:2]
    leaves = textures.foliage(rng, rows, columns)
    reach = rng.uniform(0.35, 0.8) * height * PIXELS_PER_METRE
    centre = rng.choice([0.05, 0.95]) * columns
    y, x = np.mgrid[:rows, :columns]
    spread = 0.16 * columns * (1 + 0.5 * textures.rough(rng, rows, columns, (12, 40)))
    covered = (np.abs(x - centre) < spread) & (rows - y < reach * (1 + 0.1 * np.cos(x / 9.0)))
    pixels[covered] = leaves[covered]
    painter.lit[covered] = 0
