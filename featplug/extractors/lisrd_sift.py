"""LISRD-SIFT: SIFT and upright SIFT, with LISRD's choice between them.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, section 4.2
("Generalization to other descriptors").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from featplug.extractors.describer import Describer
from featplug.extractors.sift import describe_sift
from featplug.images import to_grey
from featplug.networks.lisrd import LISRDSIFT, NUM_TILES
from featplug.weights import load_weights


class LISRDSIFTExtractor(Describer):
    """LISRD-SIFT's descriptors, to be matched by the matcher ``lisrd`` with ``distance`` ``l2``.

    The released code is followed, with two exceptions. It reads each tile's N×128 descriptors as
    if they were 128×N; no weights that need this were published, so it is an option here. And it
    detects keypoints of its own, up to 2,500 with OpenCV's contrast threshold 0.01, for the meta
    descriptors; here these are of the keypoints that are described.

    Conf:
        checkpoint: name of the weights.
        weights: which file of it to load; see :func:`featplug.weights.load_weights`.
        official_reshape: mix up the dimensions as the released code does.
        precise_upscale: False describes as OpenCV does by itself, and the authors; see
            :func:`~.sift.describe_sift`.
        detector, max_keypoints: see :class:`Describer`. The detector has to give ``scales`` and
            ``oris``, as SIFT does.

    Output: the detector's keypoints, and

    * ``descriptors`` 256×N, SIFT and upright SIFT as OpenCV gives them, 0 to 255;
    * ``meta_descriptors`` 2×1024×3×3, those of the tiles, ones for a tile without keypoints;
    * ``meta_grid`` 2×N, the centre (x, y) of the tile that a keypoint lies in, −1 to 1 from border
      to border, as meta descriptors are not interpolated here.

    Raises:
        ValueError: the weights do not fit.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        **Describer.describer_conf,
        "checkpoint": "lisrd-sift",
        "weights": "auto",
        "official_reshape": False,
        "precise_upscale": True,
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        with torch.device("meta"):
            self.network = LISRDSIFT(self.conf["official_reshape"])
        record = load_weights(self.conf["checkpoint"], self.conf["weights"], self.network)
        self.weights_records = (record, *self.detector.weights_records)

    def describe(self, image: Tensor, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Describe keypoints of one image; see :class:`Describer`.

        Raises:
            ValueError: the detector gives no scales or no orientations.
        """
        if not {"scales", "oris"} <= set(keypoints):
            raise ValueError(
                "LISRD-SIFT needs keypoints with a scale and an orientation, which "
                f"{self.conf['detector']['name']} does not give; take sift as detector."
            )
        positions, scales, oris = (
            keypoints[key].cpu().numpy() for key in ("keypoints", "scales", "oris")
        )
        grey = to_grey(image)
        angles = (oris, np.zeros_like(oris))
        precise = self.conf["precise_upscale"]
        sift = np.stack(
            [describe_sift(grey, positions, scales, angle, 1.0, precise) for angle in angles]
        )
        height, width = grey.shape
        tiles = np.floor(positions / (np.array([width, height]) / NUM_TILES))
        tiles = tiles.clip(0, NUM_TILES - 1)
        descriptors = torch.from_numpy(sift).to(image.device)
        index = torch.from_numpy(tiles @ [1, NUM_TILES]).long().to(image.device)
        centres = torch.from_numpy((2 * tiles + 1) / NUM_TILES - 1).float().to(image.device)
        return {
            "descriptors": descriptors.mT.flatten(0, 1),
            "meta_descriptors": self.network(descriptors, index).float(),
            "meta_grid": centres.t().contiguous(),
        }
