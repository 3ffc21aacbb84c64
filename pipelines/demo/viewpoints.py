"""Where photographs are taken: along a walk, and near to where others were taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pipelines.demo.geometry import Camera, Faces, View, look_along
from pipelines.demo.rendering import depth_map

Path2D = Sequence[tuple[float, float]]


def along_walk(
    rng: np.random.Generator,
    faces: Faces,
    walk: Sequence[Path2D],
    names: Sequence[str],
    cameras: Sequence[Camera],
) -> list[View]:
    """Photographs at equal distances along a walk, to its left and right by turns.

    Args:
        rng: source of randomness.
        faces: of the world.
        walk: polylines on the ground, in metres.
        names: of the photographs, as many as there are.
        cameras: which are used by turns of four photographs.
    """
    starts, ends = (
        np.array([point for path in walk for point in part(path)], float)
        for part in (lambda path: path[:-1], lambda path: path[1:])
    )
    lengths = np.linalg.norm(ends - starts, axis=1)
    reached = np.cumsum(lengths)
    views = []
    for i, name in enumerate(names):
        camera = cameras[i // 4 % len(cameras)]

        def draw(i: int = i, camera: Camera = camera, name: str = name) -> View:
            place = (i + rng.uniform(0.2, 0.8)) / len(names) * reached[-1]
            piece = min(int(np.searchsorted(reached, place)), len(lengths) - 1)
            share = 1 - (reached[piece] - place) / lengths[piece]
            ground = starts[piece] + share * (ends[piece] - starts[piece])
            ground = ground + rng.normal(0, 0.35, 2)
            heading = np.degrees(np.arctan2(*(ends[piece] - starts[piece])[::-1]))
            # Two looks ahead, then two back.
            turn = (38, -38, 142, -142)[i % 4] + rng.uniform(-14, 14)
            centre = np.append(ground, rng.uniform(1.5, 1.9))
            pose = look_along(centre, heading + turn, rng.uniform(2, 9), rng.normal(0, 1.0))
            return View(name, camera, pose)

        views.append(_first_good(draw, faces))
    return views


def near_others(
    rng: np.random.Generator,
    faces: Faces,
    others: Sequence[View],
    names: Sequence[str],
    cameras: Sequence[Camera],
    indoors: bool = False,
) -> list[View]:
    """Photographs near others' places, one or two steps aside and turned a little.

    Args:
        rng: source of randomness.
        faces: of the world.
        others: to be near to.
        names: of the photographs.
        cameras: of each photograph.
        indoors: things may be as near as in a room.
    """
    views = []
    for i, (name, camera) in enumerate(zip(names, cameras, strict=True)):
        # All parts of the world have their turn.
        other = others[int((i + rng.random()) * len(others) / len(names))]

        def draw(other: View = other, camera: Camera = camera, name: str = name) -> View:
            forward = other.cam_from_world[2, :3]
            yaw = np.degrees(np.arctan2(forward[1], forward[0])) + rng.uniform(-14, 14)
            step = rng.uniform(0.4, 1.0 if indoors else 1.6) * _direction(rng.uniform(0, 2 * np.pi))
            centre = np.append(other.centre[:2] + step, rng.uniform(1.4, 2.0))
            pose = look_along(centre, yaw, rng.uniform(-4 if indoors else 0, 9), rng.normal(0, 2.0))
            return View(name, camera, pose)

        views.append(_first_good(draw, faces, 0.25 if indoors else 1.0))
    return views


def _direction(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])


def _first_good(
    draw: Callable[[], View], faces: Faces, scale: float = 1.0, attempts: int = 40
) -> View:
    """Draw until nothing stands close before the camera, and enough is to be seen.

    Args:
        draw: gives a view.
        faces: of the world.
        scale: of distances; 1 for a town.
        attempts: the last one's view is taken as it is.
    """
    for _ in range(attempts):
        view = draw()
        if _is_good(view, faces, scale):
            break
    return view


def thumbnail(view: View) -> View:
    """The same view, 64 pixels along its longer side and without distortion."""
    scale = 64 / max(view.camera.width, view.camera.height)
    camera = view.camera
    small = Camera(
        "PINHOLE",
        round(camera.width * scale),
        round(camera.height * scale),
        tuple(scale * p for p in (*camera.focal, *camera.principal_point)),
    )
    return replace(view, camera=small)


def _is_good(view: View, faces: Faces, distance: float) -> bool:
    depth = depth_map(faces, thumbnail(view))
    seen = depth > 0
    upper = depth[: len(depth) * 3 // 4]
    close = (upper > 0) & (upper < 2.5 * distance)
    textured = (depth > 3 * distance) & (depth < 22)
    return bool(seen.mean() > 0.6 and close.mean() < 0.1 and textured.mean() > 0.45)
