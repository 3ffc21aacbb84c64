"""Key.Net's keypoints with HardNet's descriptors, from kornia's networks.

Barroso-Laguna et al., "Key.Net: Keypoint Detection by Handcrafted and Learned CNN Filters", ICCV
2019; HardNet: Mishchuk et al., NeurIPS 2017; OriNet and AffNet: Mishkin et al., "Repeatability Is
Not Enough: Learning Affine Regions via Discriminability", ECCV 2018.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import kornia.feature as kf
import torch
from kornia.feature.scale_space_detector import get_default_detector_config
from torch import Tensor

from featplug.base import Extractor
from featplug.io.images import to_grey
from featplug.methods import register_feature

_SIGMAS = 12
"""Half of a patch's width as a multiple of the keypoint's σ."""
_SMALLEST_SIDE = 32
"""Below it all levels are border, where nothing is detected."""
_ALL = 100_000

_MODEL = {
    "checkpoint": "hardnet",
    "detector_checkpoint": "keynet",
    "orientation_checkpoint": "orinet",
}


@register_feature(
    {
        "keynet-hardnet": {"model": _MODEL},
        "keynet-affnet-hardnet": {
            "model": {**_MODEL, "affine_checkpoint": "affnet"},
            "lightglue": "keynet_affnet_hardnet",
        },
    },
    paper="Barroso-Laguna et al., ICCV 2019; HardNet: Mishchuk et al., NeurIPS 2017",
    dimensions="128",
    matcher="NN-ratio",
    two_view_matcher="NN-mutual",
    order=24,
)
class KeyNetHardNetExtractor(Extractor):
    """kornia's ``KeyNetHardNet`` and ``KeyNetAffNetHardNet``.

    Key.Net and kornia multiply a pixel of a level by the ratio of the sizes, which moves keypoints
    by half of the difference between the two pixel sizes; here pixel centres are mapped, before
    patches are cut. ``official_coordinates`` restores their formula.

    Conf:
        checkpoint, weights: of HardNet; see :func:`featplug.weights.loading.load_weights`.
        detector_checkpoint, detector_weights: of Key.Net.
        orientation_checkpoint, orientation_weights: of OriNet.
        affine_checkpoint, affine_weights: of AffNet; without a checkpoint, frames are round.
        max_keypoints: keep this many with the highest scores. kornia's default.
        detection_threshold: response that a keypoint must exceed.
        batch_size: patches in one pass through HardNet; bounds memory.
        official_coordinates: report keypoints as the released code does.

    Output: ``keypoints``, ``scores``, descending, ``descriptors`` 128×N of unit length, ``scales``,
    1/12 of half of the patch's width, ``oris``, degrees from the x towards the y axis, and ``lafs``
    N×2×3, the frames as kornia has them.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        **_MODEL,
        "weights": "auto",
        "detector_weights": "auto",
        "orientation_weights": "auto",
        "affine_checkpoint": None,
        "affine_weights": "auto",
        "max_keypoints": 8000,
        "detection_threshold": 0.0,
        "batch_size": 2048,
        "official_coordinates": False,
    }
    positive = ("batch_size",)
    keypoint_axes: ClassVar[dict[str, int | None]] = {"lafs": 0}

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        limit = self.conf["max_keypoints"]
        config = get_default_detector_config()
        keynet = self.load_network(kf.KeyNet, prefix="detector_", pretrained=False)
        orinet = self.load_network(kf.OriNet, prefix="orientation_", pretrained=False)
        self.detector = kf.MultiResolutionDetector(
            keynet,
            limit if limit >= 0 else _ALL,
            config,
            score_threshold=self.conf["detection_threshold"],
        )
        self.frame_size = config["s_mult"]
        self.orienter = kf.LAFOrienter(angle_detector=orinet)
        self.shaper: torch.nn.Module = kf.PassLAF()
        if self.conf["affine_checkpoint"] is not None:
            self.shaper = self.load_network(
                kf.LAFAffNetShapeEstimator,
                prefix="affine_",
                pretrained=False,
                preserve_orientation=False,
            )
        hardnet = self.load_network(kf.HardNet, pretrained=False)
        self.describer = kf.LAFDescriptor(hardnet, patch_size=kf.HardNet.patch_size)

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        grey = torch.from_numpy(to_grey(image)).to(image)[None, None] / 255
        lafs, scores = self._detect(grey)
        descriptors = grey.new_zeros((0, 128))
        if len(scores):
            lafs = self.orienter(self.shaper(lafs, grey), grey)
            parts = lafs.split(self.conf["batch_size"], dim=1)
            descriptors = torch.cat([self.describer(grey, part)[0] for part in parts]).float()
        return {
            "keypoints": kf.get_laf_center(lafs)[0],
            "scores": scores,
            "descriptors": descriptors.t(),
            "scales": kf.get_laf_scale(lafs).flatten() / _SIGMAS,
            # kornia counts degrees from the x axis away from the y axis.
            "oris": -kf.get_laf_orientation(lafs).flatten(),
            "lafs": lafs[0],
        }

    def _detect(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Detect upright round frames 1×N×2×3 and their scores N."""
        if min(grey.shape[-2:]) < _SMALLEST_SIDE:
            return grey.new_zeros((1, 0, 2, 3)), grey.new_zeros(0)
        with torch.autocast(grey.device.type, enabled=False):
            scores, lafs = self.detector.detect(grey)
        is_filled = kf.laf_is_filled(lafs)[0]
        scores, lafs = scores[0, is_filled].float(), lafs[:, is_filled].float()
        if not self.conf["official_coordinates"]:
            pixel = kf.get_laf_scale(lafs)[..., 0] / self.frame_size  # of the level
            lafs[..., 2] += (pixel - 1) / 2
        return lafs, scores
