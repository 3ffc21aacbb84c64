"""LightGlue: a transformer matches the keypoints of two images by descriptor and position.

Lindenberger et al., "LightGlue: Local Feature Matching at Light Speed", ICCV 2023, and LighterGlue,
its smaller form for XFeat (Potje et al., CVPR 2024). The network is kornia's; the weights belong to
one feature each.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.io.lightglue_form import lightglue_form
from featplug.methods import conf_of_features, features, name_of, register_matcher
from featplug.weights.loading import load_network
from featplug.weights.registry import preferred_entries

_PUBLISHED = ("depth_confidence", "width_confidence", "filter_threshold", "n_layers")
"""Options whose default belongs to the weights."""
_KORNIAS_FRAMES = ("doghardnet", "dog_affnet_hardnet")
"""Weights that were trained with frames of 12σ whose angles turn from the x axis away from the y
axis, from 0 to 2π."""


@register_matcher({"lightglue": {}, "lighterglue": {"model": {"feature": "xfeat"}}}, order=2)
class LightGlue(Matcher):
    """LightGlue with the weights for one feature.

    The network is handed positions from the corner of the image, which its normalisation by the
    image's size expects; the authors' code hands over pixel centres. As only differences of
    positions enter the network (rotary encodings), the results are the same.

    Conf:
        feature: a feature conf, or kornia's name of the weights (``aliked``, ``disk``, ``sift``,
            ``xfeat``, ...). The commands fill in what the feature conf has as ``lightglue``.
        weights: as for :func:`~featplug.weights.loading.load_weights`. A file of other weights is
            read with the architecture of ``feature``.
        depth_confidence: stop after the layer that has decided this fraction of the keypoints; -1
            computes all layers. None, here and below: as published with the weights.
        width_confidence: drop keypoints that are unmatchable with this confidence; -1 keeps all.
        filter_threshold: lowest score of a match.
        n_layers: number of layers.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "feature": None,
        "weights": "auto",
        **dict.fromkeys(_PUBLISHED),
    }
    required_keys: tuple[str, ...] = ("descriptors", "keypoints", "image_size")

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        from featplug.networks.lightglue import LightGlue as Network  # slow: all of kornia

        name = _weights_for(self.conf["feature"])
        published = {**Network.default_conf, **Network.features[name]}
        options = {key: self.conf[key] for key in _PUBLISHED if self.conf[key] is not None}
        self.conf |= {
            **{key: published[key] for key in _PUBLISHED},
            **options,
            "feature": name,
        }
        num_layers = options.pop("n_layers", published["n_layers"])
        if not 1 <= num_layers <= published["n_layers"]:
            raise ValueError(
                f"n_layers must be from 1 to {published['n_layers']} for {name}, not {num_layers}."
            )
        self.network, record = load_network(
            f"lightglue-{name}", self.conf["weights"], Network, weights_for=name, **options
        )
        self.weights_records = (record,)
        network_conf = self.network.conf
        if num_layers < published["n_layers"]:
            network_conf.n_layers = num_layers
            thresholds = map(self.network.confidence_threshold, range(num_layers))
            self.network.confidence_thresholds = torch.tensor(list(thresholds))
        if network_conf.add_scale_ori:
            self.required_keys = (*self.required_keys, "scales", "oris")
        elif network_conf.add_laf:
            self.required_keys = (*self.required_keys, "lafs")

    @classmethod
    def model_for(cls, model: Mapping[str, Any], feature: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with the weights that a feature conf names by ``lightglue``.

        Raises:
            ValueError: there are none, or the options name those of another feature.
        """
        name, own = name_of(feature), feature.get("matcher", "NN-mutual")
        needed, given = feature.get("lightglue"), model.get("feature")
        if given is None and needed is None:
            raise ValueError(
                f"{name} has no weights of LightGlue; use its matcher {own}, or name weights that "
                "were trained for it, and one of their architecture: --matcher-option weights=FILE "
                "--matcher-option feature=aliked."
            )
        if given is None:
            return {**model, "feature": needed}
        if _weights_for(given) != needed and not _is_file(model.get("weights")):
            remedy = "lightglue" if needed else f"its matcher {own}"
            raise ValueError(
                f"{name} cannot be matched with LightGlue's weights for {given}; use {remedy}, or "
                "name weights that were trained for it: --matcher-option weights=FILE."
            )
        return dict(model)

    def check_features_of(self, method: str | None) -> None:
        """Check that the weights are for a method; see :class:`featplug.base.Matcher`."""
        feature = conf_of_features({"name": method} if method else None)
        if feature is not None:
            self.model_for(self.conf, feature)

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match one pair; see :class:`featplug.base.Matcher`.

        The memory grows with N0·N1: 4 GB at 8,192 keypoints.

        Raises:
            ValueError: the descriptors are not those that the weights are for, or a keypoint is
                outside its image.
        """
        images = [self._input(features) for features in (features0, features1)]
        result = self.network({"image0": images[0], "image1": images[1]})
        matches, scores = result["matches0"][0], result["matching_scores0"][0]
        # kornia also scores mutual neighbours below the threshold.
        return {"matches0": matches, "matching_scores0": torch.where(matches < 0, 0, scores)}

    def _input(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return one image's input of kornia's network."""
        form = lightglue_form(features)
        dim, name = self.network.conf.input_dim, self.conf["feature"]
        if form["descriptors"].shape[1] and form["descriptors"].shape[2] != dim:
            raise ValueError(
                f"LightGlue's weights for {name} take descriptors of {dim} dimensions, not "
                f"{form['descriptors'].shape[2]}; name the feature that they are of: "
                "--matcher-option feature=NAME."
            )
        corner, size = form["keypoints"] + 0.5, form["image_size"][:, None]
        form["keypoints"] = torch.minimum(corner.clamp(min=0), size)
        if corner.numel() and float((corner - form["keypoints"]).abs().max()) > 1:
            width, height = (int(value) for value in size.flatten())
            raise ValueError(
                f"Keypoints leave the image of {width}×{height} pixels; check image_size, which "
                "is (width, height) of the original image."
            )
        if "lafs" in form:
            form["lafs"] = form["lafs"] + form["lafs"].new_tensor([0, 0, 0.5])
        if name in _KORNIAS_FRAMES:
            form["scales"] = 12 * form["scales"]  # which kornia divides by 6
            form["oris"] = torch.remainder(-form["oris"], 2 * torch.pi)
        return form


def _weights_for(feature: str | None) -> str:
    """Return kornia's name of the weights for a feature conf or for weights.

    Raises:
        ValueError: there are none.
    """
    from featplug.networks.lightglue import LightGlue as Network

    known = [name for name in Network.features if preferred_entries(f"lightglue-{name}")]
    if feature in known:
        return feature
    if feature is not None and (name := features.get(feature, {}).get("lightglue")) in known:
        return name
    unknown = "needs to know the feature" if feature is None else f"has no weights for {feature!r}"
    raise ValueError(
        f"LightGlue {unknown}; name one that it has weights for: --matcher-option feature=NAME (in "
        f"Python, load_matcher's feature), NAME being one of {', '.join(known)}."
    )


def _is_file(weights: str | None) -> bool:
    return weights is not None and Path(weights).expanduser().is_file()
