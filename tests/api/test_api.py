"""Features and matchers as a notebook uses them, and that they are what the engines write."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import cv2
import h5py
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

import featplug
from featplug.api import Feature, Features, run_extractor
from featplug.base import Extractor, Matcher, PairMatcher
from featplug.io.images import read_image
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.methods import matcher_conf
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from tests.scenes.pictures import textured_image

NAMES = ("000.png", "001.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    picture = textured_image(0, width=200, height=160)
    for left, name in enumerate(NAMES):
        cv2.imwrite(str(folder / name), picture[:, 8 * left :])
    return folder


def extract_both(feature: Feature, folder: Path) -> tuple[Features, Features]:
    a, b = (feature.extract(folder / name) for name in NAMES)
    return a, b


@pytest.mark.parametrize("options", [{"max_keypoints": 50}, {"preprocessing": {"resize_max": 100}}])
def test_features_and_matches_are_those_of_the_stages(
    folder: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    conf = {**featplug.Feature("sift").conf, **options}
    model_options = {"max_keypoints": options.get("max_keypoints")}
    path = extract_features(
        conf, folder, tmp_path, as_half=False, max_keypoints=model_options["max_keypoints"]
    ).feature_path
    feature = featplug.load(conf, **model_options)
    both = extract_both(feature, folder)
    with h5py.File(path) as file:
        for name, features in zip(NAMES, both, strict=True):
            stored = {key: value[()] for key, value in file[name].items()}
            assert tuple(stored.pop("image_size")) == features.image_size
            assert set(stored) == set(features.arrays())
            for key, value in features.arrays().items():
                np.testing.assert_array_equal(value, stored[key], err_msg=key, strict=True)
            assert file[name]["keypoints"].attrs["uncertainty"] == features.detection_noise

    (tmp_path / "pairs.txt").write_text(" ".join(NAMES))
    match_path = match_features("NN-ratio", tmp_path / "pairs.txt", path, tmp_path).match_path
    matches = featplug.load_matcher(feature=feature).match(*both)
    with h5py.File(match_path) as file:
        (pair,) = file
        (other,) = file[pair]
        matches0, scores0 = (file[pair][other][key][()] for key in ("matches0", "matching_scores0"))
    rows = np.flatnonzero(matches0 >= 0)
    assert len(matches) == len(rows) > 5
    np.testing.assert_array_equal(matches.indices, np.stack([rows, matches0[rows]], axis=1))
    np.testing.assert_array_equal(matches.scores.astype(np.float16), scores0[rows])


def test_files_arrays_and_tensors_give_the_same(folder: Path) -> None:
    feature = featplug.load("sift", max_keypoints=50)
    image = read_image(folder / NAMES[0])
    expected = feature.extract(folder / NAMES[0])
    assert (expected.descriptors.shape, len(expected)) == ((50, 128), 50)
    np.testing.assert_array_equal(expected.image, image)
    read_only = image.copy()
    read_only.flags.writeable = False
    given = [str(folder / NAMES[0]), image, read_only, image[..., 0]]
    given += [torch.tensor(image).permute(2, 0, 1) / 255]
    for one in given:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            features = feature.extract(one)
        for key, value in features.arrays().items():
            np.testing.assert_array_equal(value, expected.arrays()[key], strict=True)
        assert features.image_size == expected.image_size
    grey = Feature({**feature.conf, "preprocessing": {"grayscale": True}})
    for one in given:
        assert len(grey.extract(one)) == len(expected)


def test_images_of_a_list_are_extracted_in_batches_of_one_size(folder: Path) -> None:
    feature = featplug.load("sift", max_keypoints=20)
    images = [folder / NAMES[0], read_image(folder / NAMES[1]), str(folder / NAMES[0])]
    together = feature.extract(images, batch_size=2)
    assert len(together) == 3
    for image, features in zip(images, together, strict=True):
        alone = feature.extract(image)
        assert features.image_size == alone.image_size
        np.testing.assert_array_equal(features.image, alone.image)
        for key, value in alone.arrays().items():
            np.testing.assert_array_equal(features.arrays()[key], value)
    assert feature.extract([]) == []
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        feature.extract([folder / NAMES[0], folder / "nowhere.png"])
    with pytest.raises(ValueError, match="batch size"):
        feature.extract(images, batch_size=0)


def test_frames_are_in_original_pixels() -> None:
    """An affine frame moves with the keypoint at its centre, which is resized with the image."""

    class Framed(Extractor):
        def extract(self, image: Tensor) -> dict[str, Tensor]:
            keypoints = torch.tensor([[3.0, 1.0]])
            frame = torch.tensor([[2.0, 0, 3], [0, 1, 1]])
            one = torch.ones(1)
            return {
                "keypoints": keypoints, "scores": one, "descriptors": one[None], "lafs": frame[None]
            }  # fmt: skip

    [(arrays, _)] = run_extractor(Framed(), torch.zeros(1, 3, 10, 20), [(40, 40)])
    np.testing.assert_allclose(arrays["keypoints"], [[6.5, 5.5]])
    np.testing.assert_allclose(arrays["lafs"], [[[4, 0, 6.5], [0, 4, 5.5]]])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        torch.zeros((3, 8, 8), dtype=torch.uint8),
        torch.zeros((1, 3, 8, 8)),
    ],
)
def test_other_arrays_are_rejected_with_the_form_that_is_needed(image: object) -> None:
    with pytest.raises(ValueError, match="H×W"):
        featplug.load("sift").extract(image)  # type: ignore[arg-type]


def test_lightglue_form(folder: Path) -> None:
    features = featplug.load("sift", max_keypoints=20).extract(folder / NAMES[0])
    data = features.to_lightglue()
    shapes = {key: tuple(value.shape) for key, value in data.items()}
    assert shapes == {
        "keypoints": (1, 20, 2),
        "keypoint_scores": (1, 20),
        "descriptors": (1, 20, 128),
        "image_size": (1, 2),
        "scales": (1, 20),
        "oris": (1, 20),
    }
    np.testing.assert_array_equal(data["descriptors"][0], features.descriptors)
    oris = np.deg2rad((features.extras["oris"] + 180) % 360 - 180)
    np.testing.assert_allclose(data["oris"][0], oris, atol=1e-5)
    assert tuple(data["image_size"][0].int().tolist()) == features.image_size


def test_matches_are_drawn_at_their_keypoints(folder: Path) -> None:
    feature = featplug.load("sift", max_keypoints=50)
    a, b = extract_both(feature, folder)
    matches = featplug.load_matcher(feature=feature).match(a, b)
    axes = featplug.plots.matches(a, b, matches, Figure().subplots())
    (lines,) = axes.collections
    drawn = {tuple(end) for segment in lines.get_segments() for end in segment}
    right = b.keypoints[matches.indices[:, 1]] + (a.image_size[0], 0)
    expected = np.concatenate([a.keypoints[matches.indices[:, 0]], right]).astype(float)
    assert drawn == {tuple(point) for point in expected}
    axes = featplug.plots.matches(folder / NAMES[0], b.image, matches, Figure().subplots())
    assert len(axes.collections[0].get_segments()) == len(matches)
    without = dataclasses.replace(a, image=None)
    with pytest.raises(ValueError, match=r"featplug\.load"):
        featplug.plots.matches(without, b, matches)


def test_many_keypoints_are_guided_as_in_the_stage(folder: Path, tmp_path: Path) -> None:
    features = extract_features("sift", folder, tmp_path, as_half=False).feature_path
    write_pairs(tmp_path / "pairs.txt", [NAMES])
    matched = match_features("NN-ratio", tmp_path / "pairs.txt", features, strongest=20)
    a, b = extract_both(featplug.load("sift"), folder)
    assert len(a) > 4 * 20
    matcher = featplug.load_matcher("NN-ratio", "sift", strongest=20)
    with MatchReader(matched.match_path) as reader:
        matches, *_ = reader.read(*NAMES)
    np.testing.assert_array_equal(matcher.match(a, b).indices, matches)


def test_a_matcher_is_named_or_belongs_to_the_feature(folder: Path) -> None:
    feature = featplug.load("sift", max_keypoints=50)
    both = extract_both(feature, folder)
    assert featplug.load_matcher(feature="mtldesc").conf["model"]["metric"] == "l2"
    strict = featplug.load_matcher("NN-ratio", feature, ratio_threshold=1e-3).match(*both)
    plain = featplug.load_matcher("NN-ratio", feature, ratio_threshold=None)
    assert plain.matcher.conf["ratio_threshold"] is None
    assert 0 < len(strict) < len(plain.match(*both))
    with pytest.raises(ValueError, match="LISRDMatcher needs meta_descriptors0"):
        featplug.load_matcher("lisrd", feature).match(*both)
    with pytest.raises(ValueError, match="name of a matcher or a feature"):
        featplug.load_matcher()


def test_two_images_are_matched_in_one_call(folder: Path) -> None:
    feature = featplug.load("sift", max_keypoints=50)
    a, b = extract_both(feature, folder)
    expected = featplug.load_matcher("NN-ratio").match(a, b)
    np.testing.assert_array_equal(expected.points0, a.keypoints[expected.indices[:, 0]])
    np.testing.assert_array_equal(expected.points1, b.keypoints[expected.indices[:, 1]])
    images = (folder / NAMES[0], read_image(folder / NAMES[1]))
    for matches in (
        featplug.match_images(*images, feature="sift", matcher="NN-ratio", max_keypoints=50),
        featplug.match_images(*images, "sift+NN-ratio", max_keypoints=50, device="cpu"),
        featplug.match_images(*images, feature, featplug.load_matcher("NN-ratio")),
        featplug.match_images(*images, feature, matcher_conf("NN-ratio")),
    ):
        for key in ("indices", "scores", "points0", "points1"):
            np.testing.assert_array_equal(getattr(matches, key), getattr(expected, key))


@pytest.mark.parametrize("feature", ["corners.py:Corners", "sift"])
@pytest.mark.parametrize("matcher", ["NN-mutual", "none.py:None_"])
def test_classes_of_files_are_used_with_matchers(
    folder: Path, own_methods: Path, feature: str, matcher: str
) -> None:
    images, name = [folder / name for name in NAMES], f"{feature}+{matcher}"
    matches = featplug.match_images(*images, name, max_keypoints=30)
    assert (len(matches) > 0) == (matcher == "NN-mutual")
    loaded = featplug.load(name, max_keypoints=30)
    assert len(featplug.load_matcher(feature=loaded).match(*loaded.extract(images))) == len(matches)


def test_confs_of_a_model_only_are_completed(folder: Path, tmp_path: Path) -> None:
    conf, images = {"model": {"name": "sift", "max_keypoints": 50}}, [folder / n for n in NAMES]
    expected = featplug.match_images(*images, "sift", max_keypoints=50)
    for matcher in (None, featplug.load_matcher(feature=conf)):
        matches = featplug.match_images(*images, conf, matcher)
        np.testing.assert_array_equal(matches.indices, expected.indices)
    assert len(featplug.load_matcher({"model": {"name": "nearest_neighbor"}}).match(
        *featplug.load(conf).extract(images)
    ))  # fmt: skip
    done = extract_features(conf, folder, tmp_path)
    assert done.feature_path.stem == featplug.load("sift").conf["output"]
    (tmp_path / "pairs.txt").write_text(" ".join(NAMES))
    match_features(
        {"model": {"name": "nearest_neighbor"}}, tmp_path / "pairs.txt", done.feature_path
    )


def test_a_class_without_the_option_keeps_all_keypoints_by_default() -> None:
    class Plain(Extractor):
        def extract(self, image: Tensor) -> dict[str, Tensor]:
            ones = torch.ones(3)
            return {"keypoints": torch.ones(3, 2), "scores": ones, "descriptors": ones[None]}

    for limit, num in ((None, 3), (-1, 3), (2, 2)):
        found = Plain({"max_keypoints": limit})({"image": torch.zeros(1, 1, 9, 9)})
        assert len(found["keypoints"][0]) == num


class Corners(PairMatcher):
    """Matches the centres of the last pixels of two images."""

    preprocessing: ClassVar[dict[str, Any]] = {"resize_max": 50}
    default_conf: ClassVar[dict[str, Any]] = {"score": 0.5}

    def match_images(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        last = [torch.tensor([list(i.shape[:0:-1])]).float() - 1 for i in (image0, image1)]
        score = torch.tensor([self.conf["score"]])
        return {"keypoints0": last[0], "keypoints1": last[1], "scores": score}


def test_methods_without_keypoints_match_images_alike(folder: Path) -> None:
    name, images = f"{__name__}:Corners", [folder / name for name in NAMES]
    sizes = [read_image(path).shape[1::-1] for path in images]
    features = extract_both(featplug.load("sift"), folder)
    for matches in (
        featplug.match_images(*images, matcher=name, score=0.25),
        featplug.match_images(*images, name, score=0.25),
        featplug.load_matcher(name, score=0.25).match(*features),
        featplug.match_images(*images, {"model": {"name": name, "score": 0.25}}),
        featplug.match_images(*images, matcher={"model": {"name": name}}, score=0.25),
        featplug.load_matcher({"model": {"name": name}}, score=0.25).match(*features),
    ):
        assert (len(matches), matches.indices.tolist(), matches.scores.tolist()) == (
            1,
            [[0, 0]],
            [0.25],
        )
        for points, size in zip((matches.points0, matches.points1), sizes, strict=True):
            # The last pixel of the image of 50 pixels covers several of the original's.
            last = np.array(size) - max(size) / 50 / 2 - 0.5
            np.testing.assert_allclose(points[0], last, atol=0.1)
        featplug.plots.matches(*images, matches, Figure().subplots())
    with pytest.raises(ValueError, match=r"Corners matches two images.*match_images"):
        featplug.load(name)
    with pytest.raises(ValueError, match=r"Corners matches two images.*match_images"):
        featplug.load({"model": {"name": name}})
    without = dataclasses.replace(features[0], image=None)
    with pytest.raises(ValueError, match=r"no image; extract"):
        featplug.load_matcher(name).match(without, features[1])


class Sized(Matcher):
    """Matches the first keypoints of two images of one size, by their features' weights."""

    default_conf: ClassVar[dict[str, Any]] = {"only": None}
    required_keys = ("descriptors", "image_size", "image")

    def check_features_of(self, method: str | None) -> None:
        if self.conf["only"] not in (None, method):
            raise ValueError(f"Sized's weights are for {self.conf['only']}, not for {method}.")

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        for side in (features0, features1):
            assert side["image"].shape == (3, *side["image_size"].int().tolist()[::-1])
            assert float(side["image"].max()) <= 1
        num = features0["descriptors"].shape[1]
        return {
            "matches0": torch.cat([torch.zeros(1), -torch.ones(num - 1)]).long(),
            "matching_scores0": torch.cat([torch.ones(1), torch.zeros(num - 1)]),
        }


def test_matchers_get_sizes_and_images_and_reject_features_of_other_methods(folder: Path) -> None:
    feature = featplug.load("sift", max_keypoints=9)
    a, b = extract_both(feature, folder)
    matcher = featplug.load_matcher(f"{__name__}:Sized", feature)
    assert matcher.match(a, b).indices.tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="Sized needs image0"):
        matcher.match(dataclasses.replace(a, image=None), b)
    with pytest.raises(ValueError, match=r"Sized matches features, not .*Path; extract"):
        matcher.match(folder / NAMES[0], b)  # type: ignore[arg-type]
    other = featplug.load_matcher(f"{__name__}:Sized", feature, only="superpoint")
    with pytest.raises(ValueError, match="weights are for superpoint, not for sift"):
        other.match(a, b)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "sifd"}, "Did you mean 'sift'"),
        ({"max_keypoint": 3}, "Did you mean 'max_keypoints'"),
        ({"max_keypoints": 0}, "max_keypoints must be 1 or more"),
        ({"precision": "int4"}, "fp32, fp16, bf16"),
        ({"device": "cuda:99"}, "'cuda:99'"),
    ],
)
def test_wrong_options_are_rejected(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        featplug.load(**{"name": "sift", **options})  # type: ignore[arg-type]


def test_names_are_imported_when_they_are_used() -> None:
    assert set(featplug.__all__) <= set(dir(featplug))
    for name in featplug.__all__:
        assert getattr(featplug, name) is not None
    assert "sift" in featplug.list_features()
    assert "NN-ratio" in featplug.list_matchers()
    with pytest.raises(AttributeError, match="'surf'"):
        featplug.surf  # noqa: B018
