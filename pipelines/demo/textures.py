"""Procedural textures: masonry, plaster, tiles, leaves, lettering, pictures.

Colours are RGB as displayed; a texture is height×width×3 uint8, its size is in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import cv2
import numpy as np

from featplug.io.images import read_image

Random = np.random.Generator
Colour = tuple[int, int, int]

_SYLLABLES = "ba bel cor da dor el fa gan ha il ka lan mar nor ol pra ril sa tor ul van wen"
_FONTS = [getattr(cv2, f"FONT_HERSHEY_{n}") for n in ("DUPLEX", "TRIPLEX", "COMPLEX", "SIMPLEX")]


def noise(rng: Random, height: int, width: int, cell: float) -> np.ndarray:
    """Return smooth noise in [−1, 1] that wraps, height×width float32, with grains of a size."""
    rows, columns = max(2, round(height / cell)), max(2, round(width / cell))
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    padded = np.pad(grid, 2, mode="wrap")
    x, y = 1 / (width / columns), 1 / (height / rows)
    to_grid = np.array([[x, 0, 1.5 + 0.5 * x], [0, y, 1.5 + 0.5 * y]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(padded, to_grid, (width, height), flags=flags)


def rough(
    rng: Random, height: int, width: int, cells: Sequence[float] = (2, 5, 17, 60)
) -> np.ndarray:
    """Return noise with grains of several sizes, standard deviation about 1."""
    layers = [noise(rng, height, width, cell) for cell in cells if cell < max(height, width)]
    total = np.sum(layers, axis=0)
    return (total / max(float(total.std()), 1e-6)).astype(np.float32)


def shaded(colour: np.ndarray | Colour, amount: np.ndarray) -> np.ndarray:
    """Return colours (…×3) times ``1 + amount`` (H×W)."""
    values = np.asarray(colour, np.float32) * (1 + amount.astype(np.float32)[..., None])
    return values.clip(0, 255).astype(np.uint8)


def grained(
    rng: Random, height: int, width: int, colour: Colour, amount: float, cells: Sequence[float]
) -> np.ndarray:
    """Return a colour with grains of several sizes."""
    return shaded(colour, amount * rough(rng, height, width, cells))


def vary(rng: Random, colour: Colour, spread: float = 18) -> Colour:
    """Return a colour near another one."""
    shift = rng.normal(0, spread * 0.6) + rng.normal(0, spread * 0.5, 3)
    red, green, blue = np.clip(np.array(colour) + shift, 5, 250).astype(int).tolist()
    return red, green, blue


def plaster(rng: Random, height: int, width: int, colour: Colour) -> np.ndarray:
    """Paint a rendered wall with stains, rain streaks, cracks and places without plaster."""
    grain = 0.045 * rough(rng, height, width, (1.6, 3, 7))
    grain += 0.05 * rough(rng, height, width, (30, 90, 200))
    streaks = rng.normal(0, 1, (max(2, height // 90), width // 2)).astype(np.float32)
    wall = shaded(colour, grain - 0.03 * np.abs(cv2.resize(streaks, (width, height))))
    dark = [int(0.62 * c) for c in colour]
    for _ in range(int(rng.integers(2, 6))):
        point, heading = rng.uniform(0, [width, height]), rng.uniform(0, 2 * np.pi)
        turns = rng.normal(0, 0.6, int(rng.integers(6, 22)))
        _draw_path(wall, point, np.cumsum([heading, *turns])[1:], 9, dark)
    for _ in range(int(rng.integers(0, 4))):
        _bricks_behind(rng, wall, vary(rng, (150, 105, 82), 25))
    return wall


def _draw_path(
    picture: np.ndarray, start: np.ndarray, headings: np.ndarray, step: float, colour: Sequence[int]
) -> None:
    steps = step * np.stack([np.cos(headings), np.sin(headings)], 1)
    path = np.cumsum([start, *steps], axis=0).astype(np.int32)
    cv2.polylines(picture, [path], False, colour, 1, cv2.LINE_AA)


def _bricks_behind(rng: Random, wall: np.ndarray, colour: Colour) -> None:
    height, width = wall.shape[:2]
    size = rng.uniform(0.03, 0.1) * width
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    radius = size * rng.uniform(0.5, 1.2, len(angles))
    centre = rng.uniform(0, [width, height])
    outline = centre + np.stack([1.4 * radius * np.cos(angles), radius * np.sin(angles)], 1)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 255, cv2.LINE_AA)
    lines = masonry(rng, 96, 128, (10, 26), (colour, (185, 178, 165)))
    tiled = np.tile(lines, (height // 96 + 1, width // 128 + 1, 1))[:height, :width]
    fraction = (mask.astype(np.float32) / 255)[..., None]
    wall[:] = (wall * (1 - fraction) + tiled * fraction).astype(np.uint8)


def masonry(
    rng: Random,
    height: int,
    width: int,
    stone: tuple[float, float],
    colours: tuple[Colour, Colour],
    joint: float = 1.5,
    spread: float = 16,
) -> np.ndarray:
    """Paint bricks, blocks or setts in courses; wraps.

    ``stone`` is the size of a stone (height, width), ``colours`` are the stones' mean and the
    mortar's, ``joint`` is the width of the joints, ``spread`` how much the stones differ.
    """
    courses = max(2, 2 * round(height / stone[0] / 2))
    columns = max(2, round(width / stone[1]))
    y, x = (np.arange(height) + 0.5) * courses / height, (np.arange(width) + 0.5) * columns / width
    row = y.astype(int)
    shift = np.where(np.arange(courses) % 2, 0.5, 0.0) + rng.uniform(-0.12, 0.12, courses)
    across = (x[None] + shift[row][:, None]) % columns
    column = across.astype(int)
    to_joint = np.minimum(
        np.minimum(y % 1, 1 - y % 1)[:, None] * height / courses,
        np.minimum(across % 1, 1 - across % 1) * width / columns,
    )
    base = np.asarray(colours[0], np.float32) + rng.normal(0, spread, (courses, columns, 1))
    base = base + rng.normal(0, spread / 5, (courses, columns, 3))
    odd = rng.random((courses, columns)) < 0.08  # stones that were exchanged
    base[odd] *= rng.uniform(0.55, 1.35, (int(odd.sum()), 1))
    stones = base[row[:, None], column]
    relief = 1 + 0.06 * rough(rng, height, width, (1.6, 4, 40))
    inside = np.clip(to_joint - joint / 2 + 0.5, 0, 1)[..., None]
    mortar = (1 - inside) * np.asarray(colours[1], np.float32)
    return (inside * stones * relief[..., None] + mortar).clip(0, 255).astype(np.uint8)


def bricks(rng: Random, height: int, width: int, colour: Colour) -> np.ndarray:
    """Paint a wall of bricks."""
    return masonry(rng, height, width, (4.6, 12), (colour, (176, 168, 154)), 1.1)


def roof_tiles(rng: Random, height: int, width: int, colour: Colour) -> np.ndarray:
    """Paint overlapping tiles in rows; wraps."""
    tiles = masonry(rng, height, width, (18, 14), (colour, (40, 30, 28)), 1.5, 15)
    rows = 2 * round(height / 18 / 2)
    depth = (np.arange(height) + 0.5) * rows / height % 1
    return shaded(tiles, (0.25 * depth - 0.2)[:, None])


def planks(rng: Random, height: int, width: int, colour: Colour) -> np.ndarray:
    """Paint upright boards with grain."""
    boards = max(2, width // 24)
    tone = rng.normal(0, 0.1, boards)[(np.arange(width) * boards // width)]
    grain = noise(rng, max(2, height // 12), width, 1.5)
    grain = cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)
    gap = ((np.arange(width) * boards % width) < boards * 1.5) * -0.55
    return shaded(colour, 0.13 * grain + tone + gap)


def foliage(rng: Random, height: int, width: int) -> np.ndarray:
    """Paint leaves in front of dark gaps."""
    leaves = np.full((height, width, 3), (22, 34, 16), np.uint8)
    count = height * width // 28
    centres = rng.integers(0, [width, height], (count, 2))
    greens = rng.normal([62, 104, 38], [22, 26, 16], (count, 3))
    greens = (greens * np.linspace(0.45, 1.35, count)[:, None]).clip(8, 235).astype(int)
    angles = rng.uniform(0, 180, count)
    for centre, green, angle in zip(centres.tolist(), greens.tolist(), angles, strict=True):
        cv2.ellipse(leaves, centre, (5, 2), float(angle), 0, 360, green, -1, cv2.LINE_AA)
    return leaves


def asphalt(rng: Random, height: int, width: int, colour: Colour) -> np.ndarray:
    """Paint grit, stains and repaired cracks."""
    grain = 0.1 * rough(rng, height, width, (1.6, 2.5, 4))
    ground = shaded(colour, grain + 0.06 * rough(rng, height, width, (25, 80)))
    for _ in range(height * width // 30000 + 2):
        point, heading = rng.uniform(0, [width, height]), rng.uniform(0, 2 * np.pi)
        headings = np.cumsum([heading, *rng.normal(0, 0.5, 14)])[1:-1]
        _draw_path(ground, point, headings, 10, (38, 37, 38))
    return ground


def stripes(rng: Random, colour: Colour, other: Colour) -> np.ndarray:
    """Paint the striped cloth of awnings and market stalls; wraps."""
    cloth = np.where((np.arange(64) // 8 % 2)[None, :, None], colour, other)
    return shaded(np.repeat(cloth, 32, 0), 0.05 * rough(rng, 32, 64, (2, 9)))


def word(rng: Random) -> str:
    """Return a name for a shop or a street."""
    return "".join(rng.choice(_SYLLABLES.split(), int(rng.integers(2, 4)))).upper()


def lettering(
    rng: Random, height: int, width: int, colours: tuple[Colour, Colour], text: str
) -> np.ndarray:
    """Paint a sign, in colours of ground and ink, with a text as large as fits."""
    ground, ink = colours
    sign = grained(rng, height, width, ground, 0.04, (2, 12, 50))
    font = int(rng.choice(_FONTS))
    (text_width, text_height), _ = cv2.getTextSize(text, font, 1.0, 2)
    scale = min(0.86 * width / text_width, 0.6 * height / text_height)
    thick = max(1, round(1.8 * scale))
    (text_width, text_height), _ = cv2.getTextSize(text, font, scale, thick)
    corner = ((width - text_width) // 2, (height + text_height) // 2)
    cv2.putText(sign, text, corner, font, scale, ink, thick, cv2.LINE_AA)
    cv2.rectangle(sign, (1, 1), (width - 2, height - 2), ink, max(1, height // 24), cv2.LINE_AA)
    return sign


@cache
def photographs() -> tuple[np.ndarray, ...]:
    """Return scikit-learn's photographs (CC BY 2.0, see their README.txt), to be hung up."""
    # Found without importing the package, which takes longer than the rendering of ten pictures.
    folder = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/images")))
    return tuple(read_image(folder / name) for name in ("china.jpg", "flower.jpg"))


def photograph(rng: Random, height: int, width: int) -> np.ndarray:
    """Return a random cutout of one of the :func:`photographs`, at times mirrored or tinted."""
    choices = photographs()
    image = choices[int(rng.integers(len(choices)))]
    rows, columns = image.shape[:2]
    scale = min(rows / height, columns / width) * rng.uniform(0.6, 1.0)
    size = np.array([scale * height, scale * width])
    top, left = (rng.random(2) * ([rows, columns] - size)).astype(int)
    cutout = image[top : top + int(size[0]), left : left + int(size[1])]
    cutout = cv2.resize(cutout, (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        cutout = cutout[:, ::-1]
    tint = rng.uniform(0.7, 1.15, 3) if rng.random() < 0.5 else np.ones(3)
    return (cutout * tint).clip(0, 255).astype(np.uint8)


def poster(rng: Random, height: int, width: int) -> np.ndarray:
    """Paint a picture, shapes or a photograph, with a title below it."""
    paper, ink = vary(rng, (225, 216, 196), 25), vary(rng, (60, 40, 60), 40)
    sheet = grained(rng, height, width, paper, 0.03, (2, 30))
    margin = max(2, width // 14)
    inner, middle = width - 2 * margin, int(0.74 * height)
    paint = photograph if rng.random() < 0.5 else _shapes
    sheet[margin:middle, margin : width - margin] = paint(rng, middle - margin, inner)
    title = lettering(rng, height - middle - margin, inner, (paper, ink), word(rng))
    sheet[middle : height - margin, margin : width - margin] = title
    return sheet


def _shapes(rng: Random, height: int, width: int) -> np.ndarray:
    colours = rng.integers(20, 245, (12, 3)).tolist()
    sheet = np.full((height, width, 3), colours[0], np.uint8)
    for colour in colours[1:]:
        centre = rng.integers(0, [width, height])
        size = int(rng.uniform(0.08, 0.35) * width)
        kind = int(rng.integers(3))
        if kind == 0:
            cv2.circle(sheet, centre.tolist(), size, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            corners = centre + rng.integers(-2 * size, 2 * size + 1, (3, 2))
            cv2.fillPoly(sheet, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        else:
            end = (centre + rng.integers(-2 * size, 2 * size + 1, 2)).tolist()
            cv2.line(sheet, centre.tolist(), end, colour, max(2, size // 5), cv2.LINE_AA)
    return sheet
