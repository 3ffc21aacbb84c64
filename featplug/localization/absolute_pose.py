"""Poses of calibrated cameras from 2D-3D matches, by COLMAP: P3P in LO-RANSAC, then refinement.

Each comes with the evidence that wrong matches alone would not give it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pycolmap

from featplug.colmap.database import to_colmap_points
from featplug.metrics.chance import ABSOLUTE_POSE, Evidence, weigh_inliers

MIN_MATCHES = 4
"""P3P fits any three matches; only a fourth confirms a pose."""


@dataclass(frozen=True)
class AbsolutePoseOptions:
    """Options of pose estimation; the defaults are COLMAP's, with hloc's threshold."""

    max_error: float = 12.0
    """Largest error of an inlier, in pixels."""
    min_num_inliers: int = MIN_MATCHES
    """Least number of inliers of a pose."""
    min_inlier_ratio: float = 0.1
    """Smallest inlier ratio that RANSAC runs long enough for."""
    confidence: float = 0.99999
    """Probability of having drawn a sample of inliers only, at which RANSAC ends."""
    min_num_trials: int = 100
    max_num_trials: int = 10_000
    seed: int = 0
    """Seed of RANSAC: the same matches and seed give the same pose, in any thread."""

    @property
    def num_needed(self) -> int:
        """Least number of matches of a pose."""
        return max(MIN_MATCHES, self.min_num_inliers)


@dataclass(frozen=True)
class AbsolutePose:
    """An estimated pose."""

    cam_from_world: np.ndarray
    """3×4."""
    inliers: np.ndarray
    """N bool, whether each match is an inlier."""
    evidence: Evidence
    """How far the inliers exceed what chance explains."""

    @property
    def num_inliers(self) -> int:
        """Number of inliers."""
        return int(np.count_nonzero(self.inliers))

    def hloc_log(self) -> dict[str, Any]:
        """Return the pose as hloc logs it, without the camera."""
        return {
            "cam_from_world": pycolmap.Rigid3d(self.cam_from_world),
            "num_inliers": self.num_inliers,
            "inlier_mask": self.inliers,
        }


def estimate_pose(
    points2d: np.ndarray,
    points3d: np.ndarray,
    camera: pycolmap.Camera,
    options: AbsolutePoseOptions | None = None,
) -> AbsolutePose | None:
    """Estimate the pose of a camera.

    Args:
        points2d: N×2 (x, y) in pixels; **integer = pixel centre**.
        points3d: N×3 in the world; a point may appear more than once.
        camera: intrinsics, with COLMAP's origin at the corner of the first pixel.
        options: thresholds and seed.

    Returns:
        The pose, or None where there are fewer than four matches or no pose fits
        ``min_num_inliers`` of them. Its evidence says whether it is to be trusted.

    Raises:
        ValueError: the arrays have other shapes, or hold NaN or infinity.
    """
    options = options or AbsolutePoseOptions()
    points2d = np.asarray(points2d, dtype=np.float64).reshape(-1, 2)
    points3d = np.asarray(points3d, dtype=np.float64).reshape(-1, 3)
    if len(points2d) != len(points3d):
        raise ValueError(f"{len(points2d)} image points cannot match {len(points3d)} 3D points.")
    if not (np.isfinite(points2d).all() and np.isfinite(points3d).all()):
        raise ValueError("The matches of a pose hold NaN or infinity; leave such points out.")
    if len(points2d) < options.num_needed:
        return None
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    ransac = estimation.ransac
    ransac.max_error = options.max_error
    ransac.min_inlier_ratio = options.min_inlier_ratio
    ransac.confidence = options.confidence
    ransac.min_num_trials = min(options.min_num_trials, options.max_num_trials)
    ransac.max_num_trials = options.max_num_trials
    ransac.random_seed = options.seed
    found = pycolmap.estimate_and_refine_absolute_pose(
        to_colmap_points(points2d), points3d, camera, estimation_options=estimation
    )
    if found is None or found["num_inliers"] < options.min_num_inliers:
        return None
    cam_from_world = found["cam_from_world"].matrix()
    inliers = np.asarray(found["inlier_mask"], dtype=bool)
    projections = project_points(points3d, cam_from_world, camera)

    def errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points2d[first] - projections[second], axis=1)

    evidence = weigh_inliers(
        points2d, projections, errors, options.max_error, ABSOLUTE_POSE, inliers
    )
    return AbsolutePose(cam_from_world, inliers, evidence)


def project_points(
    points3d: np.ndarray, cam_from_world: np.ndarray, camera: pycolmap.Camera
) -> np.ndarray:
    """Project points into a camera.

    Args:
        points3d: N×3 in the world.
        cam_from_world: 3×4.
        camera: intrinsics, with COLMAP's origin.

    Returns:
        N×2 in pixels (integer = pixel centre), NaN for points behind the camera.
    """
    in_camera = points3d @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    projections = np.full((len(points3d), 2), np.nan)
    in_front = in_camera[:, 2] > 0
    projections[in_front] = np.asarray(camera.img_from_cam(in_camera[in_front])) - 0.5
    return projections
