"""What stands on the town's square and streets: church, fountain, trees, poster columns, stalls."""

import cv2
import numpy as np

from pipelines.demo.builder import Builder, Name, Place, Tile
from pipelines.demo.geometry import UP, direction
from pipelines.demo.textures import Colour, Size, disc, shaded

_CHURCH_STONE = (178, 166, 142)
_PIXELS_PER_METRE = 40


class StreetBuilder(Builder):
    """Builds what stands on streets and squares, at the origin of its frame."""

    def _add_roof(self, size: Place, texture: Name, overhang: float = 1.0) -> None:
        """Add a roof of a width, depth and rise whose ridge runs inwards."""
        width, depth, rise = size
        for y, length, side in ((depth, -depth, -width / 2), (0, depth, width / 2)):
            slope = overhang * side, 0, -overhang * rise
            self.add((width / 2, y, rise), (0, length), slope, texture, 4.2)

    def _add_canvas(
        self, length: float, slope: Place, valance: float, texture: Name, tile: Tile
    ) -> None:
        """Add a sloping cloth with a valance, from the place of its top-left corner."""
        self.add((0, 0, 0), (length,), slope, texture, tile)
        self.at(slope).add((0, 0, 0), (length,), (0, 0, -valance), texture, tile)
        self.at(slope).add((0, 0, 0), (length,), -np.array(slope), "white", 3)

    def add_church(self) -> None:
        """Add a church with a tower."""
        front = self.texture(self._church_wall((9.0, 9.5), 2, True))
        sides = [self.texture(self._church_wall((10.0, 9.5), 3)) for _ in range(2)]
        nave = self.at((-4.5, -5))
        *others, back = nave.around(9, 10)
        nave.panel((0, 0, 0), (9, 9.5), front)
        for side, wall in zip(others, sides, strict=True):
            side.panel((0, 0, 0), (10, 9.5), wall)
        back.panel((0, 0, 0), (9, 9.5), "stone", 5)
        nave.panel((0, 0, 9.5), (9, 5), self.texture(self._rose()), gable=True)
        back.panel((0, 0, 9.5), (9, 5), "stone", 5, gable=True)
        nave.at((0, 0, 9.5))._add_roof((9, 10, 5), "roof2", 1.06)
        for x in (-4.5, -1.6, 1.6, 4.5):
            self.box((x, -5.35, 0), (0.6, 0.7, 7.0), "stone", 5, "flrt")
        tower = self.at((7.2, -1.5))
        storeys = (0, 5.4, 9.0, 1), (9.0, 5.0, 6.5, 2), (15.5, 4.6, 5.5, 2)
        for z, width, height, windows in storeys:
            tower.box((0, 0, z), (width + 0.3, width + 0.3, 0.35), "stone", 5)
            for quarter in range(4):
                along, door = direction(quarter * np.pi / 2), z == 0 and quarter == 0
                wall = self.texture(self._church_wall((width, height), windows, door, z > 15))
                corner = width / 2 * (np.cross(along, UP) - along) + z * UP
                tower.at(corner, along).panel((0, 0, 0), (width, height), wall)
        tower.box((0, 0, 21), (5.1, 5.1, 0.4), "stone", 5, "fblrtu")
        tower.prism((0, 0, 21.4), (3.3, 10.0), ["roof2"] * 4, 4.2, spire=True)

    def _church_wall(
        self, metres: Place, num_windows: int, door: bool = False, clock: bool = False
    ) -> np.ndarray:
        columns, rows = size = [round(length * _PIXELS_PER_METRE) for length in metres]
        wall = self._stones(size[::-1], self.vary(_CHURCH_STONE, 8))
        lit = np.zeros((rows, columns), np.uint8)
        half, top, bottom = int(0.16 * columns / num_windows), int(0.3 * rows), int(0.74 * rows)
        half = min(half, 24) + 8
        for k in range(num_windows):
            x, rise = int((k + 0.5) * columns / num_windows), int(1.5 * half)
            for grow, colour in ((7, (206, 196, 172)), (3, (96, 88, 76))):
                _arch(wall, (x, top, bottom + grow), (half + grow, rise + grow), colour)
            glass = np.zeros((rows, columns), np.uint8)
            _arch(glass, (x, top, bottom), (half, rise), 255, cv2.LINE_8)
            cells = self.rng.integers(30, 170, (rows // 7 + 1, columns // 7 + 1, 3))
            panes = np.repeat(np.repeat(cells, 7, 0), 7, 1)[:rows, :columns]
            panes[::7], panes[:, ::7] = 24, 24
            wall[glass > 0] = panes[glass > 0]
            lit[glass > 0] = 120
        if door:
            x, half = columns // 2, int(0.09 * columns) + 14
            top = rows - int(2.4 * _PIXELS_PER_METRE)
            for grow, colour in ((12, (198, 188, 164)), (7, (120, 110, 94)), (0, (72, 50, 36))):
                _arch(wall, (x, top, rows), (half + grow, half + grow), colour)
            boards = self.planks((rows - top, 2 * half), (92, 62, 42))
            wall[top:, x - half : x + half] = boards
            lit[top - half - 12 :, x - half - 12 : x + half + 12] = 0
        if clock:
            _clock(wall, lit, np.array([columns // 2, int(0.16 * rows)]), int(0.13 * rows))
        weather = 0.07 * self.rough((rows, columns), (12, 50, 150))
        return np.dstack([shaded(wall, weather), lit])

    def _stones(self, size: Size, colour: Colour) -> np.ndarray:
        return self.masonry(size, (16, 30), (colour, (126, 116, 98)), 1.4, 13)

    def _rose(self) -> np.ndarray:
        wall, lit = self._stones((200, 360), _CHURCH_STONE), np.zeros((200, 360), np.uint8)
        x, y = 180, 132
        disc(wall, (x, y), 46, (204, 194, 170))
        disc(wall, (x, y), 40, (60, 54, 60))
        for ring, count, radius in ((27, 12, 6), (13, 6, 5), (0, 1, 6)):
            for angle in np.arange(count) * (2 * np.pi) / count:
                place = x + round(ring * np.cos(angle)), y + round(ring * np.sin(angle))
                disc(wall, place, radius, self.rng.integers(40, 200, 3).tolist())
                cv2.circle(lit, place, radius, 150, -1)
        return np.dstack([wall, lit])

    def add_fountain(self) -> None:
        """Add a fountain."""
        self.texture(self.grained((96, 96), (74, 104, 112), 0.2, (3, 9, 30)), "water")
        self.prism((0, 0, 0), (2.6, 0.75), ["stone"] * 8, 4)
        self.box((0, 0, 0.65), (3.6, 3.6, 0.05), "water", 2, "t")
        self.prism((0, 0, 0.6), (0.6, 2.2), ["stone"] * 8, 3)
        self.prism((0, 0, 2.4), (1.1, 0.3), ["white"] * 8, 3)
        self.box((0, 0, 2.7), (0.5, 0.5, 1.5), "white", 2)
        self.prism((0, 0, 4.2), (0.5, 0.8), ["iron"] * 6, 1, spire=True)

    def add_poster_column(self) -> None:
        """Add a column of posters."""
        posters = [self.texture(self.poster((150, 72))) for _ in range(8)]
        self.prism((0, 0, 0), (0.78, 0.5), ["stone"] * 8, 3)
        self.prism((0, 0, 0.5), (0.72, 2.3), posters)
        self.prism((0, 0, 2.8), (0.82, 0.2), ["iron"] * 8, 1)
        self.prism((0, 0, 3.0), (0.86, 0.6), ["iron"] * 8, 1, spire=True)

    def add_tree(self, size: float) -> None:
        """Add a lime clipped to a box, as on French and Flemish squares."""
        width, height = size * self.rng.uniform(2.4, 3.0), size * self.rng.uniform(2.2, 3.0)
        crown = self.shifted()
        self.box((0, 0, 0), (0.28, 0.28, 2.6), "bark", 1.5, "fblr")
        crown.box((0, 0, 2.4), (width, width, height), "leaves", 3, "fblrtu")
        self.box((0, 0, 2.4 + height), (0.6 * width, 0.6 * width, 0.35), "leaves", 3)
        self.box((0, 0, 0), (1.1, 1.1, 0.35), "stone", 3)

    def add_lantern(self) -> None:
        """Add a lantern."""
        self.box((0, 0, 0), (0.11, 0.11, 3.6), "iron", 1, "fblr")
        self.box((0, 0, 0), (0.32, 0.32, 0.6), "iron", 1)
        head = self.at((0, 0, 3.6))
        head.box((0, 0, 0), (0.34, 0.34, 0.5), "glow", 1, "fblru")
        head.prism((0, 0, 0.5), (0.36, 0.3), ["iron"] * 4, 1, spire=True)
        self.lamps.append(head.point(z=0.3))

    def add_stall(self) -> None:
        """Add a market stall: crates of fruit under a striped roof on posts."""
        rng = self.rng
        stall = self.at((0, 0), direction(rng.uniform(0, np.pi)))
        for x in (-0.8, 0.0, 0.8):
            crate = self.planks((40, 40), self.vary((140, 108, 70), 20))
            for _ in range(26):
                centre, fruit = rng.integers(4, 36, 2).tolist(), self.vary((180, 70, 40), 70)
                disc(crate, centre, 4, fruit)
            stall.box((x, 0, 0), (0.78, 0.9, 0.85), self.texture(crate))
        for x, y in ((-1.3, -0.8), (-1.3, 0.8), (1.3, -0.8), (1.3, 0.8)):
            stall.box((x, y, 0), (0.07, 0.07, 2.2), "wood", 1, "fblr")
        colours = self.vary((60, 90, 140), 60), (234, 228, 214)
        cloth, ridge = self.texture(self.stripes(colours), "cloth"), stall.at((-1.45, 0, 2.75))
        for x, length, y in ((0, 2.9, -1), (2.9, -2.9, 1)):
            ridge.at((x,))._add_canvas(length, (0, y, -0.55), 0.22, cloth, (1.6, 1.2))


def _arch(
    picture: np.ndarray, place: Size, size: Size, colour: Colour | int, line: int = cv2.LINE_AA
) -> None:
    """Draw a rectangle with half an ellipse above: middle, top and bottom; half width and rise."""
    (x, top, bottom), (half, _) = place, size
    cv2.rectangle(picture, (x - half, top), (x + half, bottom), colour, -1)
    cv2.ellipse(picture, (x, top), size, 0, 180, 360, colour, -1, line)


def _clock(wall: np.ndarray, lit: np.ndarray, centre: np.ndarray, radius: int) -> None:
    def hand(angle: float, start: float, end: float, colour: Colour, thick: int) -> None:
        towards = np.array([np.sin(angle), -np.cos(angle)])
        inner, outer = (np.round(centre + r * radius * towards).astype(int) for r in (start, end))
        cv2.line(wall, inner.tolist(), outer.tolist(), colour, thick, cv2.LINE_AA)

    disc(wall, centre.tolist(), radius, (236, 230, 208))
    cv2.circle(wall, centre.tolist(), radius, (150, 116, 40), 3, cv2.LINE_AA)
    cv2.circle(lit, centre.tolist(), radius, 150, -1)
    for hour in range(12):
        hand(hour * np.pi / 6, 0.72, 0.92, (30, 28, 26), 2)
    hand(0.9, 0, 0.78, (24, 22, 22), 3)
    hand(5.1, 0, 0.5, (24, 22, 22), 3)
