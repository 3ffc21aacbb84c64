"""ORB: where points lie on every level, their orientations, and matching by bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.methods import build_extractor, build_matcher, matcher_conf
from tests.extractors.contract import ExtractorContract, image
from tests.extractors.places import corners, found


class TestORB(ExtractorContract):
    method = "orb"

    def picture(self) -> Tensor:
        return corners(200, 160)

    def test_few_keypoints_go_through_extractor_and_matcher(self) -> None:
        matcher = build_matcher(matcher_conf("NN-hamming")["model"])
        full = found(build_extractor({"name": "orb"}), self.picture())
        none = found(build_extractor({"name": "orb"}), torch.full((3, 80, 96), 0.5))
        for one, other in ((full, none), (none, full), (none, none)):
            matches = matcher.match_pair(one, other)["matches0"]
            assert matches.tolist() == [-1] * len(one["keypoints"])

    def test_max_keypoints_keeps_the_strongest(self) -> None:
        """OpenCV spreads them over the levels, so that there are some of each."""
        everything = found(build_extractor({"name": "orb", "max_keypoints": -1}), self.picture())
        few = found(build_extractor({"name": "orb", "max_keypoints": 40}), self.picture())
        assert len(everything["scores"]) > 200
        assert 30 < len(few["scores"]) <= 40
        assert len(few["scales"].unique()) > 3
        assert few["scores"].median() > 2 * everything["scores"].median()


@pytest.fixture(scope="module")
def orb() -> Extractor:
    return build_extractor({"name": "orb"})


def mirrored(features: dict[str, Tensor], width: int) -> Tensor:
    return torch.stack([width - 1 - features["keypoints"][:, 0], features["keypoints"][:, 1]], 1)


@pytest.mark.parametrize("size", [(320, 256), (309, 251)])
def test_points_of_every_level_lie_where_they_are(orb: Extractor, size: tuple[int, int]) -> None:
    """OpenCV's own positions are up to 1.4 px off here."""
    picture = corners(*size)
    first, second = found(orb, picture), found(orb, picture.flip(2))
    back = mirrored(second, size[0])
    assert len(first["scales"].unique()) == 8
    for scale in first["scales"].unique():
        points, others = (
            p[f["scales"] == scale] for p, f in ((first["keypoints"], first), (back, second))
        )
        distances = torch.cdist(points.double(), others.double()).min(1)[0]
        assert distances.median() < 0.001


def test_orientations_turn_with_the_picture_from_x_to_y(orb: Extractor) -> None:
    picture = corners(300, 300)
    first, turned = found(orb, picture), found(orb, picture.rot90(-1, (1, 2)))  # clockwise
    x, y = first["keypoints"].t()
    expected = torch.stack([299 - y, x], 1)
    distances, nearest = torch.cdist(expected.double(), turned["keypoints"].double()).min(1)
    same = (distances < 0.01) & (turned["scales"][nearest] == first["scales"])
    turns = (turned["oris"][nearest[same]] - first["oris"][same] - 90 + 180) % 360 - 180
    assert same.sum() > 100
    assert turns.abs().median() < 2


def test_descriptors_of_the_same_places_differ_in_few_bits(orb: Extractor) -> None:
    """In the picture and in a part of it."""
    picture = corners(320, 256)
    first, second = found(orb, picture), found(orb, picture[:, 40:, 40:])
    matcher = build_matcher(matcher_conf("NN-hamming")["model"])
    matches = matcher.match_pair(first, second)["matches0"]
    kept = matches >= 0
    moved = second["keypoints"][matches[kept]] + 40 - first["keypoints"][kept]
    assert kept.sum() > 100
    assert (moved.norm(dim=1) < 3).float().mean() > 0.8
    products = (first["descriptors"][:, kept] * second["descriptors"][:, matches[kept]]).sum(0)
    bits = torch.from_numpy(
        first["descriptors_packed"][:, kept].numpy()
        ^ second["descriptors_packed"][:, matches[kept]].numpy()
    )
    differing = sum((bits >> shift) & 1 for shift in range(8)).sum(0)
    torch.testing.assert_close(products, 1 - 2 * differing / 256)


def test_too_many_levels_for_a_picture_are_one_sentence() -> None:
    orb = build_extractor({"name": "orb", "num_levels": 30})
    with pytest.raises(ValueError, match=r"96×80 pixels.*30 levels.*lower num_levels"):
        orb({"image": image()[None]})
    with pytest.raises(ValueError, match="scale_factor must exceed 1"):
        build_extractor({"name": "orb", "scale_factor": 1.0})
