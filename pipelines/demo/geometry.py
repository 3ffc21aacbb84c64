"""Cameras, views and the flat faces that a world is made of.

Lengths are metres, the world's z axis points up. Cameras look along z, with x to the right and y
down. Image coordinates are COLMAP's: the corner of the top-left pixel is the origin, its centre
is (0.5, 0.5).
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Camera:
    """Camera with square pixels: COLMAP's SIMPLE_RADIAL, or PINHOLE if it has no distortion."""

    width: int
    height: int
    focal: float
    centre: tuple[float, float]  # principal point
    distortion: float = 0.0  # the k of ``1 + k r²``

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project N×3 points of the camera's frame, z > 0, to N×2 image coordinates."""
        rays = points[:, :2] / points[:, 2:]
        distorted = rays * (1 + self.distortion * (rays**2).sum(1, keepdims=True))
        return distorted * self.focal + self.centre

    def unproject(self, xy: np.ndarray) -> np.ndarray:
        """Return x/z and y/z of the rays through …×2 image coordinates, …×2."""
        distorted = (xy - np.array(self.centre)) / self.focal
        if self.distortion == 0:
            return distorted
        radius = np.hypot(distorted[..., 0], distorted[..., 1])
        undistorted = radius.copy()
        for _ in range(6):  # Newton's method; three steps do for the distortion of real lenses
            error = undistorted * (1 + self.distortion * undistorted**2) - radius
            undistorted -= error / (1 + 3 * self.distortion * undistorted**2)
        scale = undistorted / np.maximum(radius, 1e-12)
        return distorted * np.where(radius > 1e-12, scale, 1.0)[..., None]

    def samples(self, per_pixel: int = 1) -> np.ndarray:
        """Return the image coordinates of ``per_pixel``² samples in each pixel, H×W×2."""
        columns = (np.arange(self.width * per_pixel) + 0.5) / per_pixel
        rows = (np.arange(self.height * per_pixel) + 0.5) / per_pixel
        return np.stack(np.broadcast_arrays(columns[None], rows[:, None]), axis=-1)


@lru_cache(maxsize=8)
def camera_rays(camera: Camera, per_pixel: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return x/z and y/z of the rays through a camera's samples, each H×W float32."""
    rays = camera.unproject(camera.samples(per_pixel)).astype(np.float32)
    return np.ascontiguousarray(rays[..., 0]), np.ascontiguousarray(rays[..., 1])


@dataclass(frozen=True)
class View:
    """A photograph to be taken."""

    name: str
    camera: Camera
    cam_from_world: np.ndarray  # 3×4 float64

    @property
    def centre(self) -> np.ndarray:
        """Place of the camera in the world."""
        return -self.cam_from_world[:, :3].T @ self.cam_from_world[:, 3]

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Transform N×3 points of the world into the camera's frame."""
        return points @ self.cam_from_world[:, :3].T + self.cam_from_world[:, 3]


def look_towards(
    centre: np.ndarray, forward: np.ndarray, roll: float = 0.0, right: np.ndarray | None = None
) -> np.ndarray:
    """Return the pose ``cam_from_world``, 3×4, of a camera that looks along a unit vector.

    ``roll`` is clockwise, in radians; ``right`` is needed if the camera looks straight down.
    """
    if right is None:
        right = np.cross(forward, UP)
        right /= np.linalg.norm(right)
    right = np.cos(roll) * right + np.sin(roll) * np.cross(forward, right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return np.column_stack([rotation, -rotation @ np.asarray(centre, np.float64)])


def look_along(centre: np.ndarray, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Return the pose of a camera; yaw from the x to the y axis, pitch upwards, in degrees."""
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    return look_towards(centre, direction(yaw, pitch), roll, right)


def direction(azimuth: float, elevation: float = 0.0) -> np.ndarray:
    """Return the unit vector at an azimuth from the x axis and an elevation, both in radians."""
    level = np.cos(elevation)
    return np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])


@dataclass(frozen=True)
class Faces:
    """Rectangles and gables (isosceles triangles with the apex on top), seen from outside only.

    From outside, a face spans from its top-left corner to the right (s) and down (t).
    """

    origin: np.ndarray  # F×3, top-left corner; for a gable that of the rectangle around it
    axis_s: np.ndarray  # F×3 unit vectors to the right
    axis_t: np.ndarray  # F×3 unit vectors down
    extent: np.ndarray  # F×2, size along s and t in metres
    gable: np.ndarray
    texture: np.ndarray  # F int, index of the texture
    uv_scale: np.ndarray  # F×2, textures per metre along s and t
    uv_offset: np.ndarray  # F×2, place of the top-left corner in the texture, in textures

    def __len__(self) -> int:
        return len(self.origin)

    @property
    def normals(self) -> np.ndarray:
        """F×3 unit vectors outwards."""
        return np.cross(self.axis_t, self.axis_s)

    def joined(self, others: "Faces") -> "Faces":
        """Return these faces followed by others."""
        names = (field.name for field in fields(self))
        return Faces(*(np.concatenate([getattr(self, n), getattr(others, n)]) for n in names))
