"""Selection of keypoints that several methods share."""

from __future__ import annotations

import numpy as np

_CHUNK = 8192
"""Candidates of non-maximum suppression of which those already suppressed are left out at once."""


def strongest(scores: np.ndarray, max_keypoints: int) -> np.ndarray:
    """Give the indices of the keypoints with the highest scores.

    Args:
        scores: N, higher is stronger.
        max_keypoints: how many; -1 keeps all.

    Returns:
        Indices in ascending order, so that the method's own order is kept; of equal scores the
        first ones are kept.
    """
    if max_keypoints < 0 or len(scores) <= max_keypoints:
        return np.arange(len(scores))
    return np.sort(np.argsort(-scores, kind="stable")[:max_keypoints])


def sift_levels(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the level of SIFT's scale space that keypoints were detected in.

    Lowe, IJCV 2004, section 3: three layers an octave, the first of σ 1.6, so that
    σ = 1.6 · 2^(octave + layer/3) with a layer between 0.5 and 3.5.

    Args:
        scales: N, σ in pixels.

    Returns:
        Octaves N, from −1 (the image doubled) on, and layers N, from 0 to 3.
    """
    levels = np.rint(3 * np.log2(scales / 1.6)).astype(int)
    octaves = np.maximum((levels - 1) // 3, -1)
    return octaves, np.clip(levels - 3 * octaves, 0, 3)


def non_maximum_suppression(scores: np.ndarray, threshold: float, radius: int) -> np.ndarray:
    """Detect keypoints greedily: the highest score first, each clears a square around it.

    DeTone et al., "SuperPoint", CVPRW 2018, the released code's fast suppression. Unlike local
    maxima, a pixel counts again once all higher ones around it have been cleared by others.

    Args:
        scores: H×W, of any float type.
        threshold: the lowest score of a keypoint.
        radius: pixels that are cleared to each side; 0 keeps every pixel above the threshold.

    Returns:
        N×2 int64 (row, column) by falling score; equal scores by row, then column, and so are
        they preferred.
    """
    height, width = scores.shape
    candidates = np.flatnonzero(scores >= threshold)
    order = candidates[np.argsort(-scores.reshape(-1)[candidates], kind="stable")]
    padded = np.zeros((height + 2 * radius, width + 2 * radius), dtype=bool)
    cleared = padded[radius : radius + height, radius : radius + width]
    side = 2 * radius + 1
    kept = []
    # One by one, because rounds of maximum filters, as many as the longest chain of candidates
    # that wait for each other, take forever where scores are flat or a ramp.
    for start in range(0, len(order), _CHUNK):
        rows, columns = np.divmod(order[start : start + _CHUNK], width)
        waiting = ~cleared[rows, columns]
        for row, column in zip(rows[waiting].tolist(), columns[waiting].tolist(), strict=True):
            if not cleared[row, column]:
                padded[row : row + side, column : column + side] = True
                kept.append((row, column))
    return np.array(kept, dtype=np.int64).reshape(-1, 2)
