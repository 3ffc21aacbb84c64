"""RootSIFT: Lowe's DoG keypoints and SIFT (IJCV 2004) with Hellinger normalisation.

Detector and descriptor are OpenCV's. RootSIFT is Arandjelović and Zisserman, CVPR 2012, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    dominant orientations is two keypoints. ``scores`` are the DoG response times σ: the response
    alone prefers the many small keypoints, which are found again less often.

    The settings are measured (MMA at 3 px on the Oxford sequences with at most 2,048 keypoints,
    mutual nearest neighbours). OpenCV's defaults with the response as score give .501, with our
    score .545, with a descriptor window of twice Lowe's .610, with these thresholds .616.

    Conf:
        max_keypoints: keep this many with the highest scores; -1 keeps all.
        max_detections: keep at most this many with the highest DoG response before anything else;
            these are small and precise, and reconstructions want them.
        contrast_threshold: smallest DoG response, as OpenCV defines it.
        edge_threshold: largest ratio of the principal curvatures.
        num_octave_layers: scales per octave.
        sigma: blur of the first scale.
        descriptor_window: width of the descriptor's window, as a multiple of Lowe's 12σ.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "max_keypoints": -1,
        "max_detections": 15_000,
        "contrast_threshold": 0.01,
        "edge_threshold": 13.0,
        "num_octave_layers": 3,
        "sigma": 1.6,
        "descriptor_window": 2.0,
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self._sift = cv2.SIFT.create(
            nfeatures=self.conf["max_detections"],
            nOctaveLayers=self.conf["num_octave_layers"],
            contrastThreshold=self.conf["contrast_threshold"],
            edgeThreshold=self.conf["edge_threshold"],
            sigma=self.conf["sigma"],
            descriptorType=cv2.CV_32F,
            # OpenCV's ordinary doubling of the image moves every keypoint by up to 0.25 px.
            enable_precise_upscale=True,
        )

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        array = image.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        grey = array[..., 0] if array.shape[-1] == 1 else cv2.cvtColor(array, cv2.COLOR_RGB2GRAY)
        grey = np.ascontiguousarray(grey)
        detected = self._sift.detect(grey, None)
        fields = [(*k.pt, k.size / 2, k.angle, k.response) for k in detected]
        x, y, scales, oris, responses = np.array(fields, np.float32).reshape(-1, 5).T
        scores = responses * scales
        keep = strongest(scores, self.conf["max_keypoints"])
        features = {
            "keypoints": np.stack([x, y], axis=1)[keep],
            "scores": scores[keep],
            "scales": scales[keep],
            "oris": oris[keep],
            "descriptors": root_sift(self._describe(grey, detected, keep)).T,
        }
        return {
            key: torch.from_numpy(np.ascontiguousarray(value)).to(image.device)
            for key, value in features.items()
        }

    def _describe(
        self, grey: np.ndarray, detected: Sequence[cv2.KeyPoint], keep: np.ndarray
    ) -> np.ndarray:
        """SIFT descriptors of the chosen keypoints, N×128."""
        if len(keep) == 0:
            return np.zeros((0, 128), np.float32)
        # OpenCV builds its pyramid from the finest octave among the keypoints it is given. With
        # the finest of all among them, a descriptor does not depend on what else was chosen.
        # (The octave is the low byte, signed.)
        finest = min(detected, key=lambda k: ((k.octave & 255) ^ 128) - 128)
        chosen = [
            cv2.KeyPoint(
                k.pt[0],
                k.pt[1],
                k.size * self.conf["descriptor_window"],
                k.angle,
                k.response,
                k.octave,
            )
            for k in [*(detected[i] for i in keep), finest]
        ]
        return self._sift.compute(grey, chosen)[1][:-1]


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
