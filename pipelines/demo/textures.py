"""Procedural textures: masonry, plaster, tiles, leaves, lettering, pictures.

Colours are RGB as displayed, H×W×3 uint8. All randomness comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from featplug.io.images import read_image

Colour = tuple[int, int, int]

_SYLLABLES = (
    *("ba", "bel", "cor", "da", "dor", "el", "fa", "gan", "ha", "il", "ka"),
    *("lan", "mar", "nor", "ol", "pra", "ril", "sa", "tor", "ul", "van", "wen"),
)
_FONTS = (
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SIMPLEX,
)


@dataclass(frozen=True)
class Texture:
    """An image on faces."""

    pixels: np.ndarray
    """H×W×4 uint8: RGB as displayed, and how much light the surface sends out at night."""
    wraps: bool = False
    """It repeats beyond its borders."""


def opaque(rgb: np.ndarray, wraps: bool = False) -> Texture:
    """A texture that sends out no light."""
    return Texture(np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)]), wraps)


def noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise in [−1, 1] that wraps at the borders.

    Args:
        rng: source of randomness.
        height: in pixels.
        width: in pixels.
        cell: size of its grains in pixels.

    Returns:
        height×width float32.
    """
    rows, columns = max(2, round(height / cell)), max(2, round(width / cell))
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    padded = np.pad(grid, 2, mode="wrap")
    scale_y, scale_x = height / rows, width / columns
    to_grid = np.array(
        [[1 / scale_x, 0, 1.5 + 0.5 / scale_x], [0, 1 / scale_y, 1.5 + 0.5 / scale_y]]
    )
    return cv2.warpAffine(
        padded, to_grid, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )


def rough(
    rng: np.random.Generator, height: int, width: int, cells: Sequence[float] = (2, 5, 17, 60)
) -> np.ndarray:
    """Noise of several sizes, standard deviation about 1."""
    layers = [noise(rng, height, width, cell) for cell in cells if cell < max(height, width)]
    total = np.sum(layers, axis=0)
    return (total / max(float(total.std()), 1e-6)).astype(np.float32)


def shaded(colour: np.ndarray | Colour, amount: np.ndarray) -> np.ndarray:
    """Colours (…×3) times ``1 + amount`` (H×W), as uint8."""
    values = np.asarray(colour, np.float32) * (1 + amount[..., None])
    return values.clip(0, 255).astype(np.uint8)


def vary(rng: np.random.Generator, colour: Colour, spread: float = 18) -> Colour:
    """A colour near another one."""
    shift = rng.normal(0, spread * 0.6) + rng.normal(0, spread * 0.5, 3)
    red, green, blue = np.clip(np.array(colour) + shift, 5, 250).astype(int).tolist()
    return red, green, blue


def plaster(rng: np.random.Generator, height: int, width: int, colour: Colour) -> np.ndarray:
    """Rendered wall with stains, rain streaks and cracks."""
    grain = 0.045 * rough(rng, height, width, (1.6, 3, 7)) + 0.05 * rough(
        rng, height, width, (30, 90, 200)
    )
    streaks = cv2.resize(
        rng.normal(0, 1, (max(2, height // 90), width // 2)).astype(np.float32), (width, height)
    )
    wall = shaded(colour, grain - 0.03 * np.abs(streaks))
    for _ in range(int(rng.integers(2, 6))):
        point = rng.uniform(0, [width, height])
        heading = rng.uniform(0, 2 * np.pi)
        path = [point]
        for _ in range(int(rng.integers(6, 22))):
            heading += rng.normal(0, 0.6)
            path.append(path[-1] + 9 * np.array([np.cos(heading), np.sin(heading)]))
        dark = tuple(int(0.62 * c) for c in colour)
        cv2.polylines(wall, [np.array(path, np.int32)], False, dark, 1, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 4))):  # where the plaster has come off
        _patch(rng, wall, vary(rng, (150, 105, 82), 25))
    return wall


def _patch(rng: np.random.Generator, wall: np.ndarray, colour: Colour) -> None:
    height, width = wall.shape[:2]
    size = rng.uniform(0.03, 0.1) * width
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    radius = size * rng.uniform(0.5, 1.2, len(angles))
    centre = rng.uniform(0, [width, height])
    outline = centre + np.stack([1.4 * radius * np.cos(angles), radius * np.sin(angles)], 1)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 255, cv2.LINE_AA)
    lines = masonry(rng, 96, 128, (10, 26), colour, (185, 178, 165))
    tiled = np.tile(lines, (height // 96 + 1, width // 128 + 1, 1))[:height, :width]
    share = (mask.astype(np.float32) / 255)[..., None]
    wall[:] = (wall * (1 - share) + tiled * share).astype(np.uint8)


def masonry(
    rng: np.random.Generator,
    height: int,
    width: int,
    stone: tuple[float, float],
    colour: Colour,
    mortar: Colour,
    joint: float = 1.5,
    spread: float = 16,
) -> np.ndarray:
    """Bricks, blocks or setts in courses; wraps.

    Args:
        rng: source of randomness.
        height: in pixels.
        width: in pixels.
        stone: (height, width) of a stone in pixels.
        colour: of the stones on average.
        mortar: colour of the joints.
        joint: their width in pixels.
        spread: of the colours from stone to stone.
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
    base = np.asarray(colour, np.float32) + rng.normal(0, spread, (courses, columns, 1))
    base = base + rng.normal(0, spread / 5, (courses, columns, 3))
    odd = rng.random((courses, columns)) < 0.08  # stones that were exchanged
    base[odd] *= rng.uniform(0.55, 1.35, (int(odd.sum()), 1))
    stones = base[row[:, None], column]
    relief = 1 + 0.06 * rough(rng, height, width, (1.6, 4, 40))
    share = np.clip(to_joint - joint / 2 + 0.5, 0, 1)[..., None]
    wall = share * stones * relief[..., None] + (1 - share) * np.asarray(mortar, np.float32)
    return wall.clip(0, 255).astype(np.uint8)


def roof_tiles(rng: np.random.Generator, height: int, width: int, colour: Colour) -> np.ndarray:
    """Overlapping tiles in rows; wraps."""
    tiles = masonry(rng, height, width, (18, 14), colour, (40, 30, 28), 1.5, 15)
    rows = 2 * round(height / 18 / 2)
    depth = (np.arange(height) + 0.5) * rows / height % 1
    return shaded(tiles, np.repeat((0.25 * depth - 0.2)[:, None], width, 1).astype(np.float32))


def planks(rng: np.random.Generator, height: int, width: int, colour: Colour) -> np.ndarray:
    """Upright boards with grain."""
    boards = max(2, width // 24)
    tone = rng.normal(0, 0.1, boards)[(np.arange(width) * boards // width)]
    grain = noise(rng, max(2, height // 12), width, 1.5)
    grain = cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)
    gap = ((np.arange(width) * boards % width) < boards * 1.5) * -0.55
    return shaded(colour, (0.13 * grain + tone + gap).astype(np.float32))


def foliage(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Leaves in front of dark gaps."""
    leaves = np.full((height, width, 3), (22, 34, 16), np.uint8)
    count = height * width // 28
    centres = rng.integers(0, [width, height], (count, 2))
    greens = (
        rng.normal([62, 104, 38], [22, 26, 16], (count, 3))
        * np.linspace(0.45, 1.35, count)[:, None]
    )
    for centre, green, angle in zip(
        centres.tolist(),
        greens.clip(8, 235).astype(int).tolist(),
        rng.uniform(0, 180, count),
        strict=True,
    ):
        cv2.ellipse(leaves, centre, (5, 2), float(angle), 0, 360, green, -1, cv2.LINE_AA)
    return leaves


def asphalt(rng: np.random.Generator, height: int, width: int, colour: Colour) -> np.ndarray:
    """Grit, stains and mended cracks."""
    ground = shaded(
        colour,
        0.1 * rough(rng, height, width, (1.6, 2.5, 4)) + 0.06 * rough(rng, height, width, (25, 80)),
    )
    for _ in range(height * width // 30000 + 2):
        x, y = rng.uniform(0, [width, height])
        heading, path = rng.uniform(0, 2 * np.pi), []
        for _ in range(14):
            path.append((x, y))
            heading += rng.normal(0, 0.5)
            x, y = x + 10 * np.cos(heading), y + 10 * np.sin(heading)
        cv2.polylines(ground, [np.array(path, np.int32)], False, (38, 37, 38), 1, cv2.LINE_AA)
    return ground


def word(rng: np.random.Generator) -> str:
    """A name for a shop or a street."""
    return "".join(rng.choice(_SYLLABLES, int(rng.integers(2, 4)))).upper()


def lettering(
    rng: np.random.Generator, height: int, width: int, ground: Colour, ink: Colour, text: str
) -> np.ndarray:
    """A sign with a text as large as fits."""
    sign = shaded(ground, 0.04 * rough(rng, height, width, (2, 12, 50)))
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
    """Photographs to hang up, those that scikit-learn brings (CC BY 2.0, see their README.txt)."""
    # Found without importing the package, which takes longer than the rendering of ten pictures.
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("The photographs of scikit-learn are not there; install it.")
    folder = Path(spec.origin).parent / "datasets" / "images"
    return tuple(read_image(folder / name) for name in ("china.jpg", "flower.jpg"))


def photograph(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random part of one of the :func:`photographs`, at times tinted, of that size."""
    choices = photographs()
    image = choices[int(rng.integers(len(choices)))]
    rows, columns = image.shape[:2]
    scale = min(rows / height, columns / width) * rng.uniform(0.6, 1.0)
    size = np.array([scale * height, scale * width])
    top, left = (rng.random(2) * ([rows, columns] - size)).astype(int)
    part = image[top : top + int(size[0]), left : left + int(size[1])]
    part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    tint = rng.uniform(0.7, 1.15, 3) if rng.random() < 0.5 else np.ones(3)
    return (part * tint).clip(0, 255).astype(np.uint8)


def poster(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture, shapes or a photograph, with a title below it."""
    paper, ink = vary(rng, (225, 216, 196), 25), vary(rng, (60, 40, 60), 40)
    sheet = shaded(paper, 0.03 * rough(rng, height, width, (2, 30)))
    margin = max(2, width // 14)
    picture_height = int(0.74 * height)
    if rng.random() < 0.5:
        picture = photograph(rng, picture_height - margin, width - 2 * margin)
    else:
        picture = _shapes(rng, picture_height - margin, width - 2 * margin)
    sheet[margin:picture_height, margin : width - margin] = picture
    title = lettering(
        rng, height - picture_height - margin, width - 2 * margin, paper, ink, word(rng)
    )
    sheet[picture_height : height - margin, margin : width - margin] = title
    return sheet


def _shapes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    colours = rng.integers(20, 245, (12, 3)).tolist()
    sheet = np.full((height, width, 3), colours[0], np.uint8)
    for colour in colours[1:]:
        centre = rng.integers(0, [width, height]).tolist()
        size = int(rng.uniform(0.08, 0.35) * width)
        kind = int(rng.integers(3))
        if kind == 0:
            cv2.circle(sheet, centre, size, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            corners = np.array(centre) + rng.integers(-2 * size, 2 * size + 1, (3, 2))
            cv2.fillPoly(sheet, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        else:
            other = (np.array(centre) + rng.integers(-2 * size, 2 * size + 1, 2)).tolist()
            cv2.line(sheet, centre, other, colour, max(2, size // 5), cv2.LINE_AA)
    return sheet
