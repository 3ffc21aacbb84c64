"""True points on surfaces, and the photographs that see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.demo.geometry import Faces, View
from pipelines.demo.rendering import visible_faces


@dataclass(frozen=True)
class Tracks:
    """Points, and where they are seen."""

    points: np.ndarray
    """P×3 metres."""
    views: list[np.ndarray]
    """Of each point: indices of the views that see it, ascending."""
    xy: list[np.ndarray]
    """Of each point: N×2 COLMAP image coordinates in these views."""


def true_tracks(
    rng: np.random.Generator,
    faces: Faces,
    views: Sequence[View],
    points_per_view: int = 160,
    moving: Mapping[str, Faces] | None = None,
) -> Tracks:
    """Choose points on what the views see, and find all views that see them.

    A point is seen where the pixel that it falls on, and all around it, see its face: points at
    the edges of faces are left out. Points that fewer than two views see are none.

    Args:
        rng: source of randomness.
        faces: of the world.
        views: see there.
        points_per_view: to choose in each.
        moving: by a view's name, what hides the faces in that view only; no point lies on it.
    """
    seen = [_seen(faces, view, (moving or {}).get(view.name)) for view in views]
    face, points = [], []
    for view, index in zip(views, seen, strict=True):
        xy = rng.uniform(0, [view.camera.width, view.camera.height], (points_per_view, 2))
        ids = index[xy[:, 1].astype(int), xy[:, 0].astype(int)]
        xy, ids = xy[ids >= 0], ids[ids >= 0]
        face.append(ids)
        points.append(on_faces(faces, view, ids, xy))
    all_faces, all_points = np.concatenate(face), np.concatenate(points)
    point_of, view_of, xy_of = [], [], []
    for i, (view, index) in enumerate(zip(views, seen, strict=True)):
        in_camera = view.to_camera(all_points)
        candidates = np.flatnonzero(in_camera[:, 2] > 0.1)
        xy = view.camera.project(in_camera[candidates])
        size = np.array([view.camera.width, view.camera.height])
        # Beyond the image a distorted projection folds back: ask the ray, too.
        back = view.camera.unproject(xy.clip(0, size))
        ray = in_camera[candidates, :2] / in_camera[candidates, 2:]
        inside = ((xy >= 1) & (xy < size - 1)).all(1) & (np.abs(back - ray) < 1e-6).all(1)
        candidates, xy = candidates[inside], xy[inside]
        column, row = xy.astype(int).T
        agree = np.ones(len(candidates), bool)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                agree &= index[row + dy, column + dx] == all_faces[candidates]
        point_of.append(candidates[agree])
        view_of.append(np.full(int(agree.sum()), i))
        xy_of.append(xy[agree])
    point, view_index, xy = map(np.concatenate, (point_of, view_of, xy_of))
    order = np.argsort(point, kind="stable")
    point, view_index, xy = point[order], view_index[order], xy[order]
    numbers, first = np.unique(point, return_index=True)
    parts = list(zip(np.split(view_index, first[1:]), np.split(xy, first[1:]), strict=True))
    kept = [k for k, (which, _) in enumerate(parts) if len(which) >= 2]
    return Tracks(
        all_points[numbers[kept]], [parts[k][0] for k in kept], [parts[k][1] for k in kept]
    )


def _seen(faces: Faces, view: View, moving: Faces | None) -> np.ndarray:
    if moving is None:
        return visible_faces(faces, view)
    index = visible_faces(faces.joined(moving), view)
    return np.where(index < len(faces), index, -1)


def on_faces(faces: Faces, view: View, index: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Points of the world that a view sees at image coordinates.

    Args:
        faces: of the world.
        view: see there.
        index: N face seen at each.
        xy: N×2 COLMAP image coordinates.

    Returns:
        N×3.
    """
    rays = np.column_stack([view.camera.unproject(xy), np.ones(len(xy))])
    rays = rays @ view.cam_from_world[:, :3]
    normals = faces.normals[index]
    reach = ((faces.origin[index] - view.centre) * normals).sum(1) / (rays * normals).sum(1)
    return view.centre + reach[:, None] * rays
