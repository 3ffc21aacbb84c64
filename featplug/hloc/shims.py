"""Our extractors and matchers as models of hloc, which its engines build and call.

Only hloc imports this module, by way of :mod:`featplug.hloc.model_finder`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from hloc import logger  # type: ignore[import-not-found]
from hloc.utils.base_model import BaseModel  # type: ignore[import-not-found]
from torch import Tensor

from featplug.api import run_extractor
from featplug.hloc.confs import method_of
from featplug.io.images import preprocess, to_uint8
from featplug.methods import (
    build_extractor,
    build_global_extractor,
    build_matcher,
    features,
    matchers,
    retrieval,
)
from featplug.methods.user_classes import load_class

_MAX_INDEX = int(np.iinfo(np.int16).max)
"""Greatest index that hloc's engine can store, as int16; greater ones wrap around."""
_OWN_OPTIONS = ("name", "half_keypoints", "preprocessing")


def _method_conf(conf: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return the conf of our own method."""
    return {**{k: v for k, v in conf.items() if k not in _OWN_OPTIONS}, "name": method}


class _FromImages(BaseModel):
    """The base of extractors.

    Conf, in addition to the options of our own class:
        half_keypoints: let hloc round keypoints to float16 with ``as_half``, its default, which
            moves them by up to 1 px on large images. False returns float64, which hloc stores.
        preprocessing: a conf of :mod:`featplug.io.images`, applied to hloc's image, for options
            that its reader does not have; None for none.
    """

    method: ClassVar[str]
    """Name of our own method."""
    default_conf: ClassVar[dict[str, Any]] = {"half_keypoints": False, "preprocessing": None}
    required_inputs: ClassVar[list[str]] = ["image"]

    def _prepared(self, image: Tensor) -> Tensor:
        """Preprocess 1×C×H×W where hloc's reader could not."""
        if self.conf["preprocessing"] is None:
            return image
        # hloc divided whole numbers by 255, which the rounding inverts exactly.
        pixels = preprocess(to_uint8(image[0]), self.conf["preprocessing"])
        return torch.from_numpy(pixels)[None].to(image.device)

    def _log_weights(self, model: Any) -> None:
        for record in model.weights_records:
            text = f"weights {record.name} ({record.origin}) sha256 {record.sha256[:12]}…"
            logger.info("featplug %s: %s", self.method, text)


class ExtractorModel(_FromImages):
    """An extractor of local features; see :class:`featplug.base.Extractor`."""

    def _init(self, conf: Mapping[str, Any]) -> None:
        self.extractor = build_extractor(_method_conf(conf, self.method))
        self.detection_noise = self.extractor.detection_noise
        self._log_weights(self.extractor)

    def _forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Extract from 1×C×H×W in [0, 1]; everything comes back with a batch axis of 1."""
        height, width = data["image"].shape[-2:]
        # hloc multiplies keypoints, scales and noise by its own scale, and reads the last after
        # each image.
        [(features, self.detection_noise)] = run_extractor(
            self.extractor, self._prepared(data["image"]), [(width, height)], np.float64
        )
        if "lafs" in features:
            if self.conf["preprocessing"] is None:
                raise ValueError(
                    f"{self.method} returns lafs, which hloc does not scale with the image; "
                    "declare keypoint_axes = {'lafs': 0} in the class, so that it resizes images."
                )
            features["lafs"] = features["lafs"].astype(np.float64)
        if self.conf["half_keypoints"]:
            for key in features.keys() & {"keypoints", "lafs"}:
                features[key] = features[key].astype(np.float32)
        return {key: torch.from_numpy(value)[None] for key, value in features.items()}


class GlobalExtractorModel(_FromImages):
    """An extractor of global descriptors; see :class:`featplug.base.GlobalExtractor`."""

    def _init(self, conf: Mapping[str, Any]) -> None:
        self.extractor = build_global_extractor(_method_conf(conf, self.method))
        self._log_weights(self.extractor)

    def _forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Describe 1×3×H×W in [0, 1] by ``global_descriptor`` 1×D."""
        return self.extractor({"image": self._prepared(data["image"])})


class MatcherModel(BaseModel):
    """A matcher; see :class:`featplug.base.Matcher`, whose input has hloc's form."""

    method: ClassVar[str]
    """Name of our own method."""
    default_conf: ClassVar[dict[str, Any]] = {}
    required_inputs: ClassVar[list[str]] = []

    def _init(self, conf: Mapping[str, Any]) -> None:
        self.matcher = build_matcher(_method_conf(conf, self.method))

    def _forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match a pair; every data set of a feature file comes as ``NAME0`` and ``NAME1``.

        Raises:
            ValueError: the features are not the matcher's, or too many for hloc's files.
        """
        # hloc hands over images of memory that was never written, for their shape.
        data = {key: value for key, value in data.items() if key not in ("image0", "image1")}
        missing = [
            key + suffix
            for suffix in "01"
            for key in self.matcher.required_keys
            if key + suffix not in data
        ]
        if missing:
            raise ValueError(
                f"The features have no {', '.join(missing)}, which the matcher {self.method} "
                "needs; use the matcher that belongs to them."
            )
        # hloc leaves on the CPU whatever has a name that begins with image.
        device = data[f"{self.matcher.required_keys[0]}0"].device
        keys = {f"{key}{suffix}" for key in self.matcher.axes for suffix in "01"}
        result = self.matcher({k: value.to(device) for k, value in data.items() if k in keys})
        matches = result["matches0"]
        if matches.numel() and int(matches.max()) > _MAX_INDEX:
            raise ValueError(
                f"hloc's match_features stores no index above {_MAX_INDEX}, and one is "
                f"{int(matches.max())}; match these features by `featplug match`, whose files "
                "hloc reads."
            )
        return result


def make_model(module: str) -> type[BaseModel]:
    """Make hloc's model of a method.

    Args:
        module: that the class is to belong to, such as ``hloc.extractors.featplug_doap``.
    """
    package, _, name = module.rpartition(".")
    method = method_of(name)
    base: type[BaseModel]
    if package.endswith("matchers"):
        base, own = MatcherModel, matchers.method_class(method)
    else:
        known = {**retrieval.classes, **features.classes}
        own = known.get(method) or load_class(method, features.base, retrieval.base)
        base = ExtractorModel if issubclass(own, features.base) else GlobalExtractorModel
    doc = f"{method}; see :class:`{own.__module__}.{own.__name__}`."
    return type(own.__name__, (base,), {"method": method, "__module__": module, "__doc__": doc})
