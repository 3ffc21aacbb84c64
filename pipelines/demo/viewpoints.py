"""Where photographs are taken, and which true points they see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from pipelines.demo.geometry import Camera, Faces, View, direction, look_along
from pipelines.demo.rendering import Projection, depth_map

Walk = Sequence[Sequence[tuple[float, float]]]  # polylines on the ground, in metres
Moving = Mapping[str, Faces] | None  # what stands in one view only, by the name of the view


def along_walk(
    rng: np.random.Generator, faces: Faces, walk: Walk, cameras: Mapping[str, Camera]
) -> list[View]:
    """Choose views at equal distances along a walk, for cameras by the photographs' names."""
    names = list(cameras)
    starts = np.array([point for path in walk for point in path[:-1]], float)
    steps = np.array([point for path in walk for point in path[1:]], float) - starts
    lengths = np.linalg.norm(steps, axis=1)
    reached = np.cumsum(lengths)

    def draw(i: int) -> View:
        place = (i + rng.uniform(0.2, 0.8)) / len(names) * reached[-1]
        piece = min(int(np.searchsorted(reached, place)), len(lengths) - 1)
        fraction = 1 - (reached[piece] - place) / lengths[piece]
        ground = starts[piece] + fraction * steps[piece] + rng.normal(0, 0.35, 2)
        heading = np.degrees(np.arctan2(*steps[piece][::-1]))
        # Two looks ahead, then two back.
        turn = (38, -38, 142, -142)[i % 4] + rng.uniform(-14, 14)
        centre = np.append(ground, rng.uniform(1.5, 1.9))
        pose = look_along(centre, heading + turn, rng.uniform(2, 9), rng.normal(0, 1.0))
        return View(names[i], cameras[names[i]], pose)

    return [_first_good(partial(draw, i), faces) for i in range(len(names))]


def near_others(
    rng: np.random.Generator,
    faces: Faces,
    others: Sequence[View],
    cameras: Mapping[str, Camera],
    indoors: bool = False,
) -> list[View]:
    """Choose views one or two steps from others and turned a little; things are nearer indoors."""
    scale, farthest, lowest = (0.25, 1.0, -4) if indoors else (1.0, 1.6, 0)

    def draw(name: str, other: View) -> View:
        forward = other.cam_from_world[2, :3]
        yaw = np.degrees(np.arctan2(forward[1], forward[0])) + rng.uniform(-14, 14)
        step = rng.uniform(0.4, farthest) * direction(rng.uniform(0, 2 * np.pi))[:2]
        centre = np.append(other.centre[:2] + step, rng.uniform(1.4, 2.0))
        pose = look_along(centre, yaw, rng.uniform(lowest, 9), rng.normal(0, 2.0))
        return View(name, cameras[name], pose)

    views = []
    for i, name in enumerate(cameras):
        # All parts of the world have their turn.
        other = others[int((i + rng.random()) * len(others) / len(cameras))]
        views.append(_first_good(partial(draw, name, other), faces, scale))
    return views


def _first_good(draw: Callable[[], View], faces: Faces, scale: float = 1.0) -> View:
    """Draw views until nothing stands close to the camera, and enough can be seen."""
    for _ in range(40):  # the last one is taken as it is
        view = draw()
        depth = depth_map(faces, thumbnail(view))
        upper = depth[: len(depth) * 3 // 4]
        close = (upper > 0) & (upper < 2.5 * scale)
        textured = (depth > 3 * scale) & (depth < 22)
        if (depth > 0).mean() > 0.6 and close.mean() < 0.1 and textured.mean() > 0.45:
            break
    return view


def thumbnail(view: View) -> View:
    """Return the same view, 64 pixels along its longer side and without distortion."""
    camera = view.camera
    scale = 64 / max(camera.width, camera.height)
    width, height = round(camera.width * scale), round(camera.height * scale)
    x, y = camera.centre
    return replace(view, camera=Camera(width, height, scale * camera.focal, (scale * x, scale * y)))


class Track(NamedTuple):
    """A point on a surface, and where it is seen."""

    point: np.ndarray
    views: list[int]  # indices of the views that see it, ascending
    xy: list[np.ndarray]  # its COLMAP image coordinates in these views


def true_tracks(
    rng: np.random.Generator, faces: Faces, views: Sequence[View], moving: Moving = None
) -> list[Track]:
    """Choose points on what the views see, and find all views that see them.

    A point is seen where the pixel that it falls on, and all around it, see its face: points at
    the edges of faces are left out, and so are points that fewer than two views see. No point lies
    on what is ``moving``.
    """
    seen, face_of, points_of = [], [], []
    for view in views:
        others = (moving or {}).get(view.name)
        index = Projection(faces if others is None else faces.joined(others), view).visible()
        seen.append(np.where(index < len(faces), index, -1))
        xy = rng.uniform(0, index.shape[::-1], (160, 2))
        column, row = xy.astype(int).T
        ids = seen[-1][row, column]
        face_of.append(ids[ids >= 0])
        points_of.append(on_faces(faces, view, ids[ids >= 0], xy[ids >= 0]))
    face, points = np.concatenate(face_of), np.concatenate(points_of)
    tracks = [Track(point, [], []) for point in points]
    for i, (view, index) in enumerate(zip(views, seen, strict=True)):
        in_camera = view.to_camera(points)
        candidates = np.flatnonzero(in_camera[:, 2] > 0.1)
        in_camera = in_camera[candidates]
        xy, size = view.camera.project(in_camera), np.array(index.shape[::-1])
        # Beyond the image a distorted projection folds back: ask the ray, too.
        back = view.camera.unproject(xy.clip(0, size)) - in_camera[:, :2] / in_camera[:, 2:]
        inside = ((xy >= 1) & (xy < size - 1)).all(1) & (np.abs(back) < 1e-6).all(1)
        candidates, xy = candidates[inside], xy[inside]
        column, row = xy.astype(int).T[:, :, None, None]
        window = np.arange(-1, 2)
        around = index[row + window[:, None], column + window]
        agree = (around == face[candidates, None, None]).all((1, 2))
        for k, place in zip(candidates[agree].tolist(), xy[agree], strict=True):
            tracks[k].views.append(i)
            tracks[k].xy.append(place)
    return [track for track in tracks if len(track.views) >= 2]


def on_faces(faces: Faces, view: View, index: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Return the points of the world, N×3, on N faces that a view sees at N×2 coordinates."""
    rays = np.column_stack([view.camera.unproject(xy), np.ones(len(xy))])
    rays = rays @ view.cam_from_world[:, :3]
    normals = faces.normals[index]
    reach = ((faces.origin[index] - view.centre) * normals).sum(1) / (rays * normals).sum(1)
    return view.centre + reach[:, None] * rays
