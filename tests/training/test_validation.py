"""Validation of trained features with a matcher of any name."""

from __future__ import annotations

import torch

from featplug.api import Feature
from featplug.training.validation import matching_accuracy
from tests.scenes.pictures import textured_image


def test_validation_matches_by_the_matcher_that_is_named() -> None:
    image = torch.from_numpy(textured_image(0))[None, None] / 255
    shifted = image.roll(8, dims=3)
    homography = torch.tensor([[[1.0, 0, 8], [0, 1, 0], [0, 0, 1]]])
    batch = {"image0": image, "image1": shifted, "homography": homography}
    feature = Feature("sift", device="cpu")
    matches = [
        matching_accuracy(feature, [batch], matcher=matcher)["matches"]
        for matcher in ("NN-mutual", "NN-ratio", None)
    ]
    assert matches[0] > matches[1] > 10
    assert matches[2] in matches[:2]
