"""What matchers are handed over by the engine, besides arrays: sizes, photographs, weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import cv2
import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.api import FeatureMatcher
from featplug.base import Matcher
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader, FeatureWriter
from featplug.stages.match import match_features
from featplug.weights.registry import WeightsRecord

SIZES = {"a.png": (40, 30), "b.png": (24, 36), "c.png": (40, 30)}
PAIRS = [("c.png", "a.png"), ("b.png", "a.png"), ("b.png", "c.png")]


class Looking(Matcher):
    """Matches the first keypoint of image 0 with the last of image 1, and notes what it got."""

    default_conf: ClassVar[dict[str, Any]] = {"weights": "one", "images": False}
    required_keys = ("keypoints", "image_size")
    optional_keys = ("scales", "image")
    seen: ClassVar[list[tuple[dict[str, Tensor], dict[str, Tensor]]]] = []

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        sha256 = {"one": "1" * 64, "two": "2" * 64}[self.conf["weights"]]
        self.weights_records = (WeightsRecord("looking", "file", Path("x"), sha256),)
        if self.conf["images"]:
            self.required_keys = (*self.required_keys, "image")

    def check_features_of(self, method: str | None) -> None:
        if method not in (None, "mine"):
            raise ValueError(f"Looking's weights are for mine, not for {method}.")

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        self.seen.append((dict(features0), dict(features1)))
        matches = torch.full((len(features0["keypoints"]),), -1)
        matches[0] = len(features1["keypoints"]) - 1
        return {"matches0": matches, "matching_scores0": (matches >= 0).float()}


def looking(**options: object) -> FeatureMatcher:
    Looking.seen.clear()
    name = f"{__name__}:Looking"
    return FeatureMatcher(
        {"output": "matches-featplug-looking", "model": {"name": name}}, device="cpu", **options
    )


def write_features(path: Path, method: str = "mine") -> Path:
    provenance = Provenance("features", {"model": {"name": method}})
    with FeatureWriter(path, provenance) as writer:
        for num, (name, size) in enumerate(SIZES.items(), start=3):
            arrays = {
                "keypoints": np.arange(2 * num, dtype=np.float32).reshape(num, 2),
                "scores": np.ones(num, np.float32),
                "descriptors": np.zeros((4, num), np.float16),
                "scales": np.ones(num, np.float16),
                "tokens": np.zeros((7, num, 2), np.float32),  # nobody knows this one
            }
            writer.write(name, arrays, size, 1.0, "")
    return path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return write_features(tmp_path / "feats.h5")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs.txt", PAIRS)
    return tmp_path / "pairs.txt"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for grey, (name, (width, height)) in enumerate(SIZES.items(), start=10):
        cv2.imwrite(str(folder / name), np.full((height, width, 3), grey, np.uint8))
    return folder


def test_sizes_are_handed_over_and_sides_are_those_of_the_list(features: Path, pairs: Path) -> None:
    summary = match_features(looking(), pairs, features)
    assert (summary.num_matched, summary.skipped) == (3, {})
    sizes = {tuple(tuple(side["image_size"].tolist()) for side in sides) for sides in Looking.seen}
    assert sizes == {(SIZES[name0], SIZES[name1]) for name0, name1 in PAIRS}
    for sides in Looking.seen:
        for side in sides:
            assert set(side) == {"keypoints", "image_size", "scales"}
            assert {value.dtype for value in side.values()} == {torch.float32}
    counts = dict(zip(SIZES, (3, 4, 5), strict=True))
    with MatchReader(summary.match_path) as reader:
        for name0, name1 in PAIRS:
            assert reader.read(name0, name1)[0].tolist() == [[0, counts[name1] - 1]]
            assert reader.read(name1, name0)[0].tolist() == [[counts[name1] - 1, 0]]


def test_unknown_arrays_are_kept_in_files(features: Path) -> None:
    with FeatureReader(features) as reader:
        assert reader.read("b.png")["tokens"].shape == (7, 4, 2)


def test_photographs_are_handed_over_once_read(
    features: Path, pairs: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featplug.stages import matcher_inputs

    read, original = [], matcher_inputs.read_image
    monkeypatch.setattr(
        matcher_inputs, "read_image", lambda path: read.append(path.name) or original(path)
    )
    match_features(looking(images=True), pairs, features, image_dir=photographs)
    assert sorted(read) == list(SIZES)
    for sides in Looking.seen:
        for side in sides:
            width, height = map(int, side["image_size"])
            assert side["image"].shape == (3, height, width)
            assert side["image"].dtype == torch.float32
    values = {round(float(side["image"].mean()) * 255) for sides in Looking.seen for side in sides}
    assert values == {10, 11, 12}


def test_photographs_that_nobody_named_are_asked_for(features: Path, pairs: Path) -> None:
    with pytest.raises(ValueError, match=r"Looking.*photographs.*--image-dir"):
        match_features(looking(images=True), pairs, features)


def test_a_missing_photograph_costs_its_pairs_only(
    features: Path, pairs: Path, photographs: Path
) -> None:
    (photographs / "b.png").unlink()
    summary = match_features(looking(images=True), pairs, features, image_dir=photographs)
    assert summary.num_matched == 1
    assert "photographs" in summary.skipped["b.png"]


def test_sizes_that_another_tool_left_out_come_from_photographs_or_are_asked_for(
    features: Path, pairs: Path, photographs: Path
) -> None:
    theirs = features.with_name("theirs.h5")
    with h5py.File(features) as ours, h5py.File(theirs, "w") as file:
        for name in SIZES:
            file[f"{name}/keypoints"] = ours[name]["keypoints"][()]
    with pytest.raises(ValueError, match=r"theirs\.h5.*image_size.*add it"):
        match_features(looking(), pairs, theirs)
    assert match_features(looking(), pairs, theirs, image_dir=photographs).num_matched == 3
    assert {tuple(sides[1]["image_size"].tolist()) for sides in Looking.seen} == {SIZES["a.png"]}


def test_other_weights_are_other_matches(features: Path, pairs: Path, tmp_path: Path) -> None:
    path = tmp_path / "matches.h5"
    match_features(looking(), pairs, features, matches=path)
    with MatchReader(path) as reader:
        assert reader.provenance is not None
        assert [w["sha256"] for w in reader.provenance.weights] == ["1" * 64]
    assert match_features(looking(), pairs, features, matches=path).num_present == 3
    with pytest.raises(ValueError, match=r"weights looking 11111111.*22222222"):
        match_features(looking(weights="two"), pairs, features, matches=path)


def test_features_that_the_weights_do_not_fit_are_rejected(pairs: Path, tmp_path: Path) -> None:
    others = write_features(tmp_path / "theirs.h5", "sift")
    with pytest.raises(ValueError, match=r"theirs\.h5.*Looking's weights.*mine.*sift"):
        match_features(looking(), pairs, others)
    mine = write_features(tmp_path / "mine.h5")
    with pytest.raises(ValueError, match=r"theirs\.h5.*Looking's weights"):
        match_features(looking(), pairs, mine, features_ref=others)
