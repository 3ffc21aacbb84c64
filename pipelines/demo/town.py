"""A small old town: a market square with a church, streets of houses, trees and lamps."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pipelines.demo import textures
from pipelines.demo.builder import Builder, Scene, Tile
from pipelines.demo.facades import PIXELS_PER_METRE, Facade
from pipelines.demo.furniture import add_canvas, add_roof, furnish
from pipelines.demo.textures import Colour, Random, vary

Span = tuple[float, float]

ROWS: tuple[tuple[Span, Span], ...] = (
    *(((-38, 0), (-17, 0)), ((17, 0), (38, 0)), ((38, -12), (-38, -12))),  # main street
    *(((-17, 0), (-17, 32)), ((-17, 32), (17, 32)), ((17, 32), (17, 22)), ((17, 14), (17, 0))),
    *(((17, 22), (44, 22)), ((44, 14), (17, 14))),  # side street
    *(((-38, -12), (-38, 0)), ((38, 0), (38, -12)), ((44, 22), (44, 14))),  # what closes them
)
"""Feet of the rows of houses, each from left to right as one looks at the fronts, in metres."""
WALK: tuple[tuple[Span, ...], ...] = (
    ((-35, -6), (35, -6)),
    ((-7, 1), (-14.6, 1.5), (-14.6, 17), (-12.6, 28)),
    ((-9, 16.5), (3, 16.5), (7.5, 21), (8, 29.5), (14.6, 28.5), (14.6, 20)),
    ((14, 18), (41, 18)),
    ((14.8, 12), (14.5, 2), (0, 1)),
)
"""Where photographers walk."""
_DEPTH = 7.0
"""Depth of houses."""


@lru_cache(maxsize=1)
def build_town(seed: int) -> Scene:
    """Build the town; another seed makes other houses along the same streets."""
    b = Builder(np.random.default_rng([seed, 1]))
    _add_materials(b)
    _add_ground(b)
    for start, end in np.array(ROWS, float):
        length = float(np.linalg.norm(end - start))
        widths = b.rng.uniform(0.8, 1.2, max(1, round(length / 7.6)))
        widths *= length / widths.sum()
        house = b.at(start, np.append((end - start) / length, 0.0))
        for width in widths.tolist():
            _add_house(house, width)
            house = house.at((width,))
    furnish(b)
    return b.scene()


def _add_materials(b: Builder) -> None:
    size = (256, 256)
    for k, colour in enumerate(((146, 72, 52), (122, 62, 50), (92, 84, 86), (160, 92, 62))):
        b.paint(textures.roof_tiles, size, colour, name=f"roof{k}")
    for k, colour in enumerate(((196, 186, 164), (150, 92, 74), (172, 168, 160), (188, 162, 128))):
        b.paint(textures.masonry, size, (8, 20), (colour, (172, 164, 150)), name=f"wall{k}")
    stones = (176, 166, 146), (120, 112, 100)
    b.paint(textures.masonry, size, (24, 44), stones, name="stone")
    b.paint(textures.planks, size, (104, 76, 52), name="wood")
    b.paint(textures.grained, (64, 64), (44, 48, 46), 0.2, (2, 9), name="iron")
    b.paint(textures.plaster, size, (214, 206, 190), name="white")
    b.paint(textures.foliage, (384, 384), name="leaves")
    b.paint(textures.planks, (128, 128), (82, 68, 54), name="bark")
    b.texture(np.full((8, 8, 4), (250, 240, 214, 255), np.uint8), "glow")


def _add_ground(b: Builder) -> None:
    rng, size = b.rng, (512, 512)
    setts, flags = ((128, 122, 114), (70, 66, 62)), ((158, 152, 142), (104, 99, 92))
    b.paint(textures.asphalt, (768, 1536), (98, 97, 98), name="street")
    b.paint(textures.masonry, size, (5.2, 5.6), setts, name="setts")
    b.paint(textures.masonry, size, (24, 34), flags, name="flags")

    def lay(x: Span, y: Span, z: float, texture: str, tile: Tile) -> None:
        b.add((x[0], y[1], z), (x[1] - x[0],), (0, y[0] - y[1]), texture, tile)

    lay((-60, 60), (-40, 60), -0.02, "street", (28, 14))
    lay((-38, 38), (-12, 0), 0, "street", (28, 14))
    lay((-17, 17), (0, 32), 0, "setts", 9)
    lay((17, 44), (14, 22), 0, "setts", 9)
    west, square, east = (-38, -17), (-17, 17), (17, 38)
    for y, end, spans in (((-12, -10.2), 1, (west, square, east)), ((-1.8, 0), 0, (west, east))):
        for x in spans:  # pavements, a kerb high
            lay(x, y, 0.12, "flags", 7)
            b.add((x[end], y[end], 0.12), (x[1 - end] - x[end],), (0, 0, -0.14), "flags", 7)
    for _ in range(70):  # manholes, repaired places, markings
        x, y = rng.uniform([-36, -10], [36, -2])
        w, h = rng.uniform(0.6, 2.2, 2)
        if rng.random() < 0.5:
            size = int(48 * h), int(48 * w)
            patch = b.paint(textures.asphalt, size, vary(rng, (84, 83, 84), 9))
        else:
            w = h = 0.75
            colours = vary(rng, (92, 88, 84), 8), (48, 46, 45)
            patch = b.paint(textures.masonry, (36, 36), (6, 6), colours)
        b.add((x, y, 0.004), (w,), (0, -h), patch)


def _add_house(b: Builder, width: float) -> None:
    rng = b.rng
    height = float(rng.uniform(8.0, 12.5))
    facade = Facade(rng, width, height, shop=bool(rng.random() < 0.6))
    b.panel((0, 0, 0), (width, height), b.texture(facade.texture))
    wall, roof = (f"{name}{rng.integers(4)}" for name in ("wall", "roof"))
    shifted = b.shifted()
    for side, length in zip(shifted.around(width, _DEPTH), (_DEPTH, _DEPTH, width), strict=True):
        side.panel((0, 0, 0), (length, height), wall, 5)
    if rng.random() < 0.45:
        _add_stepped_gable(b.at((0, 0, height)), width, facade.wall, roof)
    else:
        _add_saddle_roof(shifted.at((0, 0, height)), width, wall, roof)
    _add_relief(b, width, height, facade)


def _add_saddle_roof(b: Builder, width: float, wall: str, roof: str) -> None:
    """Add a ridge along the street, with a gutter, at times dormers and a chimney."""
    rng, half, overhang = b.rng, _DEPTH / 2, 1.08
    rise = float(rng.uniform(2.6, 4.0))
    ridge, down = b.at((0, half, rise)), -overhang * rise
    ridge.add((0, 0, 0), (width,), (0, -overhang * half, down), roof, 4.2)
    ridge.add((width,), (-width,), (0, overhang * half, down), roof, 4.2)
    for side in b.around(width, _DEPTH)[:2]:
        side.panel((0, 0, 0), (_DEPTH, rise), wall, 5, gable=True)
    b.box((width / 2, 0, -0.18), (width, 0.5, 0.22), "white", 3, "flru")
    for k in range(int(rng.integers(0, 3))):
        dormer = b.at(((0.3 + 0.4 * k) * width, 0.28 * half, 0.35 * rise))
        dormer.box((0, 0, 0), (1.3, 1.6, 1.3), "wood", 2, "lrt")
        dormer.panel((-0.65, -0.81, 0), (1.3, 1.3), b.paint(_dormer))
    if rng.random() < 0.7:
        ridge.box((rng.uniform(0.15, 0.85) * width, 0, -0.5), (0.7, 0.7, 1.6), "wall1", 5)


def _dormer(rng: Random) -> np.ndarray:
    pixels = textures.planks(rng, (64, 64), vary(rng, (190, 182, 166), 20))
    lit = np.zeros((64, 64), np.uint8)
    pixels[14:54, 10:54] = vary(rng, (66, 78, 92), 14)
    pixels[14:54, 31:33] = pixels[33:35, 10:54] = (210, 204, 190)
    if rng.random() < 0.4:
        lit[14:54, 10:54] = 190
    return np.dstack([pixels, lit])


def _add_stepped_gable(b: Builder, width: float, colour: Colour, roof: str) -> None:
    """Add a ridge across the street, behind a gable of steps."""
    rng = b.rng
    steps = int(rng.integers(3, 5))
    rise = float(rng.uniform(0.42, 0.55)) * width
    height = rise / steps * 1.12
    paint = textures.plaster if rng.random() < 0.5 else textures.bricks
    for k in range(steps):
        span = width * (1 - k / steps)
        rows, columns = round(height * PIXELS_PER_METRE), round(span * PIXELS_PER_METRE)
        pixels, middle = paint(rng, (rows, columns), colour), columns // 2
        if k < steps - 1:
            pixels[rows // 4 : -3, middle - 18 : middle + 18] = (206, 200, 188)
            pixels[rows // 4 + 4 : -6, middle - 14 : middle + 14] = vary(rng, (58, 66, 80), 12)
        pixels[:4] = vary(rng, (182, 172, 154), 10)
        step = b.at((width / 2, 0.2, k * height))
        step.box((0, 0, 0), (span, 0.4, height), "stone", 4, "blrt")
        step.panel((-span / 2, -0.201, 0), (span, height), b.texture(pixels))
    add_roof(b, (width, _DEPTH, rise), roof)


def _add_relief(b: Builder, width: float, height: float, facade: Facade) -> None:
    """Add what stands out from the front: sills, balconies, awning, sign, lamp, pilasters."""
    rng, shifted = b.rng, b.shifted()

    def box(x: float, z: float, size: tuple[float, float, float], what: str, sides: str) -> None:
        shifted.box((x, -size[1] / 2, z), size, what, 3, sides)

    for x, z, wide in facade.sills:
        box(x + wide / 2, z - 0.08, (wide, 0.16, 0.09), "white", "flrtu")
    for x, z, wide in facade.balconies:
        box(x + wide / 2, z - 0.14, (wide + 0.7, 0.9, 0.14), "white", "flrtu")
        box(x + wide / 2, z, (wide + 0.7, 0.9, 0.95), "wood", "flrt")
    if facade.awning:
        x, wide = facade.awning
        colours = vary(rng, (170, 50, 44), 60), (232, 226, 210)
        cloth = b.paint(textures.stripes, colours, name="cloth")
        add_canvas(b.at((x, -0.02, 3.5)), wide, (0, -1.3, -0.75), 0.25, cloth, (2, 1.5))
    # The distance of the corners, which is not the width to the last bit.
    reach = float(np.linalg.norm(b.point(width) - b.point()))
    if rng.random() < 0.5:
        _add_sign(b.at((rng.uniform(0.4, 0.8) * reach, -0.3, 3.9)))
    if rng.random() < 0.55:
        lamp = b.at((rng.uniform(0.05, 0.2) * reach, 0, 3.9))
        lamp.box((0, -0.45, 0), (0.06, 0.9, 0.06), "iron", 1, "flrtu")
        lamp.box((0, -0.85, -0.5), (0.26, 0.26, 0.45), "glow", 1, "fblru")
        b.lamps.append(lamp.point(0, -1.1, -0.3))
    if rng.random() < 0.5:
        for x in (0.12, reach - 0.12):
            box(x, 0, (0.24, 0.12, height - 0.3), "stone", "flr")


def _add_sign(b: Builder) -> None:
    """Add a sign that hangs across the street, with a name on either side."""
    rng = b.rng
    colours = vary(rng, (40, 62, 52), 40), vary(rng, (226, 200, 130), 25)
    size = float(rng.uniform(0.8, 1.1))
    for side, start in ((1, 0), (-1, size)):
        sign = textures.lettering(rng, (48, 56), colours, textures.word(rng)[:4])
        corner, right = (0.03 * side, -start), (0, -side * size)
        b.add(corner, right, (0, 0, -0.8 * size), b.texture(sign))
