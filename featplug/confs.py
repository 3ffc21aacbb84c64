"""Every named feature and matcher conf: the one table to edit.

The entries have hloc's dict form, so that the same entry serves our engines and hloc's:
``output`` names the file, ``model`` configures the method (``name`` is a file of
:mod:`featplug.extractors` or :mod:`featplug.matchers`), ``preprocessing`` says how images are read.
A feature conf also names the ``matcher`` conf that it is matched with by default. Every ``output``
contains ``featplug``, so that nothing of ours is ever resumed as hloc's or the reverse.
"""

from __future__ import annotations

import copy
from typing import Any

_D2NET_PREPROCESSING = {
    # The limits of the authors' command line, applied in one resize (they: two).
    "grayscale": False,
    "resize_max": 1600,
    "resize_max_sum": 2800,
    "interpolation": "pil_bilinear",
}
_D2NET_SCALES = [0.5, 1.0, 2.0]

features: dict[str, dict[str, Any]] = {
    "sift": {
        "output": "feats-featplug-sift",
        "model": {"name": "sift"},
        "preprocessing": {"grayscale": True, "resize_max": 1600},
        "matcher": "NN-ratio",
    },
    "d2net": {
        "output": "feats-featplug-d2net",
        "model": {"name": "d2net", "checkpoint": "d2net"},
        "preprocessing": _D2NET_PREPROCESSING,
        "matcher": "NN-mutual",
    },
    "d2net-ms": {
        "output": "feats-featplug-d2net-ms",
        "model": {"name": "d2net", "checkpoint": "d2net", "scales": _D2NET_SCALES},
        "preprocessing": _D2NET_PREPROCESSING,
        "matcher": "NN-mutual",
    },
    "d2net-ots": {
        "output": "feats-featplug-d2net-ots",
        "model": {"name": "d2net", "checkpoint": "d2net-ots", "use_relu": False},
        "preprocessing": _D2NET_PREPROCESSING,
        "matcher": "NN-mutual",
    },
    "d2net-ots-ms": {
        "output": "feats-featplug-d2net-ots-ms",
        "model": {
            "name": "d2net",
            "checkpoint": "d2net-ots",
            "use_relu": False,
            "scales": _D2NET_SCALES,
        },
        "preprocessing": _D2NET_PREPROCESSING,
        "matcher": "NN-mutual",
    },
}
"""Named feature confs."""

matchers: dict[str, dict[str, Any]] = {
    "NN-mutual": {
        "output": "matches-featplug-NN-mutual",
        "model": {"name": "nearest_neighbor", "do_mutual_check": True},
    },
    "NN-ratio": {
        "output": "matches-featplug-NN-mutual-ratio.8",
        "model": {"name": "nearest_neighbor", "do_mutual_check": True, "ratio_threshold": 0.8},
    },
    "NN-mutual-l2": {
        "output": "matches-featplug-NN-mutual-l2",
        "model": {"name": "nearest_neighbor", "do_mutual_check": True, "metric": "l2"},
    },
    "NN-hamming": {
        "output": "matches-featplug-NN-mutual-hamming",
        "model": {"name": "nearest_neighbor", "do_mutual_check": True, "metric": "hamming"},
    },
}
"""Named matcher confs."""


def feature_conf(name: str) -> dict[str, Any]:
    """Give a copy of a named feature conf.

    Raises:
        ValueError: there is none of that name; lists those there are.
    """
    return _lookup(features, name, "feature")


def matcher_conf(name: str) -> dict[str, Any]:
    """Give a copy of a named matcher conf.

    Raises:
        ValueError: there is none of that name; lists those there are.
    """
    return _lookup(matchers, name, "matcher")


def _lookup(table: dict[str, dict[str, Any]], name: str, kind: str) -> dict[str, Any]:
    if name not in table:
        raise ValueError(f"There is no {kind} {name!r}; there are {', '.join(table)}.")
    return copy.deepcopy(table[name])
