"""How well the inliers of a pose determine it, and the focal length that was fitted with it.

The covariance of a least-squares fit, s²(JᵀJ)⁻¹, with the variance s² of the residuals themselves
(Hartley and Zisserman, Multiple View Geometry, section 5.2). It says nothing of errors that the
inliers share, such as those of the map.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from featplug.localization.pose_fits import PoseFit, project_points

_STEP = 1e-5
"""Step of the numerical derivatives: radians, depths of the scene, or parts of a parameter."""


@dataclass(frozen=True)
class PoseUncertainty:
    """Standard deviations of a pose; infinite where the inliers do not determine it."""

    position: float
    """Standard deviation of the camera's centre, in units of the world, over all its axes."""
    rotation: float
    """Standard deviation of the rotation, in degrees, over all its axes."""
    focal_length: float
    """Standard deviation of the focal length, relative to it; 0 where it was given."""
    median_error: float
    """Median reprojection error of the inliers, in pixels."""


def pose_uncertainty(points2d: np.ndarray, points3d: np.ndarray, fit: PoseFit) -> PoseUncertainty:
    """Estimate how uncertain a fitted camera is.

    Args:
        points2d: N×2 in pixels (integer = pixel centre).
        points3d: N×3 in the world.
        fit: the camera.
    """
    points2d, points3d = points2d[fit.inliers], points3d[fit.inliers]
    rotation, translation = fit.cam_from_world[:, :3], fit.cam_from_world[:, 3]
    depth = float(np.median(points3d @ rotation[2] + translation[2])) if len(points3d) else 1.0
    num_focal = len(set(fit.camera.focal_length_idxs()) & set(fit.refined))
    distortion = fit.refined[num_focal:]
    num_params = 6 + bool(num_focal) + len(distortion)

    def project(params: np.ndarray) -> np.ndarray:
        """Project with small changes of rotation, centre, focal length and distortion."""
        turned = Rotation.from_rotvec(params[:3]).as_matrix() @ rotation
        moved = turned @ (rotation.T @ translation - depth * params[3:6])
        camera = fit.camera
        if fit.refined:
            camera = copy.deepcopy(camera)
            changed = np.array(camera.params)
            if num_focal:
                changed[list(fit.refined[:num_focal])] *= 1 + params[6]
            changed[list(distortion)] += params[num_params - len(distortion) :]
            camera.params = changed.tolist()
        return project_points(points3d, np.column_stack([turned, moved]), camera)

    deviations, median_error = _deviations(points2d, project, num_params)
    return PoseUncertainty(
        float(depth * np.linalg.norm(deviations[3:6])),
        float(np.degrees(np.linalg.norm(deviations[:3]))),
        float(deviations[6]) if num_focal else 0.0,
        median_error,
    )


def _deviations(
    points2d: np.ndarray, project: Callable[[np.ndarray], np.ndarray], num_params: int
) -> tuple[np.ndarray, float]:
    """Return the standard deviations of the parameters of a fit, and its median error.

    Args:
        points2d: N×2, the inliers.
        project: returns the projections, N×2, for small changes of the parameters.
        num_params: number of parameters.
    """
    residuals = points2d - project(np.zeros(num_params))
    median_error = float(np.median(np.linalg.norm(residuals, axis=1))) if len(residuals) else np.inf
    num_spare = residuals.size - num_params
    if num_spare <= 0 or not np.isfinite(residuals).all():
        return np.full(num_params, np.inf), median_error
    steps = _STEP * np.eye(num_params)
    jacobian = np.stack(
        [((project(step) - project(-step)) / (2 * _STEP)).ravel() for step in steps], axis=1
    )
    try:
        covariance = np.linalg.inv(jacobian.T @ jacobian) * (residuals**2).sum() / num_spare
    except np.linalg.LinAlgError:
        return np.full(num_params, np.inf), median_error
    variances = np.diag(covariance)
    return np.sqrt(np.where(variances >= 0, variances, np.inf)), median_error


def rig_uncertainty(
    points2d: np.ndarray,
    points3d: np.ndarray,
    rig_from_world: np.ndarray,
    project: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> PoseUncertainty:
    """Estimate how uncertain the pose of a rig is.

    Args:
        points2d: N×2, the inliers of all its cameras, in pixels (integer = pixel centre).
        points3d: N×3 in the world.
        rig_from_world: 3×4.
        project: projects points N×3 for a pose ``rig_from_world``, each into its camera.
    """
    rotation, translation = rig_from_world[:, :3], rig_from_world[:, 3]
    distances = np.linalg.norm(points3d @ rotation.T + translation, axis=1)
    depth = float(np.median(distances)) if len(points3d) else 1.0

    def project_changed(params: np.ndarray) -> np.ndarray:
        turned = Rotation.from_rotvec(params[:3]).as_matrix() @ rotation
        moved = turned @ (rotation.T @ translation - depth * params[3:6])
        return project(points3d, np.column_stack([turned, moved]))

    deviations, median_error = _deviations(points2d, project_changed, 6)
    return PoseUncertainty(
        float(depth * np.linalg.norm(deviations[3:])),
        float(np.degrees(np.linalg.norm(deviations[:3]))),
        0.0,
        median_error,
    )
