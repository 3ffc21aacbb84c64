"""RootSIFT: Lowe's DoG keypoints and SIFT (IJCV 2004) with Hellinger normalisation.

Detector and descriptor are OpenCV's. RootSIFT is Arandjelović and Zisserman, CVPR 2012, section 3.
"""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.keypoints import strongest


class SIFT(Extractor):
    """RootSIFT keypoints and descriptors.

    Keypoints have ``scales``, the standard deviation σ of the scale space in pixels (half of
    OpenCV's ``size``), and ``oris``, degrees from the x towards the y axis. A point with two
    dominant orientations is two keypoints.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "max_keypoints": -1,
        "contrast_threshold": 0.04,
        "edge_threshold": 10.0,
        "num_octave_layers": 3,
        "sigma": 1.6,
    }

    def __init__(self, conf: dict[str, Any] | None = None) -> None:
        super().__init__(conf)
        self._sift = cv2.SIFT.create(
            nfeatures=0,
            nOctaveLayers=self.conf["num_octave_layers"],
            contrastThreshold=self.conf["contrast_threshold"],
            edgeThreshold=self.conf["edge_threshold"],
            sigma=self.conf["sigma"],
            descriptorType=cv2.CV_32F,
            # OpenCV's ordinary doubling of the image moves every keypoint by up to 0.25 px.
            enable_precise_upscale=True,
        )

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image, C×H×W in [0, 1]; the base class says what is returned."""
        array = image.mul(255).round().clamp(0, 255).byte().cpu().numpy()
        grey = (
            array[0]
            if len(array) == 1
            else cv2.cvtColor(array.transpose(1, 2, 0), cv2.COLOR_RGB2GRAY)
        )
        detected, descriptors = self._sift.detectAndCompute(np.ascontiguousarray(grey), None)
        if not detected:
            descriptors = np.zeros((0, 128), np.float32)
        points = np.array([(*k.pt, k.size / 2, k.angle, k.response) for k in detected], np.float32)
        points = points.reshape(-1, 5)
        scores = points[:, 4] * points[:, 2]
        keep = strongest(scores, self.conf["max_keypoints"])
        features = {
            "keypoints": points[keep, :2],
            "scores": scores[keep],
            "scales": points[keep, 2],
            "oris": points[keep, 3],
            "descriptors": root_sift(descriptors[keep]).T,
        }
        return {
            key: torch.from_numpy(np.ascontiguousarray(value)).to(image.device)
            for key, value in features.items()
        }


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Turn SIFT into RootSIFT descriptors.

    Args:
        descriptors: N×128, not negative.

    Returns:
        The square root of the L1-normalised descriptors, N×128 float32 of unit length; a
        descriptor of zeros stays zero.
    """
    total = descriptors.sum(axis=1, keepdims=True)
    return np.sqrt(descriptors / np.maximum(total, np.finfo(np.float32).tiny)).astype(np.float32)
