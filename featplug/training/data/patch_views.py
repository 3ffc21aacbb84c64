"""Patches of one photograph that show the same point, cut from several views of it.

The views are homographies of the photograph, each with another look. SIFT detects keypoints in
every view as at inference, so the patches have the detector's true errors of position, scale and
orientation.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.extractors.sift import SIFT
from featplug.io.images import to_grey
from featplug.keypoints.patches import gaussian_pyramid, sample_patches_from_pyramid
from featplug.training.data import homographies, photometric
from featplug.training.data.frame_groups import (
    AMBIGUOUS,
    AgreementOptions,
    group_frames,
    warp_frames,
)
from featplug.training.data.homographies import HomographyOptions, random_homography
from featplug.training.data.photographs import MAX_SIDE
from featplug.training.data.photometric import PhotometricOptions

STORED_SIZE = 48
"""Side in pixels of a stored patch."""
MARGIN = 1.5
"""Width of a stored patch relative to the described window, so that training can turn and scale
patches."""
MILD = HomographyOptions(
    patch_ratio=0.9, perspective=(0.05, 0.05), scale=(0.9, 1.1), max_angle=0.1, translation=False
)
"""Homographies of the first view, about the tilt of a hand-held camera."""


@dataclass(frozen=True)
class PatchGroupOptions:
    """How patch groups are found and cut."""

    num_views: int = 8
    """Number of views of a photograph; the first is mild and keeps the photograph's look."""
    first_homographies: HomographyOptions = MILD
    """Distribution of the first view's homography."""
    homographies: HomographyOptions = homographies.GENERAL
    """Distribution of the other views' homographies."""
    photometric: PhotometricOptions = photometric.GENERAL
    """Changes of the other views' looks."""
    max_keypoints: int = 2000
    """Number of SIFT keypoints of a view, those with the highest scores."""
    relative_radius: float = 12.0
    """Half the described window's width, as a multiple of σ."""
    agreement: AgreementOptions = field(default_factory=AgreementOptions)
    """Criteria for keypoints that show the same point."""
    max_groups: int = 300
    """Number of groups of a photograph whose patches are stored, chosen at random."""
    max_patches: int = 4
    """Number of patches of a group that are stored, chosen at random."""
    max_side: int = MAX_SIDE
    """Longest side in pixels at which a photograph is used."""
    seed: int = 0
    """Seed of everything random."""


def render_view(
    image: np.ndarray, homography: np.ndarray, seed: int, options: PhotometricOptions
) -> Tensor:
    """Render one view of a photograph H×W×3 uint8, of its size, 3×H×W float32 in [0, 1].

    The area beyond the photograph shows its reflection, so that no border attracts keypoints. A
    negative seed keeps the photograph's own look.
    """
    height, width = image.shape[:2]
    centre = warp_frames(np.array([[(width - 1) / 2, (height - 1) / 2, 1, 0]]), homography)
    scale = centre[0, 2]
    if scale < 1:
        # Details that the smaller view cannot show must not alias into it.
        image = cv2.GaussianBlur(image, (0, 0), 0.5 * np.sqrt(scale**-2 - 1) + 1e-3)
    warped = cv2.warpPerspective(
        image, homography, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    planes = torch.from_numpy(warped).permute(2, 0, 1)[None] / 255
    return photometric.photometric(planes, torch.tensor([seed]), options)[0]


def find_patch_groups(
    image: np.ndarray, options: PatchGroupOptions, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Make the datasets of :mod:`featplug.training.data.patch_groups` from an H×W×3 uint8 image."""
    height, width = image.shape[:2]
    size = (width, height)
    warps = np.stack(
        [
            random_homography(rng, size, options.homographies if k else options.first_homographies)
            for k in range(options.num_views)
        ]
    )
    seeds = photometric.draw_seeds(rng, options.num_views, np.arange(options.num_views) > 0)
    sift = SIFT({"max_keypoints": options.max_keypoints})
    greys, detected = [], []
    for warp, seed in zip(warps, seeds.tolist(), strict=True):
        view = render_view(image, warp, seed, options.photometric)
        features = sift.detect(view)
        keys = (features["scales"][:, None], features["oris"][:, None])
        detected.append(torch.cat([features["keypoints"], *keys], dim=1).numpy())
        greys.append(to_grey(view))
    labels = group_frames(detected, warps, size, options.agreement)
    views = np.repeat(np.arange(len(warps)), [len(frames) for frames in detected])
    frames, groups = np.concatenate(detected), np.concatenate(labels)
    clear = groups != AMBIGUOUS
    frames, groups, views = frames[clear], groups[clear], views[clear]
    rows = _choose_patches(groups, options, rng)
    patches = np.empty((len(rows), STORED_SIZE, STORED_SIZE), np.uint8)
    positions = np.empty((len(rows), 2), np.float32)
    for k, (grey, warp) in enumerate(zip(greys, warps, strict=True)):
        (of_view,) = np.nonzero(views[rows] == k)
        stored = frames[rows[of_view]]
        cut = sample_patches_from_pyramid(
            gaussian_pyramid(grey.astype(np.float32)),
            stored[:, :2],
            MARGIN * options.relative_radius * stored[:, 2],
            stored[:, 3],
            STORED_SIZE,
        )
        patches[of_view] = _stretch(cut)
        centres = warp_frames(stored, np.linalg.inv(warp))[:, :2]
        positions[of_view] = (2 * centres + 1) / size - 1
    return {
        "frames": frames.astype(np.float32),
        "views": views.astype(np.uint8),
        "groups": groups.astype(np.int32),
        "patches": patches,
        "patch_rows": rows.astype(np.int32),
        "positions": positions,
        "homographies": warps,
        "seeds": seeds,
    }


def _choose_patches(
    groups: np.ndarray, options: PatchGroupOptions, rng: np.random.Generator
) -> np.ndarray:
    """Choose groups and patches of each, as rows of ``groups``, those of one group together.

    The weight of a group in the choice is its size less one.
    """
    sizes = np.bincount(groups[groups >= 0]).clip(max=options.max_patches)
    # The largest of random numbers to the power of 1 / weight form a weighted sample.
    keys = np.log(rng.random(len(sizes))) / np.maximum(sizes - 1, 1)
    chosen = np.argsort(-keys)[: options.max_groups]
    rows = rng.permutation(np.flatnonzero(np.isin(groups, chosen)))
    rows = rows[np.argsort(groups[rows], kind="stable")]
    _, first, counts = np.unique(groups[rows], return_index=True, return_counts=True)
    number = np.arange(len(rows)) - np.repeat(first, counts)
    return rows[number < options.max_patches]


def _stretch(patches: np.ndarray) -> np.ndarray:
    """Scale each patch to the whole range of uint8, so that dark patches keep their detail."""
    low = patches.min((1, 2), keepdims=True)
    span = np.maximum(patches.max((1, 2), keepdims=True) - low, 1e-3)
    return np.rint((patches - low) * (255 / span)).clip(0, 255).astype(np.uint8)
