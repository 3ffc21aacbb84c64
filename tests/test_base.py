"""The one check of what extractors and matchers return, and of what they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from featplug.base import Extractor, Matcher, autocast, check_features, check_matches, choose_device

FEATURES = {
    "keypoints": torch.tensor([[0.0, -0.5], [7.5, 5.5], [3.0, 2.0]]),
    "scores": torch.ones(3),
    "descriptors": torch.ones(4, 3),
    "scales": torch.ones(3),
    "meta_grid": torch.zeros(2, 3),
    "descriptors_packed": torch.zeros((1, 3), dtype=torch.uint8),
    "meta_descriptors": torch.zeros(2, 5, 3, 3),
}


def test_features_of_the_contract_pass() -> None:
    check_features(FEATURES, (8, 6), "Mine")
    none = {key: value[..., :0] for key, value in FEATURES.items()}
    none |= {"keypoints": torch.zeros(0, 2), "meta_descriptors": FEATURES["meta_descriptors"]}
    check_features(none, (8, 6), "Mine")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("keypoints", torch.zeros(3, 3), "3×2"),
        ("keypoints", torch.zeros(6), "6×2"),
        ("keypoints", torch.zeros(()), "0×2"),
        ("keypoints", torch.zeros((3, 2), dtype=torch.int64), "float32"),
        ("keypoints", torch.zeros((3, 2), dtype=torch.float64), "float32"),
        ("keypoints", torch.tensor([[0.0, 0], [7.6, 0], [1, 1]]), "8×6 pixels"),
        ("keypoints", torch.tensor([[0.0, -0.6], [7.5, 0], [1, 1]]), "8×6 pixels"),
        ("scores", torch.ones(2), "must be 3,"),
        ("scores", torch.ones(1, 3), "must be 3,"),
        ("scores", torch.tensor([1.0, torch.nan, 0]), "NaN"),
        ("scores", torch.ones(3, dtype=torch.float16), "float32"),
        ("descriptors", torch.ones(3, 4), "D×3"),
        ("descriptors", torch.full((4, 3), torch.inf), "infinite"),
        ("scales", torch.ones(3, 1), "must be 3,"),
        ("meta_grid", torch.zeros(3, 2), "K×3"),
        ("descriptors_packed", torch.zeros(3, dtype=torch.uint8), "K×3"),
    ],
)
def test_features_against_the_contract_are_rejected(key: str, value: Tensor, problem: str) -> None:
    with pytest.raises(ValueError, match=f"Mine: {key}.*{problem}"):
        check_features({**FEATURES, key: value}, (8, 6), "Mine")


@pytest.mark.parametrize("key", ["keypoints", "scores", "descriptors"])
def test_missing_features_are_rejected(key: str) -> None:
    features = {k: v for k, v in FEATURES.items() if k != key}
    with pytest.raises(ValueError, match=f"Mine returned no {key}"):
        check_features(features, (8, 6), "Mine")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"matches0": torch.tensor([0, 1])}, "matches0"),
        ({"matches0": torch.tensor([0, 1, -1], dtype=torch.int32)}, "matches0.*int64"),
        ({"matches0": torch.tensor([0, 2, -1])}, "matches0"),
        ({"matches0": torch.tensor([0, 1, -2])}, "matches0"),
        ({"matching_scores0": torch.ones(2)}, "matching_scores0"),
        ({"matching_scores0": torch.ones(3, dtype=torch.int64)}, "matching_scores0.*float"),
        ({"matching_scores0": torch.tensor([0.0, 1.1, 0])}, "matching_scores0"),
        ({"matching_scores0": torch.tensor([0.0, torch.nan, 0])}, "matching_scores0"),
    ],
)
def test_matches_against_the_contract_are_rejected(
    changed: dict[str, Tensor], problem: str
) -> None:
    right = {"matches0": torch.tensor([0, 1, -1]), "matching_scores0": torch.tensor([1.0, 0.5, 0])}
    check_matches(right, 3, 2, "Mine")
    with pytest.raises(ValueError, match=f"Mine: {problem}"):
        check_matches({**right, **changed}, 3, 2, "Mine")
    for key in right:
        with pytest.raises(ValueError, match=f"no {key}"):
            check_matches({k: v for k, v in right.items() if k != key}, 3, 2, "Mine")


class Broken(Extractor):
    """Returns a keypoint outside of the image."""

    default_conf: ClassVar[dict[str, Any]] = {"mode": "x", "size": 1, "limit": None}
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"mode": ("x", "y")}
    positive = ("size", "limit")

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        descriptors = torch.zeros(2, 1)
        return {
            "keypoints": torch.tensor([[99.0, 0]]),
            "scores": torch.ones(1),
            "descriptors": descriptors,
        }


class First(Matcher):
    """Matches every keypoint with the first."""

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        num = features0["descriptors"].shape[1]
        return {
            "matches0": torch.zeros(num, dtype=torch.int64),
            "matching_scores0": torch.ones(num),
        }


def test_methods_are_checked_when_they_run() -> None:
    with pytest.raises(ValueError, match="Broken: keypoints"):
        Broken()({"image": torch.zeros(1, 3, 8, 8)})
    for image in (torch.zeros(3, 8, 8), torch.zeros((1, 3, 8, 8), dtype=torch.uint8)):
        with pytest.raises(ValueError, match="B×C×H×W"):
            Broken()({"image": image})
    some, none = {"descriptors": torch.zeros(2, 3)}, {"descriptors": torch.zeros(2, 0)}
    assert First().match_pair(some, some)["matches0"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="First: matches0"):
        First().match_pair(some, none)


@pytest.mark.parametrize(
    ("conf", "problem"),
    [
        ({"mode": "z"}, "mode.* x, y"),
        ({"size": 0}, "size.*positive"),
        ({"size": None}, "size.*positive"),
        ({"limit": -1}, "limit.*positive"),
        ({"modes": "x"}, "'modes'.*'mode'"),
    ],
)
def test_options_are_checked(conf: dict[str, Any], problem: str) -> None:
    assert Broken({"limit": None}).conf == {"mode": "x", "size": 1, "limit": None}
    with pytest.raises(ValueError, match=problem):
        Broken(conf)


def test_devices_and_precisions_are_checked() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="'cuda:99'"):
        choose_device("cuda:99")
    with pytest.raises(ValueError, match="fp32, fp16, bf16"):
        autocast(torch.device("cpu"), "int4")
    with autocast(torch.device("cpu"), "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "fp32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
