"""DoG-HardNet: HardNet's descriptors at SIFT's keypoints.

Mishchuk et al., "Working hard to know your neighbor's margins: Local descriptor learning loss",
NeurIPS 2017. The network is kornia's.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from kornia.feature import HardNet
from torch import Tensor

from featplug.extractors.describer import Describer, patch_frames
from featplug.io.images import to_grey
from featplug.keypoints.patches import gaussian_pyramid, sample_patches_from_pyramid
from featplug.methods import register_feature


@register_feature(
    {
        "dog-hardnet": {
            "model": {"checkpoint": "hardnet", "detector": {"name": "sift"}},
            "lightglue": "doghardnet",
        }
    },
    paper="Mishchuk et al., NeurIPS 2017",
    dimensions="128",
    matcher="NN-ratio",
    two_view_matcher="NN-mutual",
    order=25,
)
class DoGHardNetExtractor(Describer):
    """HardNet at any detector's keypoints, by default those of ``sift``.

    Patches are 12σ to each side of a keypoint, as kornia's ``DoGHardNet`` and LightGlue's, to which
    its weights belong, have them. They are cut from the level of an image pyramid whose pixels are
    about as large as theirs.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        relative_radius: half of a patch's width, as a multiple of the keypoint's σ.
        default_scale: σ in pixels at keypoints of detectors without scales and orientations.
        batch_size: patches in one pass through the network; bounds memory.
        detector, max_keypoints: see :class:`Describer`.

    Output: the detector's keypoints, and ``descriptors`` 128×N of unit length.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        **Describer.describer_conf,
        "checkpoint": "hardnet",
        "weights": "auto",
        "relative_radius": 12.0,
        "default_scale": 3.0,
        "batch_size": 256,
    }
    positive = ("relative_radius", "default_scale", "batch_size")

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.network = self.load_network(HardNet, pretrained=False).eval()

    def describe(self, image: Tensor, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Describe keypoints of one image; see :class:`Describer`."""
        positions, scales, oris = (
            frame.numpy(force=True) for frame in patch_frames(keypoints, self.conf["default_scale"])
        )
        radii = self.conf["relative_radius"] * scales
        pyramid = gaussian_pyramid(to_grey(image).astype(np.float32) / 255)
        descriptors = image.new_empty((len(positions), 128))
        for start in range(0, len(positions), self.conf["batch_size"]):
            rows = slice(start, start + self.conf["batch_size"])
            patches = sample_patches_from_pyramid(
                pyramid, positions[rows], radii[rows], oris[rows], HardNet.patch_size
            )
            given = torch.from_numpy(patches[:, None]).to(image.device)
            descriptors[rows] = self.network(given).float()
        return {"descriptors": descriptors.t()}
