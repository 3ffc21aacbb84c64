"""hloc's matchers as ours, of features and of two images: the methods of ``hloc/NAME``.

The classes are made when they are asked for; see :mod:`featplug.hloc.wrapped_extractors`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.base import Matcher, PairMatcher
from featplug.hloc import models
from featplug.io.feature_arrays import KEYPOINT_AXES
from featplug.io.images import DEFAULT_PREPROCESSING, to_grey

_OFFERED = ("descriptors", "keypoints", "scores", "scales", "oris", "image_size")
"""Arrays that every matcher of hloc is handed where the feature file has them, as by hloc."""


class HlocMatcher(Matcher):
    """One of hloc's matchers of features, with the options of hloc's model.

    It is handed what hloc hands over: every known array of the feature files with a batch axis of
    1, and empty images of the right sizes. Matches of equal scores get 1.
    """

    model_name: ClassVar[str]
    """hloc's name of the model."""

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.model = models.build("matchers", self.model_name, self.conf)
        self.weights_records = models.weights_of(self.model, self.model_name)

    @property
    def settings(self) -> dict[str, Any]:
        """All options, as hloc's models have weights among them, and hloc's version."""
        return {**self.conf, "hloc": models.version()}

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match one pair of images; see :class:`Matcher`."""
        num0, num1 = self.num_keypoints(features0), self.num_keypoints(features1)
        device = features0["descriptors"].device
        if num0 == 0 or num1 == 0:
            return {
                "matches0": torch.full((num0,), -1, device=device),
                "matching_scores0": torch.zeros(num0, device=device),
            }
        data: dict[str, Tensor] = {}
        for suffix, features in (("0", features0), ("1", features1)):
            data |= {key + suffix: value[None] for key, value in features.items()}
            if "image_size" in features:
                width, height = map(int, features["image_size"].tolist())
                data["image" + suffix] = torch.empty(1, device=device).expand(1, 1, height, width)
        result = self.model(data)
        matches = result["matches0"][0].to(device, torch.int64)
        is_match = matches >= 0
        scores = torch.ones(num0, device=device)
        given = result.get("matching_scores0")
        if given is not None and bool((given[0] > 0).any()):
            scores = given[0].to(device, torch.float32).clamp(0, 1)
        return {
            "matches0": torch.where(is_match, matches, -1),
            "matching_scores0": torch.where(is_match, scores, 0.0),
        }


class HlocPairMatcher(PairMatcher):
    """One of hloc's dense matchers; see :class:`featplug.base.PairMatcher`.

    Conf, in addition to the options of hloc's model:
        grayscale: hand over grey images.
        dfactor: sides of the images that are handed over are multiples of this; they are resized.
    """

    model_name: ClassVar[str]
    """hloc's name of the model."""

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        own = ("grayscale", "dfactor")
        options = {key: value for key, value in self.conf.items() if key not in own}
        self.model = models.build("matchers", self.model_name, options)
        self.weights_records = models.weights_of(self.model, self.model_name)

    @property
    def settings(self) -> dict[str, Any]:
        """All options, as hloc's models have weights among them, and hloc's version."""
        return {**self.conf, "hloc": models.version()}

    def match_images(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        """Match one pair of images; see :class:`featplug.base.PairMatcher`."""
        (given0, ratio0), (given1, ratio1) = map(self._prepared, (image0, image1))
        result = self.model({"image0": given0, "image1": given1})
        points = [
            (result[key].float() + 0.5) * ratio - 0.5
            for key, ratio in (("keypoints0", ratio0), ("keypoints1", ratio1))
        ]
        inside = torch.ones(len(points[0]), dtype=torch.bool, device=image0.device)
        for point, image in zip(points, (image0, image1), strict=True):
            limit = point.new_tensor(image.shape[:0:-1]) - 0.5
            inside &= ((point >= -0.5) & (point <= limit)).all(1)
        return {
            "keypoints0": points[0][inside],
            "keypoints1": points[1][inside],
            "scores": result["scores"].float().clamp(0, 1)[inside],
        }

    def _prepared(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return an image as hloc's model takes it, and the ratio of the sizes, (x, y)."""
        height, width = image.shape[-2:]
        if self.conf["grayscale"] and len(image) == 3:
            image = torch.from_numpy(to_grey(image))[None].to(image) / 255
        factor = self.conf["dfactor"]
        size = tuple(max(factor, side // factor * factor) for side in (height, width))
        if size != (height, width):
            image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        return image[None], image.new_tensor([width / size[1], height / size[0]])


def __getattr__(name: str) -> type[HlocMatcher | HlocPairMatcher]:
    """Return the class of one of hloc's models, by its name in hloc."""
    if name.startswith("__"):
        raise AttributeError(name)
    theirs = models.model_class("matchers", name)
    of_features = [conf["model"] for conf in models.confs("matcher").values()]
    # A conf may have options that the model hands on to another program.
    options = {key: None for model in of_features if model["name"] == name for key in model}
    namespace: dict[str, Any] = {
        "model_name": name,
        "default_conf": {
            k: v for k, v in {**options, **theirs.default_conf}.items() if k != "name"
        },
        "__module__": __name__,
        "__doc__": theirs.__doc__ or HlocMatcher.__doc__,
    }
    if not options and not any("descriptors" in key for key in theirs.required_inputs):
        namespace["default_conf"] |= {"grayscale": False, "dfactor": 1}
        return type(name, (HlocPairMatcher,), namespace)
    inputs = dict.fromkeys(key[:-1] for key in theirs.required_inputs)
    needed = ["image_size" if key == "image" else key for key in inputs] or ["descriptors"]
    namespace["required_keys"] = tuple(needed)
    namespace["optional_keys"] = tuple(key for key in _OFFERED if key not in needed)
    # An array of a user's own model is taken to be of the whole image.
    namespace["keypoint_axes"] = {key: None for key in needed if key not in KEYPOINT_AXES}
    return type(name, (HlocMatcher,), namespace)


def matcher_conf_of(name: str) -> models.Conf:
    """Return the conf of ``hloc/NAME`` for :func:`featplug.methods.matcher_conf`.

    Raises:
        ValueError: hloc is missing, or has no such conf.
    """
    model = models.conf("matcher", name)["model"]
    return {"model": {**model, "name": f"{__name__}:{model['name']}"}}


def pair_matcher_conf_of(name: str) -> models.Conf:
    """Return the conf of ``hloc/NAME`` for :func:`featplug.methods.pair_matcher_conf`."""
    theirs = models.conf("pair matcher", name)
    model, given = theirs["model"], theirs["preprocessing"]
    own = {key: given[key] for key in ("grayscale", "dfactor") if key in given}
    return {
        "model": {**model, **own, "name": f"{__name__}:{model['name']}"},
        "preprocessing": {k: v for k, v in given.items() if k in DEFAULT_PREPROCESSING},
        "paper": f"hloc's conf {name}",
    }
