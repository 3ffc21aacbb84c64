"""LISRD's matcher against a literal float64 reference, golden distances, its memory budget."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.matchers import lisrd
from featplug.matchers.lisrd import (
    LISRDMatcher,
    WeightedSimilarities,
    meta_factors,
)
from tests.extractors.test_lisrd import describe, rule_extractor
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.matchers.contract import MatcherContract

HEADS = {"cosine": 4, "l2": 2}


def features(distance: str, num: int, seed: int = 0) -> dict[str, Tensor]:
    """Random features of an image; all seeds have their first descriptors in common, but noisy."""
    common = np.random.default_rng(99).standard_normal((HEADS[distance], 16, 400))
    rng = np.random.default_rng([seed, num])
    descriptors = rng.standard_normal((HEADS[distance], 16, num))
    descriptors[:, :, : num // 2] = common[:, :, : num // 2]
    descriptors += 0.4 * rng.standard_normal(descriptors.shape)
    metas = rng.standard_normal((HEADS[distance], 40, 3, 3))
    if distance == "cosine":
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        metas /= np.linalg.norm(metas, axis=1, keepdims=True)
        grid = rng.uniform(-1, 1, (2, num))
    else:
        descriptors = np.round(40 * np.abs(descriptors))
        grid = rng.integers(-1, 2, (2, num)) * 2 / 3
    return {
        "descriptors": torch.from_numpy(descriptors).flatten(0, 1).float(),
        "meta_descriptors": torch.from_numpy(metas).float(),
        "meta_grid": torch.from_numpy(grid).float(),
    }


class TestLISRD(MatcherContract):
    method = "lisrd"

    def pair(
        self, conf: Mapping[str, Any], num0: int, num1: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        distance = conf.get("distance", "cosine")
        if conf.get("ratio_threshold") is None:
            return features(distance, num0), features(distance, num1, seed=1)
        # Random descriptors have no neighbour that is much nearer than the second.
        whole = features(distance, max(num0, num1))
        first, second = (LISRDMatcher().select(whole, slice(num)) for num in (num0, num1))
        return first, second


def metas_at_keypoints(image: dict[str, Tensor]) -> Tensor:
    """Normalised meta descriptors H×M×N by torch's own interpolation, in float64."""
    metas = image["meta_descriptors"].double()
    grid = image["meta_grid"].double().t().expand(len(metas), 1, -1, -1)
    sampled = F.grid_sample(metas, grid, padding_mode="zeros", align_corners=False)
    return F.normalize(sampled[:, :, 0], dim=1)


def reference(distance: str, image0: dict[str, Tensor], image1: dict[str, Tensor]) -> np.ndarray:
    """The weighted distance N0×N1, by its definition."""
    metas0, metas1 = metas_at_keypoints(image0), metas_at_keypoints(image1)
    weights = torch.einsum("hmi,hmj->hij", metas0, metas1).softmax(0)
    a, b = (
        image["descriptors"].double().unflatten(0, (HEADS[distance], -1))
        for image in (image0, image1)
    )
    if distance == "cosine":
        by_head = 2 - 2 * torch.einsum("hdi,hdj->hij", a, b)
    else:
        by_head = (a[:, :, :, None] - b[:, :, None]).square().sum(1).sqrt()
    return (weights * by_head).sum(0).numpy()


def nearest(distances: np.ndarray, mutual: bool = True) -> np.ndarray:
    """Each row's match or -1."""
    if 0 in distances.shape:
        return np.full(len(distances), -1)
    column = distances.argmin(1)
    is_mutual = distances.argmin(0)[column] == np.arange(len(distances))
    return np.where(is_mutual, column, -1) if mutual else column


def gaps(distances: np.ndarray, axis: int) -> np.ndarray:
    """Second smallest minus smallest distance along an axis."""
    smallest = np.sort(distances, axis=axis).take([0, 1], axis)
    return np.diff(smallest, axis=axis).squeeze(axis)


def is_decided(distances: np.ndarray, least: float) -> np.ndarray:
    """The rows whose match cannot flip by less than this."""
    near = distances.argmin(1)
    return (gaps(distances, 1) > least) & (gaps(distances, 0)[near] > least)


def match(
    image0: dict[str, Tensor], image1: dict[str, Tensor], **conf: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Match in hloc's form and through the contract's checks."""
    data = {
        key + suffix: value[None]
        for suffix, image in (("0", image0), ("1", image1))
        for key, value in image.items()
    }
    result = LISRDMatcher(conf)(data)
    return result["matches0"][0].numpy(), result["matching_scores0"][0].numpy()


@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_equals_brute_force(distance: str, mutual: bool) -> None:
    small = itertools.product([0, 1, 2, 5], repeat=2)
    for num0, num1 in [*small, (1, 40), (40, 1), (70, 90), (90, 70)]:
        image0, image1 = features(distance, num0), features(distance, num1, seed=1)
        distances = reference(distance, image0, image1)
        expected = nearest(distances, mutual)
        matches, scores = match(image0, image1, distance=distance, do_mutual_check=mutual)
        np.testing.assert_array_equal(matches, expected)
        found = expected >= 0
        best = distances[found, expected[found]]
        expected_scores = 1 - best / 4 if distance == "cosine" else 1 / (1 + best)
        np.testing.assert_allclose(scores[found], expected_scores, rtol=0, atol=1e-5)
        assert (scores[~found] == 0).all()
        if num0 > 60:
            assert found.sum() > 20


@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_ratio_test_equals_brute_force(distance: str, mutual: bool) -> None:
    for num0, num1 in [(0, 5), (1, 1), (1, 40), (40, 1), (2, 2), (70, 90), (90, 70)]:
        image0, image1 = features(distance, num0), features(distance, num1, seed=1)
        distances = reference(distance, image0, image1)
        expected = nearest(distances, mutual)
        if min(num0, num1) > 1:
            lengths = np.sqrt(distances) if distance == "cosine" else distances
            for axis in (1, 0)[: 1 + mutual]:
                first, second = np.moveaxis(np.sort(lengths, axis=axis), axis, 0)[:2]
                passes = first <= 0.8 * second
                rows = passes if axis else passes[lengths.argmin(1)]
                expected = np.where(rows, expected, -1)
        conf = {"distance": distance, "do_mutual_check": mutual, "ratio_threshold": 0.8}
        matches, _ = match(image0, image1, **conf)
        np.testing.assert_array_equal(matches, expected)
        if num0 > 60:
            assert 10 < (matches >= 0).sum() < (nearest(distances, mutual) >= 0).sum()


@pytest.mark.parametrize("size", [(3, 3), (2, 5), (1, 1)])
def test_products_of_tiles_give_those_of_interpolated_meta_descriptors(
    size: tuple[int, int],
) -> None:
    images = []
    for seed, num in ((0, 50), (1, 60)):
        image = features("cosine", num, seed)
        # The corners of the image, and what lies half a pixel outside.
        image["meta_grid"][:, :4] = torch.tensor([[-1.0, 1.0, -1.01, 0.5], [-1.0, 1.0, 1.01, 1.0]])
        generator = torch.Generator().manual_seed(seed)
        image["meta_descriptors"] = torch.randn((4, 30, *size), generator=generator)
        images.append(image)
    left, right = meta_factors(*images)
    expected = metas_at_keypoints(images[0]).mT @ metas_at_keypoints(images[1])
    torch.testing.assert_close((left.mT @ right).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("distance", ["cosine", "l2"])
@pytest.mark.parametrize("memory_budget", [1, 300_000])
def test_does_not_depend_on_the_chunks(
    distance: str, memory_budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image0, image1 = features(distance, 301), features(distance, 213, seed=1)
    matcher = LISRDMatcher({"distance": distance})
    whole = matcher.match(image0, image1)
    matcher.memory_budget = memory_budget
    monkeypatch.setattr(lisrd, "_TILE_COLUMNS", 50)
    chunked = matcher.match(image0, image1)
    assert int((whole["matches0"] >= 0).sum()) > 40
    assert torch.equal(whole["matches0"], chunked["matches0"])
    torch.testing.assert_close(whole["matching_scores0"], chunked["matching_scores0"])


def test_l2_is_exact_for_whole_numbers() -> None:
    image = features("l2", 60)
    image["descriptors"] = torch.randint(
        0, 256, image["descriptors"].shape, generator=torch.Generator().manual_seed(0)
    ).float()
    matches, scores = match(image, image, distance="l2")
    np.testing.assert_array_equal(matches, np.arange(60))
    np.testing.assert_array_equal(scores, 1)


@pytest.mark.slow
def test_memory_stays_within_the_budget() -> None:
    pytest.importorskip("resource", reason="peak memory is read through the resource module")
    script = """
import resource, sys, torch
from featplug.matchers.lisrd import LISRDMatcher

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )

def features(num):
    return {
        "descriptors": torch.nn.functional.normalize(torch.rand(4, 16, num), dim=1).flatten(0, 1),
        "meta_descriptors": torch.rand(4, 64, 3, 3),
        "meta_grid": torch.rand(2, num),
    }

matcher = LISRDMatcher()
image0, image1 = features(8_000), features(4_000)
matcher.match(features(300), image1)
before = peak()
matcher.memory_budget = 24 * 2**20
matcher.match(image0, image1)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The four heads' products alone are 0.5 GiB.
    assert int(done.stdout) < 48 * 2**20


def test_input_that_does_not_fit_is_refused() -> None:
    lisrd_features, sift_features = features("cosine", 5), features("l2", 5)
    with pytest.raises(ValueError, match=r"4 × 16 and 2 × 16.*one method"):
        match(lisrd_features, sift_features)
    with pytest.raises(ValueError, match=r"63 dimensions.*features of LISRD"):
        match({**lisrd_features, "descriptors": torch.zeros(63, 5)}, lisrd_features)
    with pytest.raises(ValueError, match=r"\(4, 1024, 5\)"):
        match({**lisrd_features, "meta_descriptors": torch.zeros(4, 1024, 5)}, lisrd_features)
    del lisrd_features["meta_grid"]
    with pytest.raises(ValueError, match="meta_grid0"):
        match(lisrd_features, sift_features)
    with pytest.raises(ValueError, match=r"distance.*cosine, l2"):
        LISRDMatcher({"distance": "dot"})


# ---------------------------------------------------------------- golden files


def weighted(
    descriptors0: Tensor, descriptors1: Tensor, metas0: Tensor, metas1: Tensor
) -> np.ndarray:
    """Σ wᵢ⟨aᵢ, bᵢ⟩ of all pairs, from factors H×K×N."""
    similarities = WeightedSimilarities(descriptors0, descriptors1, metas0, metas1, 10**6)
    return similarities(slice(None)).numpy().copy()


@pytest.fixture(scope="module")
def golden_pair(
    golden_set: GoldenSet, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, np.ndarray], dict[float, list[dict[str, Tensor]]]]:
    """The golden arrays, and both images' features from pixels up to 1 and up to 255."""
    golden = golden_set.arrays("lisrd/pair")
    extractor = rule_extractor(golden_set, tmp_path_factory.mktemp("golden"))
    described: dict[float, list[dict[str, Tensor]]] = {}
    for largest in (1.0, 255.0):
        described[largest] = []
        for suffix in "01":
            image = torch.from_numpy(golden[f"image{suffix}"]).permute(2, 0, 1).float() / 255
            keypoints = golden[f"keypoints{suffix}_rc"][:, ::-1].copy()
            described[largest].append(describe(extractor, largest * image, keypoints))
    return golden, described


@pytest.mark.parametrize(
    ("largest", "suffix"), [(1.0, ""), (255.0, "_pixels0to255")], ids=["", "pixels up to 255"]
)
def test_golden_pair(golden_pair: Any, parity: Parity, largest: float, suffix: str) -> None:
    # The authors' notebook does not divide pixels by 255; what it shows is reproduced, too.
    golden, described = golden_pair
    images = described[largest]
    descriptors = [image["descriptors"].unflatten(0, (4, 128)) for image in images]
    metas = meta_factors(*images)
    expected = golden[f"distance{suffix}"]
    distances = 2 - 2 * weighted(*descriptors, *metas)
    label = ", pixels up to 255" if suffix else ""
    parity.compare("lisrd", f"distance{label}", distances, expected, 5e-5)

    decided = is_decided(expected, 1e-4)
    assert decided.any()
    expected_matches = np.full(len(decided), -1)
    expected_matches[golden[f"matches{suffix}"][:, 0]] = golden[f"matches{suffix}"][:, 1]
    matches, scores = match(*images)
    parity.compare("lisrd", f"matches{label}", matches[decided], expected_matches[decided], atol=0)
    found = decided & (matches >= 0)
    best = expected[found, matches[found]]
    np.testing.assert_allclose(scores[found], 1 - best / 4, rtol=0, atol=5e-5)
    if not suffix:
        for index, values in enumerate(descriptors):
            expected_descriptors = golden[f"descriptors{index}"]
            actual = values.permute(2, 0, 1).numpy()
            parity.compare("lisrd", "descriptors", actual, expected_descriptors, 2e-5)
            gap = gaps(distances, 1 - index)
            parity.compare(
                "lisrd", "gap to the second nearest", gap, golden[f"nn_gap{index}"], 1e-4
            )
        # Descriptors of one number, 1 in the first head and 0 in the others, leave its weight.
        first = torch.tensor([1.0, 0, 0, 0])[:, None, None]
        of_first = [first.expand(-1, -1, len(d[0, 0])) for d in descriptors]
        weights = weighted(*of_first, *metas)
        parity.compare(
            "lisrd", "weights of the first head", weights, golden["weights_rot_var_illum_var"], 2e-5
        )


def test_golden_functional(golden_set: GoldenSet, parity: Parity) -> None:
    golden = golden_set.arrays("lisrd/matching_functional")
    descriptors0, descriptors1, metas0, metas1 = (
        torch.from_numpy(golden[key]).permute(1, 2, 0).contiguous()
        for key in ("desc0", "desc1", "meta0", "meta1")
    )
    distances = 2 - 2 * weighted(descriptors0, descriptors1, metas0, metas1)
    name = "distance, metas of rule-made vectors"
    parity.compare("lisrd", name, distances, golden["distance"], 5e-5)
    expected = np.full(len(distances), -1)
    expected[golden["matches"][:, 0]] = golden["matches"][:, 1]
    decided = is_decided(golden["distance"], 1e-4)
    assert decided.any()
    np.testing.assert_array_equal(nearest(distances)[decided], expected[decided])


def test_golden_matches_after_storage_as_float16(golden_pair: Any) -> None:
    golden, described = golden_pair
    stored = [
        {k: v.half().float() if k.endswith("descriptors") else v for k, v in image.items()}
        for image in described[1.0]
    ]
    # With the rule's weights all distances are alike; float16 moves them by up to 2e-4.
    decided = is_decided(golden["distance"], 5e-4)
    assert decided.any()
    matches, halved = match(*described[1.0])[0], match(*stored)[0]
    np.testing.assert_array_equal(halved[decided], matches[decided])
