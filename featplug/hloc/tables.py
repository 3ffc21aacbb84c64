"""Our confs in the form that hloc's engines take.

An entry differs from the one in :mod:`featplug.methods` in three respects. Its model is found by
hloc's ``dynamic_load``, as ``featplug_NAME``. Its files have another name, because hloc's engines
write them otherwise (see :mod:`featplug.hloc.shims`), and what one program began the other must
not go on with. And where hloc's image reader lacks an option of ours, and would pass over it
silently, the model does the preprocessing.
"""

from __future__ import annotations

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
"""Before the name of a method of ours, the name of its model in hloc."""
_READER_OPTIONS = frozenset({"grayscale", "resize_max", "resize_force", "interpolation"})
"""Of hloc's image reader."""


def extractor_confs() -> dict[str, dict[str, Any]]:
    """Give all confs for hloc's ``extract_features``: features, and networks for retrieval.

    Methods of your own (``module:Class``) are left out, as hloc cannot find them, and so is VLAD,
    which is made from a feature file.
    """
    confs = {name: extractor_conf(name) for name in features if _is_module(features[name])}
    for name in retrieval:
        if _is_module(retrieval[name]) and "preprocessing" in retrieval[name]:
            confs[name] = _for_reader(retrieval_conf(name))
    return confs


def extractor_conf(name: str) -> dict[str, Any]:
    """Give a feature conf for hloc's ``extract_features``.

    Args:
        name: one of :data:`featplug.methods.features`, or ``DESCRIBER+NAME`` of them.

    Raises:
        ValueError: there is none of that name; lists those there are.
    """
    return _for_reader(feature_conf(name))


def matcher_confs() -> dict[str, dict[str, Any]]:
    """Give all confs for hloc's ``match_features``, but those with a class of your own."""
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
