"""Tests of AdaLAM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.matchers.adalam import AdaLAM
from tests.matchers.contract import MatcherContract
from tests.matchers.turned_pairs import true_partners, turned_pair


class TestAdaLAM(MatcherContract):
    method = "adalam"

    def pair(
        self, conf: Mapping[str, Any], num0: int, num1: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return turned_pair(num0, num1)

    def test_swapped_images_give_the_inverse_matches(
        self, conf: dict[str, Any], matcher: Matcher
    ) -> None:
        """Seeds are chosen in the first image, so that a few matches differ."""
        image0, image1 = self.pair(conf, 120, 80)
        matches0 = matcher.match_pair(image0, image1)["matches0"].numpy()
        matches1 = matcher.match_pair(image1, image0)["matches0"].numpy()
        (rows,) = np.nonzero(matches0 >= 0)
        assert len(rows) > 20
        assert np.mean(matches1[matches0[rows]] == rows) > 0.9


def test_the_options_are_those_of_kornia() -> None:
    from kornia.feature.adalam import get_adalam_default_config

    defaults = {k: v for k, v in get_adalam_default_config().items() if k in AdaLAM.default_conf}
    assert defaults == AdaLAM.default_conf


@pytest.mark.parametrize("without", [(), ("scales",), ("oris",), ("scales", "oris")])
def test_what_no_affine_map_explains_is_rejected(without: tuple[str, ...]) -> None:
    """Neighbours by descriptor that lie elsewhere are no matches, with frames or without."""
    image0, image1 = (
        {key: value for key, value in image.items() if key not in without}
        for image in turned_pair(400, 400)
    )
    partners = true_partners(image0, image1)
    (moved,) = torch.nonzero(partners >= 0, as_tuple=True)
    moved = moved[::4]  # a quarter of the partners is put somewhere else
    image1["keypoints"][partners[moved]] = image1["keypoints"][partners[moved.flip(0)]]
    matches = AdaLAM().match_pair(image0, image1)["matches0"]
    is_right = (partners >= 0) & (matches == partners)
    is_right[moved] = False
    assert int(is_right.sum()) > 120
    assert int((matches >= 0).sum()) < 1.05 * int(is_right.sum())


def test_frames_that_disagree_are_rejected() -> None:
    image0, image1 = turned_pair(400, 400)
    image1["oris"] = torch.rand(400, generator=torch.Generator().manual_seed(0)) * 360
    num_matches = [
        int((AdaLAM(conf).match_pair(image0, image1)["matches0"] >= 0).sum())
        for conf in ({}, {"orientation_difference_threshold": None})
    ]
    assert num_matches[0] < 0.8 * num_matches[1]


def test_descriptors_of_two_methods_are_rejected() -> None:
    image0, image1 = turned_pair(20, 20)[0], turned_pair(20, 20, dimensions=64)[1]
    with pytest.raises(ValueError, match=r"128 and 64.*one method"):
        AdaLAM().match_pair(image0, image1)
