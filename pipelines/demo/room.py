"""A large office: desks, shelves, posters, doors, and windows through which no laser comes back."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from pipelines.demo import WORLD
from pipelines.demo.builder import Builder, Scene
from pipelines.demo.geometry import direction
from pipelines.demo.textures import Size, disc

SIZE = (12.0, 8.0, 3.0)  # metres along x, y and z; the origin is a corner of the floor
_PLAN = WORLD["room"]
SCANS: list[tuple[float, float]] = _PLAN["scans"]


@lru_cache(maxsize=1)
def build_room(seed: int) -> Scene:
    """Build the room; another seed puts other things in it."""
    return _RoomBuilder(np.random.default_rng([seed, 11])).build()


class _RoomBuilder(Builder):
    def build(self) -> Scene:
        length, width, height = SIZE
        self.texture(self.glow((250, 248, 240)), "glow")
        self._add_floor_and_ceiling()
        wall, walls = self.at((0, 0), self.vector(y=1)), []
        for span in (width, length, width, length):
            walls.append((wall, span))
            wall._paint(span)
            wall = wall.at((span,), wall.vector(y=-1))
        for k in (1, 2, 3, 0):
            wall, span = walls[k]
            wall._hang(span, ["window"] if k == 1 else ["pictures", "door", "board"])
        for x, y, angle in _PLAN["desks"]:
            self.at((x, y), direction(np.radians(angle)))._add_desk()
        for x, y, angle in _PLAN["shelves"]:
            self.at((x, y), -direction(np.radians(angle)))._add_shelf()
        concrete = self.texture(self.grained((480, 64), (198, 196, 188), 0.06, (2, 6, 25)))
        self.box((6.0, 2.6, 0), (0.4, 0.4, 3.0), concrete, None, "fblr")
        self.lamps.extend(self.point(x, y, height - 0.2) for x, y in _PLAN["lamps"])
        return self.scene()

    def _add_floor_and_ceiling(self) -> None:
        length, width, height = SIZE
        self.texture(np.rot90(self.planks((512, 512), (150, 112, 78))), "boards")
        colours = (212, 210, 204), (150, 148, 144)
        self.texture(self.masonry((256, 256), (62, 62), colours, 2, 5), "panels")
        self.add((0, width), (length,), (0, -width), "boards", 4)
        self.add((0, 0, height), (length,), (0, width), "panels", 2.4)
        rug = self.masonry((160, 240), (9, 9), ((126, 62, 58), (66, 50, 66)), 2, 34)
        rug[8:-8, 8:-8] = self.photograph((144, 224)) // 2 + rug[8:-8, 8:-8] // 2
        self.add((4.9, 5.0, 0.01), (2.4,), (0, -1.6), self.texture(rug))
        for x, y in _PLAN["lamps"]:
            self.add((x - 0.6, y - 0.3, height - 0.02), (1.2,), (0, 0.6), "glow", 1)

    def _paint(self, length: float) -> None:
        size, colour = (round(SIZE[2] * 64), round(length * 64)), self.vary((222, 216, 202), 10)
        paint = self.grained(size, colour, 0.03, (2, 5, 30, 120))
        paint[:1] = 120
        paint[-8:] = self.vary((110, 92, 74))
        self.panel((0, 0, 0), (length, SIZE[2]), self.texture(paint))

    def _hang(self, length: float, kinds: Sequence[str]) -> None:
        """Cover a wall with things of several kinds by turns."""
        rng = self.rng
        x = rng.uniform(0.3, 0.6)
        turn = int(rng.integers(3))
        while True:
            kind = kinds[turn % len(kinds)]
            turn += 1
            width = {"window": 1.7, "door": 1.0, "board": 2.2}.get(kind, rng.uniform(1.6, 2.4))
            if x + width > length - 0.3:
                return
            if kind == "window":
                self.glass.append(self.texture(self._window()))
                self.panel((x, -0.01, 0.95), (width, 1.6), self.glass[-1])
                wood = self.texture(self.planks((16, 128), (196, 190, 178)))
                self.box((x + width / 2, -0.1, 0.88), (width + 0.2, 0.2, 0.06), wood, None, "flrtu")
            elif kind == "door":
                self.panel((x, -0.02, 0), (width, 2.1), self.texture(self._door()))
            elif kind == "board":
                self.panel((x, -0.03, 0.9), (width, 1.3), self.texture(self._board()))
            else:
                across = x
                while across + 0.5 < x + width:
                    wide = float(rng.uniform(0.42, 0.8))
                    for z in (0.75, 1.7):
                        tall = float(rng.uniform(0.6, 0.85))
                        paint = self.poster if rng.random() < 0.6 else self._framed
                        picture = self.texture(paint((round(160 * tall), round(160 * wide))))
                        place = across, -0.015, z + rng.uniform(-0.08, 0.1)
                        self.panel(place, (wide, tall), picture)
                    across += wide + rng.uniform(0.1, 0.3)
            x += width + rng.uniform(0.35, 0.8)

    def _framed(self, size: Size) -> np.ndarray:
        frame = np.full((*size, 3), self.vary((94, 66, 40), 30), np.uint8)
        edge = max(3, size[1] // 18)
        inner = size[0] - 2 * edge, size[1] - 2 * edge
        frame[edge:-edge, edge:-edge] = self.photograph(inner)
        return frame

    def _window(self) -> np.ndarray:
        pane = (0.6 * self.photograph((176, 187)) + 90).clip(0, 255).astype(np.uint8)
        for x in (0, 90, 179):
            pane[:, x : x + 8] = (232, 230, 224)
        pane[:8], pane[84:92], pane[-8:] = (232, 230, 224), (232, 230, 224), (222, 220, 214)
        return pane

    def _door(self) -> np.ndarray:
        door = self.planks((134, 64), self.vary((124, 88, 60), 30))
        disc(door, (56, 70), 3, (206, 190, 120))
        name, colours = self.word()[:4], ((226, 222, 210), (40, 40, 46))
        door[30:46, 14:50] = self.lettering((16, 36), colours, name)
        return door

    def _board(self) -> np.ndarray:
        """Draw notes on a whiteboard."""
        board = self.grained((208, 352), (228, 230, 230), 0.02, (3, 40))
        inks = (40, 60, 160), (170, 40, 44), (30, 110, 60), (40, 40, 44)
        for _ in range(9):
            ink, place = inks[int(self.rng.integers(4))], self.rng.integers([10, 24], [250, 190])
            if self.rng.random() < 0.6:
                text, size = self.word().lower(), float(self.rng.uniform(0.6, 1.1))
                font = cv2.FONT_HERSHEY_SCRIPT_SIMPLEX
                cv2.putText(board, text, place.tolist(), font, size, ink, 2, cv2.LINE_AA)
            else:
                points = (place + self.rng.integers(-30, 70, (5, 2))).astype(np.int32)
                cv2.polylines(board, [points], False, ink, 2, cv2.LINE_AA)
        cv2.rectangle(board, (0, 0), (351, 207), (130, 132, 134), 8)
        return board

    def _add_desk(self) -> None:
        """Add a desk with a screen, books and papers, and a chair."""
        rng = self.rng
        wood = self.texture(self.planks((96, 192), self.vary((166, 128, 88), 25)))
        self.box((0, 0, 0.7), (1.7, 0.85, 0.05), wood, None, "fblrtu")
        for x in (-0.7, 0.7):
            self.box((x, 0, 0), (0.35, 0.7, 0.7), wood, None, "fblr")
        dark = self.texture(self.grained((48, 64), (42, 43, 46), 0.1, (2, 9)))
        self.glass.append(self.texture(self._screen()))
        foot = self.at((rng.uniform(-0.3, 0.3), 0.15, 0.75))
        foot.box((0, 0, 0), (0.12, 0.1, 0.12), dark, None, "fblr")
        foot.box((0, 0, 0.1), (0.62, 0.06, 0.4), dark)
        foot.panel((-0.29, -0.031, 0.12), (0.58, 0.36), self.glass[-1])
        for _ in range(4):
            place = rng.uniform(-0.75, 0.75), rng.uniform(-0.35, 0.05), 0.75
            cover = self.texture(self.poster((90, 66)))
            book = self.at(place, self.vector(1, rng.uniform(-0.4, 0.4)))
            book.box((0, 0, 0), (0.22, 0.3, float(rng.uniform(0.01, 0.08))), cover)
        seat = self.at((0, -0.85)).at((rng.uniform(-0.2, 0.2),))
        colours = self.vary((70, 88, 120), 50), (40, 42, 48)
        cloth = self.texture(self.masonry((64, 64), (5, 5), colours, 1, 18))
        seat.box((0, 0, 0), (0.08, 0.08, 0.45), dark, None, "fblr")
        seat.box((0, 0, 0.43), (0.46, 0.46, 0.08), cloth, None, "fblrtu")
        seat.box((0, -0.2, 0.55), (0.44, 0.06, 0.5), cloth)

    def _screen(self) -> np.ndarray:
        pixels = np.full((104, 168, 3), (24, 28, 38), np.uint8)
        for row in range(8, 98, 7):
            start = 8 + 8 * int(self.rng.integers(0, 5))
            for _ in range(int(self.rng.integers(1, 6))):
                end = start + int(self.rng.integers(8, 30))
                colour = self.vary((150, 170, 150), 60)
                cv2.line(pixels, (start, row), (min(end, 160), row), colour, 2)
                start = end + 5
                if start > 150:
                    break
        return pixels

    def _add_shelf(self) -> None:
        """Add shelves of books, whose back stands at the wall behind."""
        rng, oak = self.rng, (132, 100, 70)
        front = self.planks((252, 216), oak)  # 120 pixels per metre
        for bottom in (240, 192, 144, 95, 47):
            x = 8
            front[bottom - 40 : bottom, 6:-6] = (36, 28, 24)
            while x < 192:
                thick, tall = int(rng.integers(4, 13)), int(rng.integers(26, 40))
                colour = rng.integers(30, 220, 3)
                front[bottom - tall : bottom, x : x + thick] = colour
                front[bottom - tall + 5 : bottom - tall + 9, x + 1 : x + thick - 1] = 255 - colour
                x += thick + int(rng.random() < 0.15) * 10 + 1
        books, wood = self.texture(front), self.texture(self.planks((256, 64), oak))
        self.box((0, 0, 0), (1.8, 0.4, 2.1), wood, None, "lrt")
        self.panel((-0.9, -0.2, 0), (1.8, 2.1), books)
