"""The light at a time of the day: what falls on each face, computed once for all photographs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.datasets.world.atlas import pack
from pipelines.datasets.world.geometry import Camera, Faces, View
from pipelines.datasets.world.rendering import Lightmap, depth_map
from pipelines.datasets.world.scene import Scene

Light3 = tuple[float, float, float]

_CELLS_PER_METRE = 5.0
_SUN_DISTANCE = 3000.0
_SHADOW_SIZE = 2048
_SHADOW_BIAS = 0.12
_LAMP_REACH = 18.0
_WIDTH = 4096


@dataclass(frozen=True)
class Light:
    """The light at a time of the day; colours are linear RGB."""

    sun_azimuth: float
    """Degrees from the x axis to the y axis."""
    sun_elevation: float
    """Degrees above the horizon."""
    sun: Light3
    sky: Light3
    """From all over the sky, on a face that looks up."""
    bounce: Light3
    """From the ground, on a face that looks down."""
    zenith: Light3
    """Colour of the sky above, to look at."""
    horizon: Light3
    """Colour of the sky at the horizon."""
    clouds: Light3
    lamps: Light3 = (0.0, 0.0, 0.0)
    """One metre from a lamp."""
    windows: Light3 = (0.0, 0.0, 0.0)
    """From a window behind which there is light."""


NOON = Light(
    sun_azimuth=-62,
    sun_elevation=52,
    sun=(2.3, 2.15, 1.9),
    sky=(0.75, 0.85, 1.05),
    bounce=(0.34, 0.32, 0.28),
    zenith=(0.16, 0.32, 0.75),
    horizon=(0.7, 0.82, 1.0),
    clouds=(1.35, 1.35, 1.35),
)
AFTERNOON = Light(
    sun_azimuth=-140,
    sun_elevation=36,
    sun=(1.7, 1.45, 1.1),
    sky=(0.85, 0.9, 1.0),
    bounce=(0.34, 0.32, 0.28),
    zenith=(0.3, 0.42, 0.7),
    horizon=(0.85, 0.88, 0.95),
    clouds=(1.2, 1.15, 1.1),
)
DUSK = Light(
    sun_azimuth=172,
    sun_elevation=5,
    sun=(0.16, 0.07, 0.03),
    sky=(0.2, 0.21, 0.33),
    bounce=(0.06, 0.055, 0.06),
    zenith=(0.05, 0.08, 0.22),
    horizon=(0.55, 0.26, 0.16),
    clouds=(0.42, 0.2, 0.2),
    lamps=(1.3, 0.85, 0.42),
    windows=(0.5, 0.33, 0.15),
)
NIGHT = Light(
    sun_azimuth=40,
    sun_elevation=50,
    sun=(0.002, 0.003, 0.005),
    sky=(0.006, 0.008, 0.016),
    bounce=(0.004, 0.003, 0.003),
    zenith=(0.001, 0.0016, 0.005),
    horizon=(0.012, 0.01, 0.014),
    clouds=(0.014, 0.011, 0.011),
    lamps=(1.5, 0.9, 0.38),
    windows=(0.55, 0.34, 0.14),
)

INDOORS = Light(
    sun_azimuth=90,
    sun_elevation=-30,
    sun=(0.0, 0.0, 0.0),
    sky=(0.36, 0.36, 0.37),
    bounce=(0.3, 0.28, 0.25),
    zenith=(0.5, 0.5, 0.5),
    horizon=(0.5, 0.5, 0.5),
    clouds=(0.5, 0.5, 0.5),
    lamps=(0.35, 0.34, 0.31),
    windows=(1.0, 0.98, 0.92),
)


@dataclass(frozen=True)
class _Grid:
    """Cells of all faces' lightmaps, one after the other."""

    face: np.ndarray
    points: np.ndarray
    pixels: np.ndarray
    """N×2 (x, y) in the lightmap."""


def bake(scene: Scene, light: Light) -> Lightmap:
    """Compute the light that falls on each face: the sun's, with shadows, the sky's, the lamps'.

    Args:
        scene: see there.
        light: see there.

    Returns:
        The scene's lightmap.
    """
    faces = scene.faces
    grid, places, size = _grid(faces)
    normals = faces.normals[grid.face]
    up = normals[:, 2:]
    # In a street less of the sky is seen the lower one is.
    open_sky = 0.55 + 0.45 * np.clip(grid.points[:, 2:] / 12, 0, 1)
    arriving = open_sky * (0.5 + 0.5 * up) * np.array(light.sky)
    arriving += (0.5 - 0.5 * up) * np.array(light.bounce)
    if any(light.sun):
        lit, share = _sunlight(faces, light, grid.points, normals)
        arriving[lit] += share[:, None] * np.array(light.sun)
    if any(light.lamps):
        arriving += _lamplight(scene.lamps, grid.points, normals)[:, None] * np.array(light.lamps)
    pixels = np.zeros((*size, 3), np.float32)
    pixels[grid.pixels[:, 1], grid.pixels[:, 0]] = arriving
    return Lightmap(pixels, places)


def _grid(faces: Faces) -> tuple[_Grid, np.ndarray, tuple[int, int]]:
    cells = np.maximum(2, np.ceil(faces.extent * _CELLS_PER_METRE)).astype(int)
    corners, height, width = pack([(s + 2, t + 2) for s, t in cells.tolist()], _WIDTH)
    places = np.concatenate([corners + 0.5, cells / faces.extent], axis=1).astype(np.float32)
    face, points, pixels = [], [], []
    for i, (columns, rows) in enumerate(cells.tolist()):
        # One cell more on each side, with the light of the outermost.
        column, row = np.meshgrid(np.arange(columns + 2), np.arange(rows + 2))
        s = ((column - 0.5).clip(0.5, columns - 0.5) / columns).ravel() * faces.extent[i, 0]
        t = ((row - 0.5).clip(0.5, rows - 0.5) / rows).ravel() * faces.extent[i, 1]
        index = np.full(len(s), i)
        face.append(index)
        points.append(faces.points(index, s, t))
        pixels.append(np.stack([column.ravel(), row.ravel()], 1) + corners[i])
    grid = _Grid(np.concatenate(face), np.concatenate(points), np.concatenate(pixels))
    return grid, places, (height, width)


def _sunlight(
    faces: Faces, light: Light, points: np.ndarray, normals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the points whose faces look at the sun, and how much of it they see."""
    azimuth, elevation = np.radians([light.sun_azimuth, light.sun_elevation])
    to_sun = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    facing = normals @ to_sun
    lit = np.flatnonzero(facing > 0)
    if not len(lit):
        return lit, np.zeros(0)
    return lit, facing[lit] * _sunlit(faces, to_sun, points[lit])


def _sunlit(faces: Faces, to_sun: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Part of the sun that points see, from a depth map with the sun's centre as its camera."""
    middle = (points.min(0) + points.max(0)) / 2
    radius = float(np.linalg.norm(points - middle, axis=1).max()) + 1
    right = np.cross([0, 0, 1.0], to_sun)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(-to_sun, right), -to_sun])
    sun = middle + _SUN_DISTANCE * to_sun
    pose = np.column_stack([rotation, -rotation @ sun])
    focal = _SHADOW_SIZE / 2 * _SUN_DISTANCE / radius
    half = _SHADOW_SIZE / 2
    camera = Camera("PINHOLE", _SHADOW_SIZE, _SHADOW_SIZE, (focal, focal, half, half))
    view = View("sun", camera, pose)
    depth = depth_map(faces, view)
    seen = view.to_camera(points)
    xy = camera.project(seen)
    share = np.zeros(len(points))
    for shift in ((-0.75, -0.25), (0.25, -0.75), (0.75, 0.25), (-0.25, 0.75)):
        x, y = (xy + shift).astype(int).clip(0, _SHADOW_SIZE - 1).T
        nearest = depth[y, x]
        share += (nearest == 0) | (seen[:, 2] < nearest + _SHADOW_BIAS)
    return share / 4


def _lamplight(lamps: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    total = np.zeros(len(points))
    for lamp in lamps:
        near = np.flatnonzero((np.abs(points - lamp) < _LAMP_REACH).all(1))
        to_lamp = lamp - points[near]
        distance = np.linalg.norm(to_lamp, axis=1)
        cosine = ((to_lamp * normals[near]).sum(1) / np.maximum(distance, 1e-6)).clip(0)
        fade = (1 - distance / _LAMP_REACH).clip(0)
        total[near] += cosine * fade / (0.35 + distance**2 / 8)
    return total
