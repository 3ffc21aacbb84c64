"""The matcher against a literal float64 reference, hloc's own files, and its memory budget."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from featplug.matchers.nearest_neighbor import NearestNeighbor
from tests.matchers.contract import MatcherContract


class TestNearestNeighbor(MatcherContract):
    method = "nearest_neighbor"


METRICS = ("dot", "l2", "hamming")
DISTANCE_THRESHOLDS = {"dot": 0.6, "l2": 6.0, "hamming": 40}
DIMS = {"dot": 32, "l2": 32, "hamming": 250}


def planted(metric: str, num0: int, num1: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random descriptors, half of the fewer with a noisy partner in the other image."""
    rng = np.random.default_rng([seed, num0, num1])
    dim = DIMS[metric]
    both = [rng.standard_normal((dim, num)) for num in (num0, num1)]
    num = (min(num0, num1) + 1) // 2
    index0, index1 = rng.permutation(num0)[:num], rng.permutation(num1)[:num]
    noise = rng.uniform(0.05, 0.8, num) * rng.standard_normal((dim, num))
    both[1][:, index1] = both[0][:, index0] + noise
    if metric == "dot":
        both = [values / np.linalg.norm(values, axis=0) for values in both]
    elif metric == "l2":
        both = [2 * values + 1 for values in both]
    return torch.from_numpy(both[0]).float(), torch.from_numpy(both[1]).float()


def distances(metric: str, desc0: Tensor, desc1: Tensor) -> np.ndarray:
    """N0×N1: squared distances, for Hamming bits."""
    a, b = desc0.double().numpy(), desc1.double().numpy()
    if metric == "dot":
        return 2 * (1 - a.T @ b)
    if metric == "l2":
        return ((a[:, :, None] - b[:, None]) ** 2).sum(0)
    return ((a[:, :, None] > 0) != (b[:, None] > 0)).sum(0)


def reference(
    metric: str,
    desc0: Tensor,
    desc1: Tensor,
    ratio: float | None,
    threshold: float | None,
    mutual: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matches, their distances, and the rows where equal distances leave a choice."""
    dist = distances(metric, desc0, desc1)
    power = 1 if metric == "hamming" else 2
    if 1 in dist.shape:
        ratio = None

    def one_way(dist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        matches = np.full(len(dist), -1)
        tied = np.zeros(len(dist), bool)
        for i, row in enumerate(dist):
            if not len(row):
                continue
            best = np.sort(row)[:2]
            ok = ratio is None or best[0] <= ratio**power * best[1]
            ok &= threshold is None or best[0] <= threshold**power
            matches[i] = row.argmin() if ok else -1
            tied[i] = len(row) > 1 and best[0] == best[1]
        return matches, tied

    matches, tied = one_way(dist)
    if mutual:
        back, back_tied = one_way(dist.T)
        for i, j in enumerate(matches):
            if j >= 0:
                tied[i] |= back_tied[j]
                matches[i] = j if back[j] == i else -1
    found = np.array([dist[i, j] if j >= 0 else np.inf for i, j in enumerate(matches)])
    return matches, found if metric == "hamming" else np.sqrt(np.maximum(found, 0)), tied


def expected_scores(metric: str, distance: np.ndarray) -> np.ndarray:
    """The documented scores, of distances that are infinite where there is no match."""
    if metric == "dot":
        return np.where(np.isinf(distance), 0, 1 - distance**2 / 4)
    if metric == "l2":
        return 1 / (1 + distance)
    return np.where(np.isinf(distance), 0, 1 - distance / DIMS[metric])


def run(conf: dict[str, Any], desc0: Tensor, desc1: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Match through the contract's checks."""
    result = NearestNeighbor(conf)({"descriptors0": desc0[None], "descriptors1": desc1[None]})
    return result["matches0"][0].numpy(), result["matching_scores0"][0].numpy()


@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("with_threshold", [True, False])
@pytest.mark.parametrize("ratio", [None, 0.8])
@pytest.mark.parametrize("metric", METRICS)
def test_equals_brute_force(
    metric: str, ratio: float | None, with_threshold: bool, mutual: bool
) -> None:
    threshold = DISTANCE_THRESHOLDS[metric] if with_threshold else None
    conf = {
        "metric": metric,
        "ratio_threshold": ratio,
        "distance_threshold": threshold,
        "do_mutual_check": mutual,
    }
    small = itertools.product([0, 1, 2, 5], repeat=2)
    for num0, num1 in [*small, (1, 40), (40, 1), (70, 90), (90, 70)]:
        for dtype in (torch.float32, torch.float16):
            desc0, desc1 = (desc.to(dtype) for desc in planted(metric, num0, num1))
            matches, scores = run(conf, desc0, desc1)
            expected, distance, tied = reference(metric, desc0, desc1, ratio, threshold, mutual)
            np.testing.assert_array_equal(matches[~tied], expected[~tied])
            np.testing.assert_allclose(
                scores[~tied], expected_scores(metric, distance)[~tied], atol=2e-5
            )
            if num0 > 60:
                assert tied.mean() < 0.5
                assert (expected >= 0).sum() > 8


@pytest.mark.parametrize("num", [1, 8, 250, 256])
def test_hamming_of_packed_bits_equals_that_of_signs(num: int) -> None:
    desc0, desc1 = (desc[:num] for desc in planted("hamming", 80, 60))
    packed0, packed1 = (
        torch.from_numpy(np.packbits(desc.numpy() > 0, axis=0)) for desc in (desc0, desc1)
    )
    matcher = NearestNeighbor({"metric": "hamming"})
    signs = matcher.match({"descriptors": desc0}, {"descriptors": desc1})
    # The floats say nothing here, so that the bits must have been used.
    floats0, floats1 = torch.zeros_like(desc0), torch.zeros_like(desc1)
    packed = matcher.match(
        {"descriptors": floats0, "descriptors_packed": packed0},
        {"descriptors": floats1, "descriptors_packed": packed1},
    )
    assert torch.equal(signs["matches0"], packed["matches0"])
    assert torch.equal(signs["matching_scores0"], packed["matching_scores0"])
    # hloc hands over every dataset as float, and one file may have no packed bits.
    mixed = matcher(
        {
            "descriptors0": floats0[None],
            "descriptors_packed0": packed0[None].float(),
            "descriptors1": desc1[None],
        }
    )
    assert torch.equal(signs["matches0"], mixed["matches0"][0])


@pytest.mark.parametrize("pairs", ["db", "query"])
def test_reproduces_the_matches_that_hloc_wrote(shared, pairs: str) -> None:
    folder = shared / "golden" / "hloc"
    num_matches = 0
    with (
        h5py.File(folder / "feats-sift.h5") as features,
        h5py.File(folder / f"feats-sift_matches-NN-mutual-ratio.8_pairs-{pairs}.h5") as golden,
    ):
        for line in (folder / f"pairs-{pairs}.txt").read_text().splitlines():
            name0, name1 = line.split()
            desc0, desc1 = (
                torch.from_numpy(features[name]["descriptors"][()]) for name in (name0, name1)
            )
            group = golden[name0.replace("/", "-")][name1.replace("/", "-")]
            matches, scores = run({"ratio_threshold": 0.8}, desc0, desc1)
            np.testing.assert_array_equal(matches, group["matches0"][()])
            found = matches >= 0
            np.testing.assert_allclose(
                scores[found], group["matching_scores0"][()][found], atol=1e-3
            )
            assert (scores[~found] == 0).all()
            num_matches += int(found.sum())
    assert num_matches > 100


def test_l2_is_exact_enough_far_from_the_origin() -> None:
    generator = torch.Generator().manual_seed(1)
    desc0 = torch.randn(64, 200, generator=generator)
    desc1 = desc0.flip(1) + 0.02 * torch.randn(64, 200, generator=generator)
    desc0, desc1 = desc0 + 1000, desc1 + 1000
    matches, scores = run({"metric": "l2", "ratio_threshold": 0.8}, desc0, desc1)
    np.testing.assert_array_equal(matches, np.arange(200)[::-1])
    distance = (desc0.double() - desc1.flip(1).double()).norm(dim=0)
    np.testing.assert_allclose(scores, 1 / (1 + distance), atol=5e-4)


def test_of_equal_neighbours_each_is_matched_once() -> None:
    rng = np.random.default_rng(3)
    desc0, desc1 = (torch.from_numpy(rng.choice([-1.0, 1.0], (6, num))).float() for num in (50, 40))
    matches, _ = run({"metric": "hamming"}, desc0, desc1)
    dist = distances("hamming", desc0, desc1)
    (rows,) = np.nonzero(matches >= 0)
    columns = matches[rows]
    assert len(rows) > 10
    assert len(set(columns)) == len(columns)
    np.testing.assert_array_equal(dist[rows, columns], dist.min(1)[rows])
    np.testing.assert_array_equal(dist[rows, columns], dist.min(0)[columns])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    metric=st.sampled_from(["dot", "l2"]),
    num0=st.integers(0, 30),
    num1=st.integers(0, 30),
    ratio=st.sampled_from([None, 0.8, 0.95]),
    seed=st.integers(0, 2**16),
)
def test_swapped_images_give_the_inverse_matches(
    metric: str, num0: int, num1: int, ratio: float | None, seed: int
) -> None:
    desc0, desc1 = planted(metric, num0, num1, seed)
    conf = {"metric": metric, "ratio_threshold": ratio}
    matches0, scores0 = run(conf, desc0, desc1)
    matches1, scores1 = run(conf, desc1, desc0)
    (rows,) = np.nonzero(matches0 >= 0)
    columns = matches0[rows]
    np.testing.assert_array_equal(np.sort(columns), np.nonzero(matches1 >= 0)[0])
    np.testing.assert_array_equal(matches1[columns], rows)
    np.testing.assert_allclose(scores0[rows], scores1[columns], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("native_bfloat16", [True, False])
def test_memory_stays_within_the_budget(native_bfloat16: bool) -> None:
    pytest.importorskip("resource", reason="peak memory is read through the resource module")
    script = """
import resource, sys, torch
from featplug.matchers import screening
from featplug.matchers.nearest_neighbor import NearestNeighbor

screening.has_native_bfloat16 = lambda: bool(int(sys.argv[1]))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )

matcher = NearestNeighbor({"ratio_threshold": 0.8})
descriptors = torch.nn.functional.normalize(torch.randn(16, 20_000), dim=0)
features = {"descriptors": descriptors}
few = {"descriptors": descriptors[:, :2000]}
matcher.match(few, few)
before = peak()
matcher.memory_budget = 24 * 2**20
matcher.match(features, features)
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(int(native_bfloat16))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # The whole matrix is 1.5 GiB. BLAS and the sorting of N values take some on top.
    assert int(done.stdout) < 64 * 2**20


def test_input_that_does_not_fit_is_refused() -> None:
    desc = torch.zeros(1, 16, 3)
    with pytest.raises(ValueError, match="descriptors0"):
        NearestNeighbor()({"descriptors1": desc})
    with pytest.raises(ValueError, match="16 and 8 dimensions"):
        NearestNeighbor()({"descriptors0": desc, "descriptors1": desc[:, :8]})
    packed = {"descriptors0": desc, "descriptors1": desc, "descriptors_packed0": desc}
    with pytest.raises(ValueError, match=r"descriptors_packed.*2×3"):
        NearestNeighbor({"metric": "hamming"})(packed)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"metric": "cosine"}, r"metric.*dot, l2, hamming"),
        ({"ratio_threshold": 0}, r"ratio_threshold.*positive"),
        ({"distance_threshold": -1.0}, r"distance_threshold.*positive"),
    ],
)
def test_impossible_options_are_refused(conf: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NearestNeighbor(conf)
