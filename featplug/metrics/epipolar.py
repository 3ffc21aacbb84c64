"""How well matches agree with an epipolar geometry, and it with known correspondences.

Points are N×2 (x, y); a fundamental matrix F is 3×3 with x1ᵀ F x0 = 0. Of cameras that see all
around, the points are unit rays N×3, F is the essential matrix, and distances are angles.
"""

import cv2
import numpy as np

from featplug.metrics.homography import homogeneous


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return points if points.shape[1] == 3 else homogeneous(points)


def essential_from_pose(cam1_from_cam0: np.ndarray) -> np.ndarray:
    """Return E = [t]× R, 3×3, of a pose 3×4, with the length of t set to 1.

    Hartley and Zisserman, "Multiple View Geometry", equation 9.12; zero without a translation.
    """
    rotation, translation = cam1_from_cam0[:, :3], cam1_from_cam0[:, 3]
    length = np.linalg.norm(translation)
    return np.cross(translation[:, None] / (length or 1), rotation, axis=0)


def fundamental_from_pose(
    intrinsics0: np.ndarray, intrinsics1: np.ndarray, cam1_from_cam0: np.ndarray
) -> np.ndarray:
    """Return F = K1⁻ᵀ E K0⁻¹, 3×3, of two matrices K, 3×3, and a pose 3×4."""
    essential = essential_from_pose(cam1_from_cam0)
    return np.linalg.inv(intrinsics1).T @ essential @ np.linalg.inv(intrinsics0)


def line_distances(
    points0: np.ndarray, points1: np.ndarray, fundamental: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each point from its partner's epipolar line.

    Returns:
        N distances in image 0 and N in image 1, in the unit of the points; not finite where a
        point is an epipole.
    """
    homogeneous0, homogeneous1 = _homogeneous(points0), _homogeneous(points1)
    lines1, lines0 = homogeneous0 @ fundamental.T, homogeneous1 @ fundamental
    products = np.abs(np.einsum("ni,ni->n", homogeneous1, lines1))
    size = points0.shape[1]  # the normal of a plane of rays has three components
    with np.errstate(divide="ignore", invalid="ignore"):
        return (
            products / np.linalg.norm(lines0[:, :size], axis=1),
            products / np.linalg.norm(lines1[:, :size], axis=1),
        )


def epipolar_errors(
    points0: np.ndarray, points1: np.ndarray, fundamental: np.ndarray
) -> np.ndarray:
    """Return the symmetric epipolar distance √(d0² + d1²) of :func:`line_distances`.

    Hartley and Zisserman, "Multiple View Geometry", equation 11.10.
    """
    return np.hypot(*line_distances(points0, points1, fundamental))


def sampson_errors(points0: np.ndarray, points1: np.ndarray, fundamental: np.ndarray) -> np.ndarray:
    """Return the first-order geometric error of each match, which COLMAP's RANSAC compares: N.

    Hartley and Zisserman, equation 11.9, without the square; not finite where both points are
    epipoles.
    """
    homogeneous0, homogeneous1 = _homogeneous(points0), _homogeneous(points1)
    lines1, lines0 = homogeneous0 @ fundamental.T, homogeneous1 @ fundamental
    values = np.einsum("ni,ni->n", homogeneous1, lines1)
    products = np.abs(values)
    squares = (lines0[:, :2] ** 2).sum(1) + (lines1[:, :2] ** 2).sum(1)
    if points0.shape[1] == 3:  # a ray moves across itself only
        squares = ((lines0 - values[:, None] * homogeneous0) ** 2).sum(1)
        squares += ((lines1 - values[:, None] * homogeneous1) ** 2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return products / np.sqrt(squares)


def estimate_fundamental(
    points0: np.ndarray,
    points1: np.ndarray,
    threshold: float = 0.5,
    max_trials: int = 100_000,
    confidence: float = 0.9999,
) -> np.ndarray | None:
    """Estimate a fundamental matrix with OpenCV's MAGSAC++ (Barath et al., CVPR 2020).

    Inliers have errors of up to ``threshold`` pixels; ``max_trials`` bounds the time where most
    matches are wrong, and trials end when a better matrix is unlikely by ``confidence``.

    Returns:
        3×3, the same for the same input, or None where the matches define none.
    """
    if len(points0) < 8:
        return None
    points0, points1 = (np.ascontiguousarray(p, np.float64) for p in (points0, points1))
    matrix, _ = cv2.findFundamentalMat(
        points0, points1, cv2.USAC_MAGSAC, threshold, confidence, max_trials
    )
    return matrix if matrix is not None and matrix.shape == (3, 3) else None
