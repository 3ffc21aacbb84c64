"""hloc's extractors as ours: the methods of ``hloc/NAME``.

The classes are made when they are asked for, one for each of hloc's models: the conf
``hloc/superpoint_max`` has the method ``featplug.hloc.wrapped_extractors:superpoint``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base import Extractor, GlobalExtractor, along_axis
from featplug.hloc import models
from featplug.io.feature_arrays import KEYPOINT_AXES
from featplug.io.images import DEFAULT_PREPROCESSING, to_grey
from featplug.keypoints.detection import strongest

_OWN_NAMES = {"keypoint_scores": "scores"}
"""Our names of outputs that some models name otherwise."""
_CORNER_ORIGIN = frozenset({"dog"})
"""Models whose keypoints have COLMAP's origin, the corner of the first pixel."""
_MATCHERS = {"dog": "NN-ratio", "superpoint": "hloc/NN-superpoint"}
"""Matcher of a model's features, where that is not plain mutual nearest neighbours."""
_LIGHTGLUE = {"superpoint": "superpoint", "disk": "disk", "aliked": "aliked", "dog": "sift"}
"""Weights of LightGlue for a model's features."""


class HlocExtractor(Extractor):
    """One of hloc's extractors, as it is, with three exceptions.

    * **Coordinates** are integers at pixel centres. hloc's ``sift`` and ``sosnet`` keep COLMAP's
      origin and are half a pixel off, which is corrected; ``official_coordinates`` restores it.
      Keypoints outside the image are dropped.
    * **Scores** of a model that gives all keypoints the same (``sift``: 0) are the scales, so that
      a budget keeps the largest as COLMAP does.
    * **A budget** replaces the number that hloc's conf has.

    Conf, in addition to the options of hloc's model:
        max_keypoints: keep this many with the highest scores; -1 leaves the number to hloc.
        grayscale: hand over grey images.
        official_coordinates: report keypoints as hloc does.
    """

    model_name: ClassVar[str]
    """hloc's name of the model."""
    their_conf: ClassVar[dict[str, Any]]
    """Options of the model and their defaults."""

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        options = {key: value for key, value in self.conf.items() if key in self.their_conf}
        budget = self.conf["max_keypoints"]
        limit = self.their_conf.get("max_keypoints")
        if isinstance(limit, int) and limit > 0 and budget > 0:
            options["max_keypoints"] = budget
        elif "max_keypoints" in options:
            options["max_keypoints"] = limit  # ours keeps the strongest, and hloc's dog cannot
        if "max_num_keypoints" in options and budget > 0:
            options["max_num_keypoints"] = budget
        self.model = models.build("extractors", self.model_name, options)
        self.weights_records = models.weights_of(self.model, self.model_name)

    @property
    def settings(self) -> dict[str, Any]:
        """All options, as hloc's models have weights among them, and hloc's version."""
        return {**self.conf, "hloc": models.version()}

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        height, width = image.shape[-2:]
        if self.conf["grayscale"] and len(image) == 3:
            image = torch.from_numpy(to_grey(image))[None].to(image) / 255
        elif not self.conf["grayscale"]:
            image = image.expand(3, -1, -1)
        outputs = self.model({"image": image[None]})
        features = {
            _OWN_NAMES.get(key, key): torch.as_tensor(value[0], device=image.device).float()
            for key, value in outputs.items()
        }
        if self.model_name in _CORNER_ORIGIN and not self.conf["official_coordinates"]:
            features["keypoints"] = features["keypoints"] - 0.5
        keypoints = features["keypoints"]
        scores = features.get("scores", keypoints.new_zeros(len(keypoints)))
        if len(scores) and bool((scores == scores[0]).all()):
            scores = features.get("scales", scores)
        features["scores"] = scores
        limit = keypoints.new_tensor([width, height]) - 0.5
        inside = ((keypoints >= -0.5) & (keypoints <= limit)).all(1)
        features = self._select(features, inside)
        kept = strongest(features["scores"].numpy(force=True), self.conf["max_keypoints"])
        return self._select(features, torch.from_numpy(kept).to(image.device))

    @staticmethod
    def _select(features: dict[str, Tensor], keep: Tensor) -> dict[str, Tensor]:
        """Return some keypoints; of an array that we do not know, its axis of their number."""
        num = len(features["keypoints"])
        axes = {
            key: value.shape.index(num) if num in value.shape else None
            for key, value in features.items()
        }
        axes |= {key: KEYPOINT_AXES[key] for key in features if key in KEYPOINT_AXES}
        return {key: along_axis(value, axes[key], keep) for key, value in features.items()}


class HlocGlobalExtractor(GlobalExtractor):
    """One of hloc's extractors of global descriptors; see :class:`HlocExtractor`."""

    model_name: ClassVar[str]
    """hloc's name of the model."""

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.model = models.build("extractors", self.model_name, self.conf)
        self.weights_records = models.weights_of(self.model, self.model_name)

    @property
    def settings(self) -> dict[str, Any]:
        """All options, as hloc's models have weights among them, and hloc's version."""
        return {**self.conf, "hloc": models.version()}

    def describe(self, image: Tensor) -> Tensor:
        """Describe one image; see :class:`featplug.base.GlobalExtractor`."""
        outputs = self.model({"image": image.expand(3, -1, -1)[None]})
        descriptor = torch.as_tensor(outputs["global_descriptor"][0], device=image.device).float()
        return torch.nn.functional.normalize(descriptor, dim=0)


def __getattr__(name: str) -> type[HlocExtractor | HlocGlobalExtractor]:
    """Return the class of one of hloc's models, by its name in hloc."""
    if name.startswith("__"):
        raise AttributeError(name)
    theirs = models.model_class("extractors", name)
    given = [c["model"] for kind in ("feature", "retrieval") for c in models.confs(kind).values()]
    # A conf may have options that the model hands on to another program.
    options = {key: None for model in given if model["name"] == name for key in model}
    options = {**options, **theirs.default_conf}
    options.pop("name", None)
    namespace: dict[str, Any] = {
        "model_name": name,
        "their_conf": options,
        "default_conf": options,
        "__module__": __name__,
        "__doc__": theirs.__doc__ or HlocExtractor.__doc__,
    }
    is_global = any(c["model"]["name"] == name for c in models.confs("retrieval").values())
    if is_global:
        return type(name, (HlocGlobalExtractor,), namespace)
    namespace["detection_noise"] = getattr(theirs, "detection_noise", 1.0)
    own = {"grayscale": False, "official_coordinates": False}
    namespace["default_conf"] = {**options, **own, "max_keypoints": -1}
    return type(name, (HlocExtractor,), namespace)


def feature_conf_of(name: str) -> models.Conf:
    """Return the conf of ``hloc/NAME`` for :func:`featplug.methods.feature_conf`.

    Raises:
        ValueError: hloc is missing, or has no such conf.
    """
    theirs = models.conf("feature", name)
    model, preprocessing = theirs["model"], _preprocessing(theirs)
    conf: models.Conf = {
        "model": {**_model(model), "grayscale": preprocessing["grayscale"]},
        "preprocessing": preprocessing,
        "matcher": _MATCHERS.get(model["name"], "NN-mutual"),
        "paper": f"hloc's conf {name}",
        "dimensions": "",
    }
    if weights := _LIGHTGLUE.get(model["name"]):
        conf["lightglue"] = weights
    return conf


def retrieval_conf_of(name: str) -> models.Conf:
    """Return the conf of ``hloc/NAME`` for :func:`featplug.methods.retrieval_conf`."""
    theirs = models.conf("retrieval", name)
    return {
        "model": _model(theirs["model"]),
        "preprocessing": _preprocessing(theirs),
        "paper": f"hloc's conf {name}",
    }


def _model(theirs: Mapping[str, Any]) -> models.Conf:
    return {**theirs, "name": f"{__name__}:{theirs['name']}"}


def _preprocessing(theirs: Mapping[str, Any]) -> models.Conf:
    """Return what our reader knows of a conf's preprocessing; hloc's has patterns of names, too."""
    given = {k: v for k, v in theirs["preprocessing"].items() if k in DEFAULT_PREPROCESSING}
    return {"grayscale": False, **given}
