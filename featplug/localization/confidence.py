"""Confidence in a pose: the probability that it is right, by what its inliers look like.

That chance does not explain the inliers (:mod:`featplug.metrics.chance`) does not make a pose
right: the matches of a repeated wall agree with each other, and a few inliers in one corner of the
image fix a pose badly. Three things distinguish such poses from right ones: in how many places of
the image the inliers are, whether a pose of another place explains nearly as many matches, and how
far the camera moves where the inliers of one part of the image are left out.

The weights are those of a logistic regression on localizations in the demo towns of seeds 0 to 4,
half with ``sift`` and half with 2,000 keypoints of ``mtldesc``, a pose being right within 0.5 m and
5°; ``python -m benchmarks.pose_confidence`` repeats it, and measures the precision in other towns.
"""

from dataclasses import dataclass

import numpy as np
import pycolmap

from featplug.colmap.database import to_colmap_points
from featplug.localization.pose_fits import PoseFit
from featplug.metrics.chance import Evidence
from featplug.metrics.poses import camera_centres

LEAST_CONFIDENCE = 0.8
"""Confidence from which on a pose is accepted: of those in the towns of seeds 0 to 4, 98 % are
right."""

_WEIGHTS = {"bias": -5.75, "places": 1.29, "rivalry": 3.57, "instability": -1.36}
"""Weights of the logarithms of the number of places, of one minus the rivalry, and of the
instability."""
_NUM_PLACES = 8
"""Number of places along the longer side of the image."""
_STEADY, UNSTEADY = 1e-4, 1.0
"""Limits of the instability: of a camera that does not move, and of one that is not fixed."""
_EQUAL = 0.02
"""Difference of scores below which two poses are equally likely."""
_CLEAR_RIVALRY = 0.3
"""Rivalry that a message names as the reason for a low confidence."""
_MIN_MATCHES = 8
"""Least number of inliers that parts are left out of."""


@dataclass(frozen=True)
class PoseEvidence(Evidence):
    """How far the inliers of a pose exceed what chance explains, and how well they fix it."""

    num_places: int
    """Number of places with inliers, squares of an eighth of the image's longer side."""
    instability: float
    """Standard deviation of the camera's centre, relative to the median depth of the inliers, by
    the jackknife over four parts of the image."""
    rivalry: float = 0.0
    """How well matches fit the best pose of another place, relative to this one, in [0, 1]."""

    @property
    def doubt(self) -> str | None:
        """The reason not to accept the pose, or None."""
        if self.is_chance:
            return self.reason
        found = confidence(self)
        if found >= LEAST_CONFIDENCE:
            return None
        reason = f"its confidence is {found:.2f}, below {LEAST_CONFIDENCE:g}"
        if self.rivalry > _CLEAR_RIVALRY:
            return f"{reason}, since a pose of another place fits {self.rivalry:.0%} as well"
        return f"{reason}, by {self.num_inliers} inliers in {self.num_places} places of the image"


def confidence(evidence: PoseEvidence) -> float:
    """Return the probability that a pose is right; at most 0.5 where chance explains it."""
    logit = sum(_WEIGHTS[name] * value for name, value in terms(evidence).items())
    probability = float(1 / (1 + np.exp(-logit)))
    return probability / 2 if evidence.is_chance else probability


def terms(evidence: PoseEvidence) -> dict[str, float]:
    """Return what the weights of the confidence multiply, by name."""
    return {
        "bias": 1.0,
        "places": float(np.log(max(evidence.num_places, 1))),
        "rivalry": float(np.log(max(1 - evidence.rivalry, _EQUAL))),
        "instability": float(np.log(np.clip(evidence.instability, _STEADY, UNSTEADY))),
    }


def weigh_pose(
    points2d: np.ndarray, points3d: np.ndarray, fit: PoseFit, evidence: Evidence
) -> PoseEvidence:
    """Add to the evidence for a pose how well its inliers fix it.

    Args:
        points2d: N×2 in pixels (integer = pixel centre).
        points3d: N×3 in the world.
        fit: the camera.
        evidence: how far the inliers exceed what chance explains.
    """
    places = count_places(points2d[fit.inliers], max(fit.camera.width, fit.camera.height))
    return PoseEvidence(
        **vars(evidence), num_places=places, instability=_instability(points2d, points3d, fit)
    )


def count_places(points2d: np.ndarray, side: int) -> int:
    """Count the squares of an eighth of a side, in pixels, that have points N×2."""
    return len(np.unique((points2d + 0.5) // (side / _NUM_PLACES), axis=0))


def _instability(points2d: np.ndarray, points3d: np.ndarray, fit: PoseFit) -> float:
    """Return how far the camera moves without the inliers of each part of the image."""
    points2d, points3d = points2d[fit.inliers], points3d[fit.inliers]
    if len(points2d) < _MIN_MATCHES:
        return UNSTEADY
    pose = fit.cam_from_world
    depth = float(np.median(np.abs(points3d @ pose[2, :3] + pose[2, 3])))
    part_of = _parts(points2d)
    poses = [pose]
    for part in range(4):
        kept = part_of != part
        found = pycolmap.refine_absolute_pose(
            pycolmap.Rigid3d(pose), to_colmap_points(points2d), points3d, kept, fit.camera
        )
        if found is None:
            return UNSTEADY
        poses.append(found["cam_from_world"].matrix())
    return jackknife(np.stack(poses), depth)


def jackknife(poses: np.ndarray, depth: float) -> float:
    """Return the standard deviation of a centre relative to the depth, by four parts left out.

    Efron and Tibshirani, An Introduction to the Bootstrap, section 11.1.

    Args:
        poses: 5×3×4, the pose by all inliers, then those without each part.
        depth: median depth of the inliers.
    """
    centre, *others = camera_centres(poses)
    moved = np.linalg.norm(np.stack(others) - centre, axis=1)
    return float(np.sqrt(3 / 4 * (moved**2).sum()) / max(depth, 1e-9))


def _parts(points2d: np.ndarray) -> np.ndarray:
    """Number the four parts of equal size that the principal axes of points split them into."""
    centred = points2d - points2d.mean(0)
    along, across = np.linalg.svd(centred, full_matrices=False)[2] @ centred.T
    part_of = 2 * (along > np.median(along))
    for half in (0, 2):
        of_half = part_of == half
        part_of[of_half] += across[of_half] > np.median(across[of_half])
    return part_of
