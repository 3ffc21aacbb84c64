"""LISRD: four descriptors of different invariances at any detector's keypoints.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, section 3.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.extractors.describer import Describer
from featplug.methods import register_feature
from featplug.networks.lisrd import DESCRIPTOR_DIM, HEADS, LISRD, META_DIM, NUM_TILES


@register_feature(
    {"lisrd": {"model": {"checkpoint": "lisrd", "detector": {"name": "sift"}}}},
    paper="Pautrat et al., ECCV 2020",
    dimensions="4 × 128 + meta 4 × 1024",
    matcher="lisrd",
    order=4,
)
class LISRDExtractor(Describer):
    """LISRD's descriptors, to be matched by the matcher ``lisrd``.

    Where paper and released code differ, the code is followed, so that the authors' weights
    give the authors' descriptors:

    * A keypoint at pixel x reads the map at cell x·w/W − 0.5, with zeros beyond the border; the
      centre of the pixel would be at (x + 0.5)·w/W − 0.5. The network's maps round sides down, so
      that they are stretched a little where a side is no multiple of 8. Both are how the
      descriptors were trained; the keypoints themselves stay where the detector found them.
    * Pixels are divided by 255 as in training; the authors' notebook feeds 0 to 255 instead,
      which gives other descriptors.
    * The tiles' meta descriptors are interpolated between tiles (the paper takes those of the
      region that a keypoint lies in).

    An image with keypoints and a side under 24 pixels has no 3×3 tiles: an error.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        detector, max_keypoints: see :class:`Describer`.

    Output: the detector's keypoints, and

    * ``descriptors`` 512×N, the four descriptors of 128 in the order of
      :data:`featplug.networks.lisrd.HEADS`, each of unit length;
    * ``meta_descriptors`` 4×1024×3×3, those of the tiles;
    * ``meta_grid`` 2×N, where a keypoint lies (x, y), −1 to 1 from border to border: N times
      4×1024 interpolated meta descriptors would be hundreds of times as large.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        **Describer.describer_conf,
        "checkpoint": "lisrd",
        "weights": "auto",
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.network = self.load_network(LISRD)

    def describe(self, image: Tensor, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Describe keypoints of one image; see :class:`Describer`."""
        height, width = image.shape[-2:]
        positions = keypoints["keypoints"]
        if len(positions) == 0:  # of an image of any size
            return {
                "descriptors": image.new_zeros((len(HEADS) * DESCRIPTOR_DIM, 0)),
                "meta_descriptors": image.new_zeros((len(HEADS), META_DIM, NUM_TILES, NUM_TILES)),
                "meta_grid": image.new_zeros((2, 0)),
            }
        grid = 2 * positions / positions.new_tensor([width, height]) - 1
        descriptors, metas = [], []
        for features, meta in self.network.heads(image.expand(3, -1, -1)[None]):
            sampled = F.grid_sample(
                features.float(), grid[None, None], padding_mode="zeros", align_corners=False
            )
            descriptors.append(F.normalize(sampled[0, :, 0], dim=0))
            metas.append(meta[0].float())
        return {
            "descriptors": torch.cat(descriptors),
            "meta_descriptors": torch.stack(metas),
            "meta_grid": grid.t().contiguous(),
        }
