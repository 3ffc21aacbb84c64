"""The matches that bfloat16 decides are those of float32, and its error stays within the bounds."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from featplug.extractors.sift import SIFT
from featplug.matchers import screening
from featplug.matchers.nearest_neighbor import NearestNeighbor
from featplug.matchers.screening import Screened
from tests.scenes.pictures import textured_image


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=0)


def at_distance(desc: np.ndarray, distance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors at these distances from the given ones."""
    other = rng.standard_normal(desc.shape)
    other = unit(other - desc * (desc * other).sum(0))
    cosine = 1 - distance**2 / 2
    return cosine * desc + np.sqrt(1 - cosine**2) * other


def near_ties() -> tuple[np.ndarray, np.ndarray]:
    """A tenth of the rows just below and a tenth just above the ratio 0.8, and others far off."""
    rng = np.random.default_rng(4)
    left = unit(rng.standard_normal((64, 800)))
    tied, clear = left[:, :160], left[:, 160:500]
    first = rng.uniform(0.3, 0.6, 160)
    # Not so close that the order of a float32 sum would decide.
    off = np.where(np.arange(160) % 2, 1, -1) * rng.uniform(1e-5, 1e-4, 160)
    second = first / (0.8 + off)
    partners = (
        at_distance(tied, first, rng),
        at_distance(tied, second, rng),
        at_distance(clear, rng.uniform(0.05, 0.6, 340), rng),
        unit(rng.standard_normal((64, 50))),
    )
    return left, np.concatenate(partners, 1)[:, rng.permutation(710)]


def negative() -> tuple[np.ndarray, np.ndarray]:
    """Every similarity is negative, each row's nearest neighbour is nearly orthogonal."""
    rng = np.random.default_rng(5)
    left = unit(np.eye(64) + rng.uniform(1e-4, 1e-3, (64, 64)))
    right = -unit(1 - np.eye(64) + rng.uniform(1e-4, 1e-3, (64, 64)))
    assert (left.T @ right).max() < 0
    return left, right[:, rng.permutation(64)]


def duplicates() -> tuple[np.ndarray, np.ndarray]:
    """Descriptors that occur twice in the left, twice in the right, or once in both."""
    rng = np.random.default_rng(6)
    left = unit(rng.standard_normal((32, 300)))
    right = at_distance(left, np.where(np.arange(300) < 150, 0.2, 0), rng)
    left[:, 20:30], right[:, 40:55] = left[:, 10:20], right[:, 60:75]
    return left, right


def textured() -> tuple[np.ndarray, np.ndarray]:
    """RootSIFT of two overlapping parts of a picture."""
    picture = textured_image(7, 480, 360)
    extractor = SIFT({"max_keypoints": 900})
    images = (picture[:300, :400], picture[20:320, 30:430])
    both = [
        extractor({"image": torch.from_numpy(np.ascontiguousarray(image))[None, None] / 255})
        for image in images
    ]
    return both[0]["descriptors"][0].numpy(), both[1]["descriptors"][0].numpy()


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[Screened | None]:
    """Screens on every CPU and at every size; gives what :func:`screen` returned."""
    results = []
    screen = screening.screen

    def recorded(*args: Any) -> Screened | None:
        results.append(screen(*args))
        return results[-1]

    monkeypatch.setattr(screening, "screen", recorded)
    monkeypatch.setattr(screening, "has_native_bfloat16", lambda: True)
    monkeypatch.setattr(screening, "FEWEST", 2)
    return results


def compare(
    conf: dict[str, Any], left: Tensor, right: Tensor, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """Match with and without screening, which must agree."""
    matcher = NearestNeighbor(conf)
    features = {"descriptors": left}, {"descriptors": right}
    screened = matcher.match(*features)
    with monkeypatch.context() as patch:
        patch.setattr(screening, "has_native_bfloat16", lambda: False)
        exact = matcher.match(*features)
    assert torch.equal(screened["matches0"], exact["matches0"])
    torch.testing.assert_close(
        screened["matching_scores0"], exact["matching_scores0"], atol=2e-6, rtol=0
    )
    return screened["matches0"]


@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("make", [textured, near_ties, negative, duplicates])
def test_equals_float32(make, threshold, mutual, outcomes, monkeypatch) -> None:
    left, right = (torch.from_numpy(desc).float() for desc in make())
    conf = {
        "ratio_threshold": 0.97 if make is negative else 0.8,
        "distance_threshold": 3 * threshold if threshold and make is negative else threshold,
        "do_mutual_check": mutual,
    }
    matches = compare(conf, left, right, monkeypatch)
    (outcome,) = outcomes
    assert outcome is not None
    # Each way to decide is taken.
    num_accepted, num_undecided = int(outcome.accepted.sum()), int(outcome.undecided.sum())
    assert num_accepted > 30
    assert num_undecided > 0 or make is negative
    assert int((matches >= 0).sum()) >= num_accepted
    if make is near_ties and threshold is None:
        # Half of the rows at the ratio's boundary match, by float32 alone.
        assert num_undecided >= 160
        assert int((matches[:160] >= 0).sum()) == 80


@pytest.mark.parametrize("mutual", [True, False])
def test_equals_float32_where_the_ratio_rejects_nothing(mutual, outcomes, monkeypatch) -> None:
    rng = np.random.default_rng(9)
    right = unit(rng.standard_normal((64, 600)))
    left = at_distance(right, np.full(600, 0.3), rng)
    # Some rows and some columns have two neighbours that bfloat16 cannot tell apart.
    right[:, 40:70] = at_distance(right[:, :30], np.full(30, 2e-3), rng)
    left[:, 140:170] = at_distance(left[:, 100:130], np.full(30, 2e-3), rng)
    # Some rows have two such neighbours, of which the farther belongs to another row.
    right[:, 230:260] = at_distance(left[:, 200:230], np.full(30, 0.2999), rng)
    left[:, 260:290] = at_distance(right[:, 200:230], np.full(30, 0.1), rng)
    left, right = (torch.from_numpy(desc).float() for desc in (left, right))
    compare({"ratio_threshold": 1.5, "do_mutual_check": mutual}, left, right, monkeypatch)
    assert outcomes[0] is not None


def test_equals_float32_on_photographs(shared, outcomes, monkeypatch) -> None:
    with h5py.File(shared / "golden" / "hloc" / "feats-sift.h5") as file:
        names: list[str] = []
        file.visititems(
            lambda name, item: names.append(name) if name.endswith("/descriptors") else None
        )
        both = [
            torch.from_numpy(np.concatenate([file[name][()] for name in part], 1)).float()
            for part in (names[::2], names[1::2])
        ]
    assert min(desc.shape[1] for desc in both) > 500
    matches = compare({"ratio_threshold": 0.8}, both[0], both[1], monkeypatch)
    assert outcomes[0] is not None
    assert int((matches >= 0).sum()) > 100


def test_does_not_depend_on_the_chunks(outcomes, monkeypatch) -> None:
    left, right = (torch.from_numpy(desc).float() for desc in near_ties())
    whole = compare({"ratio_threshold": 0.8}, left, right, monkeypatch)
    matcher = NearestNeighbor({"ratio_threshold": 0.8})
    matcher.memory_budget = 6 * (left.nbytes + right.nbytes)
    chunked = matcher.match({"descriptors": left}, {"descriptors": right})["matches0"]
    assert len(outcomes) == 2
    assert torch.equal(whole, chunked)
    # Too little memory for factors of its own: float32 must do.
    matcher.memory_budget = 1000
    chunked = matcher.match({"descriptors": left}, {"descriptors": right})["matches0"]
    assert len(outcomes) == 2
    assert torch.equal(whole, chunked)


def midpoints() -> tuple[np.ndarray, np.ndarray]:
    """Centred descriptors halfway between bfloat16 numbers: all is rounded, and the same way."""
    step = 2.0**-4 * (1 + 2.0**-8)
    signs = np.where(np.arange(64) % 2, 1.0, -1.0)
    rng = np.random.default_rng(8)
    centre = 0.5 * unit(rng.random((128, 1)))
    deviations = step * signs * np.where(np.arange(128) % 3, 1, -1)[:, None]
    return centre + deviations, centre - deviations[:, ::-1]


@pytest.mark.parametrize("make", [textured, near_ties, negative, duplicates, midpoints])
def test_every_error_is_within_its_bounds(make) -> None:
    left, right = (torch.from_numpy(desc).float() for desc in make())
    costs = screening.make_costs(left, right)
    assert costs is not None
    product = (costs.left @ costs.right).double()
    assert (product >= 0).all()
    error = (costs.offset - product - left.double().T @ right.double()).abs()
    rounding = 2.0**-8 * product
    assert (error <= costs.bound0[:, None] + rounding).all()
    assert (error <= costs.bound1 + rounding).all()
    if make is midpoints:
        # The bound is not a mere multiple of what can happen.
        assert (error > 0.3 * costs.bound0[:, None]).any()


def test_gives_up_where_too_little_is_decided(outcomes, monkeypatch) -> None:
    generator = torch.Generator().manual_seed(2)
    desc = torch.nn.functional.normalize(torch.randn(8, 200, generator=generator), dim=0)
    # Clusters of descriptors that are nearer than bfloat16 can tell.
    near = desc[:, :20].repeat(1, 10) + 1e-3 * torch.randn(8, 200, generator=generator)
    compare({"ratio_threshold": 0.95}, near, near.flip(1), monkeypatch)
    # No unit vectors: there is no telling how large a product is.
    compare({"ratio_threshold": 0.8}, 10 * desc, desc.flip(1), monkeypatch)
    compare({"ratio_threshold": 0.8}, desc * torch.nan, desc, monkeypatch)
    assert outcomes == [None, None, None]


def test_old_torch_has_no_native_bfloat16(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not screening.has_native_bfloat16()
    capabilities = {"avx512_bf16": True, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert screening.has_native_bfloat16()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
    assert not screening.has_native_bfloat16()
