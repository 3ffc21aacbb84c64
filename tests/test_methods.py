"""The table of confs, and confs that describe another one's keypoints."""

from __future__ import annotations

import pytest

from featplug.methods import feature_conf, features, matcher_conf, matchers, retrieval


def test_every_output_is_its_own_and_ours() -> None:
    tables = (features, matchers, retrieval)
    outputs = [conf["output"] for table in tables for conf in table.values()]
    assert len(set(outputs)) == len(outputs)
    assert all("featplug" in output for output in outputs)
    assert all(conf["matcher"] in matchers for conf in features.values())


def test_keypoints_of_another_conf_are_read_as_that_conf_says() -> None:
    conf = feature_conf("lisrd+d2net")
    assert conf["model"]["name"] == "lisrd"
    assert conf["model"]["detector"] == features["d2net"]["model"]
    assert conf["preprocessing"] == features["d2net"]["preprocessing"]
    assert conf["output"] == "feats-featplug-lisrd+d2net"
    assert conf["matcher"] == "lisrd"
    assert (
        feature_conf("doap+contextdesc+d2net")["model"]["detector"]["detector"]
        == (features["d2net"]["model"])
    )
    conf["model"]["detector"]["name"] = "mine"
    assert feature_conf("lisrd+d2net")["model"]["detector"]["name"] == "d2net"  # a copy


def test_unknown_names_are_named() -> None:
    with pytest.raises(ValueError, match=r"no feature 'surf'; there are sift, .*, mtldesc"):
        feature_conf("surf")
    with pytest.raises(ValueError, match="no feature 'surf'"):
        feature_conf("lisrd+surf")
    with pytest.raises(ValueError, match=r"d2net does not describe .*; lisrd, .*contextdesc.* do"):
        feature_conf("d2net+sift")
    with pytest.raises(ValueError, match="no matcher 'flann'; there are NN-mutual"):
        matcher_conf("flann")
