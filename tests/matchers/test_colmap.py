"""Tests of COLMAP's own matchers."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pycolmap
import pytest
import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.extractors.colmap import ColmapExtractor
from featplug.matchers import colmap
from featplug.matchers.colmap import ColmapMatcher
from featplug.methods import (
    build_matcher,
    conf_of_features,
    feature_conf,
    matcher_conf,
    matcher_conf_for,
    matchers,
)
from tests.matchers.contract import MatcherContract
from tests.matchers.turned_pairs import true_partners, turned_pair
from tests.scenes.pictures import textured_image

if not hasattr(pycolmap, "FeatureMatcherType"):
    pytest.skip("pycolmap 3.13 has no such matchers", allow_module_level=True)


def sift_pair(num0: int, num1: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Features whose descriptors have no negative numbers, as SIFT's."""
    image0, image1 = turned_pair(num0, num1)
    for image in (image0, image1):
        descriptors = image["descriptors"].abs()
        image["descriptors"] = descriptors / descriptors.norm(dim=0).clamp(min=1e-9)
    return image0, image1


class TestColmap(MatcherContract):
    method = "colmap"

    @classmethod
    def names(cls) -> list[str]:
        return ["colmap/bruteforce"]

    @pytest.fixture
    def conf(self, name: str) -> dict[str, Any]:
        return matcher_conf_for(feature_conf("colmap/sift"), name)["model"]

    def pair(
        self, conf: Mapping[str, Any], num0: int, num1: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return sift_pair(num0, num1)


def test_partners_are_matched() -> None:
    image0, image1 = sift_pair(400, 300)
    matches = ColmapMatcher({"feature": "SIFT"}).match_pair(image0, image1)["matches0"]
    partners = true_partners(image0, image1)
    matched = matches >= 0
    assert int(matched.sum()) > 0.9 * 150
    assert (matches[matched] == partners[matched]).float().mean() > 0.98


def test_matches_are_those_that_pycolmap_finds() -> None:
    """Through the database as by pycolmap's own call, for COLMAP's own features."""
    pictures = [textured_image(3, width=200, height=160), None]
    pictures[1] = np.ascontiguousarray(pictures[0][5:, 7:])
    sides, typed = [], []
    for picture in pictures:
        image = ColmapExtractor().extract(torch.from_numpy(picture / np.float32(255))[None])
        size = torch.tensor([picture.shape[1], picture.shape[0]]).float()
        sides.append({**image, "image_size": size})
        rows = (image["descriptors"].T * 512).numpy().astype(np.uint8)
        kind = pycolmap.FeatureExtractorType.SIFT
        frames = np.zeros((len(rows), 4), np.float32)
        typed.append(
            (pycolmap.keypoints_from_matrix(frames), pycolmap.FeatureDescriptors(kind, rows))
        )
    options = pycolmap.FeatureMatchingOptions()
    options.sift.cpu_brute_force_matcher = True
    expected = pycolmap.FeatureMatcher.create(options, pycolmap.Device.cpu).match(
        *typed[0], *typed[1]
    )
    conf = {"feature": "SIFT", "options": {"cpu_brute_force_matcher": True}}
    matches = ColmapMatcher(conf).match_pair(*sides)["matches0"]
    (rows,) = torch.nonzero(matches >= 0, as_tuple=True)
    assert len(rows) > 50
    found = set(zip(rows.tolist(), matches[rows].tolist(), strict=True))
    assert found == {(int(i), int(j)) for i, j in expected}


def test_options_reach_colmap() -> None:
    image0, image1 = sift_pair(300, 300)
    strict = ColmapMatcher({"feature": "SIFT", "options": {"max_distance": 0.15}})
    number = int((strict.match_pair(image0, image1)["matches0"] >= 0).sum())
    assert number < 0.5 * 150
    with pytest.raises(ValueError, match=r"colmap/bruteforce.*'ratio'.*max_ratio"):
        ColmapMatcher({"feature": "SIFT", "options": {"ratio": 0.5}})


@pytest.mark.parametrize("name", ["bruteforce", "sift-bruteforce"])
def test_the_feature_chooses_the_kind(name: str) -> None:
    for feature in ("colmap/sift", "sift"):
        model = matcher_conf_for(feature_conf(feature), f"colmap/{name}")["model"]
        assert build_matcher(model).conf["feature"] == "SIFT"
    with pytest.raises(ValueError, match=r"mtldesc.*colmap/.*SIFT.*its matcher mtldesc"):
        matcher_conf_for(feature_conf("mtldesc"), f"colmap/{name}")


def test_a_feature_file_says_its_kind() -> None:
    for name in ("sift", "aliked-n32"):
        conf = feature_conf(f"colmap/{name}")
        model = {**conf["model"], "max_keypoints": 100, "options": {}}
        found = conf_of_features(model)
        assert found is not None
        assert found["colmap"] == conf["colmap"]


def test_features_of_unknown_origin_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"colmap/bruteforce.*--matcher-option feature=.*SIFT"):
        build_matcher(matcher_conf("colmap/bruteforce")["model"])


@pytest.mark.parametrize("descriptors", [-torch.ones(128, 9), torch.ones(64, 9)])
def test_other_descriptors_than_sifts_are_rejected(descriptors: Tensor) -> None:
    image = {**sift_pair(9, 9)[0], "descriptors": descriptors / 8}
    with pytest.raises(ValueError, match=r"colmap/bruteforce takes SIFT's.*own matcher"):
        ColmapMatcher({"feature": "SIFT"}).match_pair(image, image)


def test_names_are_those_of_pycolmap(monkeypatch: pytest.MonkeyPatch) -> None:
    family = matchers.families["colmap"]
    expected = {"bruteforce", "lightglue", "sift-bruteforce", "aliked-lightglue"}
    assert expected <= set(family.names())
    with pytest.raises(ValueError, match=r"'brutforce'.*'bruteforce'"):
        matcher_conf("colmap/brutforce")
    features = {"SIFT": 0, "ALIKED_N32": 1, "NEW_A": 2, "NEW_B": 3}
    kinds = {"SIFT_GLUE": 0, "ALIKED_GLUE": 1, "NEW_A": 2, "NEW_B": 3, "NEW_FAST": 4}
    for enumeration, members in [("FeatureExtractorType", features), ("FeatureMatcherType", kinds)]:
        new = SimpleNamespace(__members__={"UNDEFINED": -1, **members})
        monkeypatch.setattr(pycolmap, enumeration, new)
    names = ["sift-glue", "aliked-glue", "new-a", "new-b", "new", "new-fast", "glue"]
    assert sorted(family.names()) == sorted(names)
    assert colmap._kinds()["new"] == {"NEW_A": "NEW_A", "NEW_B": "NEW_B"}
    assert colmap._kinds()["glue"] == {"SIFT": "SIFT_GLUE", "ALIKED_N32": "ALIKED_GLUE"}


@pytest.mark.parametrize(
    ("name", "feature", "instead"),
    [("lightglue", "colmap/aliked-n32", "use lightglue"), ("loma", "colmap/loma-b", "NN-mutual")],
)
def test_without_onnx_the_remedy_is_named(name: str, feature: str, instead: str) -> None:
    if hasattr(pycolmap.FeatureMatchingOptions(), "aliked"):
        pytest.skip("this pycolmap has ONNX")
    if name not in matchers.families["colmap"].names():
        pytest.skip(f"this pycolmap has no {name}")
    model = matcher_conf_for(feature_conf(feature), f"colmap/{name}")["model"]
    with pytest.raises(ValueError, match=rf"colmap/{name}.*-DONNX_ENABLED=ON.*{instead}") as caught:
        build_matcher(model)
    assert "\n" not in str(caught.value)


def test_descriptors_of_a_network_reach_colmap_as_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pycolmap with ONNX finds in the database: floats, keypoints and sizes."""
    seen: dict[str, Any] = {}

    def match_image_pairs(path: Any, options: Any, pairing: Any, device: Any) -> None:
        with pycolmap.Database.open(str(path)) as database:
            seen["floats"] = [database.read_descriptors(i).to_float().data for i in (1, 2)]
            seen["size"] = [
                (database.read_camera(i).width, database.read_camera(i).height) for i in (1, 2)
            ]
            seen["keypoints"] = database.read_keypoints(1)
            database.write_matches(1, 2, np.array([[0, 3], [2, 1]], np.uint32))

    aliked = SimpleNamespace(todict=dict)
    options = SimpleNamespace(aliked=aliked, max_num_matches=10, type=None)
    monkeypatch.setattr(colmap, "typed_options", lambda *_: options)
    monkeypatch.setattr(
        pycolmap, "FeatureMatcher", SimpleNamespace(create=lambda options, device: None)
    )
    monkeypatch.setattr(pycolmap, "match_image_pairs", match_image_pairs)
    matcher: Matcher = ColmapMatcher({"type": "lightglue", "feature": "ALIKED_N32"})
    images = turned_pair(12, 5)
    images = tuple({k: v for k, v in i.items() if k not in ("scales", "oris")} for i in images)
    matches = matcher.match_pair(*images)["matches0"]
    assert matches.tolist() == [3, -1, 1, *[-1] * 9]
    for image, floats in zip(images, seen["floats"], strict=True):
        np.testing.assert_array_equal(floats, image["descriptors"].T)
    assert seen["size"] == [(800, 600), (800, 600)]
    np.testing.assert_allclose(seen["keypoints"][:, :2], images[0]["keypoints"] + 0.5)
    assert options.max_num_matches == 12
