"""Errors of relative poses, as papers on image matching measure them.

A pose is ``cam1_from_cam0``, 3×4; its translation has a direction, and a length only where the unit
is known. A pair without an estimate has infinite errors.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from featplug.metrics.epipolar import epipolar_errors, essential_from_pose
from featplug.metrics.homography import homogeneous
from featplug.metrics.poses import rotation_angles

AUC_ANGLES = (5.0, 10.0, 20.0)
"""Degrees up to which the area under the curve is computed (SuperGlue, section 5.2)."""
MAA_ANGLES = tuple(float(angle) for angle in range(1, 11))
"""Degrees of the mean average accuracy (Jin et al., "Image Matching across Wide Baselines", IJCV
2021, section 4.1)."""
MAA_DISTANCES = tuple(np.geomspace(0.2, 5, 10).tolist())
"""Metres that go with :data:`MAA_ANGLES` in the Image Matching Challenge of 2022."""


class PoseError(NamedTuple):
    """Errors of one pose."""

    rotation: float
    """Angle between the rotations, in degrees."""
    translation: float
    """Angle between the directions of the translations, up to their sign, in degrees: 0 to 90."""
    distance: float
    """Distance of the translations, up to their sign, at the length of the true one."""

    @property
    def angle(self) -> float:
        """The larger one of both angles, which AUC and mAA are computed from."""
        return max(self.rotation, self.translation)


NO_POSE = PoseError(np.inf, np.inf, np.inf)
"""Errors of a pair without an estimate."""


def relative_pose_error(estimated: np.ndarray | None, true: np.ndarray) -> PoseError:
    """Compare a pose with the true one.

    An essential matrix does not tell the sign of the translation, nor its length: either sign is
    right, as in the evaluation of SuperGlue (Sarlin et al., CVPR 2020) and its successors, and the
    estimate is taken at the true length, as in the Image Matching Challenge of 2022.

    Args:
        estimated: 3×4, with a translation of any length; None is a failure.
        true: 3×4.

    Raises:
        ValueError: the true translation is zero, and has no direction.
    """
    length = np.linalg.norm(true[:, 3])
    if length == 0:
        raise ValueError("The true pose has no translation, so that its direction has no error.")
    if estimated is None or not np.isfinite(estimated).all() or not estimated[:, 3].any():
        return NO_POSE
    direction, expected = estimated[:, 3] / np.linalg.norm(estimated[:, 3]), true[:, 3] / length
    if direction @ expected < 0:
        direction = -direction
    sine, cosine = np.linalg.norm(np.cross(direction, expected)), direction @ expected
    return PoseError(
        float(rotation_angles(estimated[:, :3], true[:, :3])),
        float(np.degrees(np.arctan2(sine, cosine))),
        float(length * np.linalg.norm(direction - expected)),
    )


def mean_accuracy(errors: Sequence[float], thresholds: Sequence[float] = MAA_ANGLES) -> float:
    """Return the mean over thresholds of the fraction of errors below them (mAA), in [0, 1].

    Raises:
        ValueError: no pair has an error.
    """
    return _mean_accuracy(np.less.outer(np.asarray(errors, np.float64), np.asarray(thresholds)))


def mean_metric_accuracy(
    errors: Sequence[PoseError],
    angles: Sequence[float] = MAA_ANGLES,
    distances: Sequence[float] = MAA_DISTANCES,
) -> float:
    """Return the mean accuracy at pairs of an angle of rotation and a distance, in [0, 1].

    Image Matching Challenge 2022: a pose is right where both its errors are below.

    Args:
        errors: errors of each pair.
        angles: T degrees.
        distances: T distances in the unit of the true poses.

    Raises:
        ValueError: no pair has an error, or the thresholds are not as many.
    """
    if len(angles) != len(distances):
        raise ValueError(f"{len(angles)} angles do not go with {len(distances)} distances.")
    rotations, lengths = ([getattr(e, name) for e in errors] for name in ("rotation", "distance"))
    is_right = np.less.outer(np.array(rotations), np.array(angles))
    return _mean_accuracy(is_right & np.less.outer(np.array(lengths), np.array(distances)))


def _mean_accuracy(is_right: np.ndarray) -> float:
    if len(is_right) == 0:
        raise ValueError("There is no pair, so there is no accuracy.")
    return float(is_right.mean())


def normalized_epipolar_errors(
    points0: np.ndarray,
    points1: np.ndarray,
    intrinsics: tuple[np.ndarray, np.ndarray],
    cam1_from_cam0: np.ndarray,
) -> np.ndarray:
    """Return the squared symmetric epipolar distance of matches at a focal length of 1: N.

    SuperGlue and LoFTR call a match right where it is below 5e-4 or 1e-4, which at a focal length
    of 1000 pixels is 22 or 10 pixels.

    Args:
        points0: N×2 pixels of image 0.
        points1: N×2 pixels of image 1.
        intrinsics: K of both images.
        cam1_from_cam0: the true pose.
    """
    rays = [
        (homogeneous(points) @ np.linalg.inv(matrix).T)[:, :2]
        for points, matrix in zip((points0, points1), intrinsics, strict=True)
    ]
    return epipolar_errors(rays[0], rays[1], essential_from_pose(cam1_from_cam0)) ** 2
