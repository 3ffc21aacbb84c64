"""DISK: keypoints and descriptors learned by reinforcement, from kornia's network.

Tyszkiewicz et al., "DISK: Learning Local Features with Policy Gradient", NeurIPS 2020.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import kornia.feature
import torch.nn.functional as F
from torch import Tensor

from featplug.base import Extractor
from featplug.methods import register_feature

_SMALLEST_SIDE = 32
"""Pixels that the U-Net, whose instance norms need more than one, takes at least."""


@register_feature(
    {"disk": {"model": {"checkpoint": "disk"}, "lightglue": "disk"}},
    paper="Tyszkiewicz et al., NeurIPS 2020",
    dimensions="128",
    order=21,
)
class DISKExtractor(Extractor):
    """DISK as kornia, and through it hloc and LightGlue, has it.

    A keypoint is a pixel whose score is higher than all others in its window. Unlike the authors'
    code, kornia keeps none within half a window of the border, and of equal scores none.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        max_keypoints: keep this many with the highest scores; -1 keeps all. hloc's default.
        detection_threshold: score that a keypoint must exceed.
        nms_window_size: width in pixels of the window in which a keypoint is the maximum; odd.

    Output: ``keypoints``, which are whole pixels, ``scores``, and ``descriptors`` 128×N of unit
    length.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "checkpoint": "disk",
        "weights": "auto",
        "max_keypoints": 5000,
        "detection_threshold": 0.0,
        "nms_window_size": 5,
    }
    positive = ("nms_window_size",)

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.network = self.load_network(kornia.feature.DISK)

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        return self.extract_batch(image[None])[0]

    def extract_batch(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Extract from images of one size; see :class:`Extractor`."""
        height, width = images.shape[-2:]
        missing = [max(0, _SMALLEST_SIDE - side) for side in (width, height)]
        limit = self.conf["max_keypoints"]
        detected = self.network(
            F.pad(images.expand(-1, 3, -1, -1), (0, missing[0], 0, missing[1])),
            n=None if limit < 0 or any(missing) else limit,
            window_size=self.conf["nms_window_size"],
            score_threshold=self.conf["detection_threshold"],
            pad_if_not_divisible=True,
        )
        features = []
        for found in detected:
            keypoints, scores = found.keypoints.float(), found.detection_scores.float()
            keep = (keypoints < keypoints.new_tensor([width, height])).all(1).nonzero()[:, 0]
            if 0 <= limit < len(keep):
                keep = keep[scores[keep].argsort(descending=True, stable=True)[:limit]]
            features.append(
                {
                    "keypoints": keypoints[keep],
                    "scores": scores[keep],
                    "descriptors": found.descriptors[keep].float().t(),
                }
            )
        return features
