"""Where an extractor finds points: the same ones in a mirrored and in a shifted picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.base import Extractor


def corners(width: int, height: int) -> Tensor:
    """A picture of tiles in many colours, 3×height×width, whose corners any detector finds."""
    tiles = np.random.default_rng(0).random((height // 13 + 1, width // 13 + 1, 3), np.float32)
    tall = tiles.repeat(13, axis=0).repeat(13, axis=1)[:height, :width]
    return torch.from_numpy(cv2.GaussianBlur(tall, (5, 5), 1.0)).permute(2, 0, 1).contiguous()


def found(extractor: Extractor, image: Tensor) -> dict[str, Tensor]:
    """Extract from one image C×H×W."""
    return {key: value[0] for key, value in extractor({"image": image[None]}).items()}


def mirror_offset(extractor: Extractor, image: Tensor, reach: float = 1.5) -> float:
    """Return the median in x between the points of an image and those of its mirror image.

    A network does not find all points again, but those that it does lie where they are: an error of
    half a pixel, such as an origin in the corner of pixels, shows as an offset of 1.
    """
    points = found(extractor, image)["keypoints"]
    mirrored = found(extractor, image.flip(2))["keypoints"]
    mirrored[:, 0] = image.shape[2] - 1 - mirrored[:, 0]
    distances, nearest = torch.cdist(points.double(), mirrored.double()).min(1)
    close = distances < reach
    assert close.sum() > 20
    return float((mirrored[nearest[close]] - points[close])[:, 0].median())


def shift_distances(extractor: Extractor, image: Tensor, shift: int, margin: int) -> Tensor:
    """Return how far the points of a crop of an image are from those of another crop.

    The crops begin ``shift`` pixels apart; points within ``margin`` of a border are left out.
    """
    first, second = image[:, : -shift or None, : -shift or None], image[:, shift:, shift:]
    size = first.new_tensor([first.shape[2], first.shape[1]])
    points, others = (found(extractor, crop)["keypoints"] for crop in (first, second))
    inside = ((points >= shift + margin) & (points < size - margin)).all(1)
    distances = torch.cdist(points[inside].double(), others.double() + shift).min(1)[0]
    assert len(distances) > 10
    return distances


def check_golden(extractor: Extractor, golden: dict[str, Any]) -> None:
    """Compare the number of points of a picture, and the first three, with recorded ones."""
    features = found(extractor, corners(200, 150))
    assert len(features["keypoints"]) == golden["num"]
    for key, tolerance in (("keypoints", 0.01), ("scores", 1e-3)):
        expected = torch.tensor(golden[key])
        largest = max(1.0, float(expected.abs().max()))
        error = (features[key][: len(expected)] - expected).abs().max()
        assert error < tolerance * largest, key
    descriptor = features["descriptors"][: len(golden["descriptor"]), 0]
    torch.testing.assert_close(descriptor, torch.tensor(golden["descriptor"]), atol=1e-3, rtol=0)
