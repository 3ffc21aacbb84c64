"""The pose of a query, searched from the matches of each database image as well as from all.

Matches of an image that shows the same place are right far more often than those of all retrieved
images together, so that few samples of them suffice where RANSAC on all of them finds nothing, or
a repeated wall. Each image proposes a pose; the poses are refined and compared on all matches, by
the truncated squared errors of MSAC (Torr and Zisserman, CVIU 2000). A pose of another place that
explains nearly as many matches is a rival, which makes the pose ambiguous.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pycolmap

from featplug.colmap.database import to_colmap_points
from featplug.localization.absolute_pose import (
    AbsolutePose,
    AbsolutePoseOptions,
    estimate_pose,
    fit_pose,
    pose_of_fit,
)
from featplug.localization.pose_fits import PoseFit, pixel_errors

_MIN_MATCHES = 6
"""Least number of matches of an image that proposes a pose: twice those of a minimal sample."""
_MANY = 100
"""Number of matches that a pose explains from which on an image proposes another one only by
matches that it does not explain, which saves time."""
_NUM_TRIALS = 1000
"""Largest number of samples of an image's matches: three right ones of five are then likely where
a fifth of them is right."""
_NUM_REFINED = 8
"""Number of proposals that are refined, the best ones."""
_TIGHT = 0.5
"""Error of matches that count, relative to the largest error of an inlier: a wrong match far from
its place moves a pose more than many right ones keep it."""
_NUM_REFINEMENTS = 3
"""Number of times that the matches that count are selected and a pose is refined."""
_SHARED = 0.5
"""Fraction of shared matches from which on two poses are of one place."""


@dataclass(frozen=True, eq=False)
class _Proposal:
    """A pose, and how well all matches fit it."""

    cam_from_world: np.ndarray
    """3×4."""
    errors: np.ndarray
    """N, errors in pixels; infinite for points that are not seen."""
    counting: np.ndarray
    """N bool, whether the error of each match is small."""
    score: float
    """Sum over the keypoints of 1 − (error / largest)², where that is above 0."""


def search_pose(
    points2d: np.ndarray,
    points3d: np.ndarray,
    images: Sequence[np.ndarray],
    camera: pycolmap.Camera,
    options: AbsolutePoseOptions,
) -> AbsolutePose | None:
    """Search the pose that most matches fit.

    Args:
        points2d: see :func:`estimate_pose`, and so are the other arguments.
        points3d: N×3 in the world.
        images: indices of the matches of each database image.
        camera: intrinsics.
        options: thresholds and seed, and whether the focal length is known.

    Returns:
        As :func:`estimate_pose`, with a rival in its evidence.

    Raises:
        ValueError: see :func:`estimate_pose`.
    """
    base = estimate_pose(points2d, points3d, camera, options)
    if base is None and (len(points2d) < options.num_needed or options.focal_length != "known"):
        return None
    fitted = camera if base is None else base.camera
    matches = _Matches(points2d, points3d, fitted, _TIGHT * options.max_error)
    proposed = [] if base is None else [base.cam_from_world]
    if base is not None:
        explained = matches.proposal(base.cam_from_world).counting
        if np.count_nonzero(explained) >= _MANY:
            images = [i for i in images if np.count_nonzero(~explained[i]) >= _MIN_MATCHES]
    fits = [_fit_to_image(points2d, points3d, image, fitted, options) for image in images]
    proposed += [fit.cam_from_world for fit in fits if fit is not None]
    proposals = sorted(map(matches.proposal, proposed), key=lambda p: p.score, reverse=True)
    proposals = [matches.refined(proposal) for proposal in proposals[:_NUM_REFINED]]
    best = max(proposals, key=lambda proposal: proposal.score, default=None)
    if best is None or best.score == 0:
        return base
    pose: AbsolutePose | None = base
    is_base = base is not None and _of_one_place(best, matches.proposal(base.cam_from_world))
    if options.focal_length == "known" or not is_base:
        pose = _pose_of(best, matches, options, camera)
    if pose is None:
        return None
    rivals = [proposal.score for proposal in proposals if not _of_one_place(best, proposal)]
    rivalry = max(rivals, default=0.0) / best.score
    return replace(pose, evidence=replace(pose.evidence, rivalry=rivalry))


def pose_of_image(
    points2d: np.ndarray,
    points3d: np.ndarray,
    image: np.ndarray,
    camera: pycolmap.Camera,
    options: AbsolutePoseOptions,
) -> AbsolutePose | None:
    """Return the pose that one database image proposes, refined and weighed on all matches.

    Args:
        points2d: see :func:`search_pose`, and so are the other arguments.
        points3d: N×3 in the world.
        image: indices of the matches of the image.
        camera: intrinsics, with the best known focal length.
        options: thresholds and seed, and whether the focal length is known.
    """
    fit = _fit_to_image(points2d, points3d, image, camera, options)
    if fit is None:
        return None
    matches = _Matches(points2d, points3d, camera, _TIGHT * options.max_error)
    return _pose_of(matches.refined(matches.proposal(fit.cam_from_world)), matches, options, camera)


def _fit_to_image(
    points2d: np.ndarray,
    points3d: np.ndarray,
    image: np.ndarray,
    camera: pycolmap.Camera,
    options: AbsolutePoseOptions,
) -> PoseFit | None:
    """Fit a pose to the matches of an image, with the focal length as it is."""
    if len(image) < max(_MIN_MATCHES, options.num_needed):
        return None
    options = replace(options, focal_length="known", max_num_trials=_NUM_TRIALS)
    return fit_pose(points2d[image], points3d[image], camera, options)


def _pose_of(
    best: _Proposal, matches: "_Matches", options: AbsolutePoseOptions, camera: pycolmap.Camera
) -> AbsolutePose | None:
    """Weigh the best proposal; fit the focal length to its matches, too, where it is not known."""
    fit: PoseFit | None = PoseFit(best.cam_from_world, best.errors <= options.max_error, camera)
    if options.focal_length != "known":
        near = best.errors <= options.max_error
        fit = fit_pose(matches.points2d[near], matches.points3d[near], camera, options)
        if fit is not None:
            errors = pixel_errors(matches.points2d, matches.points3d, fit)
            fit = replace(fit, inliers=errors <= options.max_error)
    if fit is None or fit.num_inliers < options.num_needed:
        return None
    return pose_of_fit(matches.points2d, matches.points3d, fit, options.max_error)


class _Matches:
    """All matches of a query, which proposals are compared on."""

    def __init__(
        self,
        points2d: np.ndarray,
        points3d: np.ndarray,
        camera: pycolmap.Camera,
        largest: float,
    ) -> None:
        self.points2d, self.points3d, self.camera = points2d, points3d, camera
        self.largest = largest
        _, self._keypoints = np.unique(points2d, axis=0, return_inverse=True)

    def proposal(self, cam_from_world: np.ndarray) -> _Proposal:
        """Measure a pose."""
        fit = PoseFit(cam_from_world, np.zeros(0, bool), self.camera)
        errors = pixel_errors(self.points2d, self.points3d, fit)
        fits = np.maximum(1 - np.minimum(errors / self.largest, 1) ** 2, 0)
        best = np.zeros(len(fits))  # a keypoint counts once
        np.maximum.at(best, self._keypoints, fits)
        return _Proposal(cam_from_world, errors, errors < self.largest, float(best.sum()))

    def refined(self, proposal: _Proposal) -> _Proposal:
        """Refine a pose on the matches that count, as long as that fits better."""
        for _ in range(_NUM_REFINEMENTS):
            if np.count_nonzero(proposal.counting) < _MIN_MATCHES:
                break
            found = pycolmap.refine_absolute_pose(
                pycolmap.Rigid3d(proposal.cam_from_world),
                to_colmap_points(self.points2d),
                self.points3d,
                proposal.counting,
                self.camera,
            )
            better = None if found is None else self.proposal(found["cam_from_world"].matrix())
            if better is None or better.score <= proposal.score:
                break
            proposal = better
        return proposal


def _of_one_place(first: _Proposal, second: _Proposal) -> bool:
    """Return whether most matches that count for the second proposal count for the first."""
    shared = np.count_nonzero(first.counting & second.counting)
    return bool(shared > _SHARED * np.count_nonzero(second.counting))
