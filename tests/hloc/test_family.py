"""``hloc/NAME``: hloc's own confs in our engines, with models written for these tests."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from featplug.base import Extractor, Matcher
from featplug.methods import (
    build_extractor,
    build_global_extractor,
    build_matcher,
    build_pair_matcher,
    feature_conf,
    is_pair_matcher,
    matcher_conf,
    pair_matcher_conf,
    resolve_conf,
    retrieval_conf,
)
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.retrieve import global_descriptors
from tests.hloc.conftest import forget_hloc

SPOTS = '''
import torch
from ..utils.base_model import BaseModel

class Spots(BaseModel):
    """Bright pixels, brightest last, and one point outside the image."""
    default_conf = {"threshold": 0.5, "max_keypoints": 3}
    required_inputs = ["image"]
    detection_noise = 2.0
    def _init(self, conf):
        self.scale = torch.nn.Parameter(torch.ones(1))
    def _forward(self, data):
        image = data["image"]
        assert image.shape[:2] == (1, 1)
        rows, columns = torch.nonzero(image[0, 0] > self.conf["threshold"]).T
        values = image[0, 0, rows, columns]
        order = values.argsort()[-self.conf["max_keypoints"]:]
        points = torch.stack([columns, rows], 1)[order].double()
        points = torch.cat([points, torch.tensor([[-9.0, 3.0]])])
        scores = torch.cat([values[order], torch.ones(1)]).double()
        return {
            "keypoints": [points],
            "keypoint_scores": (scores,),
            "descriptors": [torch.eye(4, len(points))],
        }
'''
DOG = '''
import torch
from ..utils.base_model import BaseModel

class DoG(BaseModel):
    """Three points whose origin is the corner of the image."""
    default_conf = {"max_keypoints": -1}
    required_inputs = ["image"]
    def _init(self, conf):
        assert conf["max_keypoints"] == -1  # hloc's own fails at any other
    def _forward(self, data):
        points = torch.tensor([[10.5, 20.5], [3.5, 4.5], [0.0, 0.0]])
        return {
            "keypoints": points[None],
            "scales": torch.tensor([[1.0, 3.0, 2.0]]),
            "oris": torch.zeros(1, 3),
            "scores": torch.zeros(1, 3),
            "descriptors": torch.eye(3)[None],
        }
'''
MEAN = """
from ..utils.base_model import BaseModel

class Mean(BaseModel):
    required_inputs = ["image"]
    def _init(self, conf):
        pass
    def _forward(self, data):
        assert data["image"].shape[:2] == (1, 3)
        return {"global_descriptor": data["image"].mean((2, 3)) + 0.1}
"""
NEEDY = """
import a_program_that_nobody_has
"""
BY_PLACE = '''
import torch
from ..utils.base_model import BaseModel

class ByPlace(BaseModel):
    """Matches keypoints at the same place of images of the same size."""
    default_conf = {"radius": 0.5}
    required_inputs = [k + s for s in "01" for k in ("image", "keypoints", "scores", "descriptors")]
    def _init(self, conf):
        pass
    def _forward(self, data):
        assert data["image0"].shape == data["image1"].shape == (1, 1, 60, 80)
        assert data["scores0"].shape == data["keypoints0"].shape[:2]
        assert data["descriptors0"].shape[2] == data["keypoints0"].shape[1]
        near = torch.cdist(data["keypoints0"], data["keypoints1"])[0] < self.conf["radius"]
        matches = torch.where(near.any(1), near.int().argmax(1), -1)
        return {"matches0": matches[None], "matching_scores0": torch.zeros(1, len(matches))}
'''
DENSE = """
import torch
from ..utils.base_model import BaseModel

class Dense(BaseModel):
    required_inputs = ["image0", "image1"]
    def _init(self, conf):
        pass
    def _forward(self, data):
        middles = []
        for key in ("image0", "image1"):
            height, width = data[key].shape[2:]
            assert data[key].shape[:2] == (1, 1) and height % 8 == width % 8 == 0
            middles.append(torch.tensor([[(width - 1) / 2, (height - 1) / 2], [-5.0, 0.0]]))
        scores = torch.tensor([0.5, 0.9])
        return {"keypoints0": middles[0], "keypoints1": middles[1], "scores": scores}
"""


@pytest.fixture
def with_models(standin: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stand-in of hloc with models and confs."""
    models = {"extractors": {"spots": SPOTS, "dog": DOG, "mean": MEAN, "needy": NEEDY}}
    models["matchers"] = {"by_place": BY_PLACE, "dense": DENSE}
    for package, sources in models.items():
        folder = tmp_path / "models" / package
        folder.mkdir(parents=True)
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(source)
        module = getattr(standin.extract_features, package, None) or getattr(
            standin.match_features, package
        )
        module.__path__.insert(0, str(folder))
    grey = {"grayscale": True, "resize_max": 1600, "globs": ["*.png"]}
    standin.extract_features.confs |= {
        "spots": {"output": "feats-s", "model": {"name": "spots"}, "preprocessing": grey},
        "sift": {"output": "feats-sift", "model": {"name": "dog"}, "preprocessing": grey},
        "mean": {"output": "global-feats-m", "model": {"name": "mean"}, "preprocessing": {}},
        "needy": {"output": "feats-n", "model": {"name": "needy"}, "preprocessing": {}},
    }
    standin.match_features.confs["by-place"] = {
        "output": "matches-b",
        "model": {"name": "by_place", "radius": 0.25},
    }
    dense = ModuleType("hloc.match_dense")
    conf = {"output": "matches-d", "model": {"name": "dense"}, "cell_size": 1}
    conf["preprocessing"] = {"grayscale": True, "resize_max": 1024, "dfactor": 8}
    vars(dense)["confs"] = {"dense": conf}
    monkeypatch.setitem(sys.modules, "hloc.match_dense", dense)
    return standin


def picture(*points: tuple[int, int]) -> np.ndarray:
    """60×80 uint8, black but for pixels (x, y), each brighter than the one before."""
    pixels = np.zeros((60, 80), np.uint8)
    for i, (x, y) in enumerate(points):
        pixels[y, x] = 200 + 10 * i
    return pixels


POINTS = ((30, 20), (0, 0), (79, 59), (5, 50))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, points in (("a.png", POINTS), ("b.png", POINTS[::-1])):
        Image.fromarray(picture(*points)).convert("RGB").save(folder / name)
    (folder / "pairs.txt").write_text("a.png b.png\n")
    return folder


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.repeat(pixels[None], 3, 0) / np.float32(255))


def extracted(extractor: Extractor, pixels: np.ndarray) -> dict[str, Tensor]:
    return {key: value[0] for key, value in extractor({"image": tensor(pixels)[None]}).items()}


def test_a_model_of_hloc_keeps_our_contract(with_models: ModuleType) -> None:
    conf = feature_conf("hloc/spots")
    assert conf["preprocessing"] == {"grayscale": True, "resize_max": 1600}
    assert "featplug" in conf["output"]
    extractor = build_extractor(conf["model"])
    assert extractor.detection_noise == 2
    features = extracted(extractor, picture(*POINTS))
    # hloc's own number of keypoints, the strongest; without the one outside the image.
    assert features["keypoints"].tolist() == [list(point) for point in POINTS[1:]]
    assert features["keypoints"].dtype == features["scores"].dtype == torch.float32
    assert features["descriptors"].shape == (4, 3)
    assert extractor.weights_records[0].name == "hloc spots"
    assert extractor.settings["hloc"] == "1.5"


@pytest.mark.parametrize("budget", [1, 2, 4])
def test_a_budget_replaces_that_of_hlocs_conf(with_models: ModuleType, budget: int) -> None:
    extractor = build_extractor(resolve_conf("hloc/spots", max_keypoints=budget)["model"])
    features = extracted(extractor, picture(*POINTS))
    assert features["keypoints"].tolist() == [list(point) for point in POINTS[-budget:]]


def test_options_of_hlocs_model_are_options(with_models: ModuleType) -> None:
    conf = resolve_conf("hloc/spots", threshold=0.85)
    features = extracted(build_extractor(conf["model"]), picture(*POINTS))
    assert len(features["keypoints"]) == 2
    with pytest.raises(ValueError, match=r"treshold.*threshold"):
        build_extractor({**conf["model"], "treshold": 1})


@pytest.mark.parametrize("official", [False, True])
def test_half_a_pixel_of_sift_is_corrected(with_models: ModuleType, official: bool) -> None:
    conf = resolve_conf("hloc/sift", official_coordinates=official)
    assert conf["matcher"] == "NN-ratio"
    keypoints = extracted(build_extractor(conf["model"]), picture())["keypoints"]
    expected = torch.tensor([[10.0, 20.0], [3.0, 4.0], [-0.5, -0.5]]) + 0.5 * official
    assert torch.equal(keypoints, expected)


def test_the_largest_are_kept_where_a_model_has_no_scores(with_models: ModuleType) -> None:
    extractor = build_extractor(resolve_conf("hloc/sift", max_keypoints=2)["model"])
    features = extracted(extractor, picture())
    assert features["scores"].tolist() == features["scales"].tolist() == [3, 2]


def test_our_engines_run_hlocs_methods(
    with_models: ModuleType, images: Path, tmp_path: Path
) -> None:
    feats = extract_features("hloc/spots", images, tmp_path, max_keypoints=4).feature_path
    summary = match_features("hloc/by-place", images / "pairs.txt", feats)
    assert summary.num_matches == 4
    descriptors = global_descriptors("hloc/mean", images, tmp_path)
    assert descriptors.descriptor_path.name == "global-feats-featplug-hloc~mean.h5"


def test_their_features_are_matched_where_hloc_is_absent(
    with_models: ModuleType, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feats = extract_features("hloc/spots", images, tmp_path, max_keypoints=4).feature_path
    forget_hloc()
    monkeypatch.setitem(sys.modules, "hloc", None)
    monkeypatch.delenv("FEATPLUG_HLOC", raising=False)
    assert match_features("NN-mutual", images / "pairs.txt", feats).num_matches == 4


def test_descriptors_for_retrieval_have_unit_length(with_models: ModuleType) -> None:
    extractor = build_global_extractor(retrieval_conf("hloc/mean")["model"])
    descriptor = extractor({"image": tensor(picture(*POINTS))[None]})["global_descriptor"]
    torch.testing.assert_close(descriptor.norm(dim=1), torch.ones(1))


def test_a_matcher_is_handed_what_hloc_hands_over(with_models: ModuleType) -> None:
    matcher = build_matcher(matcher_conf("hloc/by-place")["model"])
    assert isinstance(matcher, Matcher)
    assert set(matcher.required_keys) == {"image_size", "keypoints", "scores", "descriptors"}
    assert {"scales", "oris"} <= set(matcher.optional_keys)

    def features(points: list[list[float]]) -> dict[str, Tensor]:
        return {
            "keypoints": torch.tensor(points).reshape(-1, 2),
            "scores": torch.ones(len(points)),
            "descriptors": torch.zeros(5, len(points)),
            "image_size": torch.tensor([80.0, 60.0]),
        }

    left, right = features([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]), features([[3.0, 4.1], [1.0, 2.0]])
    result = matcher.match_pair(left, right)
    assert result["matches0"].tolist() == [1, 0, -1]
    assert result["matching_scores0"].tolist() == [1, 1, 0]
    subset = matcher.select(left, torch.tensor([False, True, True]))
    assert matcher.match_pair(subset, right)["matches0"].tolist() == [0, -1]
    assert matcher.match_pair(left, features([]))["matches0"].tolist() == [-1, -1, -1]
    assert matcher.match_pair(features([]), left)["matches0"].tolist() == []


def test_dense_matchers_match_two_images(with_models: ModuleType) -> None:
    assert is_pair_matcher("hloc/dense")
    assert not any(map(is_pair_matcher, ("hloc/by-place", "hloc/spots", "hloc/unknown")))
    conf = pair_matcher_conf("hloc/dense")
    matcher = build_pair_matcher(conf["model"])
    image0, image1 = torch.rand(3, 60, 83), torch.rand(3, 64, 80)
    result = matcher.match_pair(image0, image1)
    assert result["keypoints0"].tolist() == [[41, 29.5]]  # the middle of the image as it was
    assert result["keypoints1"].tolist() == [[39.5, 31.5]]
    assert result["scores"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hloc/spot", ("spot", "spots")),
        ("hloc/needy", ("needy", "a_program_that_nobody_has", "submodule update")),
        ("spots", ("spots", "hloc/spots")),
    ],
)
def test_messages_name_the_method_and_the_remedy(
    with_models: ModuleType, name: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=parts[-1]) as error:
        build_extractor(feature_conf(name)["model"])
    assert all(part in str(error.value) for part in parts)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("get", [feature_conf, matcher_conf, retrieval_conf])
def test_without_hloc_one_sentence_says_where_it_is(
    get: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert callable(get)
    forget_hloc()
    monkeypatch.setitem(sys.modules, "hloc", None)
    monkeypatch.delenv("FEATPLUG_HLOC", raising=False)
    with pytest.raises(ValueError, match=r"no hloc here.*github.*FEATPLUG_HLOC"):
        get("hloc/sift")
    monkeypatch.setenv("FEATPLUG_HLOC", str(tmp_path))
    with pytest.raises(ValueError, match=f"FEATPLUG_HLOC={tmp_path}.*correct"):
        get("hloc/sift")


def test_a_clone_is_found_by_the_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_hloc()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("FEATPLUG_HLOC", str(Path(__file__).parent / "standin"))
    assert feature_conf("hloc/sift")["model"]["name"].endswith(":dog")
    forget_hloc()
