"""ALIKED: the authors' detection, where points lie, and what their weights give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from featplug.base import Extractor
from featplug.extractors.aliked import maxima, refine
from tests.extractors.contract import ExtractorContract, OfficialRevision
from tests.extractors.places import check_golden, corners, found, shift_distances

# What the authors' code, as LightGlue's package has it, finds in the picture of check_golden.
GOLDEN: dict[str, dict[str, Any]] = {
    "aliked-n16": {
        "num": 49,
        "keypoints": [[10.1267, 11.9842], [75.8657, 12.0335], [116.0594, 12.3917]],
        "scores": [0.27074, 0.76445, 0.34458],
        "descriptor": [-0.02313, -0.00351, -0.06907],
    },
    "aliked-n16rot": {
        "num": 5,
        "keypoints": [[9.0394, 28.8966], [55.1629, 80.9382], [42.0112, 93.9227]],
        "scores": [0.29063, 0.31883, 0.19642],
        "descriptor": [-0.00726, -0.122, -0.052],
    },
    "aliked-n32": {
        "num": 54,
        "keypoints": [[11.308, 12.4829], [76.2131, 12.1479], [154.4539, 12.5078]],
        "scores": [0.91847, 0.91265, 0.92432],
        "descriptor": [0.01787, -0.09053, -0.10205],
    },
    "aliked-t16": {
        "num": 71,
        "keypoints": [[25.6844, 9.8927], [129.8347, 9.7818], [181.6122, 10.4044]],
        "scores": [0.44702, 0.21917, 0.7774],
        "descriptor": [0.02258, -0.05381, 0.00217],
    },
}


class TestALIKED(OfficialRevision, ExtractorContract):
    method = "aliked"

    def test_half_precision_keeps_keypoints_and_descriptors(
        self, name: str, official: Callable[..., Extractor]
    ) -> None:
        """With the authors' weights: the scores of drawn ones differ by less than its rounding."""
        picture, extractor = corners(320, 256), official(name)
        whole = found(extractor, picture)
        with torch.autocast("cpu", torch.bfloat16):
            half = found(extractor, picture)
        assert all(value.dtype == torch.float32 for value in half.values())
        distances, nearest = torch.cdist(half["keypoints"], whole["keypoints"]).min(1)
        close = distances < 0.5
        assert close.float().mean() > 0.5
        a, b = half["descriptors"][:, close], whole["descriptors"][:, nearest[close]]
        assert torch.nn.functional.cosine_similarity(a, b, dim=0).median() > 0.98


@pytest.mark.parametrize("name", GOLDEN)
def test_the_authors_weights_give_the_authors_points(
    name: str, official: Callable[..., Extractor]
) -> None:
    check_golden(official(name), GOLDEN[name])


def test_pixels_that_stronger_ones_leave_are_maxima_too() -> None:
    """Of a falling row of scores, only the first pixel is the highest of its window."""
    scores = torch.full((1, 1, 21, 40), 0.01)
    scores[0, 0, 10, 5:35] = torch.linspace(1, 0.1, 30)
    found = maxima(scores, 2) & (scores > 0.05)
    assert found[0, 0, 10].nonzero().flatten().tolist()[:3] == [5, 8, 11]


@pytest.mark.parametrize(("x", "y"), [(12.0, 9.0), (12.3, 8.8)])
def test_a_peak_is_found_where_it_is(x: float, y: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    scores = (-((columns - x) ** 2 + (rows - y) ** 2) / 4).exp()
    pixels = maxima(scores[None, None], 2)[0, 0].nonzero()
    (place,) = refine(scores, pixels[scores[tuple(pixels.t())] > 0.5], 2)
    assert (place - torch.tensor([x, y])).abs().max() < 0.1


def test_points_move_with_the_picture(official: Callable[..., Extractor]) -> None:
    distances = shift_distances(official("aliked-n16"), corners(352, 288), shift=32, margin=48)
    assert distances.median() < 0.2


def test_weak_pictures_have_the_points_above_the_mean(official: Callable[..., Extractor]) -> None:
    """As in the authors' code; a picture of a single colour has none, also next to others."""
    extractor = official("aliked-n16", detection_threshold=0.999)
    picture, plain = corners(200, 150), torch.zeros(3, 150, 200)
    assert len(found(extractor, picture)["keypoints"]) > 100
    batch = extractor({"image": torch.stack([picture, plain])})
    assert len(batch["keypoints"][0]) > 100
    assert batch["descriptors"][1].shape == (128, 0)


def test_all_maxima_are_points_at_a_threshold_of_0(official: Callable[..., Extractor]) -> None:
    extractor = official("aliked-n16", detection_threshold=0, max_keypoints=300)
    assert len(found(extractor, corners(200, 150))["keypoints"]) == 300


def test_a_budget_is_filled_up_with_maxima_below_the_threshold(
    official: Callable[..., Extractor],
) -> None:
    picture = corners(200, 150)
    released = found(official("aliked-n16"), picture)["keypoints"]
    filled = found(official("aliked-n16", max_keypoints=200), picture)["keypoints"]
    assert len(released) < 100
    assert len(filled) == 200
    assert torch.cdist(released.double(), filled.double()).min(1)[0].max() < 1e-3
    for options in ({"fill": False}, {"detection_threshold": 0.2}):
        kept = found(official("aliked-n16", max_keypoints=200, **options), picture)["keypoints"]
        assert torch.equal(kept, released)
