"""DeDoDe: a detector of points that reconstructions keep, and a descriptor trained apart from it.

Edstedt et al., "DeDoDe: Detect, Don't Describe — Describe, Don't Detect for Local Feature
Matching", 3DV 2024. The networks are kornia's.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from kornia.enhance import normalize
from kornia.feature.dedode.dedode_models import dedode_descriptor_B, dedode_detector_L
from kornia.feature.dedode.utils import sample_keypoints
from torch import Tensor

from featplug.base import Extractor
from featplug.methods import register_feature

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIDE_MULTIPLE = 14
_SMALLEST_SIDE = 28
"""Pixels that VGG19's pooling needs at least."""


@register_feature(
    {
        "dedode": {
            "model": {"checkpoint": "dedode-descriptor", "detector_checkpoint": "dedode-detector"},
            "preprocessing": {"grayscale": False, "resize_max": 784},
            "lightglue": "dedodeb",
        }
    },
    paper="Edstedt et al., 3DV 2024",
    dimensions="256",
    order=23,
)
class DeDoDeExtractor(Extractor):
    """DeDoDe's detector L, version 2, with the descriptor B.

    The strongest pixels are keypoints, after scores have been lowered where many are strong; there
    is no threshold, so that an image always has as many as it is asked for. The authors resize
    images to 784×784; here, as in kornia, they keep their shape.

    Conf:
        checkpoint, weights: of the descriptor; see :func:`featplug.weights.loading.load_weights`.
        detector_checkpoint, detector_weights: of the detector.
        max_keypoints: number of keypoints; -1 is every pixel.

    Output: ``keypoints``, which are whole pixels, ``scores``, descending, and ``descriptors`` 256×N
    of unit length.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "checkpoint": "dedode-descriptor",
        "weights": "auto",
        "detector_checkpoint": "dedode-detector",
        "detector_weights": "auto",
        "max_keypoints": 10_000,
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.detector = self.load_network(
            dedode_detector_L, prefix="detector_", amp_dtype=torch.float32
        )
        self.descriptor = self.load_network(dedode_descriptor_B, amp_dtype=torch.float32)

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        return self.extract_batch(image[None])[0]

    def extract_batch(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Extract from images of one size; see :class:`Extractor`."""
        height, width = images.shape[-2:]
        normal = normalize(
            images.expand(-1, 3, -1, -1), images.new_tensor(_MEAN), images.new_tensor(_STD)
        )
        padded = F.pad(normal, (0, _padding(width), 0, _padding(height)))
        logits, maps = (
            network(padded)[..., :height, :width].float()
            for network in (self.detector, self.descriptor)
        )
        probabilities = logits.flatten(1).softmax(1).reshape(-1, height, width)
        limit = self.conf["max_keypoints"]
        grid, scores = sample_keypoints(probabilities, None if limit < 0 else limit)
        descriptors = F.grid_sample(maps, grid[:, None], align_corners=False)[:, :, 0]
        keypoints = (grid + 1) * grid.new_tensor([width, height]) / 2 - 0.5
        return [
            {"keypoints": one, "scores": score, "descriptors": F.normalize(descriptor, dim=0)}
            for one, score, descriptor in zip(keypoints, scores, descriptors, strict=True)
        ]


def _padding(side: int) -> int:
    """Return how many pixels a side is padded by."""
    return max(-side % _SIDE_MULTIPLE, _SMALLEST_SIDE - side)
