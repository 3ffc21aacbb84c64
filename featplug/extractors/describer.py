"""Describing keypoints that another method has detected.

LISRD, ContextDesc and DOAP are descriptors. Each works on the keypoints of any other conf
(``lisrd@mtldesc``); by themselves they are computed at the keypoints of the conf ``sift``.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.keypoints.detection import strongest
from featplug.methods import build_extractor, features
from featplug.methods.user_classes import recorded_name


class Describer(Extractor):
    """Descriptors at another extractor's keypoints; subclasses implement :meth:`describe`.

    Conf of every describer:
        detector: the ``model`` entry of the conf whose keypoints are described.
        max_keypoints: keep this many of the detector's keypoints with the highest scores, before
            they are described; -1 leaves that to the detector. It is the detector's
            ``max_keypoints``, too, unless its conf has one.
    """

    describer_conf: ClassVar[dict[str, Any]] = {"detector": {"name": "sift"}, "max_keypoints": -1}

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.detector = build_extractor(self._detector_conf())
        self.weights_records = self.detector.weights_records

    @property
    def drops_keypoints(self) -> bool:
        """Whether :meth:`select` drops keypoints, so that the detector must return more."""
        return False

    def _detector_conf(self) -> dict[str, Any]:
        """Return the detector's conf, with a budget that the detector may have to fill up."""
        detector, budget = self.conf["detector"], self.conf["max_keypoints"]
        options = getattr(features.method_class(detector["name"]), "default_conf", {})
        if budget < 0 or self.drops_keypoints or "max_keypoints" not in options:
            return detector
        return {"max_keypoints": budget, **detector}

    @abstractmethod
    def describe(self, image: Tensor, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Describe keypoints of one image.

        Args:
            image: C×H×W float32 in [0, 1], RGB (C=3) or grey (C=1).
            keypoints: the output of :meth:`Extractor.detect`; any number, 0 too.

        Returns:
            ``descriptors`` D×N and further arrays that the matcher needs.
        """

    def select(self, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Select or change keypoints before the strongest are kept; by default none."""
        return keypoints

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        keypoints = self.detect(image)
        return {**keypoints, **self.describe(image, keypoints)}

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """Detect the keypoints; see :class:`Extractor`."""
        keypoints = self.select(self.detector.detect(image))
        scores = keypoints["scores"].numpy(force=True)
        kept = torch.from_numpy(strongest(scores, self.conf["max_keypoints"])).to(image.device)
        return {key: value[kept] for key, value in keypoints.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """Options that the output depends on; see :class:`Extractor`."""
        name = recorded_name(self.conf["detector"]["name"])
        detector = {"name": name, **self.detector.settings}
        return {**super().settings, "detector": detector}

    @property
    def revisions(self) -> dict[str, int]:
        """Revision of this method and of the detector."""
        return {**super().revisions, **self.detector.revisions}


def patch_frames(
    keypoints: Mapping[str, Tensor], default_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the frames at which patches are cut.

    Only a detector with orientations (SIFT) has σ in ``scales``. The ``scales`` of any other
    detector are levels of its image pyramid; its patches are upright, and scaled with the level.

    Args:
        keypoints: the output of :meth:`Extractor.detect`.
        default_scale: σ of keypoints without orientation, in pixels of their level.

    Returns:
        Positions N×2 (x, y), scales N, the σ of the scale space in pixels, and orientations N,
        degrees from the x towards the y axis.
    """
    positions = keypoints["keypoints"]
    if "scales" in keypoints and "oris" in keypoints:
        return positions, keypoints["scales"], keypoints["oris"]
    levels = keypoints.get("scales", torch.ones_like(positions[:, 0]))
    return positions, default_scale * levels, torch.zeros_like(levels)
