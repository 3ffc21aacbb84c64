"""Procedural textures: masonry, plaster, tiles, leaves, lettering, pictures.

Colours are RGB as displayed; a texture is H×W×3 uint8, sizes are (height, width) in pixels.
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import cv2
import numpy as np

from featplug.io.images import read_image

Size = Sequence[int]
Floats = Sequence[float]
Colour = tuple[int, int, int]
Colours = tuple[Colour, Colour]

_SYLLABLES = "ba bel cor da dor el fa gan ha il ka lan mar nor ol pra ril sa tor ul van wen"
_FONTS = [getattr(cv2, f"FONT_HERSHEY_{n}") for n in ("DUPLEX", "TRIPLEX", "COMPLEX", "SIMPLEX")]


def shaded(colour: np.ndarray | Colour, amount: np.ndarray) -> np.ndarray:
    """Return colours (…×3) times ``1 + amount`` (H×W)."""
    values = np.asarray(colour, np.float32) * (1 + amount.astype(np.float32)[..., None])
    return values.clip(0, 255).astype(np.uint8)


def disc(picture: np.ndarray, centre: Size, radius: int, colour: Sequence[int] | int) -> None:
    """Draw a filled circle at (x, y)."""
    cv2.circle(picture, centre, radius, colour, -1, cv2.LINE_AA)


@cache
def photographs() -> list[np.ndarray]:
    """Return scikit-learn's photographs (CC BY 2.0, see their README.txt), to be hung up."""
    # Found without importing the package, which takes longer than the rendering of ten pictures.
    folder = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/images")))
    return [read_image(folder / name) for name in ("china.jpg", "flower.jpg")]


class Painter:
    """Paints textures from one source of randomness."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def noise(self, size: Size, cell: float) -> np.ndarray:
        """Return smooth noise in [−1, 1] that wraps, float32, with grains of ``cell`` pixels."""
        (height, width), (rows, columns) = size, (max(2, round(length / cell)) for length in size)
        grid = self.rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
        x, y = 1 / (width / columns), 1 / (height / rows)
        to_grid = np.array([[x, 0, 1.5 + 0.5 * x], [0, y, 1.5 + 0.5 * y]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(np.pad(grid, 2, mode="wrap"), to_grid, (width, height), flags=flags)

    def rough(self, size: Size, cells: Floats) -> np.ndarray:
        """Return noise with grains of several sizes, standard deviation about 1."""
        total = np.sum([self.noise(size, cell) for cell in cells if cell < max(size)], axis=0)
        return (total / max(float(total.std()), 1e-6)).astype(np.float32)

    def grained(self, size: Size, colour: Colour, amount: float, cells: Floats) -> np.ndarray:
        """Paint a colour with grains of several sizes."""
        return shaded(colour, amount * self.rough(size, cells))

    def vary(self, colour: Colour, spread: float = 18) -> Colour:
        """Return a colour near another one."""
        shift = self.rng.normal(0, spread * 0.6) + self.rng.normal(0, spread * 0.5, 3)
        red, green, blue = np.clip(np.array(colour) + shift, 5, 250).astype(int).tolist()
        return red, green, blue

    def one_of(self, colours: Sequence[Colour], spread: float = 18) -> Colour:
        """Return a colour near a random one."""
        return self.vary(colours[int(self.rng.integers(len(colours)))], spread)

    def plaster(self, size: Size, colour: Colour) -> np.ndarray:
        """Paint a rendered wall with stains, rain streaks, cracks and places without plaster."""
        height, width = size
        grain = 0.045 * self.rough(size, (1.6, 3, 7)) + 0.05 * self.rough(size, (30, 90, 200))
        streaks = self.rng.normal(0, 1, (max(2, height // 90), width // 2)).astype(np.float32)
        wall = shaded(colour, grain - 0.03 * np.abs(cv2.resize(streaks, (width, height))))
        dark = int(0.62 * colour[0]), int(0.62 * colour[1]), int(0.62 * colour[2])
        for _ in range(int(self.rng.integers(2, 6))):
            self._crack(wall, dark, 0.6, 9)
        for _ in range(int(self.rng.integers(0, 4))):
            self._bricks_behind(wall, self.vary((150, 105, 82), 25))
        return wall

    def _crack(
        self, wall: np.ndarray, colour: Colour, bend: float, step: float, num: int | None = None
    ) -> None:
        height, width = wall.shape[:2]
        start, heading = self.rng.uniform(0, [width, height]), self.rng.uniform(0, 2 * np.pi)
        turns = self.rng.normal(0, bend, num or int(self.rng.integers(6, 22)))
        headings = np.cumsum([heading, *turns])[1:num]
        steps = step * np.stack([np.cos(headings), np.sin(headings)], 1)
        path = np.cumsum([start, *steps], axis=0).astype(np.int32)
        cv2.polylines(wall, [path], False, colour, 1, cv2.LINE_AA)

    def _bricks_behind(self, wall: np.ndarray, colour: Colour) -> None:
        height, width = wall.shape[:2]
        size = self.rng.uniform(0.03, 0.1) * width
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        radius = size * self.rng.uniform(0.5, 1.2, len(angles))
        centre = self.rng.uniform(0, [width, height])
        outline = centre + np.stack([1.4 * radius * np.cos(angles), radius * np.sin(angles)], 1)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [outline.astype(np.int32)], 255, cv2.LINE_AA)
        lines = self.masonry((96, 128), (10, 26), (colour, (185, 178, 165)))
        tiled = np.tile(lines, (height // 96 + 1, width // 128 + 1, 1))[:height, :width]
        fraction = (mask.astype(np.float32) / 255)[..., None]
        wall[:] = (wall * (1 - fraction) + tiled * fraction).astype(np.uint8)

    def masonry(
        self, size: Size, stone: Floats, colours: Colours, joint: float = 1.5, spread: float = 16
    ) -> np.ndarray:
        """Paint bricks, blocks or setts of a size in courses; wraps.

        The colours are the stones' mean, from which they differ by ``spread``, and the mortar's.
        """
        height, width = size
        courses = max(2, 2 * round(height / stone[0] / 2))
        columns = max(2, round(width / stone[1]))
        y = (np.arange(height) + 0.5) * courses / height
        x = (np.arange(width) + 0.5) * columns / width
        rng, row = self.rng, y.astype(int)
        shift = np.where(np.arange(courses) % 2, 0.5, 0.0) + rng.uniform(-0.12, 0.12, courses)
        across = (x[None] + shift[row][:, None]) % columns
        to_joint = np.minimum(
            np.minimum(y % 1, 1 - y % 1)[:, None] * height / courses,
            np.minimum(across % 1, 1 - across % 1) * width / columns,
        )
        base = np.asarray(colours[0], np.float32) + rng.normal(0, spread, (courses, columns, 1))
        base = base + rng.normal(0, spread / 5, (courses, columns, 3))
        odd = rng.random((courses, columns)) < 0.08  # stones that were exchanged
        base[odd] *= rng.uniform(0.55, 1.35, (int(odd.sum()), 1))
        relief = 1 + 0.06 * self.rough(size, (1.6, 4, 40))
        inside = np.clip(to_joint - joint / 2 + 0.5, 0, 1)[..., None]
        stones = inside * base[row[:, None], across.astype(int)] * relief[..., None]
        mortar = (1 - inside) * np.asarray(colours[1], np.float32)
        return (stones + mortar).clip(0, 255).astype(np.uint8)

    def bricks(self, size: Size, colour: Colour) -> np.ndarray:
        """Paint a wall of bricks."""
        return self.masonry(size, (4.6, 12), (colour, (176, 168, 154)), 1.1)

    def roof_tiles(self, size: Size, colour: Colour) -> np.ndarray:
        """Paint overlapping tiles in rows; wraps."""
        tiles, height = self.masonry(size, (18, 14), (colour, (40, 30, 28)), 1.5, 15), size[0]
        depth = (np.arange(height) + 0.5) * (2 * round(height / 18 / 2)) / height % 1
        return shaded(tiles, (0.25 * depth - 0.2)[:, None])

    def planks(self, size: Size, colour: Colour) -> np.ndarray:
        """Paint upright boards with grain."""
        height, width = size
        boards = max(2, width // 24)
        tone = self.rng.normal(0, 0.1, boards)[(np.arange(width) * boards // width)]
        grain = cv2.resize(self.noise((max(2, height // 12), width), 1.5), (width, height))
        gap = ((np.arange(width) * boards % width) < boards * 1.5) * -0.55
        return shaded(colour, 0.13 * grain + tone + gap)

    def foliage(self, size: Size) -> np.ndarray:
        """Paint leaves in front of dark gaps."""
        height, width = size
        leaves = np.full((height, width, 3), (22, 34, 16), np.uint8)
        count = height * width // 28
        centres = self.rng.integers(0, [width, height], (count, 2))
        greens = self.rng.normal([62, 104, 38], [22, 26, 16], (count, 3))
        greens = (greens * np.linspace(0.45, 1.35, count)[:, None]).clip(8, 235).astype(int)
        angles = self.rng.uniform(0, 180, count)
        for centre, green, angle in zip(centres.tolist(), greens.tolist(), angles, strict=True):
            cv2.ellipse(leaves, centre, (5, 2), float(angle), 0, 360, green, -1, cv2.LINE_AA)
        return leaves

    def asphalt(self, size: Size, colour: Colour) -> np.ndarray:
        """Paint grit, stains and repaired cracks."""
        grain = 0.1 * self.rough(size, (1.6, 2.5, 4)) + 0.06 * self.rough(size, (25, 80))
        ground = shaded(colour, grain)
        for _ in range(size[0] * size[1] // 30000 + 2):
            self._crack(ground, (38, 37, 38), 0.5, 10, 14)
        return ground

    def stripes(self, colours: Colours) -> np.ndarray:
        """Paint the striped cloth of awnings and market stalls; wraps."""
        cloth = np.repeat(np.array(colours[::-1])[None, np.arange(64) // 8 % 2], 32, 0)
        return shaded(cloth, 0.05 * self.rough((32, 64), (2, 9)))

    def glow(self, colour: Colour) -> np.ndarray:
        """Paint what shines by itself, with its light."""
        return np.full((8, 8, 4), (*colour, 255), np.uint8)

    def word(self) -> str:
        """Return a name for a shop or a street."""
        return "".join(self.rng.choice(_SYLLABLES.split(), int(self.rng.integers(2, 4)))).upper()

    def lettering(self, size: Size, colours: Colours, text: str) -> np.ndarray:
        """Paint a sign, in colours of ground and ink, with a text as large as fits."""
        (height, width), (ground, ink) = size, colours
        sign = self.grained(size, ground, 0.04, (2, 12, 50))
        font = int(self.rng.choice(_FONTS))
        (text_width, text_height), _ = cv2.getTextSize(text, font, 1.0, 2)
        scale = min(0.86 * width / text_width, 0.6 * height / text_height)
        thick = max(1, round(1.8 * scale))
        (text_width, text_height), _ = cv2.getTextSize(text, font, scale, thick)
        corner = ((width - text_width) // 2, (height + text_height) // 2)
        cv2.putText(sign, text, corner, font, scale, ink, thick, cv2.LINE_AA)
        cv2.rectangle(sign, (1, 1), (width - 2, height - 2), ink, max(1, height // 24), cv2.LINE_AA)
        return sign

    def photograph(self, size: Size) -> np.ndarray:
        """Return a random cutout of one of the :func:`photographs`, at times mirrored or tinted."""
        image = photographs()[int(self.rng.integers(len(photographs())))]
        shape = np.array(image.shape[:2])
        extent = min(shape / size) * self.rng.uniform(0.6, 1.0) * np.array(size)
        top, left = (self.rng.random(2) * (shape - extent)).astype(int)
        cutout = image[top : top + int(extent[0]), left : left + int(extent[1])]
        cutout = cv2.resize(cutout, size[::-1], interpolation=cv2.INTER_AREA)
        if self.rng.random() < 0.5:
            cutout = cutout[:, ::-1]
        tint = self.rng.uniform(0.7, 1.15, 3) if self.rng.random() < 0.5 else np.ones(3)
        return (cutout * tint).clip(0, 255).astype(np.uint8)

    def poster(self, size: Size) -> np.ndarray:
        """Paint a picture, shapes or a photograph, with a title below it."""
        (height, width), margin = size, max(2, size[1] // 14)
        colours = self.vary((225, 216, 196), 25), self.vary((60, 40, 60), 40)
        sheet = self.grained(size, colours[0], 0.03, (2, 30))
        middle, inner = int(0.74 * height), slice(margin, width - margin)
        paint = self.photograph if self.rng.random() < 0.5 else self._shapes
        sheet[margin:middle, inner] = paint((middle - margin, width - 2 * margin))
        title = (height - middle - margin, width - 2 * margin)
        sheet[middle : height - margin, inner] = self.lettering(title, colours, self.word())
        return sheet

    def _shapes(self, size: Size) -> np.ndarray:
        height, width = size
        colours = self.rng.integers(20, 245, (12, 3)).tolist()
        sheet = np.full((height, width, 3), colours[0], np.uint8)
        for colour in colours[1:]:
            centre = self.rng.integers(0, [width, height])
            radius = int(self.rng.uniform(0.08, 0.35) * width)
            kind = int(self.rng.integers(3))
            if kind == 0:
                disc(sheet, centre.tolist(), radius, colour)
            elif kind == 1:
                corners = centre + self.rng.integers(-2 * radius, 2 * radius + 1, (3, 2))
                cv2.fillPoly(sheet, [corners.astype(np.int32)], colour, cv2.LINE_AA)
            else:
                end = (centre + self.rng.integers(-2 * radius, 2 * radius + 1, 2)).tolist()
                cv2.line(sheet, centre.tolist(), end, colour, max(2, radius // 5), cv2.LINE_AA)
        return sheet
