"""Every named feature, matcher and retrieval conf: the one table to edit.

The entries have hloc's dict form, so that the same entry serves our engines and hloc's:
``output`` names the file, ``model`` configures the method (``name`` is a file of
:mod:`featplug.extractors` or :mod:`featplug.matchers`), ``preprocessing`` says how images are read.
A feature conf also names the ``matcher`` conf that it is matched with by default, its ``paper``
and the ``dimensions`` of its descriptors. Every ``output`` contains ``featplug``, so that nothing
of ours is ever resumed as hloc's or the reverse.

A retrieval conf describes whole images: ``netvlad`` from their pixels, ``vlad`` from the local
features of any feature conf.

A conf with a ``detector`` describes the keypoints of any other: ``lisrd+mtldesc`` is ``lisrd`` at
the keypoints of ``mtldesc``.
"""

from __future__ import annotations

import copy
from itertools import accumulate
from operator import truediv
from typing import Any

_D2NET_PREPROCESSING = {
    # The limits of the authors' command line, applied in one resize (they: two).
    "grayscale": False,
    "resize_max": 1600,
    "resize_max_sum": 2800,
    "interpolation": "pil_bilinear",
}
_D2NET_SCALES = [0.5, 1.0, 2.0]
# Divided again and again, as released: sizes that end on a half are rounded by the last bit.
_MTLDESC_SCALES = list(accumulate([1.0] + 6 * [2**0.25], truediv))
# In colour for SIFT, too: a JPEG's own luma differs from the grey of its colours by rounding, and
# SIFT's keypoints must be the same ones where another method describes them.
_PREPROCESSING = {"grayscale": False, "resize_max": 1600}
_SIFT = {"name": "sift"}

_PAPERS = {
    "sift": "Lowe, IJCV 2004; RootSIFT: Arandjelović and Zisserman, CVPR 2012",
    "d2net": "Dusmanu et al., CVPR 2019",
    "mtldesc": "Wang et al., AAAI 2022",
    "lisrd": "Pautrat et al., ECCV 2020",
    "contextdesc": "Luo et al., CVPR 2019",
    "doap": "He et al., CVPR 2018",
    "netvlad": "Arandjelović et al., CVPR 2016",
    "vlad": "Jégou et al., CVPR 2010; Arandjelović and Zisserman, CVPR 2013",
}


def _feature(
    name: str,
    paper: str,
    model: dict[str, Any],
    matcher: str,
    dimensions: str,
    preprocessing: dict[str, Any] = _PREPROCESSING,
) -> dict[str, Any]:
    return {
        "output": f"feats-featplug-{name}",
        "model": model,
        "preprocessing": preprocessing,
        "matcher": matcher,
        "paper": _PAPERS[paper],
        "dimensions": dimensions,
    }


def _d2net(name: str, **options: Any) -> dict[str, Any]:
    model = {"name": "d2net", **options}
    return _feature(name, "d2net", model, "NN-mutual", "512", _D2NET_PREPROCESSING)


def _contextdesc(name: str, **options: Any) -> dict[str, Any]:
    model = {"name": "contextdesc", "detector": _SIFT, **options}
    return _feature(name, "contextdesc", model, "NN-mutual", "128")


def _doap(name: str, dimensions: str, matcher: str) -> dict[str, Any]:
    model = {"name": "doap", "checkpoint": name, "detector": _SIFT}
    return _feature(name, "doap", model, matcher, dimensions)


features: dict[str, dict[str, Any]] = {
    "sift": _feature("sift", "sift", _SIFT, "NN-ratio", "128"),
    # OpenCV's own settings, with which the authors of LISRD and ContextDesc evaluate.
    "sift-opencv": _feature(
        "sift-opencv",
        "sift",
        {
            "name": "sift",
            "max_detections": 0,
            "contrast_threshold": 0.04,
            "edge_threshold": 10.0,
            "score": "response",
            "precise_upscale": False,
            "descriptor_window": 1.0,
        },
        "NN-ratio",
        "128",
    ),
    "d2net": _d2net("d2net", checkpoint="d2net"),
    "d2net-ms": _d2net("d2net-ms", checkpoint="d2net", scales=_D2NET_SCALES),
    # The paper uses the ImageNet weights without the last rectification.
    "d2net-ots": _d2net("d2net-ots", checkpoint="d2net-ots", use_relu=False),
    "d2net-ots-ms": _d2net(
        "d2net-ots-ms", checkpoint="d2net-ots", use_relu=False, scales=_D2NET_SCALES
    ),
    "mtldesc": _feature(
        "mtldesc",
        "mtldesc",
        {"name": "mtldesc", "checkpoint": "mtldesc"},
        "mtldesc",
        "128 (weighted)",
    ),
    "mtldesc-ms": _feature(
        "mtldesc-ms",
        "mtldesc",
        {"name": "mtldesc", "checkpoint": "mtldesc", "scales": _MTLDESC_SCALES},
        "mtldesc",
        "128 (weighted)",
    ),
    "lisrd": _feature(
        "lisrd",
        "lisrd",
        {"name": "lisrd", "checkpoint": "lisrd", "detector": _SIFT},
        "lisrd",
        "4 × 128 + meta 4 × 1024",
    ),
    "lisrd-sift": _feature(
        "lisrd-sift",
        "lisrd",
        # The descriptors of the conf sift, far better than those of the authors' settings.
        {
            "name": "lisrd_sift",
            "checkpoint": "lisrd-sift",
            "detector": _SIFT,
            "descriptor_window": 2.0,
            "root_sift": True,
        },
        "lisrd-sift",
        "2 × 128 + meta 2 × 1024",
    ),
    "contextdesc": _contextdesc(
        "contextdesc", checkpoint="contextdesc", regional_checkpoint="contextdesc-regional"
    ),
    "contextdesc-upright": _contextdesc(
        "contextdesc-upright",
        checkpoint="contextdesc-upright",
        regional_checkpoint="contextdesc-regional",
        upright=True,
    ),
    # The paper's use without regional features.
    "contextdesc-geo": _contextdesc(
        "contextdesc-geo", checkpoint="contextdesc", visual_context=False
    ),
    "doap": _doap("doap", "128", "NN-mutual"),
    "doap-binary": _doap("doap-binary", "256 bit", "NN-hamming"),
    "doap-st": _doap("doap-st", "128", "NN-mutual"),
    "doap-st-binary": _doap("doap-st-binary", "256 bit", "NN-hamming"),
}
"""Named feature confs."""


def _matcher(name: str, method: str, **options: Any) -> dict[str, Any]:
    return {"output": f"matches-featplug-{name}", "model": {"name": method, **options}}


matchers: dict[str, dict[str, Any]] = {
    "NN-mutual": _matcher("NN-mutual", "nearest_neighbor", do_mutual_check=True),
    "NN-ratio": _matcher(
        "NN-mutual-ratio.8", "nearest_neighbor", do_mutual_check=True, ratio_threshold=0.8
    ),
    "NN-mutual-l2": _matcher("NN-mutual-l2", "nearest_neighbor", do_mutual_check=True, metric="l2"),
    "NN-hamming": _matcher(
        "NN-mutual-hamming", "nearest_neighbor", do_mutual_check=True, metric="hamming"
    ),
    # MTLDesc's descriptors are not of unit length. Its paper compares their distances, the
    # notebook of its authors the products.
    "mtldesc": _matcher("mtldesc", "nearest_neighbor", do_mutual_check=True, metric="l2"),
    "mtldesc-dot": _matcher("mtldesc-dot", "nearest_neighbor", do_mutual_check=True, metric="dot"),
    "lisrd": _matcher("lisrd", "lisrd"),
    "lisrd-sift": _matcher("lisrd-sift", "lisrd", distance="l2"),
}
"""Named matcher confs."""


def _retrieval(name: str, paper: str, model: dict[str, Any], **entries: Any) -> dict[str, Any]:
    output = f"global-feats-featplug-{name}"
    return {"output": output, "model": model, **entries, "paper": _PAPERS[paper]}


retrieval: dict[str, dict[str, Any]] = {
    "netvlad": _retrieval(
        "netvlad",
        "netvlad",
        {"name": "netvlad", "checkpoint": "netvlad"},
        preprocessing={"grayscale": False, "resize_max": 1024},
    ),
    "vlad": _retrieval("vlad", "vlad", {"name": "vlad"}),
    # For large and varied databases only: of one room or street, the leading components, which
    # whitening plays down, are what tells the places apart.
    "vlad-whitened": _retrieval("vlad-whitened", "vlad", {"name": "vlad", "num_components": 512}),
}
"""Named retrieval confs."""


def feature_conf(name: str) -> dict[str, Any]:
    """Give a copy of a named feature conf.

    Args:
        name: one of :data:`features`, or ``DESCRIBER+NAME``: the keypoints of the conf NAME,
            read and resized as that conf says, described by another that has a ``detector``.

    Raises:
        ValueError: there is none of that name; lists those there are.
    """
    describer, plus, detector = name.partition("+")
    conf = _lookup(features, describer, "feature")
    if not plus:
        return conf
    if "detector" not in conf["model"]:
        able = ", ".join(key for key, value in features.items() if "detector" in value["model"])
        raise ValueError(
            f"{describer} does not describe the keypoints of another feature, so there is no "
            f"{name!r}; {able} do."
        )
    detecting = feature_conf(detector)
    conf["output"] = f"feats-featplug-{name}"
    conf["model"]["detector"] = detecting["model"]
    conf["preprocessing"] = {**detecting["preprocessing"], "grayscale": False}
    conf["paper"] = f"{conf['paper']}; keypoints: {detecting['paper']}"
    return conf


def matcher_conf(name: str) -> dict[str, Any]:
    """Give a copy of a named matcher conf.

    Raises:
        ValueError: there is none of that name; lists those there are.
    """
    return _lookup(matchers, name, "matcher")


def retrieval_conf(name: str) -> dict[str, Any]:
    """Give a copy of a named retrieval conf.

    Raises:
        ValueError: there is none of that name; lists those there are.
    """
    return _lookup(retrieval, name, "retrieval")


def _lookup(table: dict[str, dict[str, Any]], name: str, kind: str) -> dict[str, Any]:
    if name not in table:
        raise ValueError(f"There is no {kind} {name!r}; there are {', '.join(table)}.")
    return copy.deepcopy(table[name])
