"""ContextDesc's match sets: keypoints of two views of a photograph, some in both, some not.

Luo et al., "ContextDesc: Local Descriptor Augmentation with Cross-Modality Context", CVPR 2019,
section 4.1, and the released trainer: 1024 pairs of keypoints per pair of images, the matching ones
first, the others noise. The keypoints come from a file of patch groups
(:mod:`featplug.training.data.patch_groups`), which lists those of every view; the views are
rendered again, since context needs whole images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from featplug.extractors.contextdesc import PatchSampler
from featplug.io.images import to_grey
from featplug.networks.contextdesc import normalise_positions
from featplug.training.data.frame_groups import NOISE
from featplug.training.data.homographies import warp_points
from featplug.training.data.patch_groups import PatchGroups
from featplug.training.data.patch_views import render_view
from featplug.training.data.photographs import Photographs, resized, shuffled_place


@dataclass(frozen=True)
class MatchSetOptions:
    """What a batch of :class:`MatchSets` is made of; numbers are the released trainer's."""

    batch_size: int = 2
    """Pairs of views."""
    num_keypoints: int = 1024
    """Per view, matching ones and noise."""
    min_inliers: int = 32
    """Matching keypoints that a pair of views must have."""
    max_inliers: int = 768
    """More are left out, so that there is noise."""
    regional_size: int = 448
    """Side of the square images for the regional features."""
    pyramid: bool = False
    """Sample patches from a Gaussian pyramid, as the extractor's option of that name does."""
    scale_jitter: float = 0.15
    """Of the patches' size, as a power of 2 to either side. The released 0.3, and its change of
    aspect, make up for keypoints without errors and for patches cut from one frame; here views
    are tilted and keypoints detected in each."""
    angle_jitter: float = 5.0
    """Of the patches' orientation, in degrees to either side."""
    corner_noise: float = 0.3
    """Largest shift of the corners of the homography that moves the positions for geometric
    context, the image reaching from −1 to 1."""


class MatchSets(Dataset[dict[str, Tensor]]):
    """Match sets, a batch per step, which follows from the seed and the step alone.

    A batch has, for k = 0 and 1, B pairs and N keypoints:

    - ``patches{k}``: B×N×32×32 float32, cut and standardised as at inference;
    - ``positions{k}``: B×N×2 from −1 to 1, for visual context;
    - ``moved_positions{k}``: the same under a random homography, for geometric context, which so
      cannot learn by heart where in photographs what lies;
    - ``image{k}``: B×3×S×S in [0, 1], the view for the regional features, its aspect changed;

    and ``inliers`` B×N bool: keypoint i of view 0 is keypoint i of view 1. They come first.

    Args:
        groups: the file of patch groups.
        photographs: those of them to use.
        options: see there.
        seed: of everything random.

    Raises:
        ValueError: the file lacks a photograph, or none has two views with enough in common.
    """

    def __init__(
        self,
        groups: PatchGroups,
        photographs: Photographs,
        options: MatchSetOptions | None = None,
        seed: int = 0,
    ) -> None:
        self.groups, self.photographs, self.seed = groups, photographs, seed
        self.options = options or MatchSetOptions()
        groups.require(photographs.names)
        self._look = groups.photometric
        if photographs.max_side != groups.provenance.conf["max_side"]:
            raise ValueError(
                f"{groups.path} was made of photographs of at most "
                f"{groups.provenance.conf['max_side']} px, not {photographs.max_side}; read them "
                "at that size."
            )
        usable = (name for name in photographs.names if len(self._pairs(name)))
        if next(usable, None) is None:
            raise ValueError(
                f"No photograph in {groups.path} has two views with {self.options.min_inliers} "
                "keypoints in common; ask for fewer."
            )

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Give the batch of a step, see the class."""
        first = step * self.options.batch_size
        samples = [self._sample(n) for n in range(first, first + self.options.batch_size)]
        return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}

    def _sample(self, number: int) -> dict[str, Tensor]:
        options = self.options
        rng = np.random.default_rng([self.seed, 0, number])
        index, pair = self._choose_pair(number, rng)
        name = self.photographs.names[index]
        image, _ = self.photographs.read(index)
        frames, groups, views, warps, seeds = self.groups.read(
            name, "frames", "groups", "views", "homographies", "seeds"
        )
        rows = choose_match_set(groups, views, pair, options, rng)
        sample = {"inliers": torch.arange(options.num_keypoints) < rows.num_inliers}
        for k, (view, chosen) in enumerate(zip(pair, (rows.rows0, rows.rows1), strict=True)):
            picture = render_view(image, warps[view], int(seeds[view]), self._look)
            size = (picture.shape[2], picture.shape[1])
            positions, scales, oris = np.split(frames[chosen], [2, 3], axis=1)
            jitter = rng.uniform(-1, 1, (2, len(chosen)))
            scales = scales[:, 0] * 2 ** (options.scale_jitter * jitter[0])
            oris = oris[:, 0] + options.angle_jitter * jitter[1]
            sampler = PatchSampler(to_grey(picture), scales, options.pyramid)
            sample[f"patches{k}"] = torch.from_numpy(sampler(positions, scales, oris))
            normalised = normalise_positions(torch.from_numpy(positions), size)
            homography = _corner_homography(rng, options.corner_noise)
            sample[f"positions{k}"] = normalised
            sample[f"moved_positions{k}"] = warp_points(normalised[None], homography[None])[0]
            planes = picture.mul(255).round().byte().permute(1, 2, 0).numpy()
            square = resized(planes, (options.regional_size,) * 2)
            sample[f"image{k}"] = torch.from_numpy(square).permute(2, 0, 1) / 255
        return sample

    def _choose_pair(self, number: int, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """Photographs in random order, all once a round; another one where it has no pair."""
        count = len(self.photographs)
        _, first = shuffled_place(self.seed, number, count)
        indices = (first, *rng.permutation(count).tolist())
        candidates = ((index, self._pairs(self.photographs.names[index])) for index in indices)
        index, pairs = next(candidate for candidate in candidates if candidate[1])
        return index, pairs[rng.integers(len(pairs))]

    def _pairs(self, name: str) -> list[tuple[int, int]]:
        """Pairs of a photograph's views with enough keypoints in common."""
        groups, views, warps = self.groups.read(name, "groups", "views", "homographies")
        grouped = groups != NOISE
        seen = np.zeros((len(warps), groups.max(initial=0) + 1), np.int64)
        seen[views[grouped], groups[grouped]] = 1
        common = seen @ seen.T
        return [
            pair
            for pair in combinations(range(len(warps)), 2)
            if common[pair] >= self.options.min_inliers
        ]


@dataclass(frozen=True)
class MatchSet:
    """Which keypoints make a match set."""

    rows0: np.ndarray
    """N, of view 0."""
    rows1: np.ndarray
    """N, of view 1."""
    num_inliers: int
    """That many pairs match, and come first."""


def choose_match_set(
    groups: np.ndarray,
    views: np.ndarray,
    pair: Sequence[int],
    options: MatchSetOptions,
    rng: np.random.Generator,
) -> MatchSet:
    """Choose matching keypoints of two views, and others of each view as noise.

    Args:
        groups: D, the point that each keypoint shows; :data:`NOISE` for one of no other view.
        views: D, the view that it is in.
        pair: two views that have points in common.
        options: see there.
        rng: source of randomness.

    Returns:
        Rows of ``groups``. Each view has some noise, which is repeated where there is too little.
    """
    sides = [np.flatnonzero(views == view) for view in pair]
    grouped = [side[groups[side] != NOISE] for side in sides]
    _, *common = np.intersect1d(*(groups[side] for side in grouped), return_indices=True)
    most = min(options.max_inliers, options.num_keypoints, *(len(side) - 1 for side in sides))
    chosen = rng.permutation(len(common[0]))[:most]
    rows = []
    for side, matchable, places in zip(sides, grouped, common, strict=True):
        inliers = matchable[places[chosen]]
        others = np.setdiff1d(side, inliers)
        missing = options.num_keypoints - len(chosen)
        noise = rng.choice(others, missing, replace=len(others) < missing)
        rows.append(np.concatenate([inliers, noise]))
    return MatchSet(rows[0], rows[1], len(chosen))


def _corner_homography(rng: np.random.Generator, noise: float) -> Tensor:
    """A homography of [−1, 1]² that moves each corner by at most ``noise`` along x and y."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    moved = corners + rng.uniform(-noise, noise, corners.shape).astype(np.float32)
    return torch.from_numpy(cv2.getPerspectiveTransform(corners, moved))
