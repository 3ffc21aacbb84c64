"""Our confs in the form that hloc's engines take.

They differ from those of :mod:`featplug.methods` in three respects. The model is called
``featplug_NAME``, for hloc's ``dynamic_load``. The files have another name, because hloc's engines
write them differently (see :mod:`featplug.hloc.shims`), and neither program may resume the other's.
And if hloc's image reader lacks an option of ours, which it would ignore, the model preprocesses.
"""

from typing import Any

from featplug.methods import (
    feature_conf,
    features,
    matcher_conf,
    matchers,
    retrieval,
    retrieval_conf,
)

MODEL_PREFIX = "featplug_"
"""Prefix of a method's name in hloc."""
_READER_OPTIONS = frozenset({"grayscale", "resize_max", "resize_force", "interpolation"})
"""Options of hloc's image reader."""


def extractor_confs() -> dict[str, dict[str, Any]]:
    """Return all confs for hloc's ``extract_features``: features, and networks for retrieval.

    They lack outside methods (``module:Class``), which hloc cannot find, and VLAD, which reads a
    feature file.
    """
    confs = {name: extractor_conf(name) for name in features if _is_module(features[name])}
    for name in retrieval:
        if _is_module(retrieval[name]) and "preprocessing" in retrieval[name]:
            confs[name] = _for_reader(retrieval_conf(name))
    return confs


def extractor_conf(name: str) -> dict[str, Any]:
    """Return a feature conf for hloc's ``extract_features``.

    The names, and the ``ValueError``, are those of :func:`featplug.methods.feature_conf`.
    """
    return _for_reader(feature_conf(name))


def matcher_confs() -> dict[str, dict[str, Any]]:
    """Return all confs for hloc's ``match_features``, without those of outside methods."""
    return {name: _renamed(matcher_conf(name)) for name in matchers if _is_module(matchers[name])}


def _is_module(conf: dict[str, Any]) -> bool:
    return ":" not in conf["model"]["name"]


def _renamed(conf: dict[str, Any]) -> dict[str, Any]:
    return {**conf, "model": {**conf["model"], "name": MODEL_PREFIX + conf["model"]["name"]}}


def _for_reader(conf: dict[str, Any]) -> dict[str, Any]:
    conf = _renamed(conf)
    conf["output"] = conf["output"].replace("featplug", "featplug-hloc", 1)
    if not _READER_OPTIONS.issuperset(conf["preprocessing"]):
        conf["model"]["preprocessing"] = conf["preprocessing"]
        conf["preprocessing"] = {"grayscale": conf["preprocessing"]["grayscale"]}
    return conf
