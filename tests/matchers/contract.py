"""What holds for every matcher: the test of each method inherits it, for all of its confs.

A method without a test file of its own is covered by ``test_other_methods.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.methods import build_matcher, matcher_conf, matchers
from tests.golden.revisions import Revisions


class MatcherContract:
    """Tests of one method; subclasses name it and may draw features that it can match."""

    method: ClassVar[str]
    """Name of the file in :mod:`featplug.matchers`."""
    score_tolerance: ClassVar[float] = 1e-5
    """Largest difference of scores where the order of summation differs."""

    @classmethod
    def names(cls) -> list[str]:
        """The confs to test."""
        return [name for name, conf in matchers.items() if conf["model"]["name"] == cls.method]

    def pair(
        self, conf: Mapping[str, Any], num0: int, num1: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Two images' features, half of the fewer with a partner in the other image."""
        rng = np.random.default_rng([num0, num1])
        shared = rng.standard_normal((256, (min(num0, num1) + 1) // 2))
        sides = []
        for num in (num0, num1):
            drawn = rng.standard_normal((256, num))
            partners = rng.permutation(num)[: shared.shape[1]]
            drawn[:, partners] = shared + 0.2 * rng.standard_normal(shared.shape)
            drawn /= np.linalg.norm(drawn, axis=0)
            sides.append({"descriptors": torch.from_numpy(drawn).float()})
        return sides[0], sides[1]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.names())

    @pytest.fixture
    def conf(self, name: str) -> dict[str, Any]:
        return matcher_conf(name)["model"]

    @pytest.fixture
    def matcher(self, conf: dict[str, Any]) -> Matcher:
        return build_matcher(conf)

    def test_another_output_has_another_revision(
        self, name: str, conf: dict[str, Any], matcher: Matcher, revisions: Revisions
    ) -> None:
        outputs = matcher.match_pair(*self.pair(conf, 60, 50))
        revisions.check(f"matcher {name}", matcher.revisions, outputs)

    def test_any_number_of_keypoints(self, conf: dict[str, Any], matcher: Matcher) -> None:
        for num0, num1 in [(0, 0), (0, 3), (3, 0), (1, 1), (1, 5), (5, 2)]:
            result = matcher.match_pair(*self.pair(conf, num0, num1))  # checks types and ranges
            assert len(result["matches0"]) == num0
            unmatched = result["matches0"] < 0
            assert (result["matching_scores0"][unmatched] == 0).all()
            if num1 == 0:
                assert unmatched.all()

    def test_hlocs_form_gives_the_same(self, conf: dict[str, Any], matcher: Matcher) -> None:
        sides = self.pair(conf, 60, 50)
        expected = matcher.match_pair(*sides)
        assert int((expected["matches0"] >= 0).sum()) > 8
        data = {f"{k}{i}": v[None] for i, side in enumerate(sides) for k, v in side.items()}
        result = matcher({"image_size0": torch.tensor([[100, 80]]), **data})
        for key, value in expected.items():
            assert torch.equal(result[key][0], value)
        for suffix in "01":
            for key in matcher.required_keys:
                without = {k: v for k, v in data.items() if k != key + suffix}
                with pytest.raises(ValueError, match=f"{key}{suffix}"):
                    matcher(without)
        key = matcher.required_keys[0]
        with pytest.raises(ValueError, match=f"{key}0.*batch axis"):
            matcher({**data, f"{key}0": data[f"{key}0"][0]})

    def test_swapped_images_give_the_inverse_matches(
        self, conf: dict[str, Any], matcher: Matcher
    ) -> None:
        image0, image1 = self.pair(conf, 120, 80)
        result0, result1 = matcher.match_pair(image0, image1), matcher.match_pair(image1, image0)
        matches0, matches1 = (result["matches0"].numpy() for result in (result0, result1))
        (rows,) = np.nonzero(matches0 >= 0)
        assert len(rows) > 20
        np.testing.assert_array_equal(np.sort(matches0[rows]), np.nonzero(matches1 >= 0)[0])
        np.testing.assert_array_equal(matches1[matches0[rows]], rows)
        scores0, scores1 = (result["matching_scores0"].numpy() for result in (result0, result1))
        np.testing.assert_allclose(
            scores0[rows], scores1[matches0[rows]], atol=self.score_tolerance
        )

    def test_keypoints_in_another_order_have_the_same_matches(
        self, conf: dict[str, Any], matcher: Matcher
    ) -> None:
        """So that a benchmark, or guided matching, can match any of an image's keypoints."""
        sides = self.pair(conf, 120, 90)
        rng = np.random.default_rng(3)
        order0, order1 = (torch.from_numpy(rng.permutation(num)) for num in (120, 90))
        whole = matcher.match_pair(*sides)["matches0"]
        turned = [
            matcher.select(side, order) for side, order in zip(sides, (order0, order1), strict=True)
        ]
        found = matcher.match_pair(*turned)["matches0"]
        expected = whole[order0]
        same = torch.where(found < 0, -1, order1[found]) == expected
        assert int((expected >= 0).sum()) > 20
        # A method that draws samples, or stops early, may decide a few otherwise.
        assert float(same.float().mean()) > 0.95

    def test_any_of_the_keypoints_can_be_matched(
        self, conf: dict[str, Any], matcher: Matcher
    ) -> None:
        sides = self.pair(conf, 60, 50)
        chosen = torch.tensor([5, 0, 44, 17])
        is_kept = torch.arange(60) % 3 == 0
        for keep, num in ((chosen, 4), (slice(10, 30), 20), (is_kept, 20), (chosen[:0], 0)):
            some = matcher.select(sides[0], keep)
            assert matcher.num_keypoints(some) == num
            few = matcher.select(sides[1], chosen)
            assert len(matcher.match_pair(some, few)["matches0"]) == num  # checks the ranges, too
            for key, axis in matcher.axes.items():
                if key in sides[0] and axis is None:
                    assert some[key] is sides[0][key]

    @pytest.mark.parametrize("memory_budget", [1, 300_000])
    def test_matches_do_not_depend_on_the_memory_budget(
        self, memory_budget: int, conf: dict[str, Any], matcher: Matcher
    ) -> None:
        sides = self.pair(conf, 301, 213)
        whole = matcher.match_pair(*sides)
        matcher.memory_budget = memory_budget
        chunked = matcher.match_pair(*sides)
        assert int((whole["matches0"] >= 0).sum()) > 40
        assert torch.equal(whole["matches0"], chunked["matches0"])
        torch.testing.assert_close(whole["matching_scores0"], chunked["matching_scores0"])

    @pytest.mark.gpu
    def test_gpu_equals_cpu(self, conf: dict[str, Any], matcher: Matcher) -> None:
        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            pytest.skip("no CUDA or MPS device")
        device = "cuda" if torch.cuda.is_available() else "mps"
        sides = self.pair(conf, 400, 300)
        matcher.memory_budget = 300_000
        on_cpu = matcher.match_pair(*sides)
        moved = [{key: value.to(device) for key, value in side.items()} for side in sides]
        on_gpu = matcher.to(device).match_pair(*moved)
        assert on_gpu["matches0"].device.type == device
        assert torch.equal(on_cpu["matches0"], on_gpu["matches0"].cpu())
        torch.testing.assert_close(
            on_cpu["matching_scores0"], on_gpu["matching_scores0"].cpu(), atol=1e-4, rtol=0
        )

    def test_an_unknown_option_is_rejected(self, conf: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="'surplus'"):
            build_matcher({**conf, "surplus": 1})
