"""DISK: where points lie, and what the authors' weights give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from featplug.base import Extractor
from tests.extractors.contract import ExtractorContract, OfficialRevision
from tests.extractors.places import check_golden, corners, found, mirror_offset


class TestDISK(OfficialRevision, ExtractorContract):
    method = "disk"


def test_the_authors_weights_give_their_points(official: Callable[..., Extractor]) -> None:
    golden = {
        "num": 199,
        "keypoints": [[69.0, 12.0], [121.0, 12.0], [78.0, 13.0]],
        "scores": [2.40888, 32.08054, 3.02257],
        "descriptor": [-0.03309, 0.05862, 0.03925],
    }
    check_golden(official("disk"), golden)


@pytest.mark.parametrize("size", [(320, 256), (309, 249)])
def test_points_lie_where_they_are(
    official: Callable[..., Extractor], size: tuple[int, int]
) -> None:
    assert mirror_offset(official("disk"), corners(*size)) == 0


def test_no_point_lies_in_the_padding(official: Callable[..., Extractor]) -> None:
    """A bright picture ends at the zeros that fill it up to a size the network takes."""
    for width, height in ((200, 20), (30, 100), (75, 65)):
        keypoints = found(official("disk"), corners(width, height) / 2 + 0.5)["keypoints"]
        assert len(keypoints)
        assert (keypoints <= torch.tensor([width - 1, height - 1])).all()
