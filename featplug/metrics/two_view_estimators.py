"""Robust estimators of relative poses and homographies: OpenCV's, COLMAP's and PoseLib's.

All take matched points N×2 (x, y) in pixels, pixel centres at integers, and thresholds in pixels.
Poses are estimated with the principal point at the origin, where no library's convention of pixel
centres matters. The same matches, threshold and seed give the same estimate.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any, NamedTuple

import cv2
import numpy as np
import pycolmap

from featplug.metrics.homography import homogeneous

_NUM_POSE = 5
"""Matches that an essential matrix is solved from."""
_NUM_HOMOGRAPHY = 4
_FAR = 1e9
"""Largest depth of points that tell on which side of the cameras they are, in baselines."""


class TwoViewEstimate(NamedTuple):
    """A geometry, and the matches that agree with it."""

    matrix: np.ndarray
    """``cam1_from_cam0`` 3×4 with a translation of length 1; or a homography 3×3 from image 0 to
    image 1."""
    inliers: np.ndarray
    """N bool."""


class _View(NamedTuple):
    """Matched points of a camera without skew whose principal point is the origin."""

    points: np.ndarray
    """N×2 in pixels."""
    focal: np.ndarray
    """fx, fy."""


class Estimator(ABC):
    """A robust estimator of one library.

    Attributes:
        name: name in options and protocols.
        library: module of the library.
        extra: extra of featplug that installs it; None where it always is.
        max_trials: largest number of samples that are drawn; fewer where a better one is unlikely.
        pose_threshold: threshold of poses in pixels, chosen on data sets that are not reported on
            (docs/relative_pose.md).
    """

    name: str
    library: str
    extra: str | None = None
    max_trials: int = 10_000
    pose_threshold: float = 1.0

    def version(self) -> str:
        """Return the version of the library.

        Raises:
            ValueError: it is not installed.
        """
        try:
            return str(import_module(self.library).__version__)
        except ImportError as error:
            raise ValueError(
                f"The estimator {self.name} needs {self.library} ({error}); run `pip install "
                f"'featplug[{self.extra}]'`, or choose another --estimator."
            ) from error

    def relative_pose(
        self,
        points0: np.ndarray,
        points1: np.ndarray,
        intrinsics0: np.ndarray,
        intrinsics1: np.ndarray,
        threshold: float,
        seed: int = 0,
    ) -> TwoViewEstimate | None:
        """Estimate the pose of camera 0's coordinates in camera 1.

        Args:
            points0: N×2 in image 0; matches that are not finite are outliers.
            points1: N×2 in image 1.
            intrinsics0: K of image 0, 3×3.
            intrinsics1: K of image 1, 3×3.
            threshold: largest epipolar distance of an inlier in pixels, as the library defines it.
            seed: seed of the samples.

        Returns:
            The estimate, or None where the matches define none.
        """
        points0, points1, finite = _checked(points0, points1)
        if len(points0) < _NUM_POSE:
            return None
        views = _view(points0, intrinsics0), _view(points1, intrinsics1)
        found = self._pose(*views, threshold, seed)
        length = 0.0 if found is None else np.linalg.norm(found.matrix[:, 3])
        if found is None or length == 0 or not np.isfinite(found.matrix).all():
            return None
        pose = np.column_stack([found.matrix[:, :3], found.matrix[:, 3] / length])
        return _of_all(pose, found.inliers, finite, _NUM_POSE)

    def homography(
        self, points0: np.ndarray, points1: np.ndarray, threshold: float, seed: int = 0
    ) -> TwoViewEstimate | None:
        """Estimate a homography from image 0 to image 1.

        Args:
            points0: N×2 in image 0; matches that are not finite are outliers.
            points1: N×2 in image 1.
            threshold: largest error of an inlier in pixels of image 1.
            seed: seed of the samples.

        Returns:
            The estimate, or None where the matches define none.
        """
        points0, points1, finite = _checked(points0, points1)
        if len(points0) < _NUM_HOMOGRAPHY:
            return None
        found = self._homography(points0, points1, threshold, seed)
        if found is None or found.matrix.shape != (3, 3) or not np.isfinite(found.matrix).all():
            return None
        return _of_all(found.matrix, found.inliers, finite, _NUM_HOMOGRAPHY)

    @abstractmethod
    def _pose(
        self, view0: _View, view1: _View, threshold: float, seed: int
    ) -> TwoViewEstimate | None:
        """Estimate a pose from five matches or more."""

    @abstractmethod
    def _homography(
        self, points0: np.ndarray, points1: np.ndarray, threshold: float, seed: int
    ) -> TwoViewEstimate | None:
        """Estimate a homography from four matches or more."""


def _checked(points0: np.ndarray, points1: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the finite matches as float64, and which ones these are."""
    if points0.shape != points1.shape or points0.shape[1:] != (2,):
        raise ValueError(f"Matches are N×2 twice, not {points0.shape} and {points1.shape}.")
    finite = np.isfinite(points0).all(1) & np.isfinite(points1).all(1)
    selected = (np.ascontiguousarray(p[finite], np.float64) for p in (points0, points1))
    return *selected, finite


def _view(points: np.ndarray, intrinsics: np.ndarray) -> _View:
    rays = homogeneous(points) @ np.linalg.inv(intrinsics).T
    focal = np.diag(intrinsics)[:2].astype(np.float64)
    return _View(np.ascontiguousarray(rays[:, :2] * focal), focal)


def _of_all(
    matrix: np.ndarray, inliers: np.ndarray, finite: np.ndarray, least: int
) -> TwoViewEstimate | None:
    """Return an estimate with its inliers among all matches; None with fewer than ``least``."""
    mask = np.zeros(len(finite), bool)
    mask[finite] = inliers
    return TwoViewEstimate(matrix, mask) if mask.sum() >= least else None


class _OpenCV(Estimator):
    """Estimators of OpenCV, whose random numbers are always the same: a seed shuffles matches.

    As in SuperGlue's and LoFTR's evaluation, a pose's threshold is divided by the mean focal length
    and its samples are drawn until the probability of a better one is 1e-5.
    """

    library = "cv2"
    pose_threshold = 0.25
    method: int

    def _pose(
        self, view0: _View, view1: _View, threshold: float, seed: int
    ) -> TwoViewEstimate | None:
        order = np.random.default_rng(seed).permutation(len(view0.points))
        rays0, rays1 = (view.points[order] / view.focal for view in (view0, view1))
        threshold /= float(np.mean([view0.focal, view1.focal]))
        try:
            matrices, mask = cv2.findEssentialMat(
                *(rays0, rays1, np.eye(3)),
                method=self.method,
                prob=0.99999,
                threshold=threshold,
                maxIters=self.max_trials,
            )
            if matrices is None or mask is None:
                return None
            # Five matches alone have several solutions, one below the other.
            poses = [
                cv2.recoverPose(m, rays0, rays1, np.eye(3), _FAR, mask=mask.copy())[:3]
                for m in matrices.reshape(-1, 3, 3)
            ]
        except cv2.error:  # raised for some degenerate matches
            return None
        _, rotation, translation = max(poses, key=lambda pose: pose[0])
        return TwoViewEstimate(np.column_stack([rotation, translation]), _in_order(mask, order))

    def _homography(
        self, points0: np.ndarray, points1: np.ndarray, threshold: float, seed: int
    ) -> TwoViewEstimate | None:
        order = np.random.default_rng(seed).permutation(len(points0))
        try:
            matrix, mask = cv2.findHomography(
                *(points0[order], points1[order], self.method, threshold),
                maxIters=self.max_trials,
                confidence=0.9999,
            )
        except cv2.error:
            return None
        return None if matrix is None else TwoViewEstimate(matrix, _in_order(mask, order))


def _in_order(mask: np.ndarray, order: np.ndarray) -> np.ndarray:
    inliers = np.zeros(len(order), bool)
    inliers[order] = mask.ravel() != 0
    return inliers


class _OpenCVRansac(_OpenCV):
    """RANSAC with the five-point solver and OpenCV's own number of samples, as in most papers."""

    name = "opencv-ransac"
    max_trials = 1000
    method = cv2.RANSAC


class _OpenCVMagsac(_OpenCV):
    """MAGSAC++ (Barath et al., CVPR 2020)."""

    name = "opencv-magsac"
    method = cv2.USAC_MAGSAC


class _Colmap(Estimator):
    """LO-RANSAC of COLMAP (Chum et al. 2003), without a refinement of the pose."""

    name = "pycolmap"
    library = "pycolmap"

    def _options(self, threshold: float, seed: int) -> pycolmap.RANSACOptions:
        options = pycolmap.RANSACOptions()
        options.max_error = threshold
        options.confidence = 0.9999
        options.min_num_trials = 100
        options.max_num_trials = self.max_trials
        options.random_seed = seed
        return options

    def _pose(
        self, view0: _View, view1: _View, threshold: float, seed: int
    ) -> TwoViewEstimate | None:
        camera0, camera1 = (
            pycolmap.Camera(model="PINHOLE", width=1, height=1, params=[*view.focal, 0, 0])
            for view in (view0, view1)
        )
        options = self._options(threshold, seed)
        found = pycolmap.estimate_essential_matrix(
            view0.points, view1.points, camera0, camera1, options
        )
        if found is None:
            return None
        return TwoViewEstimate(found["cam2_from_cam1"].matrix(), found["inlier_mask"])

    def _homography(
        self, points0: np.ndarray, points1: np.ndarray, threshold: float, seed: int
    ) -> TwoViewEstimate | None:
        options = self._options(threshold, seed)
        found = pycolmap.estimate_homography_matrix(points0, points1, options)
        return None if found is None else TwoViewEstimate(found["H"], found["inlier_mask"])


class _PoseLib(Estimator):
    """LO-RANSAC of PoseLib with its robust refinement of all inliers (Larsson 2020)."""

    name = "poselib"
    library = "poselib"
    extra = "pose"

    def _options(self, threshold: float, seed: int) -> dict[str, Any]:
        return {
            "max_epipolar_error": threshold,
            "max_reproj_error": threshold,
            "success_prob": 0.9999,
            "min_iterations": 100,
            "max_iterations": self.max_trials,
            "seed": seed,
        }

    def _pose(
        self, view0: _View, view1: _View, threshold: float, seed: int
    ) -> TwoViewEstimate | None:
        import poselib

        cameras = [
            {"model": "PINHOLE", "width": 1, "height": 1, "params": [*view.focal.tolist(), 0, 0]}
            for view in (view0, view1)
        ]
        pose, info = poselib.estimate_relative_pose(
            view0.points, view1.points, *cameras, self._options(threshold, seed), {}
        )
        return TwoViewEstimate(pose.Rt, np.array(info["inliers"], bool))

    def _homography(
        self, points0: np.ndarray, points1: np.ndarray, threshold: float, seed: int
    ) -> TwoViewEstimate | None:
        import poselib

        matrix, info = poselib.estimate_homography(
            points0, points1, self._options(threshold, seed), {}
        )
        return TwoViewEstimate(matrix, np.array(info["inliers"], bool))


ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator
    for estimator in (_OpenCVRansac(), _OpenCVMagsac(), _Colmap(), _PoseLib())
}
"""Name to estimator."""
