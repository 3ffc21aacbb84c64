"""Options of methods as text, and the user's files of methods."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from featplug import methods
from featplug.base import Extractor
from featplug.methods import feature_conf, features, matcher_conf, matchers, retrieval_conf
from featplug.methods.method_options import resized, with_options
from featplug.stages.extract import ExtractOptions
from featplug.stages.match import MatchOptions
from tests.scenes.own_methods import CORNERS, MATCHER


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("contrast_threshold=0.01", "contrast_threshold", 0.01),
        ("contrast_threshold = .01", "contrast_threshold", 0.01),
        ("max_keypoints=-1", "max_keypoints", -1),
        ("precise_upscale=true", "precise_upscale", True),
        ("precise_upscale=False", "precise_upscale", False),
        ("score=response", "score", "response"),
        ('score="response"', "score", "response"),
    ],
)
def test_values_are_those_of_toml_or_text(text: str, name: str, value: object) -> None:
    model = with_options(features, feature_conf("sift"), [text], "option")["model"]
    assert model[name] == value
    assert type(model[name]) is type(value)
    assert name not in feature_conf("sift")["model"]  # nothing is changed in the table


def test_the_last_of_an_option_counts_and_those_of_a_detector_have_its_prefix() -> None:
    texts = ["detector.max_keypoints=5", "detector.max_keypoints=7", "max_keypoints=3"]
    model = with_options(features, feature_conf("lisrd@sift"), texts, "option")["model"]
    assert (model["detector"]["max_keypoints"], model["max_keypoints"]) == (7, 3)
    model = with_options(
        features, feature_conf("lisrd@doap@sift"), ["detector.detector.score=response"], "option"
    )["model"]
    assert model["detector"]["detector"]["score"] == "response"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contrast_treshold=1", r"--option contrast_treshold=1.*it has .*Did you mean 'contrast_t"),
        ("contrast_threshold=high", r"contrast_threshold must be a number, not 'high'"),
        ("contrast_threshold=true", r"contrast_threshold must be a number, not True"),
        ("precise_upscale=1", r"precise_upscale must be true or false"),
        ("precise_upscale=yes", r"precise_upscale must be true or false"),
        ("score=1", r"score must be text"),
        ("contrast_threshold", r"NAME=VALUE"),
        ("=1", r"NAME=VALUE"),
        ("name=mtldesc", r"name of a method"),
        ("detector.x=1", r"no option 'detector'"),
        ("a\nb=1", r"no option"),
    ],
)
def test_other_options_are_rejected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_options(features, feature_conf("sift"), [text], "option")


def test_an_unknown_option_of_a_detector_is_rejected_with_its_own() -> None:
    with pytest.raises(ValueError, match=r"sift has no option 'contrast'.*contrast_threshold"):
        with_options(features, feature_conf("doap"), ["detector.contrast=1"], "option")


def test_options_of_stages_change_the_conf() -> None:
    conf = ExtractOptions(option=("score=response",), resize_max=800, max_keypoints=9).conf("sift")
    assert conf["model"] == {"name": "sift", "score": "response", "max_keypoints": 9}
    assert conf["preprocessing"]["resize_max"] == 800
    ratio = MatchOptions(matcher_option=("ratio_threshold=0.7",)).matcher_conf("NN-ratio")
    assert ratio["model"]["ratio_threshold"] == 0.7
    with pytest.raises(ValueError, match="--matcher-option"):
        MatchOptions(matcher_option=("ratio=0.7",)).matcher_conf("NN-ratio")


def test_the_longest_side_replaces_both_limits() -> None:
    assert resized({"preprocessing": {"resize_max": 5}}, None) == {
        "preprocessing": {"resize_max": 5}
    }
    assert resized(feature_conf("sift"), -1)["preprocessing"]["resize_max"] is None
    limits = resized(feature_conf("d2net"), 999)["preprocessing"]
    assert (limits["resize_max"], limits["resize_max_sum"]) == (999, None)
    for number in (0, -2):
        with pytest.raises(ValueError, match=r"--resize-max .*-1"):
            resized({}, number)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for table in (methods.features, methods.matchers, methods.pair_matchers, methods.retrieval):
        monkeypatch.setattr(table, "added", {})
    return tmp_path / "methods.toml"


def add(file: Path, text: str) -> None:
    file.write_text(text)
    ExtractOptions(methods=(file,))


def test_methods_of_a_file_are_named(file: Path) -> None:
    add(
        file,
        """
[features.sift-fine]
model = { name = "sift", contrast_threshold = 0.005 }
preprocessing = { resize_max = 3200 }
matcher = "NN-strict"
[features.lisrd-here]
model = { name = "lisrd@sift-fine", max_keypoints = 100 }
[matchers.NN-strict]
model = { name = "nearest_neighbor", ratio_threshold = 0.7 }
[retrieval.small]
model = { name = "vlad", num_clusters = 16 }
""",
    )
    conf = feature_conf("sift-fine")
    assert conf["model"] == {"name": "sift", "contrast_threshold": 0.005}
    assert conf["preprocessing"] == {"grayscale": False, "resize_max": 3200}
    assert conf["output"] == "feats-featplug-sift-fine"
    assert matcher_conf(conf["matcher"])["model"] == {
        "name": "nearest_neighbor",
        "do_mutual_check": True,
        "ratio_threshold": 0.7,
    }
    assert retrieval_conf("small")["model"] == {"name": "vlad", "num_clusters": 16}
    described = feature_conf("lisrd-here")
    assert described["matcher"] == "lisrd"
    assert described["model"]["detector"] == conf["model"]
    assert "sift-fine" in list(features)
    assert "NN-strict" in list(matchers)
    assert feature_conf("doap@sift-fine+NN-strict")["preprocessing"]["resize_max"] == 3200


def test_a_class_in_a_file_is_found_from_the_toml_file(file: Path) -> None:
    (file.parent / "mine.py").write_text(
        "from featplug.base import Matcher\n"
        "class Mine(Matcher):\n"
        "    default_conf = {'x': 1}\n"
        "    def match(self, features0, features1): ...\n"
    )
    add(file, '[matchers.mine]\nmodel = { name = "mine.py:Mine", x = 2 }')
    assert methods.build_matcher(matcher_conf("mine")["model"]).conf["x"] == 2
    add(file, '[matchers.mine]\nmodel = { name = "mine.py:Mine", x = 3 }')
    with pytest.raises(ValueError, match=r"methods.toml, \[matchers.mine\].*no option 'y'"):
        add(file, '[matchers.mine]\nmodel = { name = "mine.py:Mine", y = 2 }')
    with pytest.raises(ValueError, match=r"methods.toml, \[matchers.mine\].*use Mine"):
        add(file, '[matchers.mine]\nmodel = { name = "mine.py:Other" }')


def test_classes_in_composed_names_are_found_from_the_toml_file(file: Path) -> None:
    (file.parent / "mine.py").write_text(CORNERS + MATCHER)
    add(
        file,
        """
[features.described]
model = { name = "doap@mine.py:Corners" }
[features.matched]
model = { name = "sift+mine.py:None_" }
""",
    )
    detector = feature_conf("described")["model"]["detector"]
    assert isinstance(methods.build_extractor(detector), Extractor)
    assert matcher_conf(feature_conf("matched")["matcher"])["model"]["name"].endswith(":None_")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", r"not a TOML file"),
        ("[feature.a]\n", r"\[feature\].*Did you mean 'features'"),
        ("features = 3", r"features must be tables"),
        ("[features]\na = 3", r"\[features.a\] must be a table"),
        ("[features.a]\n", r"\[features.a\] needs model"),
        ("[features.a]\nmodel = 'sift'", r"\[features.a\]: model must be a table"),
        ("[features.a]\nmodel = {name = 3}", r"\[features.a\] needs model"),
        ("[features.a]\nmodel = {name='sift'}\nmach = 'x'", r"'mach'.*Did you mean 'matcher'"),
        ("[features.a]\nmodel = {name='sift'}\nmatcher = 'NN'", r"\[features.a\].*'NN'"),
        ("[features.a]\nmodel = {name='sfit'}", r"\[features.a\].*'sfit'.*Did you mean 'sift'"),
        ("[features.a]\nmodel = {name='sift', x = 3}", r"\[features.a\]: sift has no option 'x'"),
        ("[features.a]\nmodel = {name='sift', score = 3}", r"score must be text"),
        (
            "[features.a]\nmodel = {name='doap', detector = {name='sift', x=3}}",
            r"sift has no option 'x'",
        ),
        (
            "[features.a]\nmodel = {name='sift'}\npreprocessing = {resize = 3}",
            r"no option 'resize'.*resize_max",
        ),
        ("[features.a]\nmodel = {name='sift'}\noutput = 'x'", r"output must contain 'featplug'"),
        ("[features.sift]\nmodel = {name='sift'}", r"featplug has a feature 'sift'.*choose"),
        ("[features.'a+b']\nmodel = {name='sift'}", r"'a\+b'.*letters"),
        ("[matchers.a]\nmodel = {name='NN-ratio'}\nmatcher = 'x'", r"no key 'matcher'"),
        ("[retrieval.a]\nmodel = {name='sift'}", r"no retrieval 'sift'"),
        ("\0", r"methods.toml"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(file: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        add(file, text)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_files_of_one_name(file: Path) -> None:
    other = file.with_name("other.toml")
    for path in (file, other):
        path.write_text("[features.a]\nmodel = {name='sift'}")
    with pytest.raises(ValueError, match=r"other.toml.*methods.toml.*rename"):
        ExtractOptions(methods=(file, other))
    ExtractOptions(methods=(file,))
    ExtractOptions(methods=(other,))  # another run
    with pytest.raises(FileNotFoundError, match=r"absent.toml"):
        ExtractOptions(methods=(Path("absent.toml"),))


def test_a_method_without_the_option_keeps_the_strongest(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from featplug.base import Extractor\n"
        "class Mine(Extractor):\n"
        "    def extract(self, image):\n"
        "        return {'keypoints': torch.arange(8.).reshape(4, 2), 'descriptors': "
        "torch.arange(4.)[None], 'scores': torch.tensor([1., 4, 2, 3])}\n"
    )
    model: dict[str, Any] = ExtractOptions(max_keypoints=2).conf(f"{tmp_path}/mine.py:Mine")[
        "model"
    ]
    extractor = methods.build_extractor(model)
    kept = extractor({"image": torch.zeros(1, 1, 9, 9)})
    assert kept["scores"][0].tolist() == [4, 3]
    assert kept["descriptors"][0].tolist() == [[1, 3]]
    assert kept["keypoints"][0].tolist() == [[2, 3], [6, 7]]
    assert extractor.settings == {"max_keypoints": 2}


@pytest.mark.parametrize(
    ("matcher", "option", "suggestion"),
    [("NN-ratio", "ratio_treshold", "ratio_threshold"), ("none.py:None_", "x", None)],
)
def test_an_unknown_option_names_the_method_and_what_was_meant(
    own_methods: Path, matcher: str, option: str, suggestion: str | None
) -> None:
    with pytest.raises(ValueError, match=rf": {matcher} has no option '{option}'") as raised:
        MatchOptions(matcher_option=(f"{option}=0.9",)).matcher_conf(matcher)
    assert suggestion is None or f"Did you mean {suggestion!r}?" in str(raised.value)


def test_a_copy_of_options_does_not_read_the_files_of_methods_again(own_methods: Path) -> None:
    """A run copies its options, and goes on where a file was changed or deleted meanwhile."""
    path = own_methods / "methods.toml"
    path.write_text("[features.read-once]\nmodel = { name = 'sift', max_keypoints = 3 }\n")
    options = ExtractOptions(methods=(path,))
    path.unlink()
    copy = dataclasses.replace(dataclasses.replace(options, device="cpu"), overwrite=True)
    assert copy.methods == (path,)
    assert features["read-once"]["model"]["max_keypoints"] == 3
    with pytest.raises(FileNotFoundError, match=r"methods.toml"):
        ExtractOptions(methods=(path,))
