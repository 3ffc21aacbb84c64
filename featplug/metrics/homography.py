"""How well keypoints and matches agree with a known homography.

Throughout, points are N×2 (x, y) in pixels with pixel centres at integers, sizes are (width,
height), a homography is 3×3, maps image 0 to image 1, and has positive third coordinates where it
maps the image, and a threshold is the largest distance in pixels that counts as right.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from scipy.spatial import cKDTree

Size = tuple[int, int]
"""(width, height) in pixels."""


def homogeneous(points: np.ndarray) -> np.ndarray:
    """Append a column of ones to points N×2."""
    return np.column_stack([points, np.ones(len(points))])


def project(points: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Map points; one that is sent to infinity is not finite."""
    mapped = homogeneous(points) @ homography.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return mapped[:, :2] / mapped[:, 2:]


def homography_errors(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray
) -> np.ndarray:
    """Return the distance of each point of image 1 from where its partner is mapped."""
    return np.linalg.norm(project(points0, homography) - points1, axis=1)


def mean_matching_accuracy(errors: Sequence[np.ndarray], thresholds: Sequence[float]) -> np.ndarray:
    """Return the mean over pairs of the fraction of right matches (MMA; Dusmanu et al. 2019, 4.1).

    Args:
        errors: errors of each pair's matches, in pixels; a pair without matches counts 0.
        thresholds: T largest errors of a right match.

    Returns:
        T values in [0, 1].
    """
    limits = np.asarray(thresholds)
    fractions = [
        (pair[:, None] <= limits).mean(0) if len(pair) else np.zeros(len(limits)) for pair in errors
    ]
    return np.mean(fractions, axis=0)


def covisible(
    points: np.ndarray, homography: np.ndarray, size: Size, margin: float = 0.0
) -> np.ndarray:
    """Return which points lie in another image of that size, ``margin`` pixels inside: N bool."""
    mapped = homogeneous(points) @ homography.T
    in_front = mapped[:, 2] > 0
    places = mapped[:, :2] / np.where(in_front, mapped[:, 2], 1)[:, None]
    inside = (places >= margin) & (places <= np.array(size) - 1 - margin)
    return in_front & inside.all(1)


def overlap(homography: np.ndarray, sizes: tuple[Size, Size]) -> float:
    """Estimate which fraction of image 0 is in image 1, by a grid of 33×33 points."""
    (width, height), size1 = sizes
    x, y = np.meshgrid(np.linspace(0, width - 1, 33), np.linspace(0, height - 1, 33))
    grid = np.column_stack([x.ravel(), y.ravel()])
    return float(covisible(grid, homography, size1).mean())


def repeatability(
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    homography: np.ndarray,
    sizes: tuple[Size, Size],
    threshold: float = 3.0,
) -> float:
    """Return the fraction of keypoints in the other image that have a keypoint of that near them.

    Mikolajczyk et al., "A Comparison of Affine Region Detectors", IJCV 2005, section 4.1, with
    points for regions and the mean of both directions; 0 where an image has none.
    """
    fractions = []
    there_and_back = (homography, np.linalg.inv(homography))
    for points, others, size, matrix in zip(
        (keypoints0, keypoints1),
        (keypoints1, keypoints0),
        sizes[::-1],
        there_and_back,
        strict=True,
    ):
        places = project(points[covisible(points, matrix, size)], matrix)
        if len(places) == 0 or len(others) == 0:
            return 0.0
        distances, _ = cKDTree(others).query(places)
        fractions.append(float(np.mean(distances <= threshold)))
    return sum(fractions) / 2


def matching_score(errors: np.ndarray, num0: int, num1: int, threshold: float = 3.0) -> float:
    """Return right matches over keypoints (M.S.; Revaud et al., NeurIPS 2019, section 4).

    ``num0`` and ``num1`` are the keypoints of each image that lie in the other.
    """
    return _ratio(np.sum(errors <= threshold), (num0 + num1) / 2)


def correspondence_recall(
    errors: np.ndarray,
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    homography: np.ndarray,
    threshold: float = 2.5,
) -> float:
    """Return right matches over keypoints that have a counterpart (Luo et al., CVPR 2019, 4.3)."""
    distances, _ = nearest_counterparts(keypoints0, keypoints1, homography)
    return _ratio(np.sum(errors <= threshold), np.sum(distances <= threshold))


def closest_point_recall(
    matches: np.ndarray,
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    homography: np.ndarray,
    threshold: float = 3.0,
) -> float:
    """Return the fraction of keypoints that are matched with their very closest counterpart.

    Pautrat et al., ECCV 2020, section 4.1: a match with the second closest is wrong, and so it is,
    as in their code, with any but the first of the keypoints at one place. ``matches`` are K×2
    indices.
    """
    distances, closest = nearest_counterparts(keypoints0, keypoints1, homography)
    has_counterpart = distances <= threshold
    right = (matches[:, 1] == closest[matches[:, 0]]) & has_counterpart[matches[:, 0]]
    return _ratio(right.sum(), has_counterpart.sum())


def _ratio(count: Any, total: Any) -> float:
    return float(count / total) if total else 0.0


def nearest_counterparts(
    keypoints0: np.ndarray, keypoints1: np.ndarray, homography: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the keypoint of image 1 that is nearest to where each of image 0 is mapped.

    Returns:
        N0 distances in pixels, infinite without a counterpart, and N0 indices; of keypoints at one
        place, such as SIFT's of several orientations, the first.
    """
    distances = np.full(len(keypoints0), np.inf)
    indices = np.zeros(len(keypoints0), dtype=np.int64)
    places = project(keypoints0, homography)
    finite = np.isfinite(places).all(1)
    if len(keypoints1) and finite.any():
        distinct, first = np.unique(keypoints1, axis=0, return_index=True)
        distances[finite], nearest = cKDTree(distinct).query(places[finite])
        indices[finite] = first[nearest]
    return distances, indices


def two_way_precision(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray, threshold: float = 3.0
) -> float:
    """Return the fraction of right matches, the mean of both images' measure (Pautrat et al. 2020).

    The errors in an image are in its own pixels; 0 without matches.
    """
    if len(points0) == 0:
        return 0.0
    there = homography_errors(points0, points1, homography)
    back = homography_errors(points1, points0, np.linalg.inv(homography))
    return float((np.mean(there <= threshold) + np.mean(back <= threshold)) / 2)


def estimate_homography(
    points0: np.ndarray,
    points1: np.ndarray,
    threshold: float = 3.0,
    method: int = cv2.RANSAC,
    *,
    max_trials: int = 2000,
    confidence: float = 0.995,
) -> np.ndarray | None:
    """Estimate a homography with OpenCV's RANSAC, which papers of local features use.

    Inliers have errors of up to ``threshold`` pixels of image 1; ``method`` is OpenCV's number of
    another estimator, and the defaults of the others are OpenCV's.

    Returns:
        3×3, the same for the same input, or None where the matches define none.
    """
    if len(points0) < 4:
        return None
    points0, points1 = (np.ascontiguousarray(p, np.float64) for p in (points0, points1))
    matrix, _ = cv2.findHomography(
        points0, points1, method, threshold, maxIters=max_trials, confidence=confidence
    )
    return matrix


def corner_error(
    estimated: np.ndarray | None, homography: np.ndarray, size: Size, in_image0: bool = False
) -> float:
    """Return the mean distance of image 0's corners under two homographies (DeTone et al. 2018).

    Args:
        estimated: the estimate, or None.
        homography: the true one.
        size: size of image 0.
        in_image0: map the corners by the estimate and back by the truth, and measure in image 0,
            as LISRD's evaluation does.

    Returns:
        Pixels; infinite without an estimate.
    """
    if estimated is None:
        return float("inf")
    width, height = size[0] - 1, size[1] - 1
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=np.float64)
    mapped = project(corners, estimated)
    if in_image0:
        mapped, expected = project(mapped, np.linalg.inv(homography)), corners
    else:
        expected = project(corners, homography)
    error = float(np.linalg.norm(mapped - expected, axis=1).mean())
    return error if np.isfinite(error) else float("inf")


def visible_part_error(
    estimated: np.ndarray | None, homography: np.ndarray, sizes: tuple[Size, Size]
) -> float:
    """Return the mean distance, under two homographies, of image 0's pixels that image 1 shows.

    The figure of EVD (Mishkin et al. 2015), as the wxbs-benchmark package measures it: what is
    visible is a mask of image 0 that OpenCV warps to image 1 and back.

    Args:
        estimated: the estimate, or None.
        homography: the true one.
        sizes: sizes of both images.

    Returns:
        Pixels of image 1; infinite without an estimate.
    """
    if estimated is None:
        return float("inf")
    mask = np.ones(sizes[0][::-1], np.float64)
    for matrix, size in zip((homography, np.linalg.inv(homography)), sizes[::-1], strict=True):
        mask = cv2.warpPerspective(mask, matrix, size)
    pixels = np.argwhere(mask > 0)[:, ::-1].astype(np.float64)
    distances = project(pixels, estimated) - project(pixels, homography)
    error = float(np.linalg.norm(distances, axis=1).mean()) if len(pixels) else float("inf")
    return error if np.isfinite(error) else float("inf")


def error_auc(errors: Sequence[float], thresholds: Sequence[float]) -> list[float]:
    """Return the area under the curve of the fraction of errors below each threshold, in [0, 1].

    As in Sarlin et al., "SuperGlue", CVPR 2020: the curve is linear between the errors, level from
    the last one below the threshold, and its area is divided by the threshold.
    """
    ordered = np.sort(np.asarray(errors, dtype=np.float64))
    x = np.concatenate([[0.0], ordered])
    y = np.arange(len(x)) / max(1, len(ordered))
    areas = []
    for threshold in thresholds:
        last = np.searchsorted(x, threshold)
        inside = np.append(x[:last], threshold), np.append(y[:last], y[last - 1])
        areas.append(float(np.trapezoid(inside[1], inside[0]) / threshold))
    return areas
