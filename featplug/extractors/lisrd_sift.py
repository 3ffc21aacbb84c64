"""LISRD-SIFT: SIFT and upright SIFT, with LISRD's choice between them.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, section 4.2
("Generalization to other descriptors").
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from featplug.extractors.describer import Describer
from featplug.extractors.sift import describe_sift, root_sift
from featplug.io.images import to_grey
from featplug.methods import register_feature
from featplug.networks.lisrd import LISRDSIFT, NUM_TILES


@register_feature(
    {
        # The descriptors of the conf sift, far better than those of the authors' settings.
        "lisrd-sift": {
            "model": {
                "checkpoint": "lisrd-sift",
                "detector": {"name": "sift"},
                "descriptor_window": 2.0,
                "root_sift": True,
            }
        }
    },
    paper="Pautrat et al., ECCV 2020",
    dimensions="2 × 128 + meta 2 × 1024",
    matcher="lisrd-sift-ratio",
    two_view_matcher="lisrd-sift",
    order=5,
)
class LISRDSIFTExtractor(Describer):
    """LISRD-SIFT's descriptors, to be matched by the matcher ``lisrd`` with ``distance`` ``l2``.

    The released code is followed, with two exceptions. It reads each tile's N×128 descriptors as
    if they were 128×N; no weights that need this were published, so it is an option here. And it
    detects keypoints of its own, up to 2,500 with OpenCV's contrast threshold 0.01, for the meta
    descriptors; here these are of the keypoints that are described.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        official_reshape: mix up the dimensions as the released code does.
        precise_upscale: see :class:`~.sift.SIFT`; the authors' is False.
        descriptor_window: width of the descriptors' window, as a multiple of Lowe's 12σ; the
            authors' is 1. The conf ``lisrd-sift`` has that of the conf ``sift``.
        root_sift: return RootSIFT, of unit length, instead of SIFT.
        detector, max_keypoints: see :class:`Describer`. The detector must return ``scales`` and
            ``oris``, as SIFT does.

    Output: the detector's keypoints, and

    * ``descriptors`` 256×N, SIFT and upright SIFT, from 0 to 255 or as RootSIFT;
    * ``meta_descriptors`` 2×1024×3×3, those of the tiles, ones for a tile without keypoints;
    * ``meta_grid`` 2×N, the centre (x, y) of the tile that a keypoint lies in, −1 to 1 from border
      to border, as meta descriptors are not interpolated here.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        **Describer.describer_conf,
        "checkpoint": "lisrd-sift",
        "weights": "auto",
        "official_reshape": False,
        "precise_upscale": True,
        "descriptor_window": 1.0,
        "root_sift": False,
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.network = self.load_network(LISRDSIFT, official_reshape=self.conf["official_reshape"])

    def describe(self, image: Tensor, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Describe keypoints of one image; see :class:`Describer`.

        Raises:
            ValueError: the detector returns no scales or no orientations.
        """
        if not {"scales", "oris"} <= set(keypoints):
            raise ValueError(
                "LISRD-SIFT needs keypoints with a scale and an orientation, which "
                f"{self.conf['detector']['name']} does not return; use sift as detector."
            )
        frames = {key: value.cpu().numpy() for key, value in keypoints.items()}
        grey = to_grey(image)
        window, precise = self.conf["descriptor_window"], self.conf["precise_upscale"]
        sift = describe_both(grey, frames, window, precise)
        if self.conf["root_sift"]:
            sift = np.stack([root_sift(described) for described in sift])
        height, width = grey.shape
        tiles = keypoint_tiles(frames["keypoints"], (width, height))
        descriptors = torch.from_numpy(sift).to(image.device)
        index = torch.from_numpy(tiles @ (1, NUM_TILES)).to(image.device)
        centres = torch.from_numpy((2 * tiles + 1) / NUM_TILES - 1).float().to(image.device)
        return {
            "descriptors": descriptors.mT.flatten(0, 1),
            "meta_descriptors": self.network(descriptors[None], index[None])[0].float(),
            "meta_grid": centres.t().contiguous(),
        }


def describe_both(
    grey: np.ndarray, keypoints: Mapping[str, np.ndarray], window: float, precise_upscale: bool
) -> np.ndarray:
    """Compute SIFT and upright SIFT, 2×N×128, of N keypoints; see :func:`~.sift.describe_sift`.

    ``keypoints`` are those of :class:`~.sift.SIFT`, with ``scales`` and ``oris``.
    """
    positions, scales, oris = (keypoints[key] for key in ("keypoints", "scales", "oris"))
    return np.stack(
        [
            describe_sift(grey, positions, scales, angles, window, precise_upscale)
            for angles in (oris, np.zeros_like(oris))
        ]
    )


def keypoint_tiles(positions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the tile, N×2 int64 column and row, of N×2 (x, y) in an image of (width, height)."""
    tiles = np.floor(positions / (np.array(size) / NUM_TILES))
    return tiles.clip(0, NUM_TILES - 1).astype(np.int64)
