"""XFeat: the authors' detection, where points lie, and what the authors' weights give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch

from featplug.base import Extractor
from tests.extractors.contract import ExtractorContract, OfficialRevision
from tests.extractors.places import check_golden, corners, found, mirror_offset


class TestXFeat(OfficialRevision, ExtractorContract):
    method = "xfeat"
    options: ClassVar[dict[str, Any]] = {
        "detection_threshold": 0.0
    }  # drawn weights give 1/65 everywhere


def test_the_authors_weights_give_the_authors_points(official: Callable[..., Extractor]) -> None:
    golden = {
        "num": 327,
        "keypoints": [[50.0, 51.5625], [40.625, 51.5625], [10.4167, 25.7812]],
        "scores": [0.23149, 0.19762, 0.1759],
        "descriptor": [0.08026, -0.08644, -0.09652],
    }
    check_golden(official("xfeat", official_coordinates=True), golden)


@pytest.mark.parametrize("size", [(320, 256), (309, 249)])
def test_points_lie_where_they_are(
    official: Callable[..., Extractor], size: tuple[int, int]
) -> None:
    assert mirror_offset(official("xfeat"), corners(*size)) == pytest.approx(0, abs=1e-3)


def test_the_released_coordinates_are_off_where_the_picture_is_resized(
    official: Callable[..., Extractor],
) -> None:
    """Of 309 columns, 288 are left; a pixel of these is 1.073 wide."""
    offset = mirror_offset(official("xfeat", official_coordinates=True), corners(309, 249))
    assert offset == pytest.approx(309 / 288 - 1, abs=1e-3)


def test_points_at_the_border_are_kept(official: Callable[..., Extractor]) -> None:
    """kornia's suppression leaves out those within two pixels of it."""
    keypoints = found(official("xfeat", detection_threshold=0.0), corners(320, 256))["keypoints"]
    assert (keypoints[:, 0] < 2).any()
    assert (keypoints[:, 1] > 253).any()


def test_outputs_can_be_changed(official: Callable[..., Extractor]) -> None:
    for value in found(official("xfeat"), corners(200, 150)).values():
        value += torch.ones_like(value)


def test_a_budget_is_filled_up_with_maxima_below_the_threshold(
    official: Callable[..., Extractor],
) -> None:
    picture = corners(200, 150)
    assert len(found(official("xfeat"), picture)["keypoints"]) == 327
    assert len(found(official("xfeat", max_keypoints=400), picture)["keypoints"]) == 400
