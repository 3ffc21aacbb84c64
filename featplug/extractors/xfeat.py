"""XFeat: light features for machines without a GPU, from kornia's network.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024, and the
authors' released code.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from kornia.feature.xfeat import XFeat, XFeatModel
from torch import Tensor

from featplug.base import Extractor
from featplug.keypoints.detection import fills_budget
from featplug.keypoints.score_maps import window_maximum
from featplug.methods import register_feature

_SIDE_MULTIPLE = 32
_ALL = 2**31 - 1


class _AuthorsXFeat(XFeat):
    """kornia's XFeat with the authors' non-maximum suppression, which keeps ties and the border."""

    @staticmethod
    def _nms(x: Tensor, threshold: float = 0.05, kernel_size: int = 5) -> Tensor:
        """Return the maxima of heatmaps B×1×H×W as B×N×2 (x, y), filled up with -1."""
        found = (x == window_maximum(x, kernel_size // 2)) & (x > threshold)
        pixels = [mask[0].nonzero().flip(1) for mask in found]
        return torch.nn.utils.rnn.pad_sequence(pixels, batch_first=True, padding_value=-1)


@register_feature(
    {"xfeat": {"model": {"checkpoint": "xfeat"}, "lightglue": "xfeat"}},
    paper="Potje et al., CVPR 2024",
    dimensions="64",
    order=22,
)
class XFeatExtractor(Extractor):
    """XFeat's sparse features, with the authors' detection.

    As in the released code, a side that is no multiple of 32 is resized to the next lower one, and
    at least to 32. Keypoints are whole pixels of that image. The authors' code multiplies them by
    the ratio of the sizes, which moves them by half of the difference between the two pixel sizes;
    here pixel centres are mapped. ``official_coordinates`` restores the released formula.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        max_keypoints: keep this many with the highest scores; -1 keeps all.
        detection_threshold: value of the heatmap that a keypoint must exceed.
        fill: add the strongest maxima below the threshold where there are fewer than
            ``max_keypoints``. None does so if ``max_keypoints`` is set and the threshold is not.
        official_coordinates: report keypoints as the released code does.

    Output: ``keypoints``, ``scores``, the heatmap times the reliability, descending, and
    ``descriptors`` 64×N of unit length.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "checkpoint": "xfeat",
        "weights": "auto",
        "max_keypoints": 4096,
        "detection_threshold": 0.05,
        "fill": None,
        "official_coordinates": False,
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.conf["fill"] = fills_budget(conf or {}, ["detection_threshold"])
        limit = self.conf["max_keypoints"]
        threshold = 0 if self.conf["fill"] else self.conf["detection_threshold"]
        with torch.device("meta"):
            self.network = _AuthorsXFeat(limit if limit >= 0 else _ALL, threshold)
        self.network.net = self.load_network(XFeatModel)

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        return self.extract_batch(image[None])[0]

    def extract_batch(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Extract from images of one size; see :class:`Extractor`."""
        size = images.new_tensor(images.shape[:-3:-1])  # (width, height)
        ratio = size / (size // _SIDE_MULTIPLE * _SIDE_MULTIPLE).clamp(min=_SIDE_MULTIPLE)
        shift = torch.zeros_like(ratio) if self.conf["official_coordinates"] else (ratio - 1) / 2
        return [
            {
                "keypoints": torch.minimum(found["keypoints"] + shift, size - 0.5).float(),
                # Copies, because kornia's are of its inference mode and could not be changed.
                "scores": found["scores"].float().clone(),
                "descriptors": found["descriptors"].float().t().clone(),
            }
            for found in self.network.detectAndCompute(images)
        ]
