"""Our confs in the form that hloc's engines take.

They differ from those of :mod:`featplug.methods` in three respects. The model is called
``featplug_NAME``, for hloc's ``dynamic_load``, with the characters of a class's name that no module
can have as in a URL. The files have another name, because hloc's engines
write them differently (see :mod:`featplug.hloc.shims`), and neither program may resume the other's.
And the model preprocesses if hloc's image reader lacks an option of ours, which it would ignore, or
if the method returns local affine frames, as hloc scales only keypoints and scales with the image.
"""

from typing import Any
from urllib.parse import quote, unquote

from featplug.methods import (
    feature_conf,
    features,
    matcher_conf,
    matcher_conf_for,
    matcher_of,
    matchers,
    retrieval,
    retrieval_conf,
)
from featplug.methods.method_names import file_word, parse_method

MODEL_PREFIX = "featplug_"
"""Prefix of a method's name in hloc."""
_READER_OPTIONS = frozenset({"grayscale", "resize_max", "resize_force", "interpolation"})
"""Options of hloc's image reader."""


def extractor_confs() -> dict[str, dict[str, Any]]:
    """Return all confs for hloc's ``extract_features``: features, and networks for retrieval.

    They lack VLAD, which reads a feature file.
    """
    confs = {name: extractor_conf(name) for name in features}
    for name in retrieval:
        if "preprocessing" in retrieval[name]:
            confs[name] = _for_reader(retrieval_conf(name))
    return confs


def extractor_conf(name: str) -> dict[str, Any]:
    """Return a feature conf for hloc's ``extract_features``.

    The names, and the ``ValueError``, are those of :func:`featplug.methods.feature_conf`.
    """
    conf = feature_conf(name)
    cls = features.method_class(conf["model"]["name"])
    return _for_reader(conf, returns_frames="lafs" in cls.keypoint_axes)


def matcher_confs() -> dict[str, dict[str, Any]]:
    """Return all confs for hloc's ``match_features``.

    A matcher whose weights belong to a feature has one for each of these: ``disk+lightglue``.
    """
    confs = {name: _renamed(matcher_conf(name)) for name in matchers}
    for name in matchers:
        cls = matchers.method_class(matchers[name]["model"]["name"])
        if "model_for" in vars(cls):
            for feature in features:
                try:
                    own, conf = matcher_conf_of(f"{feature}+{name}")
                except ValueError:
                    continue  # it is not for this feature
                confs.setdefault(own, conf)
    return confs


def requested_matcher_conf(name: str) -> dict[str, Any]:
    """Return a matcher conf for hloc's ``match_features``, by any name of a matcher."""
    return _renamed(matcher_conf(name))


def matcher_conf_of(feature: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the conf of a feature's matcher for hloc's ``match_features``.

    The matcher has its own name, or that of the feature where the conf depends on it.
    """
    conf = feature_conf(feature)
    matcher = parse_method(feature).matcher or matcher_of(conf)
    chosen = matcher_conf_for(conf, matcher)
    is_general = matcher in matchers and chosen["model"] == matcher_conf(matcher)["model"]
    if is_general:
        return matcher, _renamed(chosen)
    word = file_word(parse_method(feature).feature)
    return feature, _renamed({**chosen, "output": f"{chosen['output']}-{word}"})


def model_name(method: str) -> str:
    """Return the name of a method's module in hloc."""
    return MODEL_PREFIX + quote(method, safe="").replace(".", "%2E")


def method_of(model: str) -> str:
    """Return the method of a module in hloc."""
    return unquote(model.removeprefix(MODEL_PREFIX))


def _renamed(conf: dict[str, Any]) -> dict[str, Any]:
    return {**conf, "model": {**conf["model"], "name": model_name(conf["model"]["name"])}}


def _for_reader(conf: dict[str, Any], returns_frames: bool = False) -> dict[str, Any]:
    conf = _renamed(conf)
    conf["output"] = conf["output"].replace("featplug", "featplug-hloc", 1)
    if returns_frames or not _READER_OPTIONS.issuperset(conf["preprocessing"]):
        conf["model"]["preprocessing"] = conf["preprocessing"]
        conf["preprocessing"] = {"grayscale": conf["preprocessing"].get("grayscale", False)}
    return conf
