"""ORB: oriented FAST corners with rotated BRIEF, from OpenCV.

Rublee et al., "ORB: An Efficient Alternative to SIFT or SURF", ICCV 2011.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.io.images import to_grey
from featplug.keypoints.binary import binary_features
from featplug.methods import register_feature

_ALL = 1_000_000
_PATCH_SIZE = 31


@register_feature(
    {"orb": {}},
    paper="Rublee et al., ICCV 2011",
    dimensions="256 bit",
    matcher="NN-hamming-ratio",
    two_view_matcher="NN-hamming",
    order=30,
)
class ORBExtractor(Extractor):
    """ORB with OpenCV's settings but for the number of keypoints.

    OpenCV multiplies a position in a smaller level by the level's scale, which moves keypoints by
    up to two pixels, since a level's sides are rounded; here pixel centres are mapped. It spreads
    ``max_keypoints`` over the levels in proportion to their sides and keeps the strongest corners
    of each; where a level has fewer, the image has fewer.

    Conf:
        max_keypoints: keep at most this many; -1 keeps all. OpenCV's default is 500.
        fast_threshold: difference in brightness, of 255, that makes a corner.
        scale_factor: ratio of the sides of two levels.
        num_levels: number of levels.

    Output: ``keypoints``, ``scores`` (Harris), ``scales``, 1/12 of the patch's width, ``oris``,
    degrees from the x towards the y axis, ``descriptors`` 256×N of ±1/16 and ``descriptors_packed``
    32×N; see :func:`featplug.keypoints.binary.binary_features`.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "max_keypoints": 5000,
        "fast_threshold": 20,
        "scale_factor": 1.2,
        "num_levels": 8,
    }
    positive = ("fast_threshold", "num_levels")

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        if self.conf["scale_factor"] <= 1:
            raise ValueError(f"scale_factor must exceed 1, not {self.conf['scale_factor']!r}.")
        limit = self.conf["max_keypoints"]
        self._orb = cv2.ORB.create(
            nfeatures=limit if limit >= 0 else _ALL,
            scaleFactor=self.conf["scale_factor"],
            nlevels=self.conf["num_levels"],
            patchSize=_PATCH_SIZE,
            fastThreshold=self.conf["fast_threshold"],
        )

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        grey = to_grey(image)
        keypoints, descriptors = self._detect(grey)
        features = binary_features(keypoints, descriptors, 32, self.conf["max_keypoints"])
        factors = self.conf["scale_factor"] ** features.pop("octaves")[:, None]
        size = np.array(grey.shape[::-1], np.float32)
        pixels = size / np.rint(size / factors)  # of a level
        features["keypoints"] = (features["keypoints"] / factors + 0.5) * pixels - 0.5
        features["scales"] = features.pop("sizes") / np.float32(12)
        return {key: torch.from_numpy(value).to(image.device) for key, value in features.items()}

    def _detect(self, grey: np.ndarray) -> tuple[Sequence[cv2.KeyPoint], np.ndarray | None]:
        if min(grey.shape) <= 2 * self._orb.getEdgeThreshold():
            return (), None  # all of it is border; OpenCV rejects images of a few pixels
        if min(grey.shape) < 2 * self.conf["scale_factor"] ** self.conf["num_levels"]:
            raise ValueError(
                f"{grey.shape[1]}×{grey.shape[0]} pixels are too few for {self.conf['num_levels']} "
                f"levels of ORB; lower num_levels."
            )
        return self._orb.detectAndCompute(grey, None)
