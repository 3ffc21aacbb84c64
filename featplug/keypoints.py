"""Selection of keypoints that several methods share."""

from __future__ import annotations

import numpy as np


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
