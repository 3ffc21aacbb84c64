"""Rays of matched image points, of cameras that see ahead and of those that see all around."""

import numpy as np
import pycolmap


def sees_all_around(camera: pycolmap.Camera) -> bool:
    """Return whether a camera has a ray for every direction, as panoramas have."""
    # Known to pycolmap since 4.1, with its first camera of that kind.
    return hasattr(camera, "is_spherical") and camera.is_spherical()


def matched_rays(
    cameras: tuple[pycolmap.Camera, pycolmap.Camera], points: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rays of the points of two images in the form that both cameras have.

    Args:
        cameras: cameras of both images.
        points: N×2 in each image, in COLMAP's pixels.

    Returns:
        Rays N×2 at depth 1, or unit rays N×3 where one of the cameras sees all around.
    """
    around = any(map(sees_all_around, cameras))
    (camera0, points0), (camera1, points1) = zip(cameras, points, strict=True)
    if around:
        return camera0.cam_ray_from_img(points0), camera1.cam_ray_from_img(points1)
    return camera0.cam_from_img(points0), camera1.cam_from_img(points1)
