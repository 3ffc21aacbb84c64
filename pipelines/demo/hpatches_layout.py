"""Photographs of planes as HPatches' sequences, with the homographies between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from featplug.utils.progress import progress_bar
from pipelines.demo import textures
from pipelines.demo.atlas import Atlas
from pipelines.demo.facades import paint_facade
from pipelines.demo.geometry import Camera, Faces, View
from pipelines.demo.lighting import LightGrid
from pipelines.demo.looks import LOOKS, Photographer
from pipelines.demo.surfaces import SceneBuilder
from pipelines.demo.textures import Texture, opaque

_PLANE = (16.0, 12.0)
"""Width and height in metres; the views see a part of it."""
_DISTANCE = 8.0
_LOOKS = ("noon", "day", "dusk", "dusk", "night", "night")


def write_hpatches(
    folder: Path, seed: int, num_planes: int, image_size: int, progress: bool
) -> None:
    """Write sequences of six photographs: ``i_…`` of other light, ``v_…`` of other viewpoints.

    ``H_1_k`` maps pixels of ``1.ppm`` to those of ``k.ppm``, integers being pixel centres.

    Args:
        folder: empty, or not there.
        seed: of everything random.
        num_planes: each gives both sequences.
        image_size: longer side of the photographs in pixels.
        progress: show it.
    """
    rng = np.random.default_rng([seed, 31])
    camera = _camera(image_size)
    with progress_bar(None, "photograph planes", 12 * num_planes, "image", progress) as bar:
        for plane in range(num_planes):
            builder = SceneBuilder()
            kind = list(_PAINTERS)[plane % len(_PAINTERS)]
            corner = np.array([-_PLANE[0] / 2, 0, _PLANE[1] / 2])
            size = np.array([_PLANE[0], 0, 0]), np.array([0, 0, -_PLANE[1]])
            builder.add(corner, *size, builder.texture(_PAINTERS[kind](rng)))
            for x, z in rng.uniform((-5, -3), (5, 3), (3, 2)):
                builder.lamps.append(np.array([x, -rng.uniform(1.5, 3), z]))
            scene = builder.scene(lamp_texture=-1)
            atlas, grid = Atlas(scene.textures), LightGrid(scene)
            straight = _towards(rng, camera, 0.0)
            views = [straight, *(_towards(rng, camera, k / 5) for k in range(1, 6))]
            by_look = {name: Photographer(scene, atlas, grid, LOOKS[name]) for name in set(_LOOKS)}
            for letter in "iv":
                target = folder / f"{letter}_{kind}{plane:02}"
                target.mkdir(parents=True, exist_ok=True)
                for k in range(6):
                    view = straight if letter == "i" else views[k]
                    look = _LOOKS[k] if letter == "i" else ("noon", "day")[k % 2]
                    number = seed * 1_000_003 + plane * 100 + k + 60_000 * (letter == "v")
                    picture = by_look[look].take(view, number)
                    cv2.imwrite(str(target / f"{k + 1}.ppm"), picture[..., ::-1])
                    if k:
                        matrix = homography(scene.faces, straight, view)
                        lines = [" ".join(f"{v:.12g}" for v in row) + "\n" for row in matrix]
                        (target / f"H_1_{k + 1}").write_text("".join(lines), "utf-8")
                    bar.update()


def homography(faces: Faces, view0: View, view1: View) -> np.ndarray:
    """Homography of the first face from one view's pixels to another's.

    Args:
        faces: of the world.
        view0: with a camera without distortion.
        view1: with a camera without distortion.

    Returns:
        3×3 with 1 as its last entry; integer coordinates are pixel centres.
    """
    plane = np.column_stack([faces.axis_s[0], faces.axis_t[0], faces.origin[0]])
    to_centres = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    maps = []
    for view in (view0, view1):
        pose = view.cam_from_world
        in_camera = pose[:, :3] @ plane + np.outer(pose[:, 3], [0, 0, 1])
        maps.append(to_centres @ view.camera.calibration @ in_camera)
    matrix = maps[1] @ np.linalg.inv(maps[0])
    return matrix / matrix[2, 2]


def _camera(size: int) -> Camera:
    width, height = size, size * 3 // 4
    return Camera("PINHOLE", width, height, (float(size), float(size), width / 2, height / 2))


def _towards(rng: np.random.Generator, camera: Camera, strength: float) -> View:
    """A view of the plane's middle; the stronger, the more from the side, nearer and turned."""
    angle = rng.uniform(0, 2 * np.pi)
    slant = np.radians(55 * strength * rng.uniform(0.8, 1.0))
    target = np.array([rng.uniform(-0.5, 0.5), 0, rng.uniform(-0.5, 0.5)])
    out = np.array([np.sin(slant) * np.cos(angle), -np.cos(slant), np.sin(slant) * np.sin(angle)])
    distance = _DISTANCE * np.exp(strength * rng.uniform(-0.5, 0.35))
    forward = -out
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    roll = strength * rng.uniform(-0.6, 0.6)
    rolled = np.cos(roll) * right + np.sin(roll) * down
    rotation = np.stack([rolled, np.cross(forward, rolled), forward])
    centre = target + distance * out
    return View("", camera, np.column_stack([rotation, -rotation @ centre]))


def _facade(rng: np.random.Generator) -> Texture:
    return paint_facade(rng, *_PLANE, shop=True).texture


def _photograph(rng: np.random.Generator) -> Texture:
    return opaque(textures.photograph(rng, 768, 1024))


def _posters(rng: np.random.Generator) -> Texture:
    wall = textures.masonry(rng, 768, 1024, (9, 24), (150, 92, 74), (172, 164, 150))
    for _ in range(60):
        height = int(rng.integers(110, 230))
        width = int(height * rng.uniform(0.6, 0.8))
        y, x = rng.integers(0, [768 - height, 1024 - width]).tolist()
        wall[y : y + height, x : x + width] = textures.poster(rng, height, width)
    return opaque(wall)


def _pavement(rng: np.random.Generator) -> Texture:
    setts = textures.masonry(rng, 768, 1024, (22, 26), (128, 122, 114), (70, 66, 62), 2.5)
    return opaque(setts)


_PAINTERS: dict[str, Callable[[np.random.Generator], Texture]] = {
    "posters": _posters,
    "photograph": _photograph,
    "facade": _facade,
    "pavement": _pavement,
}
