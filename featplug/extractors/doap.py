"""DOAP: descriptors of patches, trained for average precision; real-valued or binary.

He et al., "Local Descriptors Optimized for Average Precision", CVPR 2018, and the authors' released
files, which are followed where the two differ.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.extractors.describer import Describer, patch_frames
from featplug.io.images import to_grey
from featplug.keypoints.binary import pack_bits
from featplug.keypoints.patches import gaussian_pyramid, sample_patches_from_pyramid
from featplug.methods import register_feature
from featplug.networks.l2net import DOAP


def _conf(name: str) -> dict[str, Any]:
    conf: dict[str, Any] = {"model": {"checkpoint": name, "detector": {"name": "sift"}}}
    if name.endswith("binary"):
        matchers = {"matcher": "NN-hamming-ratio", "two_view_matcher": "NN-hamming"}
        return {**conf, **matchers, "dimensions": "256 bit"}
    return conf


@register_feature(
    {name: _conf(name) for name in ("doap", "doap-binary", "doap-st", "doap-st-binary")},
    paper="He et al., CVPR 2018",
    dimensions="128",
    matcher="NN-ratio",
    two_view_matcher="NN-mutual",
    order=7,
)
class DOAPExtractor(Describer):
    """DOAP at any detector's keypoints, with the layers and the outputs that the weights have.

    Paper and released files differ in the training of the networks only. The networks were trained
    and tested on the patches of data sets (the paper's test on whole images takes 3 times the
    radius of Harris-affine regions). Here a patch is cut at the keypoint's frame, from the level of
    an image pyramid whose pixels are about as large, and its width is an option.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        relative_radius: half of a patch's width, as a multiple of the keypoint's σ.
        default_scale: σ in pixels at keypoints of detectors without scales and orientations.
        batch_size: patches in one pass through the network; bounds memory, and changes
            descriptors by rounding only (a bit may flip whose output is 0 to six digits).
        detector, max_keypoints: see :class:`Describer`.

    Output: the detector's keypoints, and ``descriptors`` D×N of unit length. Binary ones are 256×N
    of ±1/16, whose products fall as the number of different bits grows, and
    ``descriptors_packed`` 32×N uint8, eight bits to a byte as ``numpy.packbits`` packs them.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        **Describer.describer_conf,
        "checkpoint": "doap",
        "weights": "auto",
        "relative_radius": 12.0,
        "default_scale": 3.0,
        "batch_size": 128,
    }
    positive = ("relative_radius", "default_scale", "batch_size")

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.network = self.load_network(DOAP)

    def describe(self, image: Tensor, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Describe keypoints of one image; see :class:`Describer`."""
        outputs = self.outputs(image, keypoints)
        if self.network.is_binary:
            return binary_descriptors(outputs)
        return {"descriptors": F.normalize(outputs).t()}

    def outputs(self, image: Tensor, keypoints: dict[str, Tensor]) -> Tensor:
        """Compute the network's outputs N×D at keypoints of an image, before any scaling."""
        positions, scales, oris = (
            frame.numpy(force=True) for frame in patch_frames(keypoints, self.conf["default_scale"])
        )
        radii = self.conf["relative_radius"] * scales
        pyramid = gaussian_pyramid(to_grey(image).astype(np.float32))
        outputs = image.new_empty((len(positions), self.network.num_outputs))
        for start in range(0, len(positions), self.conf["batch_size"]):
            rows = slice(start, start + self.conf["batch_size"])
            patches = sample_patches_from_pyramid(
                pyramid, positions[rows], radii[rows], oris[rows], self.network.patch_size
            )
            outputs[rows] = self.network(torch.from_numpy(patches).to(image.device)).float()
        return outputs


def binary_descriptors(outputs: Tensor) -> dict[str, Tensor]:
    """Turn outputs N×D into binary descriptors; a bit is set where the output is positive.

    Returns:
        ``descriptors`` and ``descriptors_packed``; see :func:`featplug.keypoints.binary.pack_bits`.
    """
    arrays = pack_bits((outputs > 0).numpy(force=True))
    return {key: torch.from_numpy(value).to(outputs.device) for key, value in arrays.items()}
