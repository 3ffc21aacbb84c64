"""The table of confs, and confs that describe another one's keypoints."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from featplug import methods


def test_every_output_is_its_own_and_ours() -> None:
    tables = (methods.features, methods.matchers, methods.retrieval)
    outputs = [conf["output"] for table in tables for conf in table.values()]
    assert len(set(outputs)) == len(outputs)
    assert all("featplug" in output for output in outputs)
    assert all(conf["matcher"] in methods.matchers for conf in methods.features.values())


def test_keypoints_of_another_conf_are_read_as_that_conf_says() -> None:
    conf = methods.feature_conf("lisrd@d2net")
    assert conf["model"]["name"] == "lisrd"
    assert conf["model"]["detector"] == methods.features["d2net"]["model"]
    assert conf["preprocessing"] == methods.features["d2net"]["preprocessing"]
    assert conf["output"] == "feats-featplug-lisrd@d2net"
    assert conf["matcher"] == "lisrd"
    assert (
        methods.feature_conf("doap@contextdesc@d2net")["model"]["detector"]["detector"]
        == (methods.features["d2net"]["model"])
    )
    conf["model"]["detector"]["name"] = "mine"
    assert methods.feature_conf("lisrd@d2net")["model"]["detector"]["name"] == "d2net"  # a copy


def test_unknown_names_are_named() -> None:
    with pytest.raises(ValueError, match=r"'surf'.*sift, .*, mtldesc"):
        methods.feature_conf("surf")
    with pytest.raises(ValueError, match="'surf'"):
        methods.feature_conf("lisrd@surf")
    with pytest.raises(ValueError, match=r"d2net.*lisrd, .*contextdesc"):
        methods.feature_conf("d2net@sift")
    with pytest.raises(ValueError, match=r"'flann'.*NN-mutual"):
        methods.matcher_conf("flann")
    with pytest.raises(ValueError, match=r"'nope'") as raised:
        methods.feature_conf("nope")
    assert "hloc/nope" not in str(raised.value)  # which hloc need not have


def test_the_option_of_a_file_is_named_where_a_method_is_expected() -> None:
    with pytest.raises(ValueError, match=r"^out/feats.h5 .*; use --features out/feats.h5"):
        methods.feature_conf("out/feats.h5")
    with pytest.raises(ValueError, match=r"^m.h5 .*; use --matches m.h5"):
        methods.matcher_conf("m.h5")


def test_a_conf_has_its_name_for_messages(own_methods: Path) -> None:
    names = ("sift", "lisrd@d2net", "colmap/sift", "corners.py:Corners")
    assert [methods.name_of(methods.feature_conf(name)) for name in names] == list(names)
    assert methods.name_of(methods.feature_conf("corners.py:Corners+NN-ratio")) == names[-1]


def test_a_conf_dict_needs_a_model_only(own_methods: Path) -> None:
    sift = methods.resolve_conf({"model": {"name": "sift", "contrast_threshold": 0.005}})
    expected = methods.features["sift"]
    assert {**sift, "model": expected["model"]} == expected
    assert sift["model"]["contrast_threshold"] == 0.005
    own = methods.feature_conf("corners.py:Corners")
    assert methods.resolve_conf({"model": own["model"]})["output"] == own["output"]
    for resolve, name in (
        (methods.resolve_matcher_conf, "nearest_neighbor"),
        (methods.resolve_pair_matcher_conf, "loftr"),
    ):
        assert "featplug" in resolve({"model": {"name": name}})["output"]
    chosen = methods.resolve_conf({"model": {"name": "aliked"}, "matcher": "NN-mutual"})
    assert methods.matcher_of(chosen, two_views=True) == "NN-mutual"
    for conf in ({}, {"model": "sift"}, {"model": {}}):
        with pytest.raises(ValueError, match="names no method; write"):
            methods.resolve_conf(conf)


def test_a_class_with_a_matcher_is_a_feature(own_methods: Path) -> None:
    for name in ("corners.py:Corners+NN-ratio", "sift+none.py:None_", "corners.py:Corners+loftr"):
        assert not methods.is_pair_matcher(name)
    for model, expected in (("loftr", True), ("sift", False), ("none.py:None_", False)):
        assert methods.is_pair_matcher({"model": {"name": model}}) is expected


@pytest.mark.parametrize(
    ("look_up", "name", "meant"),
    [
        (methods.feature_conf, "mtldsc", "mtldesc"),
        (methods.feature_conf, "SIFT", "sift"),
        (methods.feature_conf, "lisrd@d2-net", "d2net"),
        (methods.matcher_conf, "nn_mutual", "NN-mutual"),
        (methods.retrieval_conf, "netvald", "netvlad"),
        (methods.build_extractor, {"name": "contextdec"}, "contextdesc"),
        (methods.build_matcher, {"name": "nearest_neighbour"}, "nearest_neighbor"),
        (methods.build_global_extractor, {"name": "netvlat"}, "netvlad"),
        (methods.build_extractor, {"name": "sift", "max_keypoint": 3}, "max_keypoints"),
    ],
)
def test_the_closest_name_is_suggested(
    look_up: Callable[[Any], object], name: object, meant: str
) -> None:
    with pytest.raises(ValueError, match=f"Did you mean '{meant}'"):
        look_up(name)


def test_a_class_that_is_no_method_is_rejected() -> None:
    for name in ("pathlib:Path", "featplug.matchers.lisrd:LISRDMatcher", "pathlib:Paths", "vlad"):
        build = methods.build_global_extractor if name == "vlad" else methods.build_extractor
        with pytest.raises(ValueError, match=f"{name}.*featplug.base"):
            build({"name": name})


def test_a_file_of_a_package_registers_its_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "outside_methods"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from featplug.methods import MethodTable\n"
        "table = MethodTable('feature', 'outside_methods', 'Extractor', 'feats-featplug')\n"
    )
    for name, order in (("late", 2), ("early", 1)):
        (package / f"{name}.py").write_text(METHOD.format(name=name, order=order))
    monkeypatch.syspath_prepend(tmp_path)
    table = import_module("outside_methods").table
    assert not table._classes  # nothing is imported before the table is read
    assert list(table) == ["early", "early-ms", "late", "late-ms"]
    assert table["late-ms"] == {
        "output": "feats-featplug-late-ms",
        "model": {"name": "late", "scales": 2},
        "paper": "A paper",
    }
    extractor = table.build({**table["late-ms"]["model"], "scales": 3})
    assert extractor.conf == {"scales": 3}
    assert not extractor.training

    with pytest.raises(ValueError, match=r"'early'.*early has that name"):
        table.register({"early": {}})(type(extractor))
    outside = table.register({"mine": {}})(type("Mine", (), {"__module__": "my_module"}))
    assert table["mine"]["model"] == {"name": "my_module:Mine"}
    assert table.classes["my_module:Mine"] is outside


METHOD = """
from featplug.base import Extractor
from outside_methods import table

@table.register(
    {{"{name}": {{}}, "{name}-ms": {{"model": {{"scales": 2}}}}}}, {order}, paper="A paper"
)
class Method(Extractor):
    default_conf = {{"scales": 1}}

    def extract(self, image):
        return {{}}
"""
