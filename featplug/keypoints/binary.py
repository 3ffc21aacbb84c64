"""Binary descriptors, and what OpenCV returns with them."""

from collections.abc import Sequence

import cv2
import numpy as np

from featplug.keypoints.detection import strongest


def binary_features(
    keypoints: Sequence[cv2.KeyPoint],
    packed: np.ndarray | None,
    num_bytes: int,
    max_keypoints: int,
) -> dict[str, np.ndarray]:
    """Turn OpenCV's keypoints and binary descriptors into arrays of the strongest ones.

    Args:
        keypoints: N keypoints.
        packed: N×num_bytes uint8, or None where there are no keypoints.
        num_bytes: size of a descriptor.
        max_keypoints: keep this many with the highest responses; -1 keeps all.

    Returns:
        ``keypoints`` N×2, ``scores`` N, ``sizes`` N, OpenCV's diameters, ``oris`` N in degrees,
        ``octaves`` N, all float32, and the descriptors as :func:`pack_bits` has them.
    """
    fields = [(*k.pt, k.response, k.size, k.angle, k.octave) for k in keypoints]
    x, y, scores, sizes, oris, octaves = np.array(fields, np.float32).reshape(-1, 6).T
    keep = strongest(scores, max_keypoints)
    packed = np.zeros((0, num_bytes), np.uint8) if packed is None else packed
    columns = np.ascontiguousarray(packed[keep].T)
    return {
        "keypoints": np.stack([x, y], axis=1)[keep],
        "scores": scores[keep],
        "sizes": sizes[keep],
        "oris": oris[keep],
        "octaves": octaves[keep],
        "descriptors": _signs(np.unpackbits(columns, axis=0)),
        "descriptors_packed": columns,
    }


def pack_bits(bits: np.ndarray) -> dict[str, np.ndarray]:
    """Turn bits N×D into the two forms of binary descriptors.

    Returns:
        ``descriptors`` D×N float32 of ±1/√D, so that the product of two that differ in h bits is
        1 − 2·h/D, and ``descriptors_packed`` ⌈D/8⌉×N uint8, as ``numpy.packbits`` packs them.
    """
    columns = np.ascontiguousarray(bits.T, np.uint8)
    return {"descriptors": _signs(columns), "descriptors_packed": np.packbits(columns, axis=0)}


def _signs(bits: np.ndarray) -> np.ndarray:
    """Return ±1/√D float32 of bits D×N."""
    length = np.float32(max(len(bits), 1) ** -0.5)
    return np.array([-length, length], np.float32)[bits]
