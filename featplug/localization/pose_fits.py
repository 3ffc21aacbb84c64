"""Fits of a camera to 2D-3D matches by COLMAP: its pose alone, or with its focal length.

A known camera is fitted by P3P in LO-RANSAC. Of a camera whose focal length is a guess or unknown,
the focal length comes from P4Pf in LO-RANSAC or from the guess, and is then refined together with
the distortion, as COLMAP does when it registers an image of a new camera.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pycolmap

from featplug.colmap.camera_rays import sees_all_around
from featplug.metrics.chance import ABSOLUTE_POSE, ABSOLUTE_POSE_AND_FOCAL_LENGTH, MinimalSolver

_NUM_REFINEMENTS = 3
"""Number of times that the inliers are selected and the camera is refined."""
_SMALLEST_RATIO, _LARGEST_RATIO = 0.1, 10.0
"""COLMAP's bounds of a focal length, in lengths of the image's longer side."""
_MIN_FOR_DISTORTION = 30
"""Least number of inliers to refine the distortion, too; COLMAP's for registering an image."""
_CLEARLY_WORSE = 1.1
"""Ratio of squared errors from which on the matches are believed rather than a guess."""
_FOCAL_LENGTHS = (0.8, 1.5)
"""Focal lengths that are tried besides that of P4Pf, which has no solution for points on a plane,
in lengths of the image's longer side."""


@dataclass(frozen=True)
class PoseFit:
    """A camera that was fitted to matches."""

    cam_from_world: np.ndarray
    """3×4."""
    inliers: np.ndarray
    """N bool, whether each match is an inlier."""
    camera: pycolmap.Camera
    """Intrinsics, given or refined."""
    refined: tuple[int, ...] = ()
    """Indices of the refined parameters of the camera, the distortion after the focal lengths."""
    solver: MinimalSolver = ABSOLUTE_POSE
    """The minimal problem that was solved."""

    @property
    def num_inliers(self) -> int:
        """Number of inliers."""
        return int(np.count_nonzero(self.inliers))


def fit_known_camera(
    points2d: np.ndarray,
    points3d: np.ndarray,
    camera: pycolmap.Camera,
    estimation: pycolmap.AbsolutePoseEstimationOptions,
) -> PoseFit | None:
    """Fit the pose of a camera whose intrinsics are known.

    Args:
        points2d: N×2 in COLMAP's pixels.
        points3d: N×3 in the world.
        camera: intrinsics.
        estimation: options of RANSAC.
    """
    found = pycolmap.estimate_and_refine_absolute_pose(
        points2d, points3d, camera, estimation_options=estimation
    )
    if found is None:
        return None
    inliers = np.asarray(found["inlier_mask"], dtype=bool)
    return PoseFit(found["cam_from_world"].matrix(), inliers, camera)


def fit_guessed_camera(
    points2d: np.ndarray,
    points3d: np.ndarray,
    camera: pycolmap.Camera,
    estimation: pycolmap.AbsolutePoseEstimationOptions,
) -> PoseFit | None:
    """Fit pose and focal length of a camera whose focal length is guessed, as from EXIF data.

    The guess may be wrong, as that of a cropped photograph. The fit without it replaces the fit
    that starts from it where it has clearly more inliers. Arguments as of
    :func:`fit_known_camera`.
    """
    guided = _refined(points2d, points3d, camera, estimation)
    free = fit_unknown_camera(points2d, points3d, camera, estimation)
    if guided is None or free is None:
        return guided or free
    max_error = estimation.ransac.max_error
    cost_guided, cost_free = costs(points2d, points3d, (guided, free), max_error)
    return guided if cost_guided <= _CLEARLY_WORSE * cost_free else free


def fit_kept_focal_length(
    points2d: np.ndarray,
    points3d: np.ndarray,
    camera: pycolmap.Camera,
    estimation: pycolmap.AbsolutePoseEstimationOptions,
) -> PoseFit | None:
    """Fit pose and distortion of a camera; arguments as of :func:`fit_known_camera`."""
    return _refined(points2d, points3d, camera, estimation, keep_focal_length=True)


def fit_unknown_camera(
    points2d: np.ndarray,
    points3d: np.ndarray,
    camera: pycolmap.Camera,
    estimation: pycolmap.AbsolutePoseEstimationOptions,
) -> PoseFit | None:
    """Fit pose and focal length of a camera; arguments as of :func:`fit_known_camera`."""
    undistorted = copy.deepcopy(camera)  # the distortion is that of another focal length
    params = np.array(camera.params)
    params[list(camera.extra_params_idxs())] = 0
    undistorted.params = params.tolist()
    fits = [_refined(points2d, points3d, undistorted, estimation, estimate=True)]
    for ratio in _FOCAL_LENGTHS:
        params[list(camera.focal_length_idxs())] = ratio * max(camera.width, camera.height)
        undistorted.params = params.tolist()
        fits.append(_refined(points2d, points3d, undistorted, estimation))
    usable = [fit for fit in fits if fit is not None and _is_plausible(fit.camera)]
    if not usable:
        return None
    found = costs(points2d, points3d, usable, estimation.ransac.max_error)
    best = usable[int(np.argmin(found))]
    return replace(best, solver=ABSOLUTE_POSE_AND_FOCAL_LENGTH)


def costs(
    points2d: np.ndarray, points3d: np.ndarray, fits: Sequence[PoseFit], max_error: float
) -> list[float]:
    """Return each fit's sum of squared errors, at most ``max_error`` each, of any fit's inliers.

    Arguments as of :func:`fit_known_camera`.
    """
    some = np.any([fit.inliers for fit in fits], axis=0)
    found = []
    for fit in fits:
        projections = project_points(points3d[some], fit.cam_from_world, fit.camera) + 0.5
        errors = np.linalg.norm(points2d[some] - projections, axis=1)
        found.append(float((np.fmin(errors, max_error) ** 2).sum()))
    return found


def _is_plausible(camera: pycolmap.Camera) -> bool:
    """Return whether a focal length is one of COLMAP's bounds."""
    ratio = camera.mean_focal_length() / max(camera.width, camera.height)
    return _SMALLEST_RATIO <= ratio <= _LARGEST_RATIO


def _refined(
    points2d: np.ndarray,
    points3d: np.ndarray,
    camera: pycolmap.Camera,
    estimation: pycolmap.AbsolutePoseEstimationOptions,
    estimate: bool = False,
    keep_focal_length: bool = False,
) -> PoseFit | None:
    """Estimate a pose, and alternately select its inliers and refine it with the camera."""
    camera = copy.deepcopy(camera)  # which COLMAP changes
    estimation = copy.deepcopy(estimation)
    estimation.estimate_focal_length = estimate
    found: Any = pycolmap.estimate_absolute_pose(
        points2d, points3d, camera, estimation_options=estimation
    )
    if found is None:
        return None
    pose = found["cam_from_world"]
    inliers, refined = np.asarray(found["inlier_mask"], dtype=bool), tuple[int, ...]()
    solver = ABSOLUTE_POSE_AND_FOCAL_LENGTH if estimate else ABSOLUTE_POSE
    for _ in range(_NUM_REFINEMENTS):
        if np.count_nonzero(inliers) < solver.sample_size:
            return None
        refinement = pycolmap.AbsolutePoseRefinementOptions()
        refinement.refine_focal_length = not keep_focal_length
        refinement.refine_extra_params = bool(np.count_nonzero(inliers) >= _MIN_FOR_DISTORTION)
        refined = () if keep_focal_length else tuple(camera.focal_length_idxs())
        refined += tuple(camera.extra_params_idxs()) * refinement.refine_extra_params
        better = pycolmap.refine_absolute_pose(
            pose, points2d, points3d, inliers, camera, refinement_options=refinement
        )
        if better is None:
            return None
        pose, before = better["cam_from_world"], inliers
        projections = project_points(points3d, pose.matrix(), camera) + 0.5
        errors = np.linalg.norm(points2d - projections, axis=1)
        inliers = errors <= estimation.ransac.max_error
        if (inliers == before).all():
            break
    return PoseFit(pose.matrix(), inliers, camera, refined, solver)


def pixel_errors(points2d: np.ndarray, points3d: np.ndarray, fit: PoseFit) -> np.ndarray:
    """Return the reprojection error of each match, infinite where the camera sees no point.

    Args:
        points2d: N×2 in pixels (integer = pixel centre).
        points3d: N×3 in the world.
        fit: the camera.
    """
    projections = project_points(points3d, fit.cam_from_world, fit.camera)
    errors = np.linalg.norm(points2d - projections, axis=1)
    return np.where(np.isnan(errors), np.inf, errors)


def project_points(
    points3d: np.ndarray, cam_from_world: np.ndarray, camera: pycolmap.Camera
) -> np.ndarray:
    """Project points into a camera.

    Args:
        points3d: N×3 in the world.
        cam_from_world: 3×4.
        camera: intrinsics, with COLMAP's origin.

    Returns:
        N×2 in pixels (integer = pixel centre), NaN for points that the camera cannot see, such as
        those behind it where it does not see all around.
    """
    in_camera = points3d @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    projections = np.full((len(points3d), 2), np.nan)
    visible = (in_camera[:, 2] > 0) | sees_all_around(camera)
    projections[visible] = np.asarray(camera.img_from_cam(in_camera[visible])) - 0.5
    return projections
