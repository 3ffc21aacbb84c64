"""What stands on the town's square and streets: church, fountain, trees, poster column, carts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipelines.demo import textures
from pipelines.demo.surfaces import SceneBuilder
from pipelines.demo.textures import Texture, opaque, vary

_UP = np.array([0.0, 0.0, 1.0])
_EAST = np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True)
class Materials:
    """Indices of textures that many faces share."""

    roofs: list[int]
    walls: list[int]
    stone: int
    wood: int
    iron: int
    white: int
    leaves: int
    bark: int
    glow: int


def furnish(rng: np.random.Generator, builder: SceneBuilder, materials: Materials) -> None:
    """Furnish the square and the streets."""
    _church(rng, builder, materials)
    _fountain(rng, builder, materials, np.array([-1.0, 9.0, 0.0]))
    _poster_column(rng, builder, materials, np.array([9.5, 3.5, 0.0]))
    _poster_column(rng, builder, materials, np.array([-25.0, -9.6, 0.1]))
    for x, y in ((11.5, 9), (11.5, 14), (11.5, 26), (-12.5, 5), (-12.5, 10.5)):
        _tree(rng, builder, materials, np.array([x, y, 0.0]))
    for x, y in ((24, -9.4), (-9, -9.4), (30, 19.8)):
        _tree(rng, builder, materials, np.array([x, y, 0.0]), 0.7)
    for x, y in ((6, -10.6), (-30, -10.6), (33, -10.6), (-21, -1.4), (28, -1.4), (12, 18)):
        _lantern(builder, materials, np.array([x, y, 0.1]))
    for x, y in ((-7, 3.5), (4, 13), (8.5, 20), (-11, 15)):
        _lantern(builder, materials, np.array([x, y, 0.0]))
    for x, y in ((-4, 4.0), (5.5, 6.5), (13, 18.5), (-8.5, 12.5)):
        _stall(rng, builder, materials, np.array([x, y, 0.0]))


def _church(rng: np.random.Generator, builder: SceneBuilder, materials: Materials) -> None:
    stone = (178, 166, 142)
    nave = np.array([-5.0, 25.5, 0.0])
    front = builder.texture(_church_wall(rng, 9.0, 9.5, stone, door=True, windows=2))
    sides = [builder.texture(_church_wall(rng, 10.0, 9.5, stone, False, 3)) for _ in range(2)]
    half = np.array([4.5, 0, 0])
    depth = np.array([0, 10.0, 0])
    eaves = nave - half - depth / 2 + 9.5 * _UP
    builder.add(eaves, 2 * half, -9.5 * _UP, front)
    builder.add(eaves + depth, -depth, -9.5 * _UP, sides[0])
    builder.add(eaves + 2 * half, depth, -9.5 * _UP, sides[1])
    builder.add(eaves + 2 * half + depth, -2 * half, -9.5 * _UP, materials.stone, (5, 5))
    rise = 5.0 * _UP
    gable = builder.texture(_rose(rng, stone))
    builder.add(eaves + rise, 2 * half, -rise, gable, gable=True)
    builder.add(
        eaves + 2 * half + depth + rise, -2 * half, -rise, materials.stone, (5, 5), gable=True
    )
    ridge = eaves + half + rise
    roof = materials.roofs[2]
    builder.add(ridge + depth, -depth, 1.06 * (-half - rise), roof, (4.2, 4.2))
    builder.add(ridge, depth, 1.06 * (half - rise), roof, (4.2, 4.2))
    for x in (-4.5, -1.6, 1.6, 4.5):  # buttresses
        foot = nave + np.array([x, -5.35, 0])
        builder.add_box(foot, _EAST, (0.6, 0.7, 7.0), materials.stone, (5, 5), "flrt")
    foot = nave + np.array([7.2, -1.5, 0])
    for z, width, tall, windows in ((0, 5.4, 9.0, 1), (9.0, 5.0, 6.5, 2), (15.5, 4.6, 5.5, 2)):
        base = foot + z * _UP
        builder.add_box(
            base, _EAST, (width + 0.3, width + 0.3, 0.35), materials.stone, (5, 5), "fblrt"
        )
        for quarter in range(4):
            axis = np.array([np.cos(quarter * np.pi / 2), np.sin(quarter * np.pi / 2), 0])
            out = np.array([axis[1], -axis[0], 0])
            wall = _church_wall(rng, width, tall, stone, z == 0 and quarter == 0, windows, z > 15)
            corner = base + width / 2 * (out - axis) + tall * _UP
            builder.add(corner, width * axis, -tall * _UP, builder.texture(wall))
    top = foot + 21 * _UP
    builder.add_box(top, _EAST, (5.1, 5.1, 0.4), materials.stone, (5, 5), "fblrtu")
    builder.add_prism(top + 0.4 * _UP, 3.3, 10.0, [roof] * 4, (4.2, 4.2), spire=True)


def _church_wall(
    rng: np.random.Generator,
    width: float,
    height: float,
    stone: textures.Colour,
    door: bool,
    windows: int,
    clock: bool = False,
) -> Texture:
    scale = 40
    rows, columns = round(height * scale), round(width * scale)
    wall = textures.masonry(
        rng, rows, columns, (16, 30), vary(rng, stone, 8), (126, 116, 98), 1.4, 13
    )
    lit = np.zeros((rows, columns), np.uint8)
    for k in range(windows):
        x = int((k + 0.5) * columns / windows)
        half = int(min(0.16 * columns / windows, 24) + 8)
        top, bottom = int(0.3 * rows), int(0.74 * rows)
        for grow, colour in ((7, (206, 196, 172)), (3, (96, 88, 76))):
            cv2.rectangle(
                wall, (x - half - grow, top), (x + half + grow, bottom + grow), colour, -1
            )
            cv2.ellipse(
                wall,
                (x, top),
                (half + grow, int(1.5 * half) + grow),
                0,
                180,
                360,
                colour,
                -1,
                cv2.LINE_AA,
            )
        glass = np.zeros((rows, columns), np.uint8)
        cv2.rectangle(glass, (x - half, top), (x + half, bottom), 255, -1)
        cv2.ellipse(glass, (x, top), (half, int(1.5 * half)), 0, 180, 360, 255, -1)
        cells = rng.integers(30, 170, (rows // 7 + 1, columns // 7 + 1, 3)).astype(np.uint8)
        panes = np.repeat(np.repeat(cells, 7, 0), 7, 1)[:rows, :columns].copy()
        panes[::7], panes[:, ::7] = 24, 24
        wall[glass > 0] = panes[glass > 0]
        lit[glass > 0] = 120
    if door:
        x, half = columns // 2, int(0.09 * columns) + 14
        top = rows - int(2.4 * scale)
        for grow, colour in ((12, (198, 188, 164)), (7, (120, 110, 94)), (0, (72, 50, 36))):
            cv2.rectangle(wall, (x - half - grow, top), (x + half + grow, rows), colour, -1)
            cv2.ellipse(
                wall, (x, top), (half + grow, half + grow), 0, 180, 360, colour, -1, cv2.LINE_AA
            )
        boards = textures.planks(rng, rows - top, 2 * half, (92, 62, 42))
        wall[top:, x - half : x + half] = boards
        lit[top - half - 12 :, x - half - 12 : x + half + 12] = 0
    if clock:
        centre, radius = (columns // 2, int(0.16 * rows)), int(0.13 * rows)
        cv2.circle(wall, centre, radius, (236, 230, 208), -1, cv2.LINE_AA)
        cv2.circle(wall, centre, radius, (150, 116, 40), 3, cv2.LINE_AA)
        cv2.circle(lit, centre, radius, 150, -1)
        for hour in range(12):
            direction = np.array([np.sin(hour * np.pi / 6), -np.cos(hour * np.pi / 6)])
            ends = [
                np.round(np.array(centre) + r * radius * direction).astype(int)
                for r in (0.72, 0.92)
            ]
            cv2.line(wall, ends[0].tolist(), ends[1].tolist(), (30, 28, 26), 2, cv2.LINE_AA)
        for angle, length in ((0.9, 0.78), (5.1, 0.5)):
            direction = radius * length * np.array([np.sin(angle), -np.cos(angle)])
            end = np.round(np.array(centre) + direction).astype(int).tolist()
            cv2.line(wall, centre, end, (24, 22, 22), 3, cv2.LINE_AA)
    weather = 0.07 * textures.rough(rng, rows, columns, (12, 50, 150))
    return Texture(np.dstack([textures.shaded(wall, weather), lit]))


def _rose(rng: np.random.Generator, stone: textures.Colour) -> Texture:
    rows, columns = 200, 360
    wall = textures.masonry(rng, rows, columns, (16, 30), stone, (126, 116, 98), 1.4, 13)
    lit = np.zeros((rows, columns), np.uint8)
    centre = (columns // 2, int(0.66 * rows))
    cv2.circle(wall, centre, 46, (204, 194, 170), -1, cv2.LINE_AA)
    cv2.circle(wall, centre, 40, (60, 54, 60), -1, cv2.LINE_AA)
    for ring, count, size in ((27, 12, 6), (13, 6, 5), (0, 1, 6)):
        for k in range(count):
            angle = 2 * np.pi * k / count
            place = (
                centre[0] + round(ring * np.cos(angle)),
                centre[1] + round(ring * np.sin(angle)),
            )
            colour = rng.integers(40, 200, 3).tolist()
            cv2.circle(wall, place, size, colour, -1, cv2.LINE_AA)
            cv2.circle(lit, place, size, 150, -1)
    return Texture(np.dstack([wall, lit]))


def _fountain(
    rng: np.random.Generator, builder: SceneBuilder, materials: Materials, place: np.ndarray
) -> None:
    water = textures.shaded((74, 104, 112), 0.2 * textures.rough(rng, 96, 96, (3, 9, 30)))
    surface = builder.texture(opaque(water, wraps=True))
    builder.add_prism(place, 2.6, 0.75, [materials.stone] * 8, (4, 4))
    rim = place + 0.75 * _UP
    builder.add_box(rim - 0.1 * _UP, _EAST, (3.6, 3.6, 0.05), surface, (2, 2), "t")
    builder.add_prism(place + 0.6 * _UP, 0.6, 2.2, [materials.stone] * 8, (3, 3))
    builder.add_prism(place + 2.4 * _UP, 1.1, 0.3, [materials.white] * 8, (3, 3))
    builder.add_box(place + 2.7 * _UP, _EAST, (0.5, 0.5, 1.5), materials.white, (2, 2), "fblrt")
    builder.add_prism(place + 4.2 * _UP, 0.5, 0.8, [materials.iron] * 6, (1, 1), spire=True)


def _poster_column(
    rng: np.random.Generator, builder: SceneBuilder, materials: Materials, place: np.ndarray
) -> None:
    sheets = [builder.texture(opaque(textures.poster(rng, 150, 72))) for _ in range(8)]
    builder.add_prism(place, 0.78, 0.5, [materials.stone] * 8, (3, 3))
    builder.add_prism(place + 0.5 * _UP, 0.72, 2.3, sheets)
    builder.add_prism(place + 2.8 * _UP, 0.82, 0.2, [materials.iron] * 8, (1, 1))
    builder.add_prism(place + 3.0 * _UP, 0.86, 0.6, [materials.iron] * 8, (1, 1), spire=True)


def _tree(
    rng: np.random.Generator,
    builder: SceneBuilder,
    materials: Materials,
    place: np.ndarray,
    size: float = 1.0,
) -> None:
    """A lime clipped to a box, as on French and Flemish squares."""
    width, tall = size * rng.uniform(2.4, 3.0), size * rng.uniform(2.2, 3.0)
    clear = 2.4
    offset = tuple(rng.random(2).tolist())
    builder.add_box(place, _EAST, (0.28, 0.28, clear + 0.2), materials.bark, (1.5, 1.5), "fblr")
    crown = place + clear * _UP
    builder.add_box(crown, _EAST, (width, width, tall), materials.leaves, (3, 3), "fblrtu", offset)
    bump = crown + tall * _UP
    builder.add_box(
        bump, _EAST, (0.6 * width, 0.6 * width, 0.35), materials.leaves, (3, 3), "fblrt"
    )
    builder.add_box(place, _EAST, (1.1, 1.1, 0.35), materials.stone, (3, 3), "fblrt")


def _lantern(builder: SceneBuilder, materials: Materials, place: np.ndarray) -> None:
    builder.add_box(place, _EAST, (0.11, 0.11, 3.6), materials.iron, (1, 1), "fblr")
    builder.add_box(place, _EAST, (0.32, 0.32, 0.6), materials.iron, (1, 1), "fblrt")
    head = place + 3.6 * _UP
    builder.add_box(head, _EAST, (0.34, 0.34, 0.5), materials.glow, (1, 1), "fblru")
    builder.add_prism(head + 0.5 * _UP, 0.36, 0.3, [materials.iron] * 4, (1, 1), spire=True)
    builder.lamps.append(head + 0.3 * _UP)


def _stall(
    rng: np.random.Generator, builder: SceneBuilder, materials: Materials, place: np.ndarray
) -> None:
    """A market stall: crates under a striped roof on posts."""
    angle = rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle), 0])
    across = np.array([-along[1], along[0], 0])
    for x in (-0.8, 0.0, 0.8):
        crate = textures.planks(rng, 40, 40, vary(rng, (140, 108, 70), 20))
        for _ in range(26):
            centre, fruit = rng.integers(4, 36, 2).tolist(), vary(rng, (180, 70, 40), 70)
            cv2.circle(crate, centre, 4, fruit, -1, cv2.LINE_AA)
        texture = builder.texture(opaque(crate))
        builder.add_box(place + x * along, along, (0.78, 0.9, 0.85), texture, None, "fblrt")
    for x in (-1.3, 1.3):
        for y in (-0.8, 0.8):
            foot = place + x * along + y * across
            builder.add_box(foot, along, (0.07, 0.07, 2.2), materials.wood, (1, 1), "fblr")
    colour = vary(rng, (60, 90, 140), 60)
    stripes = np.where((np.arange(64) // 8 % 2)[None, :, None], colour, (234, 228, 214))
    cloth = textures.shaded(np.repeat(stripes, 32, 0), 0.05 * textures.rough(rng, 32, 64, (2, 9)))
    texture = builder.texture(opaque(cloth, wraps=True))
    ridge = place - 1.45 * along + 2.75 * _UP
    for direction, start in ((-across, ridge), (across, ridge + 2.9 * along)):
        right = 2.9 * along if start is ridge else -2.9 * along
        slope = 1.0 * direction - 0.55 * _UP
        builder.add(start, right, slope, texture, (1.6, 1.2))
        builder.add(start + slope, right, -0.22 * _UP, texture, (1.6, 1.2))
        builder.add(start + slope, right, -slope, materials.white, (3, 3))
