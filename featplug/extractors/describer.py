"""Describing keypoints that another method has detected.

LISRD, ContextDesc and DOAP are descriptors. Each works on the keypoints of any other conf
(``lisrd+mtldesc``); by themselves they are computed at the keypoints of the conf ``sift``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.extractors import build_extractor


class Describer(Extractor):
    """Descriptors at another extractor's keypoints; subclasses implement :meth:`describe`.

    Conf of every describer:
        detector: the ``model`` entry of the conf whose keypoints are described.
        max_keypoints: keep this many of the detector's keypoints with the highest scores, before
            they are described; -1 leaves that to the detector.
    """

    describer_conf: ClassVar[dict[str, Any]] = {
        "detector": {"name": "sift"},
        "max_keypoints": -1,
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        detector = dict(self.conf["detector"])
        if self.conf["max_keypoints"] != -1:
            detector["max_keypoints"] = self.conf["max_keypoints"]
        self.detector = build_extractor(detector)

    @abstractmethod
    def describe(self, image: Tensor, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Describe keypoints of one image.

        Args:
            image: C×H×W float32 in [0, 1], RGB (C=3) or grey (C=1).
            keypoints: the output of :meth:`Extractor.detect`; any number, 0 too.

        Returns:
            ``descriptors`` D×N and what the matcher needs beside them. A method that cannot
            describe every keypoint, or not more than once, returns the ones it did describe
            under the names of ``keypoints``, too.
        """

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        keypoints = self.detect(image)
        return {**keypoints, **self.describe(image, keypoints)}

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """Detect the keypoints; see :class:`Extractor`."""
        return self.detector.detect(image)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides over the output; see :class:`Extractor`."""
        detector = {"name": self.conf["detector"]["name"], **self.detector.settings}
        own = {k: v for k, v in super().settings.items() if k != "max_keypoints"}
        return {**own, "detector": detector}


def patch_frames(
    keypoints: Mapping[str, Tensor], default_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the frames that patches are cut at.

    Only a detector that says both how large and how turned a keypoint is (SIFT) has frames. At
    any other's keypoints patches are upright and of one size.

    Args:
        keypoints: the output of :meth:`Extractor.detect`.
        default_scale: σ of keypoints without frames, in pixels.

    Returns:
        Positions N×2 (x, y), scales N, the σ of the scale space in pixels, and orientations N,
        degrees from the x towards the y axis.
    """
    positions = keypoints["keypoints"]
    if "scales" in keypoints and "oris" in keypoints:
        return positions, keypoints["scales"], keypoints["oris"]
    ones = torch.ones_like(positions[:, 0])
    return positions, default_scale * ones, torch.zeros_like(ones)
