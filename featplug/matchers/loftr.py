"""LoFTR: matches of a grid of points, without keypoints of each image, as kornia has it.

Sun et al., "LoFTR: Detector-Free Local Feature Matching with Transformers", CVPR 2021. Points of
the first image lie on a grid of 8 pixels, those of the second are refined (sections 3.3 and 3.4).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base import PairMatcher
from featplug.methods import register_pair_matcher
from featplug.networks.loftr import LoFTR


@register_pair_matcher(
    {
        "loftr": {},
        "loftr-indoor": {"model": {"checkpoint": "loftr-indoor", "new_positions": True}},
    },
    paper="Sun et al., CVPR 2021",
    preprocessing={"grayscale": True, "resize_max": 1024, "dfactor": 8},
)
class LoFTRMatcher(PairMatcher):
    """LoFTR with the weights for outdoor scenes (MegaDepth) or for indoor ones (ScanNet).

    Conf:
        checkpoint: feature key of the weights: loftr or loftr-indoor.
        weights: see :func:`featplug.weights.loading.load_weights`.
        match_threshold: lowest score of a match (0.2 in the paper).
        new_positions: the weights are of the authors' later training, as loftr-indoor's are.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "checkpoint": "loftr",
        "weights": "auto",
        "match_threshold": 0.2,
        "new_positions": False,
    }

    def __init__(self, conf: dict[str, Any] | None = None) -> None:
        super().__init__(conf)
        options = {key: self.conf[key] for key in ("match_threshold", "new_positions")}
        self.network = self.load_network(LoFTR, **options)
        self._known: list[tuple[Tensor, dict[str, Tensor]]] = []

    def match_images(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        """Match one pair; see :class:`featplug.base.PairMatcher`."""
        sides = {f"features{i}": self._features(image) for i, image in enumerate((image0, image1))}
        found = self.network(sides)
        # The weights have the corner of the first pixel at the origin (kornia's Convention).
        points = {key: found[key].float() - 0.5 for key in ("keypoints0", "keypoints1")}
        return {**points, "scores": found["confidence"].float().clamp(0, 1)}

    def _features(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features of an image, which those of the last pair may have been."""
        for known, features in self._known:
            if known is image:
                return features
        grey = image if len(image) == 1 else _grey(image)
        features = self.network.extract_features(grey[None])
        self._known = [*self._known[-1:], (image, features)]
        return features


def _grey(image: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=image.device)
    return (weights[:, None, None] * image).sum(0, keepdim=True)
