"""ALIKED: keypoints with deformable descriptors, from kornia's network.

Zhao et al., "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable
Transformation", IEEE Trans. Instrumentation and Measurement 2023, and the authors' released code.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import kornia.feature
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.base import Extractor
from featplug.keypoints.detection import fills_budget
from featplug.keypoints.score_maps import window_maximum
from featplug.methods import register_feature

_TEMPERATURE = 0.1
_LIMIT = 20_000


def _conf(name: str, dimensions: str = "128") -> dict[str, Any]:
    # hloc reads images for ALIKED at this size, too.
    preprocessing = {"grayscale": False, "resize_max": 1024}
    model = {"checkpoint": name}
    conf = {"model": model, "preprocessing": preprocessing, "dimensions": dimensions}
    return {**conf, "lightglue": "aliked"} if dimensions == "128" else conf


@register_feature(
    {
        "aliked-n16": _conf("aliked-n16"),
        "aliked-n16rot": _conf("aliked-n16rot"),
        "aliked-n32": _conf("aliked-n32"),
        "aliked-t16": _conf("aliked-t16", dimensions="64"),
    },
    paper="Zhao et al., IEEE TIM 2023",
    order=20,
)
class ALIKEDExtractor(Extractor):
    """ALIKED with the authors' detection.

    kornia has the network; its detection keeps strict maxima of the score map only, while the
    authors' suppression also adds, in two more rounds, the maxima of what stronger ones leave.
    The authors' detection is used here, because their weights and the weights of LightGlue were
    trained with it. As in their code, an image without a maximum above the threshold has those
    above its mean score; unlike there, an image of a single colour has none, one image does not
    decide for others of its batch, and a threshold of 0 keeps maxima only.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`; the checkpoint is
            the name of the architecture, too.
        max_keypoints: keep this many with the highest scores; -1 keeps all.
        detection_threshold: score that a keypoint must exceed; at 0, all maxima are keypoints.
        fill: add the strongest maxima below the threshold where there are fewer than
            ``max_keypoints``. None does so if ``max_keypoints`` is set and the threshold is not.
        nms_radius: pixels to each side in which a keypoint is the maximum; also the border without
            keypoints.

    Output: ``keypoints``, refined by the centre of mass of the scores around the maximum,
    ``scores`` there, and ``descriptors`` D×N of unit length.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "checkpoint": "aliked-n16",
        "weights": "auto",
        "max_keypoints": _LIMIT,
        "detection_threshold": 0.2,
        "fill": None,
        "nms_radius": 2,
    }
    positive = ("nms_radius",)

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.conf["fill"] = fills_budget(conf or {}, ["detection_threshold"])
        self.network = self.load_network(kornia.feature.ALIKED, model_name=self.conf["checkpoint"])

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        return self.extract_batch(image[None])[0]

    def extract_batch(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Extract from images of one size; see :class:`Extractor`."""
        maps = self.network.extract_dense_map(images.expand(-1, 3, -1, -1))
        # Detection compares scores exactly: under autocast the network may return float16.
        feature_maps, score_maps = (m.float() for m in maps)
        found = maxima(score_maps, self.conf["nms_radius"])
        threshold = 0 if self.conf["fill"] else max(self.conf["detection_threshold"], 0)
        above = found & (score_maps > threshold)
        above_mean = found & (score_maps > score_maps.mean((1, 2, 3), keepdim=True))
        is_plain = (images == images[..., :1, :1]).flatten(1).all(1)
        weak = ~above.flatten(1).any(1) & ~is_plain
        found = torch.where(weak[:, None, None, None], above_mean, above)
        return [
            self._describe(feature_map, scores[0], is_found[0])
            for feature_map, scores, is_found in zip(feature_maps, score_maps, found, strict=True)
        ]

    def _describe(self, feature_map: Tensor, scores: Tensor, found: Tensor) -> dict[str, Tensor]:
        """Refine and describe the pixels of one image H×W where ``found`` is true."""
        pixels = found.nonzero()
        limit = self.conf["max_keypoints"]
        if 0 <= limit < len(pixels):
            order = scores[found].argsort(descending=True, stable=True)
            pixels = pixels[order[:limit].sort()[0]]
        if not len(pixels):
            return {
                "keypoints": scores.new_zeros((0, 2)),
                "scores": scores.new_zeros(0),
                "descriptors": scores.new_zeros((len(feature_map), 0)),
            }
        keypoints = refine(scores, pixels, self.conf["nms_radius"])
        last = keypoints.new_tensor([scores.shape[1] - 1, scores.shape[0] - 1])
        grid = keypoints / last * 2 - 1
        descriptors, _ = self.network.desc_head(feature_map[None], [grid])
        sampled = F.grid_sample(scores[None, None], grid[None, None], align_corners=True)
        return {
            "keypoints": keypoints,
            "scores": sampled.flatten(),
            "descriptors": descriptors[0].float().t(),
        }


def maxima(scores: Tensor, radius: int) -> Tensor:
    """Return where score maps B×1×H×W have maxima, away from the border, as the authors find them.

    A pixel is kept if no score in its window is higher; then, twice, if none is higher among those
    outside the windows of the pixels that are kept already.
    """
    kept = scores == window_maximum(scores, radius)
    for _ in range(2):
        covered = window_maximum(kept.to(scores.dtype), radius) > 0
        rest = scores.masked_fill(covered, 0)
        kept |= (rest == window_maximum(rest, radius)) & ~covered
    inside = torch.zeros_like(kept)
    inside[..., radius:-radius, radius:-radius] = True
    return kept & inside


def refine(scores: Tensor, pixels: Tensor, radius: int) -> Tensor:
    """Move pixels N×2 (row, column) to the softmax-weighted mean of their windows, as (x, y)."""
    steps = torch.arange(-radius, radius + 1, device=scores.device)
    offsets = torch.cartesian_prod(steps, steps)  # (row, column)
    rows, columns = (pixels[:, None] + offsets).unbind(-1)
    weights = (scores[rows, columns] / _TEMPERATURE).softmax(1)
    # Not a matrix product, which autocast would round.
    return (pixels + (weights[..., None] * offsets).sum(1)).flip(1)
