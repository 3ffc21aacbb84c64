"""AKAZE: blobs of a nonlinear scale space with binary descriptors, from OpenCV.

Alcantarilla et al., "Fast Explicit Diffusion for Accelerated Features in Nonlinear Scale Spaces",
BMVC 2013.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.io.images import to_grey
from featplug.keypoints.binary import binary_features
from featplug.methods import register_feature

_NUM_BYTES = 61
_SMALLEST_SIDE = 16
_DIAMETER = 3
"""OpenCV's diameter of a keypoint as a multiple of its σ."""


@register_feature(
    {"akaze": {}},
    paper="Alcantarilla et al., BMVC 2013",
    dimensions="488 bit",
    matcher="NN-hamming-ratio",
    two_view_matcher="NN-hamming",
    order=31,
)
class AKAZEExtractor(Extractor):
    """AKAZE with OpenCV's settings and its descriptor MLDB.

    OpenCV 4 has it; OpenCV 5 has moved it to the contrib modules.

    Conf:
        max_keypoints: keep this many with the highest responses; -1 keeps all.
        detection_threshold: determinant of the Hessian that a keypoint must exceed.
        num_octaves: number of octaves.
        num_layers: number of layers of an octave.

    Output: ``keypoints``, ``scores``, ``scales`` (σ), ``oris``, degrees from the x towards the y
    axis, ``descriptors`` 488×N of ±1/√488 (486 bits, and two that are always 0) and
    ``descriptors_packed`` 61×N; see :func:`featplug.keypoints.binary.binary_features`.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "max_keypoints": -1,
        "detection_threshold": 0.001,
        "num_octaves": 4,
        "num_layers": 4,
    }
    positive = ("detection_threshold", "num_octaves", "num_layers")

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        contrib = getattr(cv2, "xfeatures2d", None)
        akaze = getattr(cv2, "AKAZE", None) or getattr(contrib, "AKAZE", None)
        if akaze is None:
            raise ValueError(
                f"OpenCV {cv2.__version__} has no AKAZE without its contrib modules; run "
                "`pip install 'opencv-python-headless<5'`, or install a build that has them."
            )
        self._akaze = akaze.create(
            threshold=self.conf["detection_threshold"],
            nOctaves=self.conf["num_octaves"],
            nOctaveLayers=self.conf["num_layers"],
        )

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        grey = to_grey(image)
        is_empty = min(grey.shape) < _SMALLEST_SIDE  # OpenCV rejects it
        keypoints, descriptors = (
            ((), None) if is_empty else self._akaze.detectAndCompute(grey, None)
        )
        limit = self.conf["max_keypoints"]
        features = binary_features(keypoints, descriptors, _NUM_BYTES, limit)
        del features["octaves"]
        features["scales"] = features.pop("sizes") / np.float32(_DIAMETER)
        return {key: torch.from_numpy(value).to(image.device) for key, value in features.items()}
