"""Our methods as models of hloc's engines: the same features and matches as by our own engines."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import featplug
from featplug.base import Extractor, Matcher
from featplug.io.match_store import MatchReader
from featplug.methods import feature_conf
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from tests.hloc.comparison import assert_same_features
from tests.scenes.pictures import textured_image

NAMES = ["a.png", "b.png"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two overlapping crops."""
    folder = tmp_path_factory.mktemp("images")
    picture = textured_image(3, 220, 140)
    Image.fromarray(picture[:120, :160]).save(folder / "a.png")
    Image.fromarray(picture[20:, 40:200]).save(folder / "b.png")
    (folder / "pairs.txt").write_text("a.png b.png\n")
    return folder


def conf_of(hloc: ModuleType, name: str) -> dict[str, Any]:
    registered = featplug.register().extractors[name]
    return copy.deepcopy(hloc.extract_features.confs[registered])


def matches_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with MatchReader(path) as reader:
        return reader.read(*NAMES)


@pytest.mark.parametrize("name", ["sift", "lisrd-sift", "doap-binary"])
def test_features_and_matches_are_our_own(
    standin: ModuleType, images: Path, tmp_path: Path, name: str
) -> None:
    conf = conf_of(standin, name)
    conf["preprocessing"]["resize_max"] = 150  # not a whole scale
    own_conf = feature_conf(name)
    own_conf["preprocessing"]["resize_max"] = 150
    path = standin.extract_features.main(conf, images, tmp_path)
    own = extract_features(own_conf, images, tmp_path, image_list=NAMES).feature_path
    assert path.name == f"feats-featplug-hloc-{name}.h5"
    assert_same_features(path, own, NAMES)
    matcher = standin.match_features.confs[conf["matcher"]]
    matches = standin.match_features.main(matcher, images / "pairs.txt", path, tmp_path / "m.h5")
    own_matches = match_features(
        own_conf["matcher"], images / "pairs.txt", path, matches=tmp_path / "own.h5"
    ).match_path
    found, scores = matches_of(matches)
    expected, expected_scores = matches_of(own_matches)
    assert len(found) > 10
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scores, expected_scores)


def test_keypoints_are_rounded_only_where_asked_for(
    standin: ModuleType, images: Path, tmp_path: Path
) -> None:
    conf = conf_of(standin, "sift")
    exact = standin.extract_features.main(conf, images, feature_path=tmp_path / "exact.h5")
    conf["model"]["half_keypoints"] = True
    halved = standin.extract_features.main(conf, images, feature_path=tmp_path / "halved.h5")
    own = tmp_path / "own.h5"
    extract_features("sift", images, feature_path=own, image_list=NAMES, half_keypoints=True)
    with h5py.File(exact) as first, h5py.File(halved) as second, h5py.File(own) as third:
        precise, rounded = first["a.png/keypoints"][()], second["a.png/keypoints"][()]
        ours = {key: value.dtype for key, value in third["a.png"].items()}
        np.testing.assert_array_equal(third["a.png/keypoints"][()], rounded)
        assert first["a.png/descriptors"].dtype == np.float16
    assert rounded.dtype == np.float16
    assert ours.pop("image_size").kind == "i"
    assert set(ours.values()) == {np.dtype(np.float16)}
    np.testing.assert_array_equal(precise.astype(np.float16), rounded)
    assert np.abs(precise - rounded).max() > 0.02


def test_a_limit_that_hlocs_reader_lacks_is_kept(
    standin: ModuleType, images: Path, tmp_path: Path
) -> None:
    """As D2-Net's, on the sum of the sides."""
    preprocessing = {"grayscale": False, "resize_max_sum": 200, "interpolation": "pil_bilinear"}
    conf = conf_of(standin, "sift")
    conf["model"]["preprocessing"] = preprocessing
    path = standin.extract_features.main(conf, images, tmp_path)
    own = extract_features(
        {**feature_conf("sift"), "preprocessing": preprocessing},
        images,
        tmp_path,
        image_list=NAMES,
    ).feature_path
    assert_same_features(path, own, NAMES)


class UndeclaredFrames(Extractor):
    """Points all over the image, each with a frame that is 6 pixels wide and 3 high."""

    preprocessing: ClassVar[dict[str, Any]] = {"resize_max": 100}

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        height, width = image.shape[1:]
        points = torch.cartesian_prod(torch.arange(0.0, width, 9), torch.arange(0.0, height, 9))
        shapes = torch.diag(torch.tensor([6.0, 3.0])).expand(len(points), 2, 2)
        return {
            "keypoints": points,
            "scores": torch.ones(len(points)),
            "descriptors": torch.ones(1, len(points)),
            "scales": torch.ones(len(points)),
            "lafs": torch.cat([shapes, points[..., None]], 2),
        }


class Frames(UndeclaredFrames):
    keypoint_axes: ClassVar[dict[str, int | None]] = {"lafs": 0}


def test_frames_are_of_the_whole_image(standin: ModuleType, images: Path, tmp_path: Path) -> None:
    name = f"{__name__}:Frames"
    conf = standin.extract_features.confs[featplug.register(name).extractors[name]]
    path = standin.extract_features.main(conf, images, tmp_path)
    own = extract_features(name, images, tmp_path, image_list=NAMES).feature_path
    assert_same_features(path, own, NAMES)
    with h5py.File(path) as file:
        features = file["a.png"]  # 160 pixels wide, reduced to 100
        assert features["keypoints"][()].max() > 100
        np.testing.assert_allclose(features["lafs"][..., 2], features["keypoints"], atol=1e-4)
        np.testing.assert_allclose(features["lafs"][:, 0, 0], 6 * 1.6, rtol=1e-6)


def test_frames_that_are_not_declared_are_rejected(
    standin: ModuleType, images: Path, tmp_path: Path
) -> None:
    name = f"{__name__}:UndeclaredFrames"
    conf = standin.extract_features.confs[featplug.register(name).extractors[name]]
    with pytest.raises(ValueError, match=r"UndeclaredFrames returns lafs.*keypoint_axes"):
        standin.extract_features.main(conf, images, tmp_path)


def test_keynets_frames_are_declared(standin: ModuleType) -> None:
    conf = conf_of(standin, "keynet-affnet-hardnet")
    assert conf["model"]["preprocessing"] == feature_conf("keynet-affnet-hardnet")["preprocessing"]
    assert "resize_max" not in conf["preprocessing"]


def test_another_features_file_is_refused_by_a_matcher(
    standin: ModuleType, images: Path, tmp_path: Path
) -> None:
    path = standin.extract_features.main(conf_of(standin, "sift"), images, tmp_path)
    lisrd = standin.match_features.confs["lisrd"]
    with pytest.raises(ValueError, match=r"meta_descriptors0.*use the matcher"):
        standin.match_features.main(lisrd, images / "pairs.txt", path, tmp_path / "m.h5")


class Looks(Matcher):
    """Notes what it is handed over."""

    required_keys = ("descriptors", "image_size")
    optional_keys = ("image",)
    seen: ClassVar[list[set[str]]] = []

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        self.seen.append({*features0, *features1})
        num = features0["descriptors"].shape[1]
        return {"matches0": torch.full((num,), -1), "matching_scores0": torch.zeros(num)}


def test_sizes_are_handed_over_and_hlocs_unwritten_images_are_not(
    standin: ModuleType, images: Path, tmp_path: Path
) -> None:
    from featplug.hloc.shims import MatcherModel

    path = standin.extract_features.main(conf_of(standin, "sift"), images, tmp_path)
    model = type("Model", (MatcherModel,), {"method": f"{__name__}:Looks"})({})
    with h5py.File(path) as file:
        data = {
            f"{key}{side}": torch.from_numpy(value[()])[None]
            for side, name in enumerate(NAMES)
            for key, value in file[name].items()
        }
    data |= {f"image{side}": torch.empty(1, 1, 120, 160) for side in range(2)}
    assert model(data)["matches0"].shape[1] > 10
    assert Looks.seen == [{"descriptors", "image_size"}]


def test_indices_that_hloc_would_wrap_are_refused(standin: ModuleType) -> None:
    from hloc.utils.base_model import dynamic_load

    featplug.register()
    conf = standin.match_features.confs["NN-hamming"]["model"]
    model = dynamic_load(standin.matchers, conf["name"])(conf)
    bits = torch.arange(33000) >> torch.arange(16)[:, None] & 1  # no two columns are equal
    points = (2.0 * bits - 1)[None]
    pair = {"descriptors0": points[..., 32760:32768], "descriptors1": points}
    assert model(pair)["matches0"].tolist() == [[*range(32760, 32768)]]
    pair["descriptors0"] = points[..., 32768:]
    with pytest.raises(ValueError, match=r"32767.*32999.*`featplug match`"):
        model(pair)


def test_weights_that_are_not_there_are_told(
    standin: ModuleType, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path))
    for name in ("netvlad", "d2net-ots"):
        with pytest.raises(FileNotFoundError, match="featplug weights fetch"):
            standin.extract_features.main(conf_of(standin, name), images, tmp_path)


def test_an_option_that_a_method_lacks_is_refused(
    standin: ModuleType, images: Path, tmp_path: Path
) -> None:
    conf = conf_of(standin, "sift")
    conf["model"]["nms_radius"] = 4
    with pytest.raises(ValueError, match="'nms_radius'"):
        standin.extract_features.main(conf, images, tmp_path)


def test_global_descriptors_are_our_own(
    standin: ModuleType, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hloc.utils.base_model import dynamic_load

    class Mean(torch.nn.Module):
        weights_records = ()

        def forward(self, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"global_descriptor": data["image"].mean((2, 3))}

    conf = conf_of(standin, "netvlad")
    dynamic_load(standin.extractors, conf["model"]["name"])  # imports the module that builds it
    monkeypatch.setattr("featplug.hloc.shims.build_global_extractor", lambda _: Mean())
    path = standin.extract_features.main(conf, images, tmp_path, as_half=False)
    assert path.name == "global-feats-featplug-hloc-netvlad.h5"
    with h5py.File(path) as file:
        picture = np.asarray(Image.open(images / "a.png"))
        expected = picture.reshape(-1, 3).mean(0) / 255
        np.testing.assert_allclose(file["a.png/global_descriptor"][()], expected, rtol=1e-3)
