"""People and vans about the streets: in each photograph others, at other places."""

from collections.abc import Sequence

import cv2
import numpy as np

from pipelines.demo import WORLD
from pipelines.demo.builder import Builder, Scene, Texture
from pipelines.demo.geometry import UP, Camera, Faces, View, direction, look_along
from pipelines.demo.rendering import depth_map
from pipelines.demo.textures import Colour, disc, shaded
from pipelines.demo.viewpoints import Walk, thumbnail

_OUTFITS, _VANS, _VAN_RATIO = 14, 5, 0.2
_ROOM = {"person": 0.45, "van": 2.5}  # radius in metres of the ground that each needs for itself
_NEAREST = {"person": 2.8, "van": 6.5}  # metres from the camera; all of it is 2 m away or more
_FARTHEST = 22.0
_FROM_WALK = 4.5  # metres: farther away from the walk are houses, and ground behind them
_ALTITUDE, _CELL = 3000.0, 0.1
_STEP = 0.2  # metres above the lowest ground up to which one may stand: a kerb, not a trough
_COLOURS = WORLD["colours"]

Outfit = tuple[dict[str, int], float]  # textures of a person, fraction of the legs below the coat


def moving_objects(
    seed: int, scene: Scene, walk: Walk, views: Sequence[View], num: int
) -> tuple[list[Texture], dict[str, Faces]]:
    """Place people and vans before each view, where the ground is free and the view sees them.

    They keep close to the walk. The seed and a view's name determine what stands there: ``num`` of
    them, or fewer where there is no room. Return textures, to be added behind the scene's, and the
    faces that each view shows, by its name.
    """
    if num == 0:
        return [], {}
    shared = Builder(np.random.default_rng([seed, 31]), scene.textures)
    outfits = [_outfit(shared) for _ in range(_OUTFITS)]
    liveries = [_livery(shared) for _ in range(_VANS)]
    ground = _free_ground(scene.faces, walk)
    moving = {}
    for view in views:
        b = Builder(np.random.default_rng([seed, 32, *view.name.encode()]))
        kinds = ["van" if b.rng.random() < _VAN_RATIO else "person" for _ in range(num)]
        placed = _places(b.rng, scene.faces, view, ground, kinds)
        for kind, place in placed:
            towards = direction(b.rng.uniform(0, 2 * np.pi))
            if kind == "van":
                livery = liveries[int(b.rng.integers(_VANS))]
                # A driver looks along x: the right side of a van is the front of its box.
                for side, texture in zip("fbrlt", livery, strict=True):
                    b.at(place, towards).box((0, 0, 0), (4.4, 1.85, 2.0), texture, None, side)
            else:
                _add_person(b, place, towards, outfits[int(b.rng.integers(_OUTFITS))])
        if placed:
            moving[view.name] = b.faces()
    return shared.textures[len(scene.textures) :], moving


def _free_ground(faces: Faces, walk: Walk) -> np.ndarray:
    """Return places near the walk under the open sky, and the free radius around each: N×4."""
    corners = np.array([point for path in walk for point in path])
    low, high = corners.min(0) - 8, corners.max(0) + 8
    width, height = np.ceil((high - low) / _CELL).astype(int).tolist()
    camera = Camera(width, height, _ALTITUDE / _CELL, (width / 2, height / 2))
    middle = np.append(low + np.array([width, height]) * _CELL / 2, _ALTITUDE)
    level = _ALTITUDE - depth_map(faces, View("above", camera, look_along(middle, 90, -90)))
    near = np.zeros((height, width), np.uint8)
    top_left = np.array([low[0], low[1] + height * _CELL])
    for path in walk:
        pixels = np.round((np.array(path) - top_left) * (1, -1) / _CELL).astype(np.int32)
        cv2.polylines(near, [pixels], False, 1, round(2 * _FROM_WALK / _CELL))
    free = (near > 0) & (level < _STEP)
    clearance = _CELL * cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, 5)
    row, column = np.nonzero(free)
    x, y = top_left[0] + (column + 0.5) * _CELL, top_left[1] - (row + 0.5) * _CELL
    return np.column_stack([x, y, level[row, column], clearance[row, column]])


def _places(
    rng: np.random.Generator, faces: Faces, view: View, ground: np.ndarray, kinds: Sequence[str]
) -> list[tuple[str, np.ndarray]]:
    """Choose where each stands: seen in the view, and apart from the others."""
    small = thumbnail(view)
    depth = depth_map(faces, small)
    ground, clearance = ground[:, :3], ground[:, 3]
    distance = np.linalg.norm(ground[:, :2] - view.centre[:2], axis=1)
    chest = view.to_camera(ground + 1.2 * UP)
    seen = np.flatnonzero((chest[:, 2] > 1) & (distance < _FARTHEST))
    xy = np.floor(small.camera.project(chest[seen])).astype(int)
    inside = ((xy >= 0) & (xy < depth.shape[::-1])).all(1)
    seen, (column, row) = seen[inside], xy[inside].T
    before = depth[row, column]
    seen = seen[(before == 0) | (before > chest[seen, 2])]
    placed: list[tuple[str, np.ndarray]] = []
    for kind in kinds:
        fits = (clearance[seen] > _ROOM[kind]) & (distance[seen] > _NEAREST[kind])
        for other, place in placed:
            apart = np.linalg.norm(ground[seen, :2] - place[:2], axis=1)
            fits &= apart > _ROOM[kind] + _ROOM[other]
        candidates = seen[fits]
        if len(candidates):
            weight = 1 / distance[candidates]  # as many near as far
            placed.append((kind, ground[rng.choice(candidates, p=weight / weight.sum())]))
    return placed


def _outfit(b: Builder) -> Outfit:
    rng = b.rng
    colour = b.one_of(_COLOURS["coats"])
    other = b.vary(colour, 50)
    coat = np.full((64, 48, 3), colour, np.float32)
    kind = rng.random()
    if kind < 0.25:  # stripes
        coat[(np.arange(64) // 5 % 2) > 0] = other
    elif kind < 0.45:  # checks
        coat[(np.arange(64) // 6 % 2) > 0] *= 0.8
        coat[:, (np.arange(48) // 6 % 2) > 0] *= 0.8

    def plain(colour: Colour, spread: float) -> int:
        grain = 0.12 * b.rough((24, 24), (2, 7))
        return b.texture(shaded(b.vary(colour, spread), grain))

    outfit = {
        "coat": b.texture(shaded(coat, 0.09 * b.rough((64, 48), (3, 9, 20)))),
        "trousers": plain((56, 58, 72), 16),
        "skin": plain(_COLOURS["skins"][int(rng.integers(3))], 10),
        "hair": plain(_COLOURS["hair"][int(rng.integers(4))], 12),
    }
    if rng.random() < 0.5:
        outfit["bag"] = plain((110, 76, 50), 26)
    return outfit, float(rng.choice([0.1, 0.15, 0.6]))


def _add_person(b: Builder, place: np.ndarray, towards: np.ndarray, outfit: Outfit) -> None:
    """Add someone who walks in a direction."""
    size, across = float(b.rng.uniform(0.9, 1.06)), np.cross(UP, towards)
    stride, (textures, coat_length) = b.rng.uniform(-0.16, 0.16), outfit

    def at(x: float, ahead: float, z: float) -> Builder:
        return b.at(place + size * (x * across + ahead * towards + z * UP), across)

    def column(x: float, ahead: float, z: float, radius: float, top: float, what: int) -> None:
        """Add a prism with a rounded top."""
        foot, height = at(x, ahead, z), size * top
        foot.prism((0, 0, 0), (size * radius, height), [what] * 8)
        foot.prism((0, 0, height), (size * radius, size * 0.55 * radius), [what] * 8, spire=True)

    hip = 0.86
    for x, step in ((-0.09, stride), (0.09, -stride)):
        column(x, step, 0.06, 0.085, hip, textures["trousers"])
        shoe = (0.1 * size, 0.26 * size, 0.09 * size)
        at(x, step + 0.04, 0).box((0, 0, 0), shoe, textures["hair"], None, "fblrtu")
    hem = hip * (1 - coat_length)
    for x in (-0.085, 0.085):
        column(x, 0, hem, 0.15, 1.42 - hem, textures["coat"])
    for x, swing in ((-0.26, -0.6 * stride), (0.26, 0.6 * stride)):
        column(x, swing, 0.82, 0.058, 0.58, textures["coat"])
        column(x, swing, 0.7, 0.04, 0.1, textures["skin"])
    column(0, 0.01, 1.42, 0.055, 0.1, textures["skin"])
    column(0, 0.03, 1.5, 0.1, 0.16, textures["skin"])
    column(0, -0.01, 1.6, 0.105, 0.1, textures["hair"])
    if "bag" in textures:
        bag = (0.3 * size, 0.16 * size, 0.42 * size)
        at(0, -0.2, 1.0).box((0, 0, 0), bag, textures["bag"], None, "fblrtu")


def _livery(b: Builder) -> list[int]:
    """Paint the right and left side, front, back and top of a van, at 60 pixels per metre."""
    rows, columns, across = 120, 264, 111
    paint = b.one_of(_COLOURS["vans"])
    ink = b.vary((30, 36, 46) if sum(paint) > 380 else (232, 226, 208), 14)
    name = b.word()
    glass, black = (46, 56, 66), (24, 24, 25)

    def panel(width: int) -> np.ndarray:
        pixels = b.grained((rows, width), paint, 0.03, (3, 30, 90))
        pixels[:4] = [int(0.75 * c) for c in paint]
        pixels[-18:] = black  # the shadow below
        return pixels

    def side(left: int, turn: int) -> int:
        """Paint a side with the front to the right (1) or to the left (−1), and the name."""
        pixels = panel(columns)
        pixels[16:51, 198:-8] = shaded(glass, 0.3 * b.noise((35, 58), 30))
        for x in (192, 102):  # edges of the doors
            pixels[4:-18, x] = [int(0.55 * c) for c in paint]
        for x in (57, 213):
            for radius, colour in ((24, black), (19, (44, 44, 45)), (11, (150, 150, 152))):
                disc(pixels, (x, rows - 19), radius, colour)
        pixels = pixels[:, ::turn].copy()
        pixels[27:72, left : left + 168] = b.lettering((45, 168), (paint, ink), name)
        return b.texture(pixels)

    front, back, middle = panel(across), panel(across), across // 2
    front[12:57, 6:-6] = glass
    cv2.rectangle(front, (30, 72), (across - 30, 87), black, -1)
    back[:-18, middle] = black
    for x in (9, middle + 5):
        back[15:48, x : x + middle - 14] = glass
    for x, inwards in ((12, 6), (across - 12, -6)):
        disc(front, (x + inwards, 79), 9, (226, 226, 214))
        cv2.rectangle(back, (x - 6, 65), (x + 6, 89), (150, 30, 26), -1)
    for pixels in (front, back):
        plate = b.lettering((12, 44), ((226, 226, 216), (20, 20, 24)), name[:6])
        pixels[rows - 34 : rows - 22, middle - 22 : middle + 22] = plate
    top = b.grained((64, 64), paint, 0.05, (3, 20))
    left, right = side(columns - 186, -1), side(15, 1)
    return [right, left, *(b.texture(pixels) for pixels in (front, back, top))]
