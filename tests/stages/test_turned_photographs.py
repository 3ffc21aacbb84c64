"""Photographs stored turned or mirrored: methods see them upright, files have stored pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import featplug
from featplug.api import FeatureMatcher, Features
from featplug.api.image_matcher import ImageMatcher
from featplug.base import GlobalExtractor, Matcher, PairMatcher
from featplug.io.h5file import OtherContentsError
from featplug.io.images import read_image
from featplug.io.match_store import MatchReader
from featplug.io.orientation import Turn
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader, GlobalDescriptorReader
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.match_images import match_images
from featplug.stages.retrieve import global_descriptors
from tests.scenes.pictures import textured_image
from tests.scenes.turned import ORIENTATIONS, write_all_turns, write_turned

UPRIGHT = textured_image(3, width=200, height=140)
CONF = {"max_keypoints": 200}


def assert_of_stored_image(found: Mapping[str, np.ndarray], plain: Features, turn: Turn) -> None:
    """Check that arrays are those of the upright image, turned to the stored one."""
    assert len(plain) > 50
    turned = turn.upright_arrays(found)
    np.testing.assert_allclose(turned["keypoints"], plain.keypoints, atol=1e-4)
    np.testing.assert_allclose(turned["oris"], plain.extras["oris"] % 360, atol=1e-3)
    for key in ("scores", "scales", "descriptors"):
        np.testing.assert_array_equal(found[key], plain.arrays()[key])


def test_all_turns_have_the_keypoints_of_the_upright_picture(tmp_path: Path) -> None:
    turns = write_all_turns(tmp_path, UPRIGHT)
    feature = featplug.load("sift", **CONF)
    plain = feature.extract(UPRIGHT)
    for name, turn in turns.items():
        features = feature.extract(tmp_path / name)
        assert (features.image_size, features.orientation) == (turn.size, turn.orientation)
        assert features.image is not None
        upright = turn.upright_pixels(features.image)
        np.testing.assert_array_equal(upright, UPRIGHT[..., None].repeat(3, axis=2))
        assert_of_stored_image(features.arrays(), plain, turn)


def test_stored_takes_pixels_as_they_are(tmp_path: Path) -> None:
    (name,) = write_all_turns(tmp_path, UPRIGHT, [6])
    feature = featplug.load("sift", orientation="stored", **CONF)
    as_array = feature.extract(read_image(tmp_path / name, grayscale=True))
    as_file = feature.extract(tmp_path / name)
    assert as_file.orientation == 1
    np.testing.assert_array_equal(as_file.keypoints, as_array.keypoints)
    with pytest.raises(ValueError, match="exif, stored"):
        featplug.load("sift", orientation="sideways")


@pytest.mark.parametrize("resize_max", [None, 100])
def test_feature_files_are_of_the_stored_image(tmp_path: Path, resize_max: int | None) -> None:
    images = tmp_path / "images"
    turns = write_all_turns(images, UPRIGHT)
    path = extract_features(
        "sift", images, tmp_path, as_half=False, resize_max=resize_max, **CONF
    ).feature_path
    preprocessing = {"preprocessing": {"grayscale": True, "resize_max": resize_max}}
    plain = featplug.load({**featplug.load("sift").conf, **preprocessing}, **CONF).extract(UPRIGHT)
    with FeatureReader(path) as reader:
        for name, turn in turns.items():
            assert (reader.image_size(name), reader.orientation(name)) == (
                turn.size,
                turn.orientation,
            )
            assert_of_stored_image(reader.read(name), plain, turn)


class Seeing(Matcher):
    """Notes what it is handed, and matches nothing."""

    required_keys = ("descriptors", "keypoints", "image_size", "image")
    optional_keys = ("scales", "oris")
    seen: ClassVar[list[dict[str, Tensor]]] = []

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        self.seen.extend([dict(features0), dict(features1)])
        num = len(features0["keypoints"])
        return {"matches0": torch.full((num,), -1), "matching_scores0": torch.zeros(num)}


def seeing() -> FeatureMatcher:
    Seeing.seen.clear()
    conf = {"output": "matches-featplug-seeing", "model": {"name": f"{__name__}:Seeing"}}
    return FeatureMatcher(conf, device="cpu")


def assert_upright(seen: Mapping[str, Tensor], plain: Mapping[str, Tensor]) -> None:
    assert seen.keys() == plain.keys()
    for key, value in seen.items():
        tolerance = {"keypoints": 1e-4, "oris": 1e-3}.get(key, 0)
        np.testing.assert_allclose(value, plain[key], atol=tolerance, err_msg=key)


@pytest.mark.parametrize("orientation", [2, 5, 6, 8])
def test_matchers_are_handed_upright_images(tmp_path: Path, orientation: int) -> None:
    images = tmp_path / "images"
    names = list(write_all_turns(images, UPRIGHT, [1, orientation]))
    path = extract_features("sift", images, tmp_path, as_half=False, **CONF).feature_path
    write_pairs(tmp_path / "pairs.txt", [(names[0], names[1])])
    matcher = seeing()
    match_features(matcher, tmp_path / "pairs.txt", path, tmp_path, image_dir=images)
    of_plain, of_turned = Seeing.seen
    assert_upright(of_turned, of_plain)
    assert of_turned["image_size"].tolist() == [200, 140]

    feature, matcher = featplug.load("sift", **CONF), seeing()
    matcher.match(*(feature.extract(images / name) for name in names))
    assert_upright(Seeing.seen[1], of_plain)


class Means(GlobalExtractor):
    """Describes an image by the means of its quarters."""

    def describe(self, image: Tensor) -> Tensor:
        means = torch.nn.functional.adaptive_avg_pool2d(image.mean(0, keepdim=True), 2).flatten()
        return torch.nn.functional.normalize(means, dim=0)


def test_retrieval_sees_upright_images(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_all_turns(images, UPRIGHT)
    conf = {"output": "global-means", "model": {"name": f"{__name__}:Means"}}
    found = global_descriptors(conf, images, tmp_path)
    with GlobalDescriptorReader(found.descriptor_path) as reader:
        descriptors = reader.read([f"{o}.png" for o in ORIENTATIONS])
    np.testing.assert_array_equal(descriptors, descriptors[:1].repeat(8, axis=0))
    with pytest.raises(OtherContentsError, match=r"orientation exif.*[2-8].png"):
        global_descriptors(conf, images, tmp_path, orientation="stored")


class Corner(PairMatcher):
    """Matches the brightest points of two images."""

    preprocessing: ClassVar[dict[str, Any]] = {"grayscale": True, "resize_max": 100}

    def match_images(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        points = []
        for image in (image0, image1):
            row, column = divmod(int(image[0].argmax()), image.shape[2])
            points.append(torch.tensor([[column, row]], dtype=torch.float32))
        return {"keypoints0": points[0], "keypoints1": points[1], "scores": torch.ones(1)}


def test_points_of_image_matchers_are_of_the_stored_image(tmp_path: Path) -> None:
    dot = np.zeros((140, 200), np.uint8)
    dot[30:32, 150:152] = 255  # centred at (150.5, 30.5)
    images = tmp_path / "images"
    turns = write_all_turns(images, dot)
    conf = {
        "output": "matches-featplug-corner",
        "model": {"name": f"{__name__}:Corner"},
        "preprocessing": Corner.preprocessing,
    }
    matcher = ImageMatcher(conf)
    write_pairs(tmp_path / "pairs.txt", [("1.png", name) for name in turns if name != "1.png"])
    done = match_images(matcher, tmp_path / "pairs.txt", images, tmp_path)
    with FeatureReader(done.feature_path) as reader, MatchReader(done.match_path) as matches:
        for name, turn in turns.items():
            (point,) = turn.upright_arrays({"keypoints": reader.keypoints(name)})["keypoints"]
            np.testing.assert_allclose(point, [150.5, 30.5], atol=1e-3)
            assert reader.image_size(name) == turn.size
            assert name == "1.png" or matches.read("1.png", name)[0].tolist() == [[0, 0]]
    found = matcher.match(images / "1.png", images / "6.png")
    points = turns["6.png"].upright_arrays({"keypoints": found.points1})["keypoints"]
    np.testing.assert_allclose(points, [[150.5, 30.5]], atol=1e-3)
    features = featplug.load("sift").extract(images / "6.png")
    np.testing.assert_allclose(
        matcher.match(images / "1.png", features).points1, found.points1, atol=1e-3
    )
    stored = ImageMatcher(conf, orientation="stored")
    with pytest.raises(OtherContentsError, match=r"orientation exif.*[2-8].png"):
        match_images(stored, tmp_path / "pairs.txt", images, tmp_path)


def test_files_are_reused_if_they_would_be_the_same(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_all_turns(images, UPRIGHT, [1, 3])
    both = ["1.png", "3.png"]

    def extract(name: str, names: list[str], **options: Any) -> int:
        path = tmp_path / name
        done = extract_features("sift", images, feature_path=path, image_list=names, **options)
        return done.num_present

    assert extract("exif.h5", both) == 0
    assert extract("exif.h5", both) == 2
    assert extract("exif.h5", ["1.png"], orientation="stored") == 1  # it has no turn
    with pytest.raises(OtherContentsError, match=r"exif.h5.*orientation exif.*3.png"):
        extract("exif.h5", both, orientation="stored")
    # These are as the files of versions that took all photographs as stored.
    assert extract("stored.h5", both, orientation="stored") == 0
    with h5py.File(tmp_path / "stored.h5") as file:
        assert "image_orientation" not in file["3.png"].attrs
    assert extract("stored.h5", both, orientation="stored") == 2
    assert extract("stored.h5", ["1.png"]) == 1
    with pytest.raises(OtherContentsError, match=r"stored.h5.*orientation stored.*3.png"):
        extract("stored.h5", both)
    assert extract("stored.h5", both, overwrite=True) == 0


def test_a_large_jpeg_is_turned_after_its_reduction(tmp_path: Path) -> None:
    upright = textured_image(5, width=1600, height=1200)
    write_turned(tmp_path / "6.jpg", upright, 6)
    write_turned(tmp_path / "1.jpg", upright, 1)
    limits = {"max_megapixels": 0.5, "resize_max": 400}
    path = extract_features("sift", tmp_path, tmp_path, **limits, **CONF).feature_path
    with FeatureReader(path) as reader:
        assert reader.image_size("6.jpg") == (1200, 1600)
        turn = Turn((1200, 1600), 6)
        points = turn.upright_arrays({"keypoints": reader.keypoints("6.jpg")})["keypoints"]
        distances = np.linalg.norm(points[:, None] - reader.keypoints("1.jpg"), axis=2).min(1)
        assert np.median(distances) < 0.5
