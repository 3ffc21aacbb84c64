"""RootSIFT: Lowe's DoG keypoints and SIFT (IJCV 2004) with Hellinger normalisation.

Detector and descriptor are OpenCV's. RootSIFT is Arandjelović and Zisserman, CVPR 2012, section 3.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.io.images import to_grey
from featplug.keypoints.detection import sift_levels, strongest
from featplug.methods import register_feature


@register_feature(
    {
        "sift": {"lightglue": "sift", "colmap": "SIFT"},
        # OpenCV's own settings, with which the authors of LISRD and ContextDesc evaluate.
        "sift-opencv": {
            "lightglue": "sift",
            "colmap": "SIFT",
            "model": {
                "max_detections": 0,
                "contrast_threshold": 0.04,
                "edge_threshold": 10.0,
                "score": "response",
                "precise_upscale": False,
                "descriptor_window": 1.0,
            },
        },
    },
    paper="Lowe, IJCV 2004; RootSIFT: Arandjelović and Zisserman, CVPR 2012",
    dimensions="128",
    matcher="NN-ratio",
    order=1,
)
class SIFT(Extractor):
    """RootSIFT keypoints and descriptors.

    Keypoints have ``scales``, the standard deviation σ of the scale space in pixels (half of
    OpenCV's ``size``), and ``oris``, degrees from the x towards the y axis. A point with two
    dominant orientations is two keypoints. ``scores`` are the DoG response times σ: the response
    alone prefers the many small keypoints, which are less repeatable.

    The settings are measured (MMA at 3 px on the Oxford sequences with at most 2,048 keypoints,
    mutual nearest neighbours). OpenCV's defaults with the response as score give .501, with our
    score .545, with a descriptor window of twice Lowe's .610, with these thresholds .616.

    Conf:
        max_keypoints: keep this many with the highest scores; -1 keeps all.
        max_detections: keep at most this many with the highest DoG response before anything else;
            these are small and precise, which reconstruction needs.
        contrast_threshold: smallest DoG response, as OpenCV defines it.
        edge_threshold: largest ratio of the principal curvatures.
        score: ``response_scale``, the response times σ, or ``response`` alone.
        precise_upscale: double the image without moving keypoints; OpenCV's default moves them
            by up to 0.25 px.
        descriptor_window: width of the descriptor's window, as a multiple of Lowe's 12σ.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "max_keypoints": -1,
        "max_detections": 15_000,
        "contrast_threshold": 0.01,
        "edge_threshold": 13.0,
        "score": "response_scale",
        "precise_upscale": True,
        "descriptor_window": 2.0,
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"score": ("response_scale", "response")}

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self._sift = _opencv_sift(
            self.conf["max_detections"],
            self.conf["contrast_threshold"],
            self.conf["edge_threshold"],
            self.conf["precise_upscale"],
        )

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        grey = to_grey(image)
        features = self._detect(grey)
        descriptors = describe_sift(
            grey,
            features["keypoints"],
            features["scales"],
            features["oris"],
            self.conf["descriptor_window"],
            self.conf["precise_upscale"],
        )
        return _tensors({**features, "descriptors": root_sift(descriptors).T}, image.device)

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """Detect in one image; see :class:`Extractor`."""
        return _tensors(self._detect(to_grey(image)), image.device)

    def _detect(self, grey: np.ndarray) -> dict[str, np.ndarray]:
        fields = [(*k.pt, k.size / 2, k.angle, k.response) for k in self._sift.detect(grey, None)]
        x, y, scales, oris, responses = np.array(fields, np.float32).reshape(-1, 5).T
        scores = responses * scales if self.conf["score"] == "response_scale" else responses
        keep = strongest(scores, self.conf["max_keypoints"])
        return {
            "keypoints": np.stack([x, y], axis=1)[keep],
            "scores": scores[keep],
            "scales": scales[keep],
            "oris": oris[keep],
        }


def describe_sift(
    grey: np.ndarray,
    keypoints: np.ndarray,
    scales: np.ndarray,
    oris: np.ndarray,
    window: float = 1.0,
    precise_upscale: bool = True,
) -> np.ndarray:
    """Compute OpenCV's SIFT descriptors of any frames, with the options of :class:`SIFT`.

    Args:
        grey: H×W uint8.
        keypoints: N×2 (x, y).
        scales: N, σ of the scale space in pixels.
        oris: N, degrees from the x towards the y axis.
        window: option ``descriptor_window``.
        precise_upscale: option ``precise_upscale``.

    Returns:
        N×128 float32, whole numbers from 0 to 255.
    """
    if len(keypoints) == 0:
        return np.zeros((0, 128), np.float32)
    # OpenCV keeps a keypoint's level of the pyramid in `octave`.
    octave, layer = sift_levels(scales)
    packed = (octave & 255) | (layer << 8)
    frames = [
        cv2.KeyPoint(float(x), float(y), float(2 * window * scale), float(angle), 0, int(code))
        for (x, y), scale, angle, code in zip(keypoints, scales, oris, packed, strict=True)
    ]
    # OpenCV builds its pyramid from the finest octave among the keypoints it is given. With one
    # of the finest of all among them, a descriptor does not depend on the other keypoints.
    frames.append(cv2.KeyPoint(0, 0, 2, 0, 0, 255 | (1 << 8)))
    sift = _opencv_sift(precise_upscale=precise_upscale)
    return sift.compute(grey, frames)[1][:-1]


def _opencv_sift(
    max_detections: int = 0,
    contrast_threshold: float = 0.04,
    edge_threshold: float = 10.0,
    precise_upscale: bool = True,
) -> cv2.SIFT:
    """Return SIFT with Lowe's scale space: three layers per octave, the first of σ = 1.6."""
    return cv2.SIFT.create(
        nfeatures=max_detections,
        nOctaveLayers=3,
        contrastThreshold=contrast_threshold,
        edgeThreshold=edge_threshold,
        sigma=1.6,
        descriptorType=cv2.CV_32F,
        enable_precise_upscale=precise_upscale,
    )


def _tensors(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    return {
        key: torch.from_numpy(np.ascontiguousarray(value)).to(device)
        for key, value in arrays.items()
    }


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Turn SIFT descriptors N×128 into RootSIFT, the square root of the L1-normalised descriptors.

    Returns:
        N×128 float32 of unit length; a descriptor of zeros stays zero.
    """
    total = descriptors.sum(axis=1, keepdims=True)
    return np.sqrt(descriptors / np.maximum(total, np.finfo(np.float32).tiny)).astype(np.float32)
