"""A small old town: a market square with a church, streets of houses, trees and lamps."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pipelines.demo import textures
from pipelines.demo.facades import PIXELS_PER_METRE, Facade, paint_facade
from pipelines.demo.furniture import Materials, furnish
from pipelines.demo.surfaces import Scene, SceneBuilder
from pipelines.demo.textures import opaque, vary

_UP = np.array([0.0, 0.0, 1.0])
_DEPTH = 7.0
"""Of houses."""

ROWS: tuple[tuple[tuple[float, float], tuple[float, float]], ...] = (
    # Each from left to right as one looks at the fronts.
    ((-38, 0), (-17, 0)),
    ((17, 0), (38, 0)),
    ((38, -12), (-38, -12)),
    ((-17, 0), (-17, 32)),
    ((-17, 32), (17, 32)),
    ((17, 32), (17, 22)),
    ((17, 14), (17, 0)),
    ((17, 22), (44, 22)),
    ((44, 14), (17, 14)),
    ((-38, -12), (-38, 0)),
    ((38, 0), (38, -12)),
    ((44, 22), (44, 14)),
)
"""Feet of the rows of houses: main street, square, side street, and what closes them."""


WALK: tuple[tuple[tuple[float, float], ...], ...] = (
    ((-35, -6), (35, -6)),
    ((-7, 1), (-14.6, 1.5), (-14.6, 17), (-12.6, 28)),
    ((-9, 16.5), (3, 16.5), (7.5, 21), (8, 29.5), (14.6, 28.5), (14.6, 20)),
    ((14, 18), (41, 18)),
    ((14.8, 12), (14.5, 2), (0, 1)),
)
"""Where photographers walk, metres."""


@lru_cache(maxsize=1)
def build_town(seed: int) -> Scene:
    """Build the town; another seed, other houses along the same streets."""
    rng = np.random.default_rng([seed, 1])
    builder = SceneBuilder()
    materials = _materials(rng, builder)
    _ground(rng, builder)
    for start, end in ROWS:
        _row(rng, builder, materials, np.array(start, float), np.array(end, float))
    furnish(rng, builder, materials)
    return builder.scene(materials.glow)


def _materials(rng: np.random.Generator, builder: SceneBuilder) -> Materials:
    def add(pixels: np.ndarray) -> int:
        return builder.texture(opaque(pixels, wraps=True))

    size = 256
    reds = [(146, 72, 52), (122, 62, 50), (92, 84, 86), (160, 92, 62)]
    greys = [(196, 186, 164), (150, 92, 74), (172, 168, 160), (188, 162, 128)]
    return Materials(
        roofs=[add(textures.roof_tiles(rng, size, size, colour)) for colour in reds],
        walls=[add(textures.masonry(rng, size, size, (8, 20), c, (172, 164, 150))) for c in greys],
        stone=add(textures.masonry(rng, size, size, (24, 44), (176, 166, 146), (120, 112, 100))),
        wood=add(textures.planks(rng, size, size, (104, 76, 52))),
        iron=add(textures.shaded((44, 48, 46), 0.2 * textures.rough(rng, 64, 64, (2, 9)))),
        white=add(textures.plaster(rng, size, size, (214, 206, 190))),
        leaves=add(textures.foliage(rng, 384, 384)),
        bark=add(textures.planks(rng, 128, 128, (82, 68, 54))),
        glow=builder.texture(
            textures.Texture(np.full((8, 8, 4), (250, 240, 214, 255), np.uint8), True)
        ),
    )


def _ground(rng: np.random.Generator, builder: SceneBuilder) -> None:
    asphalt = textures.asphalt(rng, 768, 1536, (98, 97, 98))
    street = builder.texture(opaque(asphalt, wraps=True))
    setts = builder.texture(
        opaque(textures.masonry(rng, 512, 512, (5.2, 5.6), (128, 122, 114), (70, 66, 62)), True)
    )
    flags = builder.texture(
        opaque(textures.masonry(rng, 512, 512, (24, 34), (158, 152, 142), (104, 99, 92)), True)
    )
    east, south = np.array([1.0, 0, 0]), np.array([0, -1.0, 0])

    def lay(x0: float, y0: float, x1: float, y1: float, z: float, what: int, tile: float) -> None:
        size = (2 * tile, tile) if what == street else (tile, tile)
        corner = np.array([x0, y1, z])
        builder.add(corner, (x1 - x0) * east, (y1 - y0) * south, what, size)

    lay(-60, -40, 60, 60, -0.02, street, 14)
    lay(-38, -12, 38, 0, 0, street, 14)
    lay(-17, 0, 17, 32, 0, setts, 9)
    lay(17, 14, 44, 22, 0, setts, 9)
    for y0, y1 in ((-12, -10.2), (-1.8, 0)):  # pavements, a kerb high
        for x0, x1 in ((-38, -17), (-17, 17), (17, 38)):
            if y1 == 0 and x0 == -17:
                continue
            lay(x0, y0, x1, y1, 0.12, flags, 7)
            kerb = np.array([x0 if y1 == 0 else x1, y0 if y1 == 0 else y1, 0.12])
            builder.add(kerb, east * (x1 - x0) * (1 if y1 == 0 else -1), -0.14 * _UP, flags, (7, 7))
    for _ in range(70):  # manholes, mended places, markings
        x, y = rng.uniform([-36, -10], [36, -2])
        w, h = rng.uniform(0.6, 2.2, 2)
        if rng.random() < 0.5:
            pixels = textures.asphalt(rng, int(48 * h), int(48 * w), vary(rng, (84, 83, 84), 9))
        else:
            w = h = 0.75
            pixels = textures.masonry(rng, 36, 36, (6, 6), vary(rng, (92, 88, 84), 8), (48, 46, 45))
        patch = builder.texture(opaque(pixels))
        builder.add(np.array([x, y, 0.004]), w * east, h * south, patch)


def _row(
    rng: np.random.Generator,
    builder: SceneBuilder,
    materials: Materials,
    start: np.ndarray,
    end: np.ndarray,
) -> None:
    """Houses side by side."""
    length = float(np.linalg.norm(end - start))
    along = np.append((end - start) / length, 0.0)
    count = max(1, round(length / 7.6))
    widths = rng.uniform(0.8, 1.2, count)
    widths *= length / widths.sum()
    left = np.append(start, 0.0)
    for width in widths.tolist():
        _house(rng, builder, materials, left, along, width)
        left = left + width * along


def _house(
    rng: np.random.Generator,
    builder: SceneBuilder,
    materials: Materials,
    left: np.ndarray,
    along: np.ndarray,
    width: float,
) -> None:
    inwards = np.array([-along[1], along[0], 0.0])
    height = float(rng.uniform(8.0, 12.5))
    facade = paint_facade(rng, width, height, shop=bool(rng.random() < 0.6))
    front = builder.texture(facade.texture)
    eaves = left + height * _UP
    builder.add(eaves, width * along, -height * _UP, front)
    wall = materials.walls[int(rng.integers(len(materials.walls)))]
    roof = materials.roofs[int(rng.integers(len(materials.roofs)))]
    offset = tuple(rng.random(2).tolist())
    depth, right = _DEPTH * inwards, left + width * along
    for corner, side in ((eaves + depth, -depth), (eaves + width * along, depth)):
        builder.add(corner, side, -height * _UP, wall, (5, 5), offset)
    builder.add(eaves + depth + width * along, -width * along, -height * _UP, wall, (5, 5), offset)
    if rng.random() < 0.45:
        _stepped_gable(rng, builder, materials, eaves, along, width, facade, roof)
    else:
        _saddle_roof(rng, builder, materials, eaves, along, width, wall, roof, offset)
    _relief(rng, builder, materials, left, along, facade, height, right)


def _saddle_roof(
    rng: np.random.Generator,
    builder: SceneBuilder,
    materials: Materials,
    eaves: np.ndarray,
    along: np.ndarray,
    width: float,
    wall: int,
    roof: int,
    offset: tuple[float, float],
) -> None:
    """Ridge along the street, with a gutter, at times dormers and a chimney."""
    inwards = np.array([-along[1], along[0], 0.0])
    rise = float(rng.uniform(2.6, 4.0))
    half = _DEPTH / 2 * inwards
    ridge = eaves + half + rise * _UP
    overhang = 1.08
    builder.add(ridge, width * along, overhang * (-half - rise * _UP), roof, (4.2, 4.2), offset)
    back = ridge + width * along
    builder.add(back, -width * along, overhang * (half - rise * _UP), roof, (4.2, 4.2), offset)
    for corner, side in (
        (eaves + 2 * half + rise * _UP, -2 * half),
        (eaves + width * along + rise * _UP, 2 * half),
    ):
        builder.add(corner, side, -rise * _UP, wall, (5, 5), offset, gable=True)
    gutter = eaves + width / 2 * along - 0.18 * _UP
    builder.add_box(gutter, along, (width, 0.5, 0.22), materials.white, (3, 3), "flru", offset)
    for k in range(int(rng.integers(0, 3))):
        place = eaves + (0.3 + 0.4 * k) * width * along + 0.28 * half + 0.35 * rise * _UP
        window = builder.texture(_dormer(rng))
        builder.add_box(place, along, (1.3, 1.6, 1.3), materials.wood, (2, 2), "lrt", offset)
        front = place - 0.81 * inwards + np.array([0, 0, 1.3]) - 0.65 * along
        builder.add(front, 1.3 * along, -1.3 * _UP, window)
    if rng.random() < 0.7:
        place = ridge + rng.uniform(0.15, 0.85) * width * along - 0.5 * _UP
        builder.add_box(place, along, (0.7, 0.7, 1.6), materials.walls[1], (5, 5), "fblrt", offset)


def _dormer(rng: np.random.Generator) -> textures.Texture:
    pixels = textures.planks(rng, 64, 64, vary(rng, (190, 182, 166), 20))
    lit = np.zeros((64, 64), np.uint8)
    pixels[14:54, 10:54] = vary(rng, (66, 78, 92), 14)
    pixels[14:54, 31:33] = pixels[33:35, 10:54] = (210, 204, 190)
    if rng.random() < 0.4:
        lit[14:54, 10:54] = 190
    return textures.Texture(np.dstack([pixels, lit]))


def _stepped_gable(
    rng: np.random.Generator,
    builder: SceneBuilder,
    materials: Materials,
    eaves: np.ndarray,
    along: np.ndarray,
    width: float,
    facade: Facade,
    roof: int,
) -> None:
    """Ridge across the street, behind a gable of steps."""
    inwards = np.array([-along[1], along[0], 0.0])
    steps = int(rng.integers(3, 5))
    rise = float(rng.uniform(0.42, 0.55)) * width
    height = rise / steps * 1.12
    kind = rng.random()
    colour = facade.wall
    for k in range(steps):
        span = width * (1 - k / steps) if k else width
        rows, columns = round(height * PIXELS_PER_METRE), round(span * PIXELS_PER_METRE)
        if kind < 0.5:
            pixels = textures.plaster(rng, rows, columns, colour)
        else:
            pixels = textures.masonry(rng, rows, columns, (4.6, 12), colour, (176, 168, 154), 1.1)
        middle = columns // 2
        if k < steps - 1:
            pixels[rows // 4 : -3, middle - 18 : middle + 18] = (206, 200, 188)
            pixels[rows // 4 + 4 : -6, middle - 14 : middle + 14] = vary(rng, (58, 66, 80), 12)
        pixels[:4] = vary(rng, (182, 172, 154), 10)
        texture = builder.texture(opaque(pixels))
        foot = eaves + width / 2 * along + k * height * _UP + 0.2 * inwards
        size = (span, 0.4, height)
        builder.add_box(foot, along, size, materials.stone, (4, 4), "blrt")
        corner = foot - span / 2 * along + height * _UP - 0.201 * inwards
        builder.add(corner, span * along, -height * _UP, texture)
    half, top = width / 2 * along, rise * _UP
    ridge, depth = eaves + half + top, _DEPTH * inwards
    builder.add(ridge + depth, -depth, -half - top, roof, (4.2, 4.2))
    builder.add(ridge, depth, half - top, roof, (4.2, 4.2))


def _relief(
    rng: np.random.Generator,
    builder: SceneBuilder,
    materials: Materials,
    left: np.ndarray,
    along: np.ndarray,
    facade: Facade,
    height: float,
    right: np.ndarray,
) -> None:
    """What stands out from the front: sills, balconies, awning, sign, lamp, pilasters."""
    out = -np.array([-along[1], along[0], 0.0])
    offset = tuple(rng.random(2).tolist())

    def box(x: float, z: float, size: tuple[float, float, float], what: int, sides: str) -> None:
        foot = left + x * along + z * _UP + size[1] / 2 * out
        builder.add_box(foot, along, size, what, (3, 3), sides, offset)

    for x, z, width in facade.sills:
        box(x + width / 2, z - 0.08, (width, 0.16, 0.09), materials.white, "flrtu")
    for x, z, width in facade.balconies:
        box(x + width / 2, z - 0.14, (width + 0.7, 0.9, 0.14), materials.white, "flrtu")
        box(x + width / 2, z, (width + 0.7, 0.9, 0.95), materials.wood, "flrt")
    if facade.awning:
        x, width = facade.awning
        colour = vary(rng, (170, 50, 44), 60)
        stripes = np.where((np.arange(64) // 8 % 2)[None, :, None], colour, (232, 226, 210))
        cloth = textures.shaded(
            np.repeat(stripes, 32, 0), 0.05 * textures.rough(rng, 32, 64, (2, 9))
        )
        texture = builder.texture(opaque(cloth, wraps=True))
        corner = left + x * along + 3.5 * _UP + 0.02 * out
        slope = 1.3 * out - 0.75 * _UP
        builder.add(corner, width * along, slope, texture, (2, 1.5))
        builder.add(corner + slope, width * along, -0.25 * _UP, texture, (2, 1.5))
        builder.add(corner + slope, width * along, -slope, materials.white, (3, 3))
    if rng.random() < 0.5:
        _hanging_sign(rng, builder, left + rng.uniform(0.4, 0.8) * (right - left), along, out)
    if rng.random() < 0.55:
        lamp = left + rng.uniform(0.05, 0.2) * (right - left) + 3.9 * _UP
        builder.add_box(
            lamp + 0.45 * out, along, (0.06, 0.9, 0.06), materials.iron, (1, 1), "flrtu"
        )
        builder.add_box(
            lamp + 0.85 * out - 0.5 * _UP,
            along,
            (0.26, 0.26, 0.45),
            materials.glow,
            (1, 1),
            "fblru",
        )
        builder.lamps.append(lamp + 1.1 * out - 0.3 * _UP)
    if rng.random() < 0.5:
        for x in (0.12, float(np.linalg.norm(right - left)) - 0.12):
            box(x, 0, (0.24, 0.12, height - 0.3), materials.stone, "flr")


def _hanging_sign(
    rng: np.random.Generator,
    builder: SceneBuilder,
    place: np.ndarray,
    along: np.ndarray,
    out: np.ndarray,
) -> None:
    ground, ink = vary(rng, (40, 62, 52), 40), vary(rng, (226, 200, 130), 25)
    size = float(rng.uniform(0.8, 1.1))
    corner = place + 3.9 * _UP + 0.3 * out
    for start, direction in ((corner, out), (corner + size * out, -out)):
        start = start + 0.03 * np.cross(_UP, direction)
        sign = textures.lettering(rng, 48, 56, ground, ink, textures.word(rng)[:4])
        builder.add(start, size * direction, -0.8 * size * _UP, builder.texture(opaque(sign)))
