"""Painted fronts of houses: walls, windows, doors, shops, signs, and what weather does to them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from pipelines.demo import textures
from pipelines.demo.textures import Colour, Random, vary

PIXELS_PER_METRE = 48

_WALLS = np.array(
    [
        [206, 188, 148], [196, 160, 122], [176, 118, 96], [212, 206, 192], [158, 170, 160],
        [206, 178, 112], [150, 160, 178], [198, 146, 132], [184, 196, 168],
    ]
)  # fmt: skip
_BRICKS = np.array([[148, 80, 62], [126, 72, 58], [168, 112, 78], [178, 152, 118]])
_PAINTS = np.array(
    [[62, 84, 66], [96, 44, 40], [58, 70, 98], [88, 70, 52], [226, 222, 212], [40, 42, 46]]
)


class Facade:
    """The painted front of a house, with or without a shop, and where its relief belongs.

    Lengths are metres, x to the right and z up from the foot of the front's left end.
    """

    def __init__(self, rng: Random, width: float, height: float, shop: bool) -> None:
        self.rng, self.width, self.height = rng, width, height
        size = round(height * PIXELS_PER_METRE), round(width * PIXELS_PER_METRE)
        kind = str(rng.choice(["plaster", "brick", "timber", "plaster"]))
        self.wall = textures.one_of(rng, _WALLS)
        if kind == "brick":
            self.wall = textures.one_of(rng, _BRICKS)
        paint = textures.bricks if kind == "brick" else textures.plaster
        self.pixels = paint(rng, size, self.wall)
        self.lit = np.zeros(size, np.uint8)
        self.sills: list[tuple[float, float, float]] = []
        """Left end, height above the ground and width of each window's sill."""
        self.balconies: list[tuple[float, float, float]] = []
        """The same for each balcony, at the foot of its door."""
        self.awning: tuple[float, float] | None = None
        """Left end and width of the shop's awning."""
        ground = rng.uniform(3.3, 4.0)
        num_floors = max(1, int((height - ground - 0.3) / 2.9))
        floor = (height - ground - 0.3) / num_floors
        floors = [ground + k * floor for k in range(num_floors + 1)]
        if kind == "timber":
            self._timber(floors)
        self._ground_floor(ground, shop)
        self._upper_floors(floors, floor)
        if rng.random() < 0.25 and not shop:
            self._ivy()
        dirt = np.linspace(-0.05, -0.22, size[0])[:, None] ** 3 * 4
        dirt = dirt + 0.05 * textures.rough(rng, size, (9, 40, 130))
        self.texture = np.dstack([textures.shaded(self.pixels, dirt), self.lit])
        """H×W×4 uint8."""

    def _box(self, x: float, z: float, width: float, height: float) -> tuple[slice, slice]:
        """Return the rows and columns of a rectangle."""
        left, right = round(x * PIXELS_PER_METRE), round((x + width) * PIXELS_PER_METRE)
        end = len(self.pixels)
        top = end - round((z + height) * PIXELS_PER_METRE)
        return slice(max(0, top), end - round(z * PIXELS_PER_METRE)), slice(max(0, left), right)

    def _fill(self, x: float, z: float, width: float, height: float, colour: Colour) -> None:
        self.pixels[self._box(x, z, width, height)] = colour

    def _paste(
        self,
        place: tuple[float, float],
        size: tuple[float, float],
        paint: Callable[..., np.ndarray],
        *more: object,
    ) -> None:
        rows, columns = box = self._box(*place, *size)
        size = rows.stop - rows.start, columns.stop - columns.start
        picture = paint(self.rng, size, *more)
        target = self.pixels[box]
        target[:] = picture[: target.shape[0], : target.shape[1]]

    def _line(self, x0: float, z0: float, x1: float, z1: float, colour: Colour) -> None:
        """Draw a beam."""
        start, end = (
            (columns.start, rows.start)
            for rows, columns in (self._box(x0, z0, 0, 0), self._box(x1, z1, 0, 0))
        )
        cv2.line(self.pixels, start, end, colour, round(0.17 * PIXELS_PER_METRE), cv2.LINE_AA)

    def _glass(self, x: float, z: float, width: float, height: float, lit: int) -> None:
        """Paint a pane: sky above, dark below, curtains at times, a lit room at night."""
        box = self._box(x, z, width, height)
        rng, (rows, columns) = self.rng, self.lit[box].shape
        fall = np.linspace(1.0, 0.35, rows)[:, None]
        fall = fall + 0.12 * textures.noise(rng, (rows, columns), 14)
        pane = textures.shaded(vary(rng, (74, 88, 104), 14), fall - 1)
        light = np.full((rows, columns), lit, np.float32)
        if rng.random() < 0.55:
            folds = 0.16 * np.sin(np.arange(columns) * rng.uniform(0.5, 1.1) + rng.uniform(0, 6))
            cloth = textures.shaded(vary(rng, (202, 196, 182), 20), folds[None])
            drawn = int(columns * rng.uniform(0.15, 0.4))
            for side in (slice(drawn), slice(columns - drawn, None)):
                pane[:, side] = cloth[:, side]
            light *= 0.75
        self.pixels[box] = pane
        self.lit[box] = light * (0.8 + 0.2 * textures.noise(rng, (rows, columns), 20))

    def _timber(self, floors: list[float]) -> None:
        """Paint half-timbering: posts, beams and braces."""
        rng, width = self.rng, self.width
        beam = vary(rng, (74, 52, 38), 12)
        bays = max(2, round(width / 1.6))
        for z in floors:
            self._line(0, z, width, z, beam)
        for low, high in pairwise(floors):
            for bay in range(bays + 1):
                x = width * bay / bays
                self._line(x, low, x, high, beam)
                if bay < bays and rng.random() < 0.45:
                    ends = x, x + width / bays
                    start, end = ends if rng.random() < 0.5 else ends[::-1]
                    self._line(start, low, end, high, beam)

    def _ground_floor(self, ground: float, shop: bool) -> None:
        """Paint base, door, and a shop or plain windows."""
        rng, width = self.rng, self.width
        paint = textures.one_of(rng, _PAINTS, 12)
        if rng.random() < 0.6:
            colours = vary(rng, (148, 140, 128), 18), (92, 86, 80)
            self._paste((0, 0), (width, ground - 0.25), textures.masonry, (17, 34), colours, 1.6)
        self._fill(0, 0, width, 0.5, vary(rng, (92, 88, 84), 12))
        door_width = rng.uniform(1.0, 1.35)
        door = rng.uniform(0.35, 0.9) if rng.random() < 0.5 else width - door_width - 0.6
        self._fill(door - 0.14, 0, door_width + 0.28, 2.75, vary(rng, (196, 188, 172), 20))
        self._paste((door, 0.1), (door_width, 2.0), textures.planks, paint)
        self._glass(door, 2.15, door_width, 0.45, int(rng.choice([0, 150])))
        at_left = door < width / 2
        left, right = (door + door_width + 0.5, width - 0.4) if at_left else (0.4, door - 0.5)
        span = right - left
        if shop:
            return self._shop(left, span, paint)
        count = max(1, int(span / 1.7))
        for k in range(count):
            x = left + (k + 0.5) * span / count - 0.5
            self._fill(x - 0.1, 0.95, 1.2, 1.75, vary(rng, (206, 198, 182), 8))
            self._glass(x, 1.05, 1.0, 1.5, int(rng.choice([0, 0, 170])))
        if rng.random() < 0.6:
            self._paste((left + 0.1, 0.6), (0.75, 1.05), textures.poster)
        return None

    def _shop(self, left: float, span: float, paint: Colour) -> None:
        rng = self.rng
        self._fill(left, 0.45, span, 2.35, paint)
        panes = max(1, round(span / 1.6))
        for k in range(panes):
            x, pane = left + 0.12 + k * (span - 0.12) / panes, (span - 0.12) / panes - 0.12
            self._glass(x, 0.75, pane, 1.9, 220)
            for _ in range(int(rng.integers(1, 4))):  # goods and bills in the window
                w, h = rng.uniform(0.3, 0.55), rng.uniform(0.4, 0.75)
                place = x + rng.uniform(0.05, max(0.06, pane - w - 0.05)), rng.uniform(0.8, 1.7)
                self._paste(place, (min(w, pane - 0.1), h), textures.poster)
        sign = textures.one_of(rng, _PAINTS, 20)
        colours = sign, (238, 228, 190) if sum(sign) < 380 else (52, 34, 30)
        self._paste((left, 2.8), (span, 0.6), textures.lettering, colours, textures.word(rng))
        self.lit[self._box(left, 2.8, span, 0.6)] = 90
        if rng.random() < 0.5:
            self.awning = left, span

    def _upper_floors(self, floors: list[float], height: float) -> None:
        rng, width = self.rng, self.width
        frame = vary(rng, *(((216, 210, 198), 14) if rng.random() < 0.7 else ((96, 66, 46), 12)))
        shutters = textures.one_of(rng, _PAINTS, 15)
        has_shutters, has_lintels = rng.random(2) < (0.45, 0.5)
        count = max(1, int(width / rng.uniform(1.9, 2.7)))
        wide = rng.uniform(0.85, 1.15)
        high = min(rng.uniform(1.4, 1.8), height - 0.9)
        bars = int(rng.integers(1, 4))
        for floor, column in np.ndindex(len(floors) - 1, count):
            x = (column + 0.5) * width / count - wide / 2
            z = floors[floor] + 0.75
            balcony = floor > 0 and rng.random() < 0.12
            low, tall = (z - 0.65, high + 0.65) if balcony else (z, high)
            self._fill(x - 0.1, low - 0.06, wide + 0.2, tall + 0.16, frame)
            lit = int(rng.choice([0, 0, 0, 140, 210]))
            for side in (x, x + wide / 2 + 0.04):
                self._glass(side, low + 0.04, wide / 2 - 0.04, tall - 0.08, lit)
            for bar in range(1, bars):
                self._fill(x, low + bar * tall / bars - 0.02, wide, 0.05, frame)
            if has_lintels:
                self._fill(x - 0.18, low + tall + 0.1, wide + 0.36, 0.16, frame)
            for left in (x - 0.1 - wide / 2, x + wide + 0.1) if has_shutters else ():
                fits = left > 0.02 and left + wide / 2 < width - 0.02
                if fits and rng.random() < 0.93:
                    self._paste((left, low), (wide / 2, tall), textures.planks, shutters)
            relief = self.balconies if balcony else self.sills
            relief.append((x - 0.12, low - 0.06, wide + 0.24))

    def _ivy(self) -> None:
        rng, (rows, columns) = self.rng, self.lit.shape
        leaves = textures.foliage(rng, (rows, columns))
        reach = rng.uniform(0.35, 0.8) * self.height * PIXELS_PER_METRE
        centre = rng.choice([0.05, 0.95]) * columns
        y, x = np.mgrid[:rows, :columns]
        spread = 0.16 * columns * (1 + 0.5 * textures.rough(rng, (rows, columns), (12, 40)))
        covered = (np.abs(x - centre) < spread) & (rows - y < reach * (1 + 0.1 * np.cos(x / 9.0)))
        self.pixels[covered] = leaves[covered]
        self.lit[covered] = 0
