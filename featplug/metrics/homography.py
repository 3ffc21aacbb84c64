"""How well keypoints and matches agree with a homography that is known.

Coordinates are pixels (x, y), integers being pixel centres; a homography maps image 0 to image 1
and has positive third coordinates where it maps the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.spatial import cKDTree

Size = tuple[int, int]
"""(width, height) in pixels."""


def project(points: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Map points N×2; where the homography sends one to infinity it is not finite."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return mapped[:, :2] / mapped[:, 2:]


def homography_errors(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray
) -> np.ndarray:
    """Distance of points from where a homography puts their partners, in pixels.

    Args:
        points0: N×2 (x, y) in image 0.
        points1: N×2 in image 1.
        homography: 3×3, maps image 0 to image 1.
    """
    return np.linalg.norm(project(points0, homography) - points1, axis=1)


def mean_matching_accuracy(errors: Sequence[np.ndarray], thresholds: Sequence[float]) -> np.ndarray:
    """Mean over pairs of the part of matches that are right (MMA; Dusmanu et al. 2019, 4.1).

    Args:
        errors: of each pair the errors of its matches, in pixels; a pair without matches counts 0.
        thresholds: T greatest errors of a right match.

    Returns:
        T values in [0, 1].
    """
    limits = np.asarray(thresholds)
    parts = [
        (pair[:, None] <= limits).mean(0) if len(pair) else np.zeros(len(limits)) for pair in errors
    ]
    return np.mean(parts, axis=0)


def covisible(
    points: np.ndarray, homography: np.ndarray, size: Size, margin: float = 0.0
) -> np.ndarray:
    """Tell which points lie in the other image, too.

    Args:
        points: N×2 in one image.
        homography: 3×3, from that image to the other.
        size: of the other image.
        margin: pixels that they must keep from its border.

    Returns:
        N bool.
    """
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    in_front = mapped[:, 2] > 0
    places = mapped[:, :2] / np.where(in_front, mapped[:, 2], 1)[:, None]
    inside = (places >= margin) & (places <= np.array(size) - 1 - margin)
    return in_front & inside.all(1)


def overlap(homography: np.ndarray, sizes: tuple[Size, Size]) -> float:
    """Estimate which part of image 0 is in image 1, by a grid of 33×33 points."""
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
    """Measure which part of the keypoints is found in both images.

    Mikolajczyk et al., "A Comparison of Affine Region Detectors", IJCV 2005, section 4.1, with
    points for regions and the mean of both directions.

    Args:
        keypoints0: N0×2 (x, y).
        keypoints1: N1×2.
        homography: 3×3, from image 0 to image 1.
        sizes: (width, height) of both images.
        threshold: pixels that a keypoint may be off.

    Returns:
        Of the keypoints that lie in the other image, the part with one of that image's within the
        threshold; 0 where there is none.
    """
    parts = []
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
        parts.append(float(np.mean(distances <= threshold)))
    return sum(parts) / 2


def matching_score(errors: np.ndarray, num0: int, num1: int, threshold: float = 3.0) -> float:
    """Give right matches over keypoints (M.S.; Revaud et al., NeurIPS 2019, section 4).

    Args:
        errors: of the matches, in pixels.
        num0: keypoints of image 0 that lie in image 1.
        num1: keypoints of image 1 that lie in image 0.
        threshold: greatest error of a right match.

    Returns:
        Right matches over the mean of both numbers; 0 where there is no keypoint.
    """
    total = (num0 + num1) / 2
    return float(np.sum(errors <= threshold) / total) if total else 0.0


def correspondence_recall(
    errors: np.ndarray,
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    homography: np.ndarray,
    threshold: float = 2.5,
) -> float:
    """Give right matches over keypoints that have a counterpart (Luo et al., CVPR 2019, 4.3).

    Args:
        errors: of the matches, in pixels.
        keypoints0: N0×2.
        keypoints1: N1×2.
        homography: 3×3, from image 0 to image 1.
        threshold: greatest error of a right match, and distance of a counterpart.

    Returns:
        0 where no keypoint has a counterpart.
    """
    distances, _ = nearest_counterparts(keypoints0, keypoints1, homography)
    total = np.sum(distances <= threshold)
    return float(np.sum(errors <= threshold) / total) if total else 0.0


def closest_point_recall(
    matches: np.ndarray,
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    homography: np.ndarray,
    threshold: float = 3.0,
) -> float:
    """Give the part of keypoints that are matched with their very closest counterpart.

    Pautrat et al., ECCV 2020, section 4.1: a match with the second closest is wrong, and so it is,
    as in their code, with any but the first of the keypoints at one place.

    Args:
        matches: K×2, indices in both images.
        keypoints0: N0×2.
        keypoints1: N1×2.
        homography: 3×3, from image 0 to image 1.
        threshold: greatest distance of a counterpart.

    Returns:
        0 where no keypoint has a counterpart.
    """
    distances, closest = nearest_counterparts(keypoints0, keypoints1, homography)
    has_counterpart = distances <= threshold
    right = (matches[:, 1] == closest[matches[:, 0]]) & has_counterpart[matches[:, 0]]
    total = has_counterpart.sum()
    return float(right.sum() / total) if total else 0.0


def nearest_counterparts(
    keypoints0: np.ndarray, keypoints1: np.ndarray, homography: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the keypoint of image 1 that is nearest to where each of image 0 is mapped.

    Returns:
        N0 distances in pixels, infinite where there is none, and N0 indices; of keypoints at one
        place, such as SIFT's of several orientations, the first.
    """
    distances = np.full(len(keypoints0), np.inf)
    indices = np.zeros(len(keypoints0), dtype=np.int64)
    places = project(keypoints0, homography)
    finite = np.isfinite(places).all(1)
    if len(keypoints1) and finite.any():
        distinct, first = np.unique(keypoints1, axis=0, return_index=True)
        distances[finite], found = cKDTree(distinct).query(places[finite])
        indices[finite] = first[found]
    return distances, indices


def two_way_precision(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray, threshold: float = 3.0
) -> float:
    """Part of matches that are right, the mean of measuring in either image (Pautrat et al. 2020).

    Args:
        points0: K×2, matched.
        points1: K×2.
        homography: 3×3, from image 0 to image 1.
        threshold: greatest error of a right match, in pixels of the image it is measured in.

    Returns:
        0 where there is no match.
    """
    if len(points0) == 0:
        return 0.0
    there = homography_errors(points0, points1, homography)
    back = homography_errors(points1, points0, np.linalg.inv(homography))
    return float((np.mean(there <= threshold) + np.mean(back <= threshold)) / 2)


def estimate_homography(
    points0: np.ndarray, points1: np.ndarray, threshold: float = 3.0
) -> np.ndarray | None:
    """Estimate a homography with OpenCV's RANSAC, which papers of local features use.

    Args:
        points0: K×2, matched.
        points1: K×2.
        threshold: greatest error of an inlier, pixels of image 1.

    Returns:
        3×3, or None where the matches do not give one. The same input gives the same result.
    """
    if len(points0) < 4:
        return None
    matrix, _ = cv2.findHomography(
        np.ascontiguousarray(points0, np.float64),
        np.ascontiguousarray(points1, np.float64),
        cv2.RANSAC,
        threshold,
    )
    return matrix


def corner_error(
    estimated: np.ndarray | None, homography: np.ndarray, size: Size, in_image0: bool = False
) -> float:
    """Mean distance of image 0's corners under two homographies (DeTone et al. 2018, section 7.3).

    Args:
        estimated: 3×3, or None where there is none.
        homography: 3×3, the true one.
        size: of image 0.
        in_image0: map the corners by the estimate and back by the truth, and measure in image 0,
            as LISRD's evaluation does.

    Returns:
        Pixels; infinite without an estimate.
    """
    if estimated is None:
        return float("inf")
    width, height = size[0] - 1, size[1] - 1
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=np.float64)
    found = project(corners, estimated)
    if in_image0:
        found = project(found, np.linalg.inv(homography))
        true = corners
    else:
        true = project(corners, homography)
    error = float(np.linalg.norm(found - true, axis=1).mean())
    return error if np.isfinite(error) else float("inf")


def error_auc(errors: Sequence[float], thresholds: Sequence[float]) -> list[float]:
    """Area under the curve of the part of errors that are below a threshold.

    As in Sarlin et al., "SuperGlue", CVPR 2020: the curve is linear between the errors, and level
    from the last one below the threshold.

    Args:
        errors: one of each pair; infinite where it failed.
        thresholds: where each curve ends.

    Returns:
        An area in [0, 1] for each threshold, divided by it.
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
