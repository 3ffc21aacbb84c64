"""Cameras, views and flat faces of a rendered world.

Lengths are metres, the world's z axis points up. Cameras look along z, with x to the right and y
down. Image coordinates here are COLMAP's: the corner of the top-left pixel is the origin, its
centre is (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Intrinsics in COLMAP's form: PINHOLE (fx, fy, cx, cy) or SIMPLE_RADIAL (f, cx, cy, k)."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    @property
    def focal(self) -> tuple[float, float]:
        """Focal lengths along x and y, in pixels."""
        return self.params[0], self.params[1 if self.model == "PINHOLE" else 0]

    @property
    def principal_point(self) -> tuple[float, float]:
        """In COLMAP's pixels."""
        first = 2 if self.model == "PINHOLE" else 1
        return self.params[first], self.params[first + 1]

    @property
    def distortion(self) -> float:
        """The k of ``1 + k r²``."""
        return 0.0 if self.model == "PINHOLE" else self.params[3]

    @property
    def calibration(self) -> np.ndarray:
        """3×3 calibration matrix, without distortion."""
        (fx, fy), (cx, cy) = self.focal, self.principal_point
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points of the camera's frame that lie before it.

        Args:
            points: N×3, z > 0.

        Returns:
            N×2 image coordinates.
        """
        rays = points[:, :2] / points[:, 2:]
        distorted = rays * (1 + self.distortion * (rays**2).sum(1, keepdims=True))
        return distorted * self.focal + self.principal_point

    def unproject(self, xy: np.ndarray) -> np.ndarray:
        """Rays through image coordinates.

        Args:
            xy: …×2 image coordinates.

        Returns:
            …×2: x/z and y/z of the ray.
        """
        distorted = (xy - np.array(self.principal_point)) / self.focal
        if self.distortion == 0:
            return distorted
        radius = np.hypot(distorted[..., 0], distorted[..., 1])
        undistorted = radius.copy()
        for _ in range(6):  # Newton's method; three steps do for the distortion of real lenses
            error = undistorted * (1 + self.distortion * undistorted**2) - radius
            undistorted -= error / (1 + 3 * self.distortion * undistorted**2)
        scale = undistorted / np.maximum(radius, 1e-12)
        return distorted * np.where(radius > 1e-12, scale, 1.0)[..., None]


@lru_cache(maxsize=8)
def camera_rays(camera: Camera, supersampling: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rays through the centres of a camera's pixels, or of equal parts of them.

    Args:
        camera: the camera.
        supersampling: samples per pixel along each axis.

    Returns:
        x/z and y/z, each (height · supersampling) × (width · supersampling) float32.
    """
    columns = (np.arange(camera.width * supersampling) + 0.5) / supersampling
    rows = (np.arange(camera.height * supersampling) + 0.5) / supersampling
    grid = np.stack(np.broadcast_arrays(columns[None], rows[:, None]), axis=-1)
    rays = camera.unproject(grid).astype(np.float32)
    return np.ascontiguousarray(rays[..., 0]), np.ascontiguousarray(rays[..., 1])


@dataclass(frozen=True)
class View:
    """A photograph to be taken."""

    name: str
    camera: Camera
    cam_from_world: np.ndarray
    """3×4 float64."""

    @property
    def centre(self) -> np.ndarray:
        """Of the camera, in the world."""
        return -self.cam_from_world[:, :3].T @ self.cam_from_world[:, 3]

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Bring N×3 points of the world into the camera's frame."""
        return points @ self.cam_from_world[:, :3].T + self.cam_from_world[:, 3]


def look_along(centre: np.ndarray, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Pose of a camera.

    Args:
        centre: of the camera, in the world.
        yaw: of the viewing direction, in degrees from the x axis to the y axis.
        pitch: above the horizon, in degrees.
        roll: of the camera about its viewing direction, clockwise, in degrees.

    Returns:
        ``cam_from_world``, 3×4 float64.
    """
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    rolled_right = np.cos(roll) * right + np.sin(roll) * down
    rotation = np.stack([rolled_right, np.cross(forward, rolled_right), forward])
    return np.column_stack([rotation, -rotation @ np.asarray(centre, np.float64)])


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Rotation matrix to the unit quaternion (w, x, y, z) with w ≥ 0."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat(canonical=True)
    return np.array([w, x, y, z])


@dataclass(frozen=True)
class Faces:
    """Rectangles and gables (isosceles triangles with the apex on top) in space.

    A face spans from its top-left corner, as one sees it from outside, to the right (s) and
    down (t). It is seen from outside only.
    """

    origin: np.ndarray
    """F×3, the top-left corner; of a gable that of the rectangle around it."""
    axis_s: np.ndarray
    """F×3 unit vectors to the right."""
    axis_t: np.ndarray
    """F×3 unit vectors down."""
    extent: np.ndarray
    """F×2, size along s and t in metres."""
    gable: np.ndarray
    """F bool."""
    texture: np.ndarray
    """F int, index of the texture."""
    uv_scale: np.ndarray
    """F×2, textures per metre along s and t."""
    uv_offset: np.ndarray
    """F×2, where the top-left corner lies in the texture, in textures."""

    def __len__(self) -> int:
        return len(self.origin)

    @property
    def normals(self) -> np.ndarray:
        """F×3 unit vectors outwards."""
        return np.cross(self.axis_t, self.axis_s)

    def points(self, index: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Points of faces, …×3, from face indices and metres along their axes (all …)."""
        along = s[..., None] * self.axis_s[index] + t[..., None] * self.axis_t[index]
        return self.origin[index] + along

    def joined(self, others: Faces) -> Faces:
        """These faces, and after them others."""
        names = (field.name for field in fields(self))
        return Faces(*(np.concatenate([getattr(self, n), getattr(others, n)]) for n in names))


class FaceBuilder:
    """Collects faces."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def add(
        self,
        corner: np.ndarray,
        right: np.ndarray,
        down: np.ndarray,
        texture: int,
        tile: tuple[float, float] | None = None,
        offset: tuple[float, float] = (0.0, 0.0),
        gable: bool = False,
    ) -> None:
        """Add one face.

        Args:
            corner: top-left corner.
            right: from it to the top-right corner.
            down: from it to the bottom-left corner.
            texture: its index.
            tile: size of one repetition of the texture in metres; by default it covers the face
                once.
            offset: of the face's corner in the texture, in textures.
            gable: make an isosceles triangle.
        """
        corner, right, down = (np.asarray(v, np.float64) for v in (corner, right, down))
        extent = np.array([np.linalg.norm(right), np.linalg.norm(down)])
        scale = 1 / (extent if tile is None else np.asarray(tile, np.float64))
        axes = right / extent[0], down / extent[1]
        self._rows.append(
            (corner, *axes, extent, np.bool_(gable), np.int64(texture), scale, np.array(offset))
        )

    def add_box(
        self,
        centre: np.ndarray,
        along: np.ndarray,
        size: tuple[float, float, float],
        texture: int,
        tile: tuple[float, float] | None = None,
        sides: str = "fblrtu",
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Add an upright box.

        Args:
            centre: of the bottom.
            along: horizontal direction of the box's width, to the right of who looks at its front.
            size: width, depth and height.
            texture: of all sides.
            tile: see :meth:`add`.
            sides: which to make: front, back, left, right, top, under.
            offset: see :meth:`add`.
        """
        x = np.array([along[0], along[1], 0.0]) / np.hypot(along[0], along[1])
        y = np.array([-x[1], x[0], 0.0])  # into the box from its front
        z = np.array([0.0, 0.0, 1.0])
        width, depth, height = size
        top = np.asarray(centre, np.float64) + height * z
        x, y, z = x * width, y * depth, z * height
        left_front = top - x / 2 - y / 2
        spans = {
            "f": (left_front, x, -z),
            "b": (left_front + x + y, -x, -z),
            "l": (left_front + y, -y, -z),
            "r": (left_front + x, y, -z),
            "t": (left_front + y, x, -y),
            "u": (left_front - z, x, y),
        }
        for side in sides:
            self.add(*spans[side], texture, tile, offset)

    def add_prism(
        self,
        centre: np.ndarray,
        radius: float,
        height: float,
        sides: Sequence[int],
        tile: tuple[float, float] | None = None,
        spire: bool = False,
    ) -> None:
        """Add upright faces on a regular polygon, or a spire's faces that lean to its axis.

        Args:
            centre: of the bottom.
            radius: of its corners.
            height: of the prism or spire.
            sides: texture of each.
            tile: see :meth:`add`.
            spire: make it pointed.
        """
        count, up = len(sides), np.array([0.0, 0.0, 1.0])
        angles = np.pi / count + np.arange(count + 1) * 2 * np.pi / count
        rim = centre + radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
        for k, texture in enumerate(sides):
            # Seen from outside, what is next counter-clockwise from above lies to the right.
            right = rim[k + 1] - rim[k]
            if spire:
                middle = (rim[k] + rim[k + 1]) / 2
                down = middle - centre - height * up
                self.add(rim[k] - down, right, down, texture, tile, gable=True)
            else:
                self.add(rim[k] + height * up, right, -height * up, texture, tile)

    def __len__(self) -> int:
        return len(self._rows)

    def build(self) -> Faces:
        """All faces so far."""
        return Faces(*(np.array(column) for column in zip(*self._rows, strict=True)))
