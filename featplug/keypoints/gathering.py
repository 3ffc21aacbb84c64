"""Points that were matched pair by pair, gathered into one list of keypoints for each image.

A pair matcher finds other points of an image in each of its pairs. Those that lie in one cell of a
grid become one keypoint, where the strongest of them lies: only so does a point have the same
keypoint in several pairs, and a track of more than two images. Every point then goes to the nearest
keypoint, also across the border of its cell. Nothing depends on the order of pairs or points.
"""

import numpy as np
from scipy.spatial import KDTree


def gather_keypoints(
    points: np.ndarray, scores: np.ndarray, cell_size: np.ndarray, max_keypoints: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the keypoints of an image: one for each cell that has points.

    Args:
        points: N×2 points of all pairs of the image (x, y; integer = pixel centre).
        scores: N scores of their matches; points at the same place add up.
        cell_size: width and height of a cell, in pixels.
        max_keypoints: largest number of keypoints, the strongest; -1 keeps all.

    Returns:
        Keypoints M×2 float32 with the strongest first, and their scores M float32: sums over the
        points of the cell, so that what many pairs see comes before what one pair sees well.
    """
    if not len(points):
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    points, inverse = np.unique(points, axis=0, return_inverse=True)
    order = np.lexsort((scores, inverse.ravel()))  # sums of floats depend on their order
    weights = np.bincount(inverse.ravel()[order], scores[order])
    cells = np.floor((points + 0.5) / cell_size).astype(np.int64)
    order = np.lexsort((points[:, 1], points[:, 0], -weights, cells[:, 1], cells[:, 0]))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(cells[order], axis=0) != 0).any(1)
    cell_scores = np.bincount(np.cumsum(is_first) - 1, weights[order]).astype(np.float32)
    strongest = np.argsort(-cell_scores, kind="stable")
    if max_keypoints >= 0:
        strongest = strongest[:max_keypoints]
    return points[order[is_first]][strongest].astype(np.float32), cell_scores[strongest]


class KeypointFinder:
    """Finds the keypoints that points belong to.

    Args:
        keypoints: M×2, as :func:`gather_keypoints` returns them.
        cell_size: width and height of a cell, in pixels. A point farther than that from every
            keypoint, which the largest number of keypoints may have left out, belongs to none.
    """

    def __init__(self, keypoints: np.ndarray, cell_size: np.ndarray) -> None:
        self._scale = cell_size
        self._tree = KDTree(keypoints / cell_size)

    def __len__(self) -> int:
        return self._tree.n

    def find(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest keypoint of each point, -1 for none, and its distance in cells."""
        distances, indices = self._tree.query(points / self._scale, distance_upper_bound=1.0)
        return np.where(np.isfinite(distances), indices, -1), distances


def one_to_one(
    indices0: np.ndarray, indices1: np.ndarray, scores: np.ndarray, distances: np.ndarray
) -> np.ndarray:
    """Return which of K matches to keep, so that no keypoint has two.

    Args:
        indices0: keypoints of the first image, -1 for none.
        indices1: those of the second image.
        scores: the best come first.
        distances: of points from their keypoints; the smallest come first where scores are equal.
    """
    order = np.lexsort((indices1, indices0, distances, -scores))
    order = order[(indices0[order] >= 0) & (indices1[order] >= 0)]
    used0, used1, kept = set(), set(), []
    for row, index0, index1 in zip(
        order.tolist(), indices0[order].tolist(), indices1[order].tolist(), strict=True
    ):
        if index0 not in used0 and index1 not in used1:
            used0.add(index0)
            used1.add(index1)
            kept.append(row)
    return np.array(kept, np.int64)
