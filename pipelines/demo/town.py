"""A small old town: a market square with a church, streets of houses, trees and lamps."""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from pipelines.demo import WORLD
from pipelines.demo.builder import Place, Scene, Tile
from pipelines.demo.furniture import StreetBuilder
from pipelines.demo.textures import Colour, Painter, shaded
from pipelines.demo.viewpoints import Walk

Span = tuple[float, float]

_PLAN = WORLD["town"]
ROWS: list[list[Span]] = _PLAN["rows"]
WALK: Walk = _PLAN["walk"]
Box = tuple[float, float, float, float]  # left end, foot, width and height

_COLOURS = WORLD["colours"]
_PIXELS_PER_METRE = 48
_DEPTH = 7.0  # depth of houses


@lru_cache(maxsize=1)
def build_town(seed: int) -> Scene:
    """Build the town; another seed makes other houses along the same streets."""
    return _TownBuilder(np.random.default_rng([seed, 1])).build()


class _TownBuilder(StreetBuilder):
    def build(self) -> Scene:
        for name, painter, *args in _PLAN["materials"]:
            self.texture(getattr(self, painter)(*args), name)
        self._add_ground()
        for start, end in np.array(ROWS, float):
            length = float(np.linalg.norm(end - start))
            widths = self.rng.uniform(0.8, 1.2, max(1, round(length / 7.6)))
            widths *= length / widths.sum()
            house = self.at(start, np.append((end - start) / length, 0.0))
            for width in widths.tolist():
                house._add_house(width)
                house = house.at((width,))
        for kind, place, *args in _PLAN["things"]:
            getattr(self.at(place), f"add_{kind}")(*args)
        return self.scene()

    def _add_ground(self) -> None:
        rng = self.rng

        def lay(x: Span, y: Span, z: float, texture: str, tile: Tile) -> None:
            self.add((x[0], y[1], z), (x[1] - x[0],), (0, y[0] - y[1]), texture, tile)

        lay((-60, 60), (-40, 60), -0.02, "street", (28, 14))
        lay((-38, 38), (-12, 0), 0, "street", (28, 14))
        lay((-17, 17), (0, 32), 0, "setts", 9)
        lay((17, 44), (14, 22), 0, "setts", 9)
        west, square, east = (-38, -17), (-17, 17), (17, 38)
        south, north = ((-12, -10.2), 1, (west, square, east)), ((-1.8, 0), 0, (west, east))
        for y, end, spans in (south, north):  # pavements, a kerb high
            for x in spans:
                lay(x, y, 0.12, "flags", 7)
                self.add((x[end], y[end], 0.12), (x[1 - end] - x[end],), (0, 0, -0.14), "flags", 7)
        for _ in range(70):  # manholes, repaired places, markings
            x, y = rng.uniform([-36, -10], [36, -2])
            w, h = rng.uniform(0.6, 2.2, 2)
            if rng.random() < 0.5:
                size = int(48 * h), int(48 * w)
                patch = self.texture(self.asphalt(size, self.vary((84, 83, 84), 9)))
            else:
                w = h = 0.75
                colours = self.vary((92, 88, 84), 8), (48, 46, 45)
                patch = self.texture(self.masonry((36, 36), (6, 6), colours))
            self.add((x, y, 0.004), (w,), (0, -h), patch)

    def _add_house(self, width: float) -> None:
        rng = self.rng
        height = float(rng.uniform(8.0, 12.5))
        facade = Facade(rng, width, height, shop=bool(rng.random() < 0.6))
        self.panel((0, 0, 0), (width, height), self.texture(facade.texture))
        wall, roof = (f"{name}{rng.integers(4)}" for name in ("wall", "roof"))
        shifted, lengths = self.shifted(), (_DEPTH, _DEPTH, width)
        for side, length in zip(shifted.around(width, _DEPTH), lengths, strict=True):
            side.panel((0, 0, 0), (length, height), wall, 5)
        if rng.random() < 0.45:
            self.at((0, 0, height))._add_stepped_gable(width, facade.wall, roof)
        else:
            shifted.at((0, 0, height))._add_saddle_roof(width, wall, roof)
        self._add_relief(width, height, facade)

    def _add_saddle_roof(self, width: float, wall: str, roof: str) -> None:
        """Add a ridge along the street, with a gutter, at times dormers and a chimney."""
        rng, half, overhang = self.rng, _DEPTH / 2, 1.08
        rise = float(rng.uniform(2.6, 4.0))
        ridge, down = self.at((0, half, rise)), -overhang * rise
        ridge.add((0, 0, 0), (width,), (0, -overhang * half, down), roof, 4.2)
        ridge.add((width,), (-width,), (0, overhang * half, down), roof, 4.2)
        for side in self.around(width, _DEPTH)[:2]:
            side.panel((0, 0, 0), (_DEPTH, rise), wall, 5, gable=True)
        self.box((width / 2, 0, -0.18), (width, 0.5, 0.22), "white", 3, "flru")
        for k in range(int(rng.integers(0, 3))):
            dormer = self.at(((0.3 + 0.4 * k) * width, 0.28 * half, 0.35 * rise))
            dormer.box((0, 0, 0), (1.3, 1.6, 1.3), "wood", 2, "lrt")
            dormer.panel((-0.65, -0.81, 0), (1.3, 1.3), self.texture(self._dormer()))
        if rng.random() < 0.7:
            ridge.box((rng.uniform(0.15, 0.85) * width, 0, -0.5), (0.7, 0.7, 1.6), "wall1", 5)

    def _dormer(self) -> np.ndarray:
        pixels = self.planks((64, 64), self.vary((190, 182, 166), 20))
        lit = np.zeros((64, 64), np.uint8)
        pixels[14:54, 10:54] = self.vary((66, 78, 92), 14)
        pixels[14:54, 31:33] = pixels[33:35, 10:54] = (210, 204, 190)
        if self.rng.random() < 0.4:
            lit[14:54, 10:54] = 190
        return np.dstack([pixels, lit])

    def _add_stepped_gable(self, width: float, colour: Colour, roof: str) -> None:
        """Add a ridge across the street, behind a gable of steps."""
        rng = self.rng
        steps = int(rng.integers(3, 5))
        rise = float(rng.uniform(0.42, 0.55)) * width
        height = rise / steps * 1.12
        paint = self.plaster if rng.random() < 0.5 else self.bricks
        for k in range(steps):
            span = width * (1 - k / steps)
            rows, columns = round(height * _PIXELS_PER_METRE), round(span * _PIXELS_PER_METRE)
            pixels, middle = paint((rows, columns), colour), columns // 2
            if k < steps - 1:
                pixels[rows // 4 : -3, middle - 18 : middle + 18] = (206, 200, 188)
                pixels[rows // 4 + 4 : -6, middle - 14 : middle + 14] = self.vary((58, 66, 80), 12)
            pixels[:4] = self.vary((182, 172, 154), 10)
            step = self.at((width / 2, 0.2, k * height))
            step.box((0, 0, 0), (span, 0.4, height), "stone", 4, "blrt")
            step.panel((-span / 2, -0.201, 0), (span, height), self.texture(pixels))
        self._add_roof((width, _DEPTH, rise), roof)

    def _add_relief(self, width: float, height: float, facade: "Facade") -> None:
        """Add what stands out from the front: sills, balconies, awning, sign, lamp, pilasters."""
        rng, shifted = self.rng, self.shifted()

        def box(x: float, z: float, size: Place, texture: str, sides: str) -> None:
            shifted.box((x, -size[1] / 2, z), size, texture, 3, sides)

        for x, z, wide in facade.sills:
            box(x + wide / 2, z - 0.08, (wide, 0.16, 0.09), "white", "flrtu")
        for x, z, wide in facade.balconies:
            box(x + wide / 2, z - 0.14, (wide + 0.7, 0.9, 0.14), "white", "flrtu")
            box(x + wide / 2, z, (wide + 0.7, 0.9, 0.95), "wood", "flrt")
        if facade.awning:
            x, wide = facade.awning
            colours = self.vary((170, 50, 44), 60), (232, 226, 210)
            cloth = self.texture(self.stripes(colours), "cloth")
            self.at((x, -0.02, 3.5))._add_canvas(wide, (0, -1.3, -0.75), 0.25, cloth, (2, 1.5))
        # The distance of the corners, which is not the width to the last bit.
        reach = float(np.linalg.norm(self.point(width) - self.point()))
        if rng.random() < 0.5:
            self.at((rng.uniform(0.4, 0.8) * reach, -0.3, 3.9))._add_sign()
        if rng.random() < 0.55:
            lamp = self.at((rng.uniform(0.05, 0.2) * reach, 0, 3.9))
            lamp.box((0, -0.45, 0), (0.06, 0.9, 0.06), "iron", 1, "flrtu")
            lamp.box((0, -0.85, -0.5), (0.26, 0.26, 0.45), "glow", 1, "fblru")
            self.lamps.append(lamp.point(0, -1.1, -0.3))
        if rng.random() < 0.5:
            for x in (0.12, reach - 0.12):
                box(x, 0, (0.24, 0.12, height - 0.3), "stone", "flr")

    def _add_sign(self) -> None:
        """Add a sign that hangs across the street, with a name on either side."""
        rng = self.rng
        colours = self.vary((40, 62, 52), 40), self.vary((226, 200, 130), 25)
        size = float(rng.uniform(0.8, 1.1))
        for side, start in ((1, 0), (-1, size)):
            sign = self.lettering((48, 56), colours, self.word()[:4])
            corner, right = (0.03 * side, -start), (0, -side * size)
            self.add(corner, right, (0, 0, -0.8 * size), self.texture(sign))


class Facade(Painter):
    """The painted front of a house, with or without a shop, and where its relief belongs.

    Lengths are metres, x to the right and z up from the foot of the front's left end.
    """

    def __init__(self, rng: np.random.Generator, width: float, height: float, shop: bool) -> None:
        super().__init__(rng)
        self.width, self.height = width, height
        size = round(height * _PIXELS_PER_METRE), round(width * _PIXELS_PER_METRE)
        kind = str(rng.choice(["plaster", "brick", "timber", "plaster"]))
        self.wall = self.one_of(_COLOURS["plasters"])
        if kind == "brick":
            self.wall = self.one_of(_COLOURS["bricks"])
        paint = self.bricks if kind == "brick" else self.plaster
        self.pixels = paint(size, self.wall)
        self.lit = np.zeros(size, np.uint8)
        # Left end, height above the ground and width of each window's sill, and of each balcony.
        self.sills: list[tuple[float, float, float]] = []
        self.balconies: list[tuple[float, float, float]] = []
        self.awning: tuple[float, float] | None = None  # left end and width of the shop's awning
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
        dirt = dirt + 0.05 * self.rough(size, (9, 40, 130))
        self.texture = np.dstack([shaded(self.pixels, dirt), self.lit])  # H×W×4 uint8

    def _pixels(self, box: Box) -> tuple[slice, slice]:
        """Return the rows and columns of a rectangle."""
        (x, z, width, height), end = box, len(self.pixels)
        left, right = round(x * _PIXELS_PER_METRE), round((x + width) * _PIXELS_PER_METRE)
        top = end - round((z + height) * _PIXELS_PER_METRE)
        return slice(max(0, top), end - round(z * _PIXELS_PER_METRE)), slice(max(0, left), right)

    def _fill(self, box: Box, colour: Colour) -> None:
        self.pixels[self._pixels(box)] = colour

    def _paste(self, box: Box, paint: Callable[..., np.ndarray], *more: Any) -> None:
        target = rows, columns = self._pixels(box)
        picture = paint((rows.stop - rows.start, columns.stop - columns.start), *more)
        height, width = self.lit[target].shape
        self.pixels[target] = picture[:height, :width]

    def _line(self, x0: float, z0: float, x1: float, z1: float, colour: Colour) -> None:
        """Draw a beam."""
        start = round(x0 * _PIXELS_PER_METRE), len(self.pixels) - round(z0 * _PIXELS_PER_METRE)
        end = round(x1 * _PIXELS_PER_METRE), len(self.pixels) - round(z1 * _PIXELS_PER_METRE)
        cv2.line(self.pixels, start, end, colour, round(0.17 * _PIXELS_PER_METRE), cv2.LINE_AA)

    def _glass(self, box: Box, lit: int) -> None:
        """Paint a pane: sky above, dark below, curtains at times, a lit room at night."""
        target = self._pixels(box)
        rng, (rows, columns) = self.rng, self.lit[target].shape
        fall = np.linspace(1.0, 0.35, rows)[:, None] + 0.12 * self.noise((rows, columns), 14)
        pane = shaded(self.vary((74, 88, 104), 14), fall - 1)
        light = np.full((rows, columns), lit, np.float32)
        if rng.random() < 0.55:
            folds = 0.16 * np.sin(np.arange(columns) * rng.uniform(0.5, 1.1) + rng.uniform(0, 6))
            cloth = shaded(self.vary((202, 196, 182), 20), folds[None])
            drawn = int(columns * rng.uniform(0.15, 0.4))
            for side in (slice(drawn), slice(columns - drawn, None)):
                pane[:, side] = cloth[:, side]
            light *= 0.75
        self.pixels[target] = pane
        self.lit[target] = light * (0.8 + 0.2 * self.noise((rows, columns), 20))

    def _timber(self, floors: list[float]) -> None:
        """Paint half-timbering: posts, beams and braces."""
        rng, width = self.rng, self.width
        beam = self.vary((74, 52, 38), 12)
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
        paint = self.one_of(_COLOURS["paints"], 12)
        if rng.random() < 0.6:
            colours = self.vary((148, 140, 128), 18), (92, 86, 80)
            self._paste((0, 0, width, ground - 0.25), self.masonry, (17, 34), colours, 1.6)
        self._fill((0, 0, width, 0.5), self.vary((92, 88, 84), 12))
        door_width = rng.uniform(1.0, 1.35)
        door = rng.uniform(0.35, 0.9) if rng.random() < 0.5 else width - door_width - 0.6
        self._fill((door - 0.14, 0, door_width + 0.28, 2.75), self.vary((196, 188, 172), 20))
        self._paste((door, 0.1, door_width, 2.0), self.planks, paint)
        self._glass((door, 2.15, door_width, 0.45), int(rng.choice([0, 150])))
        at_left = door < width / 2
        left, right = (door + door_width + 0.5, width - 0.4) if at_left else (0.4, door - 0.5)
        span = right - left
        if shop:
            return self._shop(left, span, paint)
        count = max(1, int(span / 1.7))
        for k in range(count):
            x = left + (k + 0.5) * span / count - 0.5
            self._fill((x - 0.1, 0.95, 1.2, 1.75), self.vary((206, 198, 182), 8))
            self._glass((x, 1.05, 1.0, 1.5), int(rng.choice([0, 0, 170])))
        if rng.random() < 0.6:
            self._paste((left + 0.1, 0.6, 0.75, 1.05), self.poster)
        return None

    def _shop(self, left: float, span: float, paint: Colour) -> None:
        rng = self.rng
        self._fill((left, 0.45, span, 2.35), paint)
        panes = max(1, round(span / 1.6))
        for k in range(panes):
            x, pane = left + 0.12 + k * (span - 0.12) / panes, (span - 0.12) / panes - 0.12
            self._glass((x, 0.75, pane, 1.9), 220)
            for _ in range(int(rng.integers(1, 4))):  # goods and bills in the window
                w, h = rng.uniform(0.3, 0.55), rng.uniform(0.4, 0.75)
                place = x + rng.uniform(0.05, max(0.06, pane - w - 0.05)), rng.uniform(0.8, 1.7)
                self._paste((*place, min(w, pane - 0.1), h), self.poster)
        sign = self.one_of(_COLOURS["paints"], 20)
        colours = sign, (238, 228, 190) if sum(sign) < 380 else (52, 34, 30)
        self._paste((left, 2.8, span, 0.6), self.lettering, colours, self.word())
        self.lit[self._pixels((left, 2.8, span, 0.6))] = 90
        if rng.random() < 0.5:
            self.awning = left, span

    def _upper_floors(self, floors: list[float], height: float) -> None:
        rng, width = self.rng, self.width
        frame = self.vary(*(((216, 210, 198), 14) if rng.random() < 0.7 else ((96, 66, 46), 12)))
        shutters = self.one_of(_COLOURS["paints"], 15)
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
            self._fill((x - 0.1, low - 0.06, wide + 0.2, tall + 0.16), frame)
            lit = int(rng.choice([0, 0, 0, 140, 210]))
            for side in (x, x + wide / 2 + 0.04):
                self._glass((side, low + 0.04, wide / 2 - 0.04, tall - 0.08), lit)
            for bar in range(1, bars):
                self._fill((x, low + bar * tall / bars - 0.02, wide, 0.05), frame)
            if has_lintels:
                self._fill((x - 0.18, low + tall + 0.1, wide + 0.36, 0.16), frame)
            for left in (x - 0.1 - wide / 2, x + wide + 0.1) if has_shutters else ():
                fits = left > 0.02 and left + wide / 2 < width - 0.02
                if fits and rng.random() < 0.93:
                    self._paste((left, low, wide / 2, tall), self.planks, shutters)
            relief = self.balconies if balcony else self.sills
            relief.append((x - 0.12, low - 0.06, wide + 0.24))

    def _ivy(self) -> None:
        rng, (rows, columns) = self.rng, self.lit.shape
        leaves = self.foliage((rows, columns))
        reach = rng.uniform(0.35, 0.8) * self.height * _PIXELS_PER_METRE
        centre = rng.choice([0.05, 0.95]) * columns
        y, x = np.mgrid[:rows, :columns]
        spread = 0.16 * columns * (1 + 0.5 * self.rough((rows, columns), (12, 40)))
        covered = (np.abs(x - centre) < spread) & (rows - y < reach * (1 + 0.1 * np.cos(x / 9.0)))
        self.pixels[covered] = leaves[covered]
        self.lit[covered] = 0
