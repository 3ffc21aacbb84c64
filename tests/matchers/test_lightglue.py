"""Tests of LightGlue and LighterGlue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kornia.feature as K
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import featplug
from featplug.api import Features
from featplug.base import Matcher
from featplug.io.artifact import Provenance
from featplug.io.h5file import H5Reader
from featplug.io.lightglue_form import lightglue_form
from featplug.io.store import FeatureWriter
from featplug.matchers.lightglue import LightGlue
from featplug.methods import (
    build_matcher,
    feature_conf,
    features,
    matcher_conf,
    matcher_conf_for,
)
from featplug.networks.lightglue import LightGlue as Network
from featplug.stages.match import match_features
from tests.matchers.contract import MatcherContract
from tests.matchers.turned_pairs import SIZE, true_partners, turned_pair

WITH_FRAMES = ("sift", "doghardnet", "keynet_affnet_hardnet")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of drawn weights by kornia's names."""
    folder = tmp_path_factory.mktemp("lightglue")
    files = {}
    for name in ("aliked", "disk", "xfeat", *WITH_FRAMES):
        torch.manual_seed(0)
        files[name] = str(folder / f"{name}.safetensors")
        save_file(Network(name).state_dict(), files[name])
    return files


def _drawn_conf(drawn: dict[str, str], feature: str, **options: Any) -> dict[str, Any]:
    # Drawn weights are never certain.
    conf = {"feature": feature, "weights": drawn[feature], "filter_threshold": 0.0}
    return {"name": "lightglue", **conf, **options}


def _official(feature: str, **options: Any) -> LightGlue:
    try:
        return LightGlue({"feature": feature, **options}).eval()
    except FileNotFoundError as error:
        pytest.skip(str(error))


class TestLightGlue(MatcherContract):
    method = "lightglue"
    score_tolerance = 1e-4

    @pytest.fixture
    def conf(self, name: str, drawn: dict[str, str]) -> dict[str, Any]:  # type: ignore[override]
        feature = matcher_conf(name)["model"].get("feature", "aliked")
        return _drawn_conf(drawn, feature)

    def pair(
        self, conf: Mapping[str, Any], num0: int, num1: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return turned_pair(num0, num1, 64 if conf["feature"] == "xfeat" else 128)


@pytest.fixture(params=["aliked", "disk", "xfeat", *WITH_FRAMES])
def matcher(request: pytest.FixtureRequest, drawn: dict[str, str]) -> Matcher:
    return build_matcher(_drawn_conf(drawn, request.param))


def _pair(matcher: Matcher, num0: int = 150, num1: int = 130) -> tuple[dict, dict]:
    images = turned_pair(num0, num1, matcher.network.conf.input_dim)
    for image in images:
        image["lafs"] = _frames(image, 12)[0]
    return images


def _frames(image: dict[str, Tensor], size: int) -> Tensor:
    """kornia's frames of a size in σ, 1×N×2×3; its angles turn the other way."""
    return K.laf_from_center_scale_ori(
        image["keypoints"][None],
        size * image["scales"][None, :, None, None],
        -image["oris"][None, :, None],
    )


def test_the_options_are_those_published(drawn: dict[str, str]) -> None:
    aliked = build_matcher(_drawn_conf(drawn, "aliked", filter_threshold=None)).conf
    xfeat = build_matcher(_drawn_conf(drawn, "xfeat", filter_threshold=None)).conf
    keys = ("depth_confidence", "width_confidence", "filter_threshold", "n_layers")
    assert [aliked[key] for key in keys] == [0.95, 0.99, 0.1, 9]
    assert [xfeat[key] for key in keys] == [-1, 0.95, 0.1, 6]


def test_options_and_the_record_of_the_weights(drawn: dict[str, str]) -> None:
    conf = _drawn_conf(drawn, "disk", depth_confidence=-1, width_confidence=-1, n_layers=3)
    matcher = build_matcher(conf)
    assert matcher.network.conf.width_confidence == matcher.network.conf.depth_confidence == -1
    (record,) = matcher.weights_records
    assert record.path == Path(drawn["disk"])
    short = K.LightGlue(None, input_dim=128, n_layers=3, filter_threshold=0.0)  # type: ignore[arg-type]
    short.load_state_dict(matcher.network.state_dict(), strict=False)
    assert torch.equal(short.confidence_thresholds, matcher.network.confidence_thresholds)
    short.conf.depth_confidence = short.conf.width_confidence = -1
    images = _pair(matcher)
    expected = short.eval()(_for_kornia(*images))["matches0"][0]
    assert torch.equal(matcher.match_pair(*images)["matches0"], expected)


def _for_kornia(image0: dict[str, Tensor], image1: dict[str, Tensor]) -> dict[str, Any]:
    return {"image0": lightglue_form(image0), "image1": lightglue_form(image1)}


@pytest.mark.parametrize("feature", ["aliked", "disk", "xfeat"])
def test_equals_kornias_own_call(feature: str) -> None:
    """With pixel centres, as the authors' code hands them over, the matches are the same."""
    matcher = _official(feature)
    image0, image1 = _pair(matcher, 600, 500)
    result = matcher.match_pair(image0, image1)
    expected = matcher.network(_for_kornia(image0, image1))
    assert int((result["matches0"] >= 0).sum()) > 100
    assert torch.equal(result["matches0"], expected["matches0"][0])
    matched = result["matches0"] >= 0
    torch.testing.assert_close(
        result["matching_scores0"][matched],
        expected["matching_scores0"][0][matched],
        atol=1e-3,
        rtol=0,
    )


@pytest.mark.parametrize("feature", ["aliked", "disk", "xfeat"])
def test_official_weights_match_what_belongs_together(feature: str) -> None:
    matcher = _official(feature)
    image0, image1 = _pair(matcher, 600, 500)
    matches, partners = (
        matcher.match_pair(image0, image1)["matches0"],
        true_partners(image0, image1),
    )
    is_right = (matches >= 0) & (matches == partners)
    # Descriptors drawn at random are not those of photographs, which LighterGlue minds most.
    found = 0.4 if feature == "xfeat" else 0.8
    assert int(is_right.sum()) > found * int((partners >= 0).sum())
    assert int(is_right.sum()) > 0.9 * int((matches >= 0).sum())


@pytest.mark.parametrize("feature", WITH_FRAMES)
def test_scales_and_orientations_are_those_that_kornia_makes_of_frames(
    feature: str, drawn: dict[str, str]
) -> None:
    matcher = build_matcher(_drawn_conf(drawn, feature))
    images = _pair(matcher)
    frames = [_frames(image, 6 if feature == "sift" else 12) for image in images]
    kornias = K.LightGlueMatcher.__new__(K.LightGlueMatcher)  # the constructor downloads
    torch.nn.Module.__init__(kornias)
    kornias.feature_name, kornias.matcher = feature, matcher.network
    descriptors = [image["descriptors"].T for image in images]
    scores, pairs = kornias(*descriptors, *frames, (600, 800), (600, 800))
    result = matcher.match_pair(*images)
    (rows,) = torch.nonzero(result["matches0"] >= 0, as_tuple=True)
    assert len(rows) > 30
    assert torch.equal(pairs, torch.stack([rows, result["matches0"][rows]], dim=1))
    torch.testing.assert_close(result["matching_scores0"][rows], scores[:, 0], atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("feature", ["sift", "doghardnet"])
def test_whole_turns_are_nothing(feature: str, drawn: dict[str, str]) -> None:
    matcher = build_matcher(_drawn_conf(drawn, feature))
    image0, image1 = _pair(matcher)
    turned = {**image1, "oris": image1["oris"] - 360}
    expected = matcher.match_pair(image0, image1)["matches0"]
    assert torch.equal(matcher.match_pair(image0, turned)["matches0"], expected)
    with pytest.raises(ValueError, match="needs oris1"):
        matcher.match_pair(image0, {k: v for k, v in image1.items() if k != "oris"})


def test_permuted_keypoints_have_permuted_matches(matcher: Matcher) -> None:
    image0, image1 = _pair(matcher)
    order0, order1 = (
        torch.randperm(matcher.num_keypoints(image), generator=torch.Generator().manual_seed(i))
        for i, image in enumerate((image0, image1))
    )
    expected = matcher.match_pair(image0, image1)["matches0"]
    permuted = matcher.match_pair(matcher.select(image0, order0), matcher.select(image1, order1))
    matched = permuted["matches0"] >= 0
    assert int(matched.sum()) > 30
    found = torch.where(matched, order1[permuted["matches0"]], -1)
    assert torch.equal(found, expected[order0])


def test_a_subset_has_the_matches_that_it_has_alone(matcher: Matcher) -> None:
    image0, image1 = _pair(matcher)
    keep = torch.arange(0, 150, 3)
    alone = {
        key: value[..., keep] if key == "descriptors" else value[keep] if len(value) > 2 else value
        for key, value in image0.items()
    }
    expected = matcher.match_pair(alone, image1)
    result = matcher.match_pair(matcher.select(image0, keep), image1)
    assert torch.equal(result["matches0"], expected["matches0"])


def test_half_precision_of_stored_descriptors_is_enough() -> None:
    matcher = _official("aliked")
    image0, image1 = _pair(matcher, 300, 300)
    halves = [{**image, "descriptors": image["descriptors"].half()} for image in (image0, image1)]
    expected = matcher.match_pair(image0, image1)["matches0"]
    assert (matcher.match_pair(*halves)["matches0"] == expected).float().mean() > 0.99


def test_keypoints_at_the_border_are_inside(matcher: Matcher) -> None:
    image0, image1 = _pair(matcher)
    corners = torch.tensor([[-0.5, -0.5], [799.5, 599.5], [-0.2, 300]])
    image0["keypoints"][:3] = corners
    matcher.match_pair(image0, image1)
    image0["keypoints"][0] = torch.tensor([900.0, 100])
    with pytest.raises(ValueError, match=r"800×600.*image_size"):
        matcher.match_pair(image0, image1)


def test_a_feature_of_unknown_origin_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"--matcher-option feature.*disk.*aliked.*sift") as caught:
        LightGlue()
    assert "\n" not in str(caught.value)


def test_a_feature_without_weights_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"'mtldesc'.*--matcher-option feature.*aliked"):
        LightGlue({"feature": "mtldesc"})
    with pytest.raises(ValueError, match=r"mtldesc has no.*its matcher mtldesc.*weights"):
        matcher_conf_for(feature_conf("mtldesc"), "lightglue")


def _aliked() -> dict[str, Any]:
    return {**feature_conf("sift"), "output": "feats-featplug-aliked-n16", "lightglue": "aliked"}


def test_the_feature_chooses_the_weights() -> None:
    assert matcher_conf_for(_aliked(), "lightglue")["model"]["feature"] == "aliked"
    assert matcher_conf_for(_aliked(), "NN-ratio") == matcher_conf("NN-ratio")


def test_weights_of_another_feature_are_rejected(drawn: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"aliked-n16.*xfeat.*use lightglue.*weights=FILE"):
        matcher_conf_for(_aliked(), "lighterglue")
    with pytest.raises(ValueError, match=r"lightglue-disk.*lightglue-aliked"):
        LightGlue({"feature": "aliked", "weights": "lightglue-disk"})
    matcher = build_matcher(_drawn_conf(drawn, "aliked"))
    with pytest.raises(ValueError, match=r"128.*64.*--matcher-option feature"):
        matcher.match_pair(*turned_pair(20, 20, dimensions=64))


def _write_features(path: Path, method: str | None) -> None:
    model = {"model": {"name": method}} if method else {}
    with FeatureWriter(path, Provenance("features", model)) as writer:
        for name, image in zip(("a.jpg", "b.jpg"), turned_pair(120, 100), strict=True):
            arrays = {key: value.numpy() for key, value in image.items() if key != "image_size"}
            arrays["scores"] = np.ones(len(arrays["keypoints"]), np.float32)
            writer.write(name, arrays, SIZE, uncertainty=1.0, fingerprint=name)


def test_a_file_of_features_chooses_the_weights_and_rejects_others(
    drawn: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feature file says its method; one of unknown origin needs the option."""
    monkeypatch.setitem(features["sift"], "lightglue", "aliked")
    monkeypatch.setitem(features["mtldesc"], "lightglue", "xfeat")
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("a.jpg b.jpg\n", encoding="utf-8")
    for method in ("sift", "mtldesc", "doap", None):
        _write_features(tmp_path / f"{method}.h5", method)
    official = _official("aliked")
    summary = match_features("lightglue", pairs, tmp_path / "sift.h5")
    assert summary.num_matches > 30
    with H5Reader(summary.match_path) as reader:
        assert reader.provenance is not None
        assert reader.provenance.conf["model"]["feature"] == "aliked"
        assert reader.provenance.weights[0]["sha256"] == official.weights_records[0].sha256
    for method, message in [
        ("doap", r"doap has no.*its matcher"),
        (None, r"--matcher-option feature"),
    ]:
        with pytest.raises(ValueError, match=message):
            match_features("lightglue", pairs, tmp_path / f"{method}.h5")
    conf = {**matcher_conf("lightglue"), "model": {"name": "lightglue", "feature": "aliked"}}
    with pytest.raises(ValueError, match=r"mtldesc.*aliked.*use lightglue"):
        match_features(conf, pairs, tmp_path / "mtldesc.h5")
    assert match_features(conf, pairs, tmp_path / "None.h5").num_matches > 30
    conf["model"] |= _drawn_conf(drawn, "aliked")  # a user's own weights are what the user says
    match_features(conf, pairs, tmp_path / "doap.h5", matches=tmp_path / "own.h5")


def test_in_a_notebook_the_feature_chooses_the_weights(drawn: dict[str, str]) -> None:
    feature = feature_conf("xfeat")
    loaded = featplug.load_matcher("lightglue", feature, weights=drawn["xfeat"], device="cpu")
    assert loaded.matcher.conf["feature"] == "xfeat"
    with pytest.raises(ValueError, match=r"needs to know the feature.*load_matcher's feature"):
        featplug.load_matcher("lightglue")
    with pytest.raises(ValueError, match=r"mtldesc has no weights"):
        featplug.load_matcher("lightglue", "mtldesc")
    own = {"feature": "aliked", "weights": drawn["aliked"]}
    conf = {"model": {"name": "lightglue", **own}}  # weights that were trained for this feature
    assert featplug.load_matcher(conf, "mtldesc").matcher.conf["weights"] == drawn["aliked"]


@pytest.mark.parametrize("n_layers", [0, 10])
def test_layers_that_do_not_exist_are_rejected(n_layers: int, drawn: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"n_layers.*1 to 9"):
        build_matcher(_drawn_conf(drawn, "aliked", n_layers=n_layers))


def test_features_have_one_form() -> None:
    image = turned_pair(30, 20)[0]
    arrays = {key: value.numpy() for key, value in image.items()}
    features = Features(
        keypoints=arrays["keypoints"],
        scores=np.ones(30, np.float32),
        descriptors=arrays["descriptors"].T,
        image_size=(800, 600),
        extras={key: arrays[key] for key in ("scales", "oris")},
    )
    form = features.to_lightglue()
    assert form.keys() == {*lightglue_form(image), "keypoint_scores"}
    for key, value in lightglue_form(image).items():
        assert torch.equal(form[key], value), key
    assert form["descriptors"].shape == (1, 30, 128)
    assert form["oris"].abs().max() <= torch.pi
