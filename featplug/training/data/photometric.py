"""Photometric augmentation of a batch on its device: light, blur, noise, compression.

Each image's changes depend on its own seed only, not on the rest of the batch. :data:`MTLDESC` and
:data:`LISRD` are the changes of the papers' released code, :data:`RELIT` replaces the light of
LISRD's day-night photographs, and :data:`GENERAL` is for features that must handle poor
photographs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from kornia.enhance import adjust_gamma, jpeg_codec_differentiable
from kornia.filters import filter2d, gaussian_blur2d, get_motion_kernel2d
from torch import Tensor

_LIGHT_CELL = 8
"""Pixels per cell of the smooth maps of illumination and shade."""
_GLARE = 4.0
"""Brightness of a lamp relative to a white wall in its light."""
_DISPLAY_GAMMA = 2.2
"""Exponent between a photograph's values and the light that it shows."""


@dataclass(frozen=True)
class Change:
    """One kind of change of a uniformly drawn strength."""

    low: float
    """Smallest strength."""
    high: float
    """Largest strength."""
    probability: float = 1.0
    """Probability that an image is changed."""


@dataclass(frozen=True)
class PhotometricOptions:
    """Changes in the order in which they are applied; None for never."""

    night: Change | None = None
    """Relighting as at night; the strength is the level of the exposure."""
    exposure: Change | None = None
    """Factor of the light, before the display's gamma; values that are too bright are clipped."""
    shade: Change | None = None
    """Fraction of the brightness that soft ellipses take away, or add if negative."""
    brightness: Change | None = None
    """Offset of values in [0, 1]."""
    contrast: Change | None = None
    """Factor of the distance from middle grey."""
    gamma: Change | None = None
    """Exponent of the values."""
    gaussian_blur: Change | None = None
    """Standard deviation in pixels."""
    motion_blur: Change | None = None
    """Length in pixels, rounded to an odd number; in any direction."""
    noise: Change | None = None
    """Standard deviation of normal noise of values in [0, 1]."""
    impulse_noise: Change | None = None
    """Fraction of the values that become black or white."""
    jpeg: Change | None = None
    """Quality of a JPEG compression, 1 to 100."""


MTLDESC = PhotometricOptions(
    brightness=Change(-50 / 255, 50 / 255),
    contrast=Change(0.5, 1.5),
    noise=Change(0.0, 10 / 255),
    impulse_noise=Change(0.0, 0.0035),
    motion_blur=Change(3, 3, probability=0.5),
)
"""MTLDesc's changes, for both images of a pair or neither; its code switches its shade off."""
LISRD = PhotometricOptions(motion_blur=Change(3, 3, probability=0.5))
"""LISRD's changes of images whose light does not change."""
RELIT = PhotometricOptions(
    night=Change(0.10, 0.28, probability=0.6),
    shade=Change(-0.8, 0.8, probability=0.7),
    brightness=Change(-0.15, 0.15, probability=0.7),
    contrast=Change(0.5, 1.5, probability=0.7),
    gamma=Change(0.6, 1.8, probability=0.5),
)
"""Another light: mostly night, with LISRD's shade and contrast."""
GENERAL = PhotometricOptions(
    night=Change(0.10, 0.35, probability=0.15),
    exposure=Change(0.15, 2.0, probability=0.3),
    shade=Change(-0.6, 0.6, probability=0.3),
    brightness=Change(-0.2, 0.2, probability=0.5),
    contrast=Change(0.5, 1.5, probability=0.5),
    gamma=Change(0.6, 1.6, probability=0.3),
    gaussian_blur=Change(0.3, 2.0, probability=0.25),
    motion_blur=Change(3, 11, probability=0.2),
    noise=Change(0.0, 0.06, probability=0.5),
    impulse_noise=Change(0.0, 0.005, probability=0.2),
    jpeg=Change(20, 90, probability=0.25),
)
"""Strong changes, as in amateurs' photographs: blurred, compressed, too dark or too bright."""


def draw_seeds(
    rng: np.random.Generator, count: int, changed: bool | np.ndarray = True
) -> np.ndarray:
    """Draw seeds for :func:`photometric`, negative for images that should not change."""
    return np.where(changed, rng.integers(2**62, size=count), -1)


def photometric(images: Tensor, seeds: Tensor, options: PhotometricOptions) -> Tensor:
    """Change the look of a batch of images B×3×H×W in [0, 1], each in its own way.

    The same seed (B int64) makes the same change on the same kind of device. Images with a
    negative seed are not changed.
    """
    images = images.clone()
    rngs = {i: np.random.default_rng(seed) for i, seed in enumerate(seeds.tolist()) if seed >= 0}
    for name, apply in _OPERATIONS.items():
        change: Change | None = getattr(options, name)
        if change is None:
            continue
        # Every image draws, so that later changes do not depend on whether this one applies.
        drawn = {i: (rng.random(), rng.random(), rng.spawn(1)[0]) for i, rng in rngs.items()}
        selected = [i for i, (chance, *_) in drawn.items() if chance < change.probability]
        if selected:
            fractions = images.new_tensor([drawn[i][1] for i in selected])
            strengths = (change.low + (change.high - change.low) * fractions)[:, None, None, None]
            changed = apply(images[selected], strengths, [drawn[i][2] for i in selected])
            images[selected] = changed.clamp_(0, 1)
    return images


def _relight(images: Tensor, levels: Tensor, rngs: list[np.random.Generator]) -> Tensor:
    """Change photographs B×3×H×W in [0, 1] taken by day as if they were taken at night.

    A faint bluish sky and some warm lamps in the image plane light the scene, and the glow of the
    lamps covers their surroundings. The camera exposes for the scene without the lamps, so that
    60 % of the pixels lie below the levels, and adds photon noise. All is in linear light.
    """
    height, width = images.shape[-2:]
    maps = torch.stack([_lamps(rng, height, width) for rng in rngs]).to(images)
    maps = F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
    illumination, glow = maps[:, :3], maps[:, 3:]
    light = images.pow(_DISPLAY_GAMMA) * illumination + glow
    metered = light[..., ::_LIGHT_CELL, ::_LIGHT_CELL].mean(1).flatten(1)
    exposed = metered.quantile(0.6, dim=1).clamp(min=1e-6)
    light = (light * (levels.pow(_DISPLAY_GAMMA) / exposed.view_as(levels))).clamp_(0, 1)
    noise = _random_like(light, rngs, torch.randn)
    return (light + noise * (4e-6 + 1.5e-3 * light).sqrt()).clamp_(0, 1).pow(1 / _DISPLAY_GAMMA)


def _lamps(rng: np.random.Generator, height: int, width: int) -> Tensor:
    """Draw illumination and glow of a night scene, 6 maps of the size of :func:`_cells`."""
    rows, columns = _cells(height, width)
    count = int(rng.integers(2, 10))
    side = max(height, width)
    y = rng.uniform(0, height, count)[:, None, None] - rows
    x = rng.uniform(0, width, count)[:, None, None] - columns
    distance = np.hypot(x, y)[:, None]
    reach = side * np.exp(rng.uniform(np.log(0.05), np.log(0.3), count))[:, None, None, None]
    warmth = rng.uniform(0, 1, (count, 1, 1, 1))
    colour = np.array([1.0, 0.85, 0.65]).reshape(3, 1, 1) ** (0.5 + 2.5 * warmth)
    power = np.exp(rng.uniform(np.log(0.2), np.log(1.5), count))[:, None, None, None]
    lit = (power * colour / (1 + (distance / reach) ** 2) ** 1.5).sum(0)
    sky = np.array([0.75, 0.85, 1.2]).reshape(3, 1, 1)
    faint = np.exp(rng.uniform(np.log(0.003), np.log(0.1)))
    # Only the lamps that are visible glow.
    seen = rng.random((count, 1, 1, 1)) < 0.4
    core = side * rng.uniform(0.004, 0.02, (count, 1, 1, 1))
    halo = seen * _GLARE * power * colour * np.exp(-distance / (2 * core))
    return torch.from_numpy(np.concatenate([lit + faint * sky, halo.sum(0)]))


def _shade(images: Tensor, strengths: Tensor, rngs: list[np.random.Generator]) -> Tensor:
    height, width = images.shape[-2:]
    masks = torch.stack([_ellipses(rng, height, width) for rng in rngs]).to(images)
    masks = F.interpolate(masks, (height, width), mode="bilinear", align_corners=False)
    return images * (1 - strengths * masks)


def _ellipses(rng: np.random.Generator, height: int, width: int, count: int = 20) -> Tensor:
    """Draw a union of soft ellipses of up to a quarter of the image, 1 map of cells."""
    rows, columns = _cells(height, width)
    largest = min(height, width) / 4
    axis0, axis1 = rng.uniform(0.2, 1.0, (2, count, 1, 1)) * largest
    y = rows - rng.uniform(0, height, (count, 1, 1))
    x = columns - rng.uniform(0, width, (count, 1, 1))
    angle = rng.uniform(0, np.pi, (count, 1, 1))
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    outside = np.hypot(along / axis0, across / axis1).min(0)
    softness = rng.uniform(0.1, 0.4)
    return torch.from_numpy(1 / (1 + np.exp(np.clip((outside - 1) / softness, -30, 30))))[None]


def _cells(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute rows (h×1) and columns (1×w), in pixels, of the centres of a map's cells."""
    rows = (np.arange(-(-height // _LIGHT_CELL)) + 0.5) * _LIGHT_CELL
    columns = (np.arange(-(-width // _LIGHT_CELL)) + 0.5) * _LIGHT_CELL
    return rows[:, None], columns[None]


def _blur(images: Tensor, sigmas: Tensor, rngs: list[np.random.Generator]) -> Tensor:
    radius = max(1, int(torch.ceil(3 * sigmas.max())))
    return gaussian_blur2d(images, 2 * radius + 1, sigmas.view(-1, 1).expand(-1, 2))


def _motion_blur(images: Tensor, lengths: Tensor, rngs: list[np.random.Generator]) -> Tensor:
    sizes = (2 * ((lengths.flatten() - 1) / 2).round() + 1).int()
    angles = images.new_tensor([rng.uniform(0, 360) for rng in rngs])
    directions = images.new_tensor([rng.uniform(-1, 1) for rng in rngs])
    blurred = torch.empty_like(images)
    for size in sizes.unique().tolist():
        of_size = (sizes == size).nonzero()[:, 0]
        kernels = get_motion_kernel2d(size, angles[of_size], directions[of_size], mode="bilinear")
        # One image at a time: a grouped convolution of the whole batch is slower.
        for i, kernel in zip(of_size.tolist(), kernels, strict=True):
            blurred[i] = filter2d(images[i : i + 1], kernel[None])[0]
    return blurred


def _impulses(images: Tensor, ratios: Tensor, rngs: list[np.random.Generator]) -> Tensor:
    chance = _random_like(images, rngs, torch.rand)
    return images.masked_fill(chance < ratios / 2, 0.0).masked_fill(chance > 1 - ratios / 2, 1.0)


def _random_like(
    images: Tensor, rngs: list[np.random.Generator], draw: Callable[..., Tensor]
) -> Tensor:
    """Draw numbers of the shape of the images, from a source for each image."""
    kind = {"device": images.device, "dtype": images.dtype}
    seeds = [int(rng.integers(2**63)) for rng in rngs]
    generators = [torch.Generator(images.device).manual_seed(seed) for seed in seeds]
    return torch.stack([draw(images[0].shape, generator=g, **kind) for g in generators])


_OPERATIONS: dict[str, Callable[[Tensor, Tensor, list[np.random.Generator]], Tensor]] = {
    "night": _relight,
    "exposure": lambda images, factors, _: images * factors.pow(1 / _DISPLAY_GAMMA),
    "shade": _shade,
    "brightness": lambda images, offsets, _: images + offsets,
    "contrast": lambda images, factors, _: (images - 0.5) * factors + 0.5,
    "gamma": lambda images, exponents, _: adjust_gamma(images, exponents.flatten()),
    "gaussian_blur": _blur,
    "motion_blur": _motion_blur,
    "noise": lambda images, sigmas, rngs: images + sigmas * _random_like(images, rngs, torch.randn),
    "impulse_noise": _impulses,
    "jpeg": lambda images, qualities, _: jpeg_codec_differentiable(images, qualities.flatten()),
}
"""The change of each option, from images B×3×H×W, strengths B×1×1×1 and a generator per image."""
