"""How well matches agree with an epipolar geometry, and it with correspondences that are known."""

from __future__ import annotations

import cv2
import numpy as np


def epipolar_errors(
    points0: np.ndarray, points1: np.ndarray, fundamental: np.ndarray
) -> np.ndarray:
    """Symmetric epipolar distance: √(d0² + d1²), d the distance to the partner's epipolar line.

    Hartley and Zisserman, "Multiple View Geometry", equation 11.10.

    Args:
        points0: N×2 (x, y) in image 0.
        points1: N×2 in image 1.
        fundamental: 3×3, x1ᵀ F x0 = 0.

    Returns:
        N pixels; not finite where a point is an epipole.
    """
    homogeneous0 = np.column_stack([points0, np.ones(len(points0))])
    homogeneous1 = np.column_stack([points1, np.ones(len(points1))])
    lines1, lines0 = homogeneous0 @ fundamental.T, homogeneous1 @ fundamental
    product = np.einsum("ni,ni->n", homogeneous1, lines1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / (lines0[:, :2] ** 2).sum(1) + 1 / (lines1[:, :2] ** 2).sum(1)
        return np.abs(product) * np.sqrt(inverse)


def estimate_fundamental(
    points0: np.ndarray, points1: np.ndarray, threshold: float = 0.5
) -> np.ndarray | None:
    """Estimate a fundamental matrix with OpenCV's MAGSAC++ (Barath et al., CVPR 2020).

    Args:
        points0: K×2, matched.
        points1: K×2.
        threshold: greatest error of an inlier, in pixels.

    Returns:
        3×3, x1ᵀ F x0 = 0, or None where the matches do not give one. The same input gives the same
        result.
    """
    if len(points0) < 8:
        return None
    matrix, _ = cv2.findFundamentalMat(
        np.ascontiguousarray(points0, np.float64),
        np.ascontiguousarray(points1, np.float64),
        cv2.USAC_MAGSAC,
        threshold,
        0.9999,
        100_000,
    )
    return matrix if matrix is not None and matrix.shape == (3, 3) else None
