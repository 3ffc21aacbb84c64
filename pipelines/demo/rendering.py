"""From a view to the faces that its pixels see, their depth, and the light that comes from them.

Seen from a camera, the inverse depth of a plane and the plane's coordinates over depth are linear
in the ray (x/z, y/z, 1). A face is found by comparing these with the inverse depths so far, within
the bounds of its image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipelines.demo.atlas import NUM_LEVELS, Atlas
from pipelines.demo.geometry import Camera, Faces, View, camera_rays

SUPERSAMPLING = 2
_NEAR = 0.05
_SEAM = 1e-3  # metres by which faces are enlarged, so that no gap shows between neighbours
_BLOCK_ROWS = 64  # few enough for the arrays of a block to stay in the processor's cache
_DITHER = np.array([[0.125, 0.625], [0.875, 0.375]], np.float32)


@dataclass(frozen=True)
class Planes:
    """Faces as a camera sees them: rows of linear functions of its rays."""

    inverse_depth: np.ndarray
    """F×3: inverse depth."""
    s: np.ndarray
    """F×3: metres along s over depth."""
    t: np.ndarray
    """F×3: metres along t over depth."""
    order: np.ndarray
    """Indices of the faces that may be seen, the nearest first."""
    bounds: np.ndarray
    """F×4: bounds (left, top, right, bottom) of their images in x/z and y/z."""


def project_faces(faces: Faces, view: View) -> Planes:
    """Bring faces into a camera's frame, and leave out those that it cannot see."""
    rotation = view.cam_from_world[:, :3]
    origin = view.to_camera(faces.origin)
    axis_s, axis_t = faces.axis_s @ rotation.T, faces.axis_t @ rotation.T
    normal = np.cross(axis_t, axis_s)
    distance = (normal * origin).sum(1)
    facing = distance < -1e-6
    inverse_depth = normal / np.where(facing, distance, -1.0)[:, None]
    s = axis_s - inverse_depth * (origin * axis_s).sum(1, keepdims=True)
    t = axis_t - inverse_depth * (origin * axis_t).sum(1, keepdims=True)

    spans = axis_s * faces.extent[:, :1], axis_t * faces.extent[:, 1:]
    corners = np.stack(
        [origin, origin + spans[0], origin + spans[0] + spans[1], origin + spans[1]], 1
    )
    following = np.roll(corners, -1, axis=1)
    # Both ends of each edge's part beyond the near plane.
    z0, z1 = corners[..., 2], following[..., 2]
    crossing = (_NEAR - z0) / np.where(z0 == z1, 1.0, z1 - z0)
    clipped = corners + crossing[..., None] * (following - corners)
    ends = np.concatenate(
        [
            np.where((z0 >= _NEAR)[..., None], corners, clipped),
            np.where((z1 >= _NEAR)[..., None], following, clipped),
        ],
        axis=1,
    )
    there = np.tile(np.maximum(z0, z1) >= _NEAR, (1, 2))
    xy = ends[..., :2] / np.maximum(ends[..., 2:], _NEAR)
    low = np.where(there[..., None], xy, np.inf).min(1)
    high = np.where(there[..., None], xy, -np.inf).max(1)
    seen = facing & there.any(1)
    nearest = np.linalg.norm(corners.mean(1), axis=1)
    order = np.flatnonzero(seen)
    order = order[np.argsort(nearest[order], kind="stable")]
    return Planes(inverse_depth, s, t, order, np.column_stack([low, high]))


def _pixel_bounds(bounds: np.ndarray, camera: Camera, supersampling: int) -> np.ndarray:
    """Samples that bounds in x/z and y/z touch: F×4 int (left, top, right, bottom)."""
    limit = camera.unproject(np.array([0.0, 0.0]))
    most = 1.5 * float((limit**2).sum()) + 1.0
    low, high = bounds[:, :2].clip(-1e4, 1e4), bounds[:, 2:].clip(-1e4, 1e4)
    inside = (low < 0) & (high > 0)
    least_r2 = np.where(inside, 0, np.minimum(low**2, high**2)).sum(1).clip(max=most)
    most_r2 = np.maximum(low**2, high**2).sum(1).clip(max=most)
    scale = 1 + camera.distortion * np.stack([least_r2, most_r2], 1)
    candidates = np.stack([low, high], 1)[:, :, None] * scale[:, None, :, None]
    flat = candidates.reshape(len(bounds), 4, 2)
    focal, centre = np.array(camera.focal), np.array(camera.principal_point)
    first = np.floor((flat.min(1) * focal + centre) * supersampling - 1)
    last = np.ceil((flat.max(1) * focal + centre) * supersampling + 1)
    size = np.array([camera.width, camera.height]) * supersampling
    return np.concatenate([first.clip(0, size), last.clip(0, size)], axis=1).astype(int)


def visible_faces(
    faces: Faces, view: View, supersampling: int = 1, planes: Planes | None = None
) -> np.ndarray:
    """Find the face that each pixel's centre sees.

    Args:
        faces: of the world.
        view: see there.
        supersampling: samples per pixel along each axis.
        planes: of :func:`project_faces`, where it was called already.

    Returns:
        Face index per sample, −1 where there is none (the sky).
    """
    planes = planes or project_faces(faces, view)
    rays_x, rays_y = camera_rays(view.camera, supersampling)
    order = planes.order
    boxes = _pixel_bounds(planes.bounds[order], view.camera, supersampling)
    nearest = np.full(rays_x.shape, 1e-5, np.float32)
    index = np.full(rays_x.shape, -1, np.intp)
    coefficients = np.stack([planes.inverse_depth, planes.s, planes.t], 1).astype(np.float32)
    extent = faces.extent.astype(np.float32)
    for face, (left, top, right, bottom) in zip(order.tolist(), boxes.tolist(), strict=True):
        if left >= right or top >= bottom:
            continue
        x, y = rays_x[top:bottom, left:right], rays_y[top:bottom, left:right]
        (a, b, c), along_s, along_t = coefficients[face]
        inverse = a * x + (b * y + c)
        known = nearest[top:bottom, left:right]
        hit = inverse > known
        if not hit.any():
            continue
        width, height = extent[face]
        seam = np.float32(_SEAM) * inverse
        s = along_s[0] * x + (along_s[1] * y + along_s[2])
        t = along_t[0] * x + (along_t[1] * y + along_t[2])
        hit &= (t >= -seam) & (t <= height * inverse + seam)
        if faces.gable[face]:
            half = width / 2
            hit &= np.abs(s - half * inverse) <= (half / height) * t + seam
        else:
            hit &= (s >= -seam) & (s <= width * inverse + seam)
        np.copyto(known, inverse, where=hit)
        index[top:bottom, left:right][hit] = face
    return index


def depth_map(faces: Faces, view: View, index: np.ndarray | None = None) -> np.ndarray:
    """Depth of what each pixel's centre sees.

    Args:
        faces: of the world.
        view: see there.
        index: of :func:`visible_faces`, where it was called already.

    Returns:
        H×W float64 metres along the optical axis, 0 for the sky.
    """
    planes = project_faces(faces, view)
    index = visible_faces(faces, view, planes=planes) if index is None else index
    camera = view.camera
    columns, rows = np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5
    rays = camera.unproject(np.stack(np.broadcast_arrays(columns[None], rows[:, None]), -1))
    a = planes.inverse_depth[index]
    inverse = a[..., 0] * rays[..., 0] + a[..., 1] * rays[..., 1] + a[..., 2]
    return np.where(index >= 0, 1 / np.where(index >= 0, inverse, 1.0), 0.0)


@dataclass(frozen=True)
class Lightmap:
    """Light that falls on each face, on a grid of its own."""

    pixels: np.ndarray
    """The grids of all faces in one image, H×W×3 float32, linear."""
    places: np.ndarray
    """F×4 float32: place of a face's corner (x, y) in OpenCV's coordinates, cells per metre."""

    def joined(self, others: Lightmap) -> Lightmap:
        """The light on these faces, and after them on others."""
        below = others.places + np.array([0, len(self.pixels), 0, 0], np.float32)
        return Lightmap(
            np.concatenate([self.pixels, others.pixels]), np.concatenate([self.places, below])
        )


def radiance(
    faces: Faces,
    atlas: Atlas,
    lightmap: Lightmap,
    emission: np.ndarray,
    view: View,
) -> tuple[np.ndarray, np.ndarray]:
    """Light that comes into the camera.

    Args:
        faces: of the world.
        atlas: of its textures.
        lightmap: of its light.
        emission: F×3 linear colour of what lit parts of each face send out.
        view: see there.

    Returns:
        H×W×3 float32, linear, 0 for the sky; and the sky's share of each pixel, H×W float32.
    """
    scale = SUPERSAMPLING
    planes = project_faces(faces, view)
    index = visible_faces(faces, view, scale, planes)
    rays_x, rays_y = camera_rays(view.camera, scale)
    spacing = 1 / (np.array(view.camera.focal, np.float32) * scale)
    table = _face_table(faces, atlas, planes, lightmap)
    levels = atlas.levels
    light = np.zeros((*index.shape, 3), np.float32)
    dither = np.tile(_DITHER, (_BLOCK_ROWS // 2, index.shape[1] // 2))
    for top in range(0, len(index), _BLOCK_ROWS):
        block = slice(top, top + _BLOCK_ROWS)
        ids = index[block]
        if not (ids >= 0).any():
            continue
        x, y = rays_x[block], rays_y[block]
        row = [np.take(column, ids) for column in table[:9]]
        depth = 1 / (row[0] * x + row[1] * y + row[2])
        s = (row[3] * x + row[4] * y + row[5]) * depth
        t = (row[6] * x + row[7] * y + row[8]) * depth
        su, sv, ou, ov, wide, high, wraps, texture = (
            np.take(column, ids) for column in table[9:17]
        )
        near = dither[: len(ids)]
        level_u, level_v = (
            _level(row[k], row[k + 1], row[0], row[1], along, depth, spacing, density, near)
            for k, along, density in ((3, s, su * wide), (6, t, sv * high))
        )
        key = atlas.level_index(texture.astype(np.intp), level_u, level_v)
        left, upper, columns, rows = (np.take(column, key) for column in levels.T.copy())
        u, v = s * su + ou, t * sv + ov
        u = np.where(wraps > 0, u - np.floor(u), u.clip(0, 1))
        v = np.where(wraps > 0, v - np.floor(v), v.clip(0, 1))
        texels = cv2.remap(
            atlas.pixels, left + u * columns, upper + v * rows, cv2.INTER_LINEAR
        ).astype(np.float32)
        # Displayed values are about the square root of light.
        texels *= texels / np.float32(255**2)
        place_x, place_y, cells_s, cells_t = (np.take(c, ids) for c in table[17:21])
        arriving = cv2.remap(
            lightmap.pixels, place_x + s * cells_s, place_y + t * cells_t, cv2.INTER_LINEAR
        )
        result = texels[..., :3] * arriving
        result += texels[..., 3:] * np.take(emission.astype(np.float32), ids, axis=0)
        result[ids < 0] = 0
        light[block] = result
    size = (view.camera.width, view.camera.height)
    sky = cv2.resize((index < 0).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return cv2.resize(light, size, interpolation=cv2.INTER_AREA), sky


def _face_table(faces: Faces, atlas: Atlas, planes: Planes, lightmap: Lightmap) -> list[np.ndarray]:
    """What a sample needs to know of its face, column by column, float32."""
    columns = [
        planes.inverse_depth,
        planes.s,
        planes.t,
        faces.uv_scale,
        faces.uv_offset,
        atlas.sizes[faces.texture],
        atlas.wraps[faces.texture][:, None],
        faces.texture[:, None],
        lightmap.places,
    ]
    return list(np.ascontiguousarray(np.concatenate(columns, axis=1).T, dtype=np.float32))


def _level(
    along_x: np.ndarray,
    along_y: np.ndarray,
    inverse_x: np.ndarray,
    inverse_y: np.ndarray,
    along: np.ndarray,
    depth: np.ndarray,
    spacing: np.ndarray,
    density: np.ndarray,
    dither: np.ndarray,
) -> np.ndarray:
    """Level of a ripmap along one of its axes: binary logarithm of the texels between samples.

    The fraction becomes a choice between two levels, by the sample's place within its pixel.
    """
    step_x = np.abs(along_x - along * inverse_x) * spacing[0]
    step_y = np.abs(along_y - along * inverse_y) * spacing[1]
    texels = np.maximum(step_x, step_y) * np.abs(depth) * density
    level = np.log2(np.maximum(texels, 1e-6)) + dither
    return level.clip(0, NUM_LEVELS - 1).astype(np.intp)
