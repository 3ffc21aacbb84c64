"""SIFT of whole patches: the descriptor's window is the patch.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004, section 6: gradients
of the patch as it is, weighted by a Gaussian, in 4×4 cells of 8 orientations with trilinear
weights, normalised, cut at 0.2 and normalised again.
"""

import numpy as np

_CELLS = 4
_ORIENTATIONS = 8
_CUT = 0.2
_CHUNK = 32
"""Number of patches at a time, which fit into the cache."""


def sift_of_patches(patches: np.ndarray) -> np.ndarray:
    """Describe grey patches, N×S×S, as N×128 float32 of unit length.

    The descriptor of a patch without contrast is zero.
    """
    cells = _cell_weights(patches.shape[1])
    descriptors = np.zeros((len(patches), _CELLS**2 * _ORIENTATIONS), np.float32)
    for start in range(0, len(patches), _CHUNK):
        rows = slice(start, start + _CHUNK)
        chunk = patches[rows].astype(np.float32)
        dy, dx = np.gradient(chunk, axis=(1, 2))
        magnitudes = np.hypot(dx, dy).reshape(len(chunk), -1, 1)
        turns = (np.arctan2(dy, dx) * (_ORIENTATIONS / (2 * np.pi))).reshape(len(chunk), -1, 1)
        lower = np.floor(turns)
        upper_weight = turns - lower
        bin_ = lower.astype(np.intp) % _ORIENTATIONS
        oriented = np.zeros((*turns.shape[:2], _ORIENTATIONS), np.float32)
        np.put_along_axis(oriented, bin_, magnitudes * (1 - upper_weight), axis=2)
        np.put_along_axis(oriented, (bin_ + 1) % _ORIENTATIONS, magnitudes * upper_weight, axis=2)
        histograms = (cells.T @ oriented).reshape(len(chunk), -1)
        descriptors[rows] = _normalise(np.minimum(_normalise(histograms), _CUT))
    return descriptors


def _cell_weights(size: int) -> np.ndarray:
    """Return the weight of each pixel in each cell, (size²)×16; σ is half the patch."""
    places = (np.arange(size) + 0.5) / size * _CELLS - 0.5  # 0 is the centre of the first cell
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(_CELLS)), 0)
    centred = (np.arange(size) + 0.5) / size * 2 - 1
    weights *= np.exp(-(centred**2) / 2)[:, None]
    return np.einsum("ya,xb->yxab", weights, weights).reshape(size**2, -1).astype(np.float32)


def _normalise(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
