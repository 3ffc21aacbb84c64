"""Two images' features that a known similarity maps onto each other, for matchers that use it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SIZE = (800, 600)
"""Width and height of both images."""


def turned_pair(
    num0: int, num1: int, dimensions: int = 128, degrees: float = 20.0, zoom: float = 0.8
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draw features of an image and of the same one turned and resized about its centre.

    The first half of the fewer have a partner in the other image, which lists them in another
    order; the others are drawn in each. Keypoints have scales and orientations.
    """
    rng = np.random.default_rng([num0, num1])
    num_shared = (min(num0, num1) + 1) // 2
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array(SIZE) - 1) / 2
    drawn = [_drawn(rng, num, dimensions) for num in (num0, num1)]
    points, scales, oris, descriptors = (drawn[0][key][:num_shared] for key in drawn[0])
    moved = {
        "keypoints": (points - centre) @ turn.T * zoom + centre + rng.normal(0, 0.3, points.shape),
        "scales": scales * zoom,
        "oris": (oris + degrees) % 360,
        "descriptors": descriptors + 0.2 / np.sqrt(dimensions) * rng.normal(size=descriptors.shape),
    }
    order = rng.permutation(num1)
    sides = []
    for number, side in enumerate(drawn):
        if number == 1:
            side = {key: np.concatenate([moved[key], side[key][num_shared:]]) for key in side}
            side = {key: value[order] for key, value in side.items()}
        lengths = np.linalg.norm(side["descriptors"], axis=1, keepdims=True)
        side["descriptors"] = (side["descriptors"] / lengths).T
        sides.append({key: torch.tensor(value, dtype=torch.float32) for key, value in side.items()})
        sides[-1]["image_size"] = torch.tensor(SIZE, dtype=torch.float32)
    return sides[0], sides[1]


def true_partners(image0: dict[str, Tensor], image1: dict[str, Tensor]) -> Tensor:
    """Return the index in image 1 of each keypoint of image 0, or -1, by the descriptors."""
    if not image0["descriptors"].shape[1] or not image1["descriptors"].shape[1]:
        return torch.full((image0["descriptors"].shape[1],), -1)
    similarity, column = (image0["descriptors"].T @ image1["descriptors"]).max(1)
    return torch.where(similarity > 0.9, column, -1)


def _drawn(rng: np.random.Generator, num: int, dimensions: int) -> dict[str, np.ndarray]:
    # Partners of points within 240 px of the centre are inside the other image, too.
    angle, radius = rng.uniform(0, 2 * np.pi, num), 240 * np.sqrt(rng.uniform(size=num))
    offsets = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    descriptors = rng.standard_normal((num, dimensions))
    return {
        "keypoints": (np.array(SIZE) - 1) / 2 + offsets,
        "scales": rng.uniform(1.5, 8, num),
        "oris": rng.uniform(0, 360, num),
        "descriptors": descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
    }
