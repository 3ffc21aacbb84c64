"""Describing another conf's keypoints: the very same ones, whatever the descriptor."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.extractors.describer import Describer, patch_frames
from featplug.methods import build_extractor
from tests.scenes.pictures import textured_image

HERE = "tests.extractors.test_describer"


class Corners(Extractor):
    """A detector without frames: three points, the first the strongest."""

    default_conf: ClassVar[dict[str, Any]] = {"max_keypoints": -1, "weights": "auto"}

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        num = 3 if self.conf["max_keypoints"] < 0 else self.conf["max_keypoints"]
        return {
            "keypoints": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])[:num],
            "scores": torch.tensor([3.0, 2.0, 1.0])[:num],
            "descriptors": torch.zeros(7, num),
        }


class Position(Describer):
    """Describes a keypoint by where it is."""

    default_conf: ClassVar[dict[str, Any]] = {**Describer.describer_conf, "gain": 1.0}

    def describe(self, image: Tensor, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        assert "descriptors" not in keypoints
        return {"descriptors": self.conf["gain"] * keypoints["keypoints"].t()}


def image() -> Tensor:
    return torch.from_numpy(textured_image(0)[None] / np.float32(255))


@pytest.mark.parametrize("max_keypoints", [-1, 20])
def test_keypoints_are_those_of_the_detectors_own_conf(max_keypoints: int) -> None:
    detector = build_extractor({"name": "sift", "max_keypoints": max_keypoints})
    describer = build_extractor({"name": f"{HERE}:Position", "max_keypoints": max_keypoints})
    own, described = (e({"image": image()[None]}) for e in (detector, describer))
    assert len(own["keypoints"][0]) == max_keypoints or max_keypoints < 0
    for key in ("keypoints", "scores", "scales", "oris"):
        torch.testing.assert_close(described[key][0], own[key][0], rtol=0, atol=0)
    torch.testing.assert_close(described["descriptors"][0], own["keypoints"][0].t())


def test_any_detector_and_describers_of_describers() -> None:
    inner = {"name": f"{HERE}:Position", "detector": {"name": f"{HERE}:Corners"}}
    outer = build_extractor({"name": f"{HERE}:Position", "detector": inner, "max_keypoints": 2})
    features = outer({"image": image()[None]})
    assert features["keypoints"][0].tolist() == [[1, 2], [3, 4]]
    assert "scales" not in features


@pytest.mark.parametrize("conf", [{}, {"max_keypoints": 1}])
def test_a_budget_is_the_detectors_too_unless_it_has_one(conf: dict[str, Any]) -> None:
    detector = {"name": f"{HERE}:Corners", **conf}
    describer = build_extractor(
        {"name": f"{HERE}:Position", "detector": detector, "max_keypoints": 2}
    )
    assert describer.detector.conf["max_keypoints"] == conf.get("max_keypoints", 2)


def test_a_describer_that_drops_keypoints_leaves_the_detector_its_own_number() -> None:
    class Selective(Position):
        drops_keypoints = True

        def select(self, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
            return {key: value[1:] for key, value in keypoints.items()}

    describer = Selective({"detector": {"name": f"{HERE}:Corners"}, "max_keypoints": 2})
    features = describer({"image": image()[None]})
    assert features["keypoints"][0].tolist() == [[3, 4], [5, 6]]


def test_settings_tell_the_detectors_options() -> None:
    detector = {"name": f"{HERE}:Corners", "weights": "mine.pth", "max_keypoints": 5}
    settings = build_extractor({"name": f"{HERE}:Position", "detector": detector}).settings
    assert settings == {
        "gain": 1.0,
        "max_keypoints": -1,
        # Corners records no weights, so that their name is all that is known of them.
        "detector": {"name": f"{HERE}:Corners", "max_keypoints": 5, "weights": "mine.pth"},
    }


def test_frames_are_the_detectors_or_upright_and_as_large_as_their_level() -> None:
    sift = build_extractor({"name": "sift"}).detect(image())
    for given, frame in zip(
        (sift["keypoints"], sift["scales"], sift["oris"]), patch_frames(sift, 3.0), strict=True
    ):
        assert given is frame
    # D2-Net's and MTLDesc's scales are those of their image pyramid.
    points = {"keypoints": torch.zeros(2, 2), "scales": torch.tensor([1.0, 2.0])}
    _, scales, oris = patch_frames(points, 3.0)
    assert scales.tolist() == [3, 6]
    assert oris.tolist() == [0, 0]
    _, scales, _ = patch_frames({"keypoints": torch.zeros(2, 2)}, 3.0)
    assert scales.tolist() == [3, 3]


def test_a_wrong_option_of_the_detector_is_named() -> None:
    with pytest.raises(ValueError, match=r"SIFT.*'contrast'"):
        build_extractor({"name": f"{HERE}:Position", "detector": {"name": "sift", "contrast": 1}})
