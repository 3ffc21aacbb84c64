"""Poses of cameras from 2D-3D matches, by COLMAP: LO-RANSAC, then refinement.

Each comes with the evidence that wrong matches alone would not give it, and with its uncertainty.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pycolmap

from featplug.colmap.database import to_colmap_points
from featplug.localization.confidence import LEAST_CONFIDENCE, PoseEvidence, confidence, weigh_pose
from featplug.localization.pose_fits import (
    PoseFit,
    costs,
    fit_guessed_camera,
    fit_kept_focal_length,
    fit_known_camera,
    fit_unknown_camera,
    project_points,
)
from featplug.localization.pose_uncertainty import PoseUncertainty, pose_uncertainty
from featplug.metrics.chance import weigh_inliers

MIN_MATCHES = 4
"""P3P fits any three matches; only a fourth confirms a pose."""
LARGEST_FOCAL_DEVIATION = 0.03
"""Relative standard deviation of a fitted focal length from which on its pose is not accepted."""
POOR_FOCAL_DEVIATION = 0.015
"""Relative standard deviation of a fitted focal length that deserves a warning."""

_ALLOWED_DEVIATIONS = 3.0
"""Largest difference of a guessed focal length from the fitted one, in standard deviations."""

FocalLength = Literal["known", "guessed", "unknown"]
"""What is known of a camera's focal length: it stays as it is, is refined, or is estimated."""
_FITS = {
    "known": fit_known_camera,
    "guessed": fit_guessed_camera,
    "unknown": fit_unknown_camera,
}


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
    focal_length: FocalLength = "known"
    """Whether the focal length is known, guessed, as from EXIF data, or unknown. Where it is not
    known, it is fitted with the pose, and so is the distortion."""

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
    evidence: PoseEvidence
    """How far the inliers exceed what chance explains, and how well they fix the pose."""
    camera: pycolmap.Camera
    """Intrinsics: those given, or those fitted with the pose."""
    uncertainty: PoseUncertainty
    """Standard deviations by the scatter of the inliers."""
    is_guess: bool = False
    """Whether a guessed focal length was kept, since the matches do not determine it."""

    @property
    def num_inliers(self) -> int:
        """Number of inliers."""
        return int(np.count_nonzero(self.inliers))

    @property
    def reason(self) -> str | None:
        """The reason not to accept the pose, or None."""
        if self.evidence.doubt is not None:
            return self.evidence.doubt
        deviation = self.uncertainty.focal_length
        if deviation > LARGEST_FOCAL_DEVIATION:
            return (
                f"its {self.num_inliers} inliers do not determine its focal length (standard "
                f"deviation {_percent(deviation)}); give its intrinsics"
            )
        return None

    @property
    def confidence(self) -> float:
        """Probability that the pose is right, by its inliers.

        See :mod:`featplug.localization.confidence`. At most the least that is accepted where a
        guessed focal length could not be confirmed, and below that where the pose is not accepted.
        """
        found = confidence(self.evidence)
        if self.is_guess:
            found = min(found, LEAST_CONFIDENCE)
        return found if self.reason is None else min(found, LEAST_CONFIDENCE / 2)

    @property
    def warning(self) -> str | None:
        """What makes an accepted pose doubtful, or None."""
        deviation = self.uncertainty.focal_length
        if self.is_guess:
            return (
                "its matches do not determine its focal length, so that a wrong guess would not "
                "show; give its intrinsics"
            )
        if self.reason is None and deviation > POOR_FOCAL_DEVIATION:
            return f"its focal length is uncertain by {_percent(deviation)}; give its intrinsics"
        return None

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
        camera: intrinsics, with COLMAP's origin at the corner of the first pixel; it stays as it
            is, the one fitted is in the result.
        options: thresholds and seed, and whether the focal length is known.

    Returns:
        The pose, or None where there are fewer than four matches or no pose fits
        ``min_num_inliers`` of them. Its ``reason`` says why it is not to be trusted.

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
    fit = fit_pose(points2d, points3d, camera, options)
    if fit is None or fit.num_inliers < options.min_num_inliers:
        return None
    is_guess = False
    if options.focal_length == "guessed":
        deviation = pose_uncertainty(points2d, points3d, fit).focal_length
        if deviation > POOR_FOCAL_DEVIATION:
            given = fit_kept_focal_length(
                to_colmap_points(points2d), points3d, camera, _estimation(options)
            )
            if given is not None and _agree(points2d, points3d, (given, fit), options.max_error):
                fit, is_guess = given, True
    return replace(pose_of_fit(points2d, points3d, fit, options.max_error), is_guess=is_guess)


def fit_pose(
    points2d: np.ndarray,
    points3d: np.ndarray,
    camera: pycolmap.Camera,
    options: AbsolutePoseOptions,
) -> PoseFit | None:
    """Fit a camera by RANSAC, without weighing it; arguments as of :func:`estimate_pose`."""
    fit = _FITS[options.focal_length]
    return fit(to_colmap_points(points2d), points3d, camera, _estimation(options))


def pose_of_fit(
    points2d: np.ndarray, points3d: np.ndarray, fit: PoseFit, max_error: float
) -> AbsolutePose:
    """Weigh a fitted camera, and estimate how uncertain it is.

    Args:
        points2d: N×2 in pixels; **integer = pixel centre**.
        points3d: N×3 in the world.
        fit: the camera.
        max_error: largest error of an inlier, in pixels.
    """
    projections = project_points(points3d, fit.cam_from_world, fit.camera)

    def errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points2d[first] - projections[second], axis=1)

    chance = weigh_inliers(points2d, projections, errors, max_error, fit.solver, fit.inliers)
    evidence = weigh_pose(points2d, points3d, fit, chance)
    uncertainty = pose_uncertainty(points2d, points3d, fit)
    return AbsolutePose(fit.cam_from_world, fit.inliers, evidence, fit.camera, uncertainty)


def _estimation(options: AbsolutePoseOptions) -> pycolmap.AbsolutePoseEstimationOptions:
    """Return COLMAP's options."""
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    ransac = estimation.ransac
    ransac.max_error = options.max_error
    ransac.min_inlier_ratio = options.min_inlier_ratio
    ransac.confidence = options.confidence
    ransac.min_num_trials = min(options.min_num_trials, options.max_num_trials)
    ransac.max_num_trials = options.max_num_trials
    ransac.random_seed = options.seed
    return estimation


def _agree(
    points2d: np.ndarray, points3d: np.ndarray, fits: tuple[PoseFit, PoseFit], max_error: float
) -> bool:
    """Return whether the matches allow a guessed focal length as well as the fitted one."""
    given, fitted = costs(to_colmap_points(points2d), points3d, fits, max_error)
    num_spare = max(1, 2 * fits[1].num_inliers - 7)
    return (given / max(fitted, 1e-9) - 1) * num_spare <= _ALLOWED_DEVIATIONS**2


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %" if fraction < 1 else "over 100 %"
