"""Photometric changes are reproducible per image and do what their names say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featplug.training.data.photometric import (
    GENERAL,
    LISRD,
    MTLDESC,
    RELIT,
    Change,
    PhotometricOptions,
    photometric,
)

NAMES = list(PhotometricOptions.__dataclass_fields__)


@pytest.fixture
def images() -> Tensor:
    """Four images of blocks of 8 pixels."""
    blocks = torch.rand(4, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    return blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)


def apply(images: Tensor, **changes: Change) -> Tensor:
    return photometric(images, torch.arange(len(images)), PhotometricOptions(**changes))


@pytest.mark.parametrize("options", [MTLDESC, LISRD, RELIT, GENERAL])
def test_a_seed_decides_whatever_the_batch(images: Tensor, options: PhotometricOptions) -> None:
    before = images.clone()
    seeds = torch.tensor([5, 2**61, -1, 7])
    torch.manual_seed(0)
    changed = photometric(images, seeds, options)
    torch.manual_seed(1)
    torch.rand(10)
    for i in range(4):
        alone = photometric(images[i : i + 1], seeds[i : i + 1], options)[0]
        torch.testing.assert_close(alone, changed[i], rtol=0, atol=2e-6)
    assert torch.equal(images, before)
    assert torch.equal(changed[2], images[2])
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert changed.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_black_and_white_images_stay_in_range(name: str) -> None:
    flat = torch.stack([torch.zeros(3, 40, 48), torch.ones(3, 40, 48)])
    change = {"jpeg": Change(20, 90), "motion_blur": Change(3, 9)}.get(name, Change(0.1, 0.5))
    changed = apply(flat, **{name: change})
    assert changed.isfinite().all()
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1


def test_probability(images: Tensor) -> None:
    many = images[:1].expand(400, -1, -1, -1)
    changed = apply(many, brightness=Change(0.1, 0.1, probability=0.25))
    part = float((changed != many).flatten(1).any(1).float().mean())
    assert 0.18 < part < 0.32


def test_light(images: Tensor) -> None:
    half = images * 0.4 + 0.3
    torch.testing.assert_close(apply(half, brightness=Change(0.1, 0.1)), half + 0.1)
    torch.testing.assert_close(apply(half, contrast=Change(2, 2)), (2 * half - 0.5).clamp(0, 1))
    torch.testing.assert_close(apply(half, gamma=Change(2, 2)), half**2)
    # A quarter of the light is half a photograph's value, near enough.
    torch.testing.assert_close(apply(half, exposure=Change(0.25, 0.25)), half * 0.25 ** (1 / 2.2))
    bright = apply(images, exposure=Change(3, 3))
    assert bool((bright[images > 0.61] == 1).all())


def test_shade_darkens_or_brightens_a_part(images: Tensor) -> None:
    half = images * 0.5 + 0.2
    for strength in (0.6, -0.6):
        factor = apply(half, shade=Change(strength, strength)) / half
        assert float((factor - 1).abs().min()) < 0.05
        extreme = float(factor.min() if strength > 0 else factor.max())
        assert abs(extreme - 1) > 0.25
        assert bool(((factor - 1) * -strength > -1e-5).all())


def test_night_is_dark_with_lamps() -> None:
    day = 0.3 + 0.6 * torch.rand(16, 3, 192, 256, generator=torch.Generator().manual_seed(0))
    night = apply(day, night=Change(0.2, 0.2))
    level = night.mean(1).flatten(1).quantile(0.6, dim=1)
    assert bool(((level > 0.1) & (level < 0.3)).all())
    assert float((night.flatten(1).amax(1) == 1).float().mean()) > 0.5  # clipped highlights
    red, blue = (night[:, c].flatten(1).mean(1) for c in (0, 2))
    assert float((red > blue).float().mean()) > 0.7


def test_blur_keeps_the_mean_and_takes_contrast(images: Tensor) -> None:
    for blurred in (
        apply(images, gaussian_blur=Change(2, 2)),
        apply(images, motion_blur=Change(9, 9)),
    ):
        torch.testing.assert_close(blurred.mean(), images.mean(), atol=0.01, rtol=0)
        assert float(blurred.std()) < 0.95 * float(images.std())


def test_noise_has_its_strength(images: Tensor) -> None:
    half = images * 0.4 + 0.3
    noise = apply(half, noise=Change(0.03, 0.03)) - half
    assert float(noise.std()) == pytest.approx(0.03, rel=0.05)
    assert abs(float(noise.mean())) < 1e-3
    impulses = apply(half, impulse_noise=Change(0.1, 0.1))
    for value in (0.0, 1.0):
        assert float((impulses == value).float().mean()) == pytest.approx(0.05, abs=0.01)


def test_jpeg_loses_more_at_low_quality(images: Tensor) -> None:
    low, high = (
        float((apply(images, jpeg=Change(q, q)) - images).abs().mean()) for q in (10.0, 95.0)
    )
    assert 0 < high < 0.05
    assert low > 1.5 * high
