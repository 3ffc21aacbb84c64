"""Patches around keypoints: square windows, scaled and turned with a keypoint's frame.

Many patches are sampled by one OpenCV remap of a tall map, on the grid of :func:`patch_grid`, at a
keypoint's frame as SIFT defines it (Lowe, IJCV 2004, section 5).
"""

from collections.abc import Sequence

import cv2
import numpy as np

_CHUNK = 128
"""Patches in one call of OpenCV: enough to make the call cheap, few enough to stay in the cache."""


def patch_grid(
    keypoints: np.ndarray, radii: np.ndarray, oris: np.ndarray, size: int, centred: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the positions of the pixels of patches, as x and y, N×size×size float32 each.

    Args:
        keypoints: N×2 (x, y), the centres of the patches.
        radii: N, half of a patch's width in pixels of the image.
        oris: N, the direction of a patch's rows, degrees from the x towards the y axis.
        size: pixels along a side of a patch.
        centred: the grid is symmetric about the keypoint, its pixels tile the window. False: it
            starts at the window's upper left corner, as ContextDesc's does, and is half a pixel
            of the patch off centre.
    """
    steps = (2 * np.arange(size) + (1 if centred else 0)) / size - 1
    angles = np.deg2rad(np.asarray(oris, np.float64))
    radii = np.asarray(radii, np.float64)
    cosines = (radii * np.cos(angles))[:, None] * steps
    sines = (radii * np.sin(angles))[:, None] * steps
    centres = np.asarray(keypoints, np.float64).reshape(-1, 2, 1)
    x, y = np.empty((2, len(centres), size, size), np.float32)
    np.subtract((centres[:, 0] + cosines)[:, None], sines[:, :, None], x, casting="same_kind")
    np.add((centres[:, 1] + sines)[:, None], cosines[:, :, None], y, casting="same_kind")
    return x, y


def sample_patches(
    image: np.ndarray,
    keypoints: np.ndarray,
    radii: np.ndarray,
    oris: np.ndarray,
    size: int,
    *,
    centred: bool = True,
    coordinate_step: float | None = None,
) -> np.ndarray:
    """Sample N×size×size float32 bilinearly at frames of :func:`patch_grid`; the border repeats.

    A window much larger than ``size`` is sampled sparsely; :func:`sample_patches_from_pyramid`
    smooths it first. Positions are rounded to multiples of ``coordinate_step``: OpenCV before 5
    rounds to 1/32 pixel, also for networks that were trained with it.
    """
    keypoints, radii, oris = (np.asarray(v) for v in (keypoints, radii, oris))
    patches = np.empty((len(keypoints), size, size), np.float32)
    for start in range(0, len(patches), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        x, y = patch_grid(keypoints[chunk], radii[chunk], oris[chunk], size, centred)
        if coordinate_step is not None:
            step = np.float32(coordinate_step)
            x, y = np.rint(x / step) * step, np.rint(y / step) * step
        cv2.remap(
            image,
            x.reshape(-1, size),
            y.reshape(-1, size),
            cv2.INTER_LINEAR,
            dst=patches[chunk].reshape(-1, size),
            borderMode=cv2.BORDER_REPLICATE,
        )
    return patches


def gaussian_pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Halve an image H×W float32 until a side has 1 pixel; the image itself is level 0.

    Pixel (x, y) of level n lies at (2ⁿx, 2ⁿy).
    """
    levels = [image]
    while min(levels[-1].shape) > 1:
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def sample_patches_from_pyramid(
    pyramid: Sequence[np.ndarray],
    keypoints: np.ndarray,
    radii: np.ndarray,
    oris: np.ndarray,
    size: int,
) -> np.ndarray:
    """Sample N×size×size float32, each patch from the level with pixels of about its size.

    The pyramid is that of :func:`gaussian_pyramid`, the frames are those of :func:`patch_grid`.
    """
    keypoints, radii, oris = (np.asarray(v, np.float64) for v in (keypoints, radii, oris))
    pixel = np.maximum(2 * radii / size, 1)
    levels = np.minimum(np.rint(np.log2(pixel)).astype(int), len(pyramid) - 1)
    patches = np.empty((len(levels), size, size), np.float32)
    for level in np.unique(levels):
        (rows,) = np.nonzero(levels == level)
        scale = 2.0**-level
        patches[rows] = sample_patches(
            pyramid[level], keypoints[rows] * scale, radii[rows] * scale, oris[rows], size
        )
    return patches


def standardise_patches(patches: np.ndarray, epsilon: float) -> np.ndarray:
    """Subtract the mean of patches N×S×S and divide by the population's standard deviation.

    ``epsilon`` is added to the deviation. A patch without contrast becomes zeros.
    """
    mean = patches.mean((1, 2), keepdims=True, dtype=np.float64)
    deviation = patches.std((1, 2), keepdims=True, dtype=np.float64) + epsilon
    deviation[deviation == 0] = 1
    return ((patches - mean) / deviation).astype(np.float32)
