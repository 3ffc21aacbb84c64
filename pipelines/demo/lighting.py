"""The light at a time of the day: what falls on each face, computed once for all photographs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.demo.builder import Scene
from pipelines.demo.geometry import Camera, View, direction, look_towards
from pipelines.demo.rendering import Lightmap, Projection, pack

Light3 = tuple[float, float, float]

_CELLS_PER_METRE = 5.0
_SUN_DISTANCE = 3000.0
_SHADOW_SIZE = 2048
_SHADOW_BIAS = 0.12
_LAMP_REACH = 18.0


@dataclass(frozen=True)
class Light:
    """The light at a time of the day; colours are linear RGB."""

    sun_place: tuple[float, float]
    """Degrees from the x axis to the y axis, and above the horizon."""
    sun: Light3
    sky: Light3
    """Light from all over the sky, on a face that looks up."""
    bounce: Light3
    """Light from the ground, on a face that looks down."""
    zenith: Light3
    """Colour of the sky above, to look at."""
    horizon: Light3
    """Colour of the sky at the horizon."""
    clouds: Light3
    lamps: Light3 = (0.0, 0.0, 0.0)
    """Light one metre from a lamp."""
    windows: Light3 = (0.0, 0.0, 0.0)
    """Light from a window of a lit room."""


NOON = Light(
    (-62, 52), sun=(2.3, 2.15, 1.9), sky=(0.75, 0.85, 1.05), bounce=(0.34, 0.32, 0.28),
    zenith=(0.16, 0.32, 0.75), horizon=(0.7, 0.82, 1.0), clouds=(1.35, 1.35, 1.35),
)  # fmt: skip
AFTERNOON = Light(
    (-140, 36), sun=(1.7, 1.45, 1.1), sky=(0.85, 0.9, 1.0), bounce=(0.34, 0.32, 0.28),
    zenith=(0.3, 0.42, 0.7), horizon=(0.85, 0.88, 0.95), clouds=(1.2, 1.15, 1.1),
)  # fmt: skip
DUSK = Light(
    (172, 5), sun=(0.16, 0.07, 0.03), sky=(0.2, 0.21, 0.33), bounce=(0.06, 0.055, 0.06),
    zenith=(0.05, 0.08, 0.22), horizon=(0.55, 0.26, 0.16), clouds=(0.42, 0.2, 0.2),
    lamps=(1.3, 0.85, 0.42), windows=(0.5, 0.33, 0.15),
)  # fmt: skip
NIGHT = Light(
    (40, 50), sun=(0.002, 0.003, 0.005), sky=(0.006, 0.008, 0.016), bounce=(0.004, 0.003, 0.003),
    zenith=(0.001, 0.0016, 0.005), horizon=(0.012, 0.01, 0.014), clouds=(0.014, 0.011, 0.011),
    lamps=(1.5, 0.9, 0.38), windows=(0.55, 0.34, 0.14),
)  # fmt: skip
INDOORS = Light(
    (90, -30), sun=(0.0, 0.0, 0.0), sky=(0.36, 0.36, 0.37), bounce=(0.3, 0.28, 0.25),
    zenith=(0.5, 0.5, 0.5), horizon=(0.5, 0.5, 0.5), clouds=(0.5, 0.5, 0.5),
    lamps=(0.35, 0.34, 0.31), windows=(1.0, 0.98, 0.92),
)  # fmt: skip


class LightGrid:
    """Cells on all faces of a scene, for which light is computed."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        faces = scene.faces
        cells = np.maximum(2, np.ceil(faces.extent * _CELLS_PER_METRE)).astype(int)
        # One cell more on each side, with the light of the outermost.
        corners, height, width = pack(cells + 2)
        self._size = height, width
        self._places = np.concatenate([corners + 0.5, cells / faces.extent], axis=1)
        count = (cells + 2).prod(1)
        face = np.repeat(np.arange(len(faces)), count)
        number = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
        row, column = np.divmod(number, cells[face, 0] + 2)
        along = np.stack([column, row], 1)
        self._pixels = along + corners[face]
        st = (along - 0.5).clip(0.5, cells[face] - 0.5) / cells[face] * faces.extent[face]
        self.points = faces.points(face, st[:, 0], st[:, 1])
        """N×3, centres of the cells."""
        self.normals = faces.normals[face]
        """N×3, normals of the faces below."""

    def under(self, illumination: Illumination) -> Lightmap:
        """Return the light that falls on each face."""
        pixels = np.zeros((*self._size, 3), np.float32)
        arriving = illumination.arriving(self.points, self.normals)
        pixels[self._pixels[:, 1], self._pixels[:, 0]] = arriving
        return Lightmap(pixels, self._places.astype(np.float32))


class Illumination:
    """The light at a time of the day, anywhere in the scene of a grid."""

    def __init__(self, grid: LightGrid, light: Light) -> None:
        self._lamps, self._light = grid.scene.lamps, light
        self._to_sun = direction(*np.radians(light.sun_place))
        if any(light.sun):
            # A camera in the sun's place sees what hides the rest.
            points = grid.points[grid.normals @ self._to_sun > 0]
            points = points if len(points) else np.zeros((1, 3))
            middle = (points.min(0) + points.max(0)) / 2
            radius = float(np.linalg.norm(points - middle, axis=1).max()) + 1
            half = _SHADOW_SIZE / 2
            focal = half * _SUN_DISTANCE / radius
            camera = Camera(_SHADOW_SIZE, _SHADOW_SIZE, focal, (half, half))
            pose = look_towards(middle + _SUN_DISTANCE * self._to_sun, -self._to_sun)
            self._sun = View("sun", camera, pose)
            seen = Projection(grid.scene.faces, self._sun)
            self._inverse_depth, self._first = seen.rows[:, 0], seen.visible()

    def arriving(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Return the linear light, N×3, on surfaces at N×3 places with N×3 normals outwards."""
        light = self._light
        up = normals[:, 2:]
        # In a street less of the sky is seen the lower one is.
        open_sky = 0.55 + 0.45 * np.clip(points[:, 2:] / 12, 0, 1)
        arriving = open_sky * (0.5 + 0.5 * up) * np.array(light.sky)
        arriving += (0.5 - 0.5 * up) * np.array(light.bounce)
        if any(light.sun):
            facing = normals @ self._to_sun
            lit = np.flatnonzero(facing > 0)
            sunlight = facing[lit] * self._sunlit(points[lit])
            arriving[lit] += sunlight[:, None] * np.array(light.sun)
        if any(light.lamps):
            arriving += _lamplight(self._lamps, points, normals)[:, None] * np.array(light.lamps)
        return arriving

    def _sunlit(self, points: np.ndarray) -> np.ndarray:
        """Return the fraction of the sun that each of N×3 points sees."""
        seen = self._sun.to_camera(points)
        xy = self._sun.camera.project(seen)
        rays = np.column_stack([seen[:, :2] / seen[:, 2:], np.ones(len(seen))])
        count = np.zeros(len(points))
        # Four places around each point soften the edges of shadows.
        for shift in ((-0.75, -0.25), (0.25, -0.75), (0.75, 0.25), (-0.25, 0.75)):
            x, y = (xy + shift).astype(int).clip(0, _SHADOW_SIZE - 1).T
            first = self._first[y, x]
            inverse = np.einsum("nk,nk->n", self._inverse_depth[first], rays)
            count += (first < 0) | (seen[:, 2] * inverse < 1 + _SHADOW_BIAS / _SUN_DISTANCE)
        return count / 4


def _lamplight(lamps: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return the light of all lamps, relative to that of one about a metre away."""
    points, normals = points.astype(np.float32), normals.astype(np.float32)
    total = np.zeros(len(points), np.float32)
    for lamp in lamps.astype(np.float32):
        near = np.flatnonzero((np.abs(points[:, :2] - lamp[:2]) < _LAMP_REACH).all(1))
        to_lamp = lamp - points[near]
        distance = np.sqrt(np.einsum("nk,nk->n", to_lamp, to_lamp)).clip(1e-3)
        cosine = (np.einsum("nk,nk->n", to_lamp, normals[near]) / distance).clip(0)
        fade = (1 - distance / np.float32(_LAMP_REACH)).clip(0)
        total[near] += cosine * fade / (0.35 + distance**2 / 8)
    return total
