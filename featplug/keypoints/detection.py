"""Selection of keypoints, and the SIFT frames that formats store."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_CHUNK = 8192
"""Candidates of non-maximum suppression from which suppressed ones are removed at once."""


def strongest(scores: np.ndarray, max_keypoints: int) -> np.ndarray:
    """Return the ascending indices of the highest of N scores; of equal scores the first ones.

    ``max_keypoints`` of -1 keeps all.
    """
    if max_keypoints < 0 or len(scores) <= max_keypoints:
        return np.arange(len(scores))
    return np.sort(np.argsort(-scores, kind="stable")[:max_keypoints])


def fills_budget(conf: Mapping[str, Any], thresholds: Sequence[str]) -> bool:
    """Return whether a detector lets keypoints below its thresholds fill up the budget.

    Args:
        conf: the options that are set. ``fill`` decides; if it is None or left out, the budget is
            filled up if ``max_keypoints`` is set and no threshold is.
        thresholds: names of the detector's thresholds.
    """
    if conf.get("fill") is not None:
        return bool(conf["fill"])
    return conf.get("max_keypoints", -1) > 0 and not any(name in conf for name in thresholds)


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


def sift_frames(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Join keypoints, scales and orientations as COLMAP and VLFeat store them.

    Args:
        features: ``keypoints`` N×2 and, where available, ``scales`` N in pixels and ``oris``
            N, degrees from the x towards the y axis.

    Returns:
        N×2 (x, y), N×3 (and scale) or N×4 (and orientation in radians) float32, as available. The
        origin is unchanged.
    """
    columns = [np.asarray(features["keypoints"], np.float32)]
    if "scales" in features:
        columns.append(np.asarray(features["scales"], np.float32)[:, None])
        if "oris" in features:
            columns.append(np.deg2rad(np.asarray(features["oris"], np.float32))[:, None])
    return np.concatenate(columns, axis=1)


def from_sift_frames(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Split frames of :func:`sift_frames` into keypoints, scales and orientations.

    Args:
        frames: N×2, N×3, N×4, or N×6: x, y and the affine shape a11, a12, a21, a22, whose mean
            scale and orientation are computed as by COLMAP.

    Returns:
        ``keypoints`` N×2 and, unless they are absent or all 0, ``scales`` N and ``oris`` N in
        degrees, all float32.

    Raises:
        ValueError: the frames have another number of columns.
    """
    if frames.shape[1] not in (2, 3, 4, 6):
        raise ValueError(f"Keypoints have 2, 3, 4 or 6 columns, not {frames.shape[1]}.")
    features = {"keypoints": np.ascontiguousarray(frames[:, :2], np.float32)}
    if frames.shape[1] == 6:
        a11, a12, a21, a22 = frames[:, 2:].T
        scales, oris = (np.hypot(a11, a21) + np.hypot(a12, a22)) / 2, np.arctan2(a21, a11)
        frames = np.column_stack([frames[:, :2], scales, oris])
    if frames[:, 2:].any():
        features["scales"] = np.ascontiguousarray(frames[:, 2], np.float32)
        if frames.shape[1] == 4:
            features["oris"] = np.rad2deg(frames[:, 3]).astype(np.float32)
    return features


def non_maximum_suppression(scores: np.ndarray, threshold: float, radius: int) -> np.ndarray:
    """Detect keypoints greedily: the highest score first, each clears a square around it.

    DeTone et al., "SuperPoint", CVPRW 2018, the released code's fast suppression. Unlike local
    maxima, a pixel counts again once all higher ones around it have been cleared by others.

    Args:
        scores: H×W, of any float type.
        threshold: the lowest score of a keypoint.
        radius: pixels that are cleared to each side; 0 keeps every pixel above the threshold.

    Returns:
        N×2 int64 (row, column) by falling score, then by row, then by column.
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
