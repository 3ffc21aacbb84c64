"""ContextDesc's match sets: keypoints of two views of a photograph, of which some match.

Luo et al., "ContextDesc: Local Descriptor Augmentation with Cross-Modality Context", CVPR 2019,
section 4.1, and the released trainer: 1024 pairs of keypoints per pair of images, first those that
match, then noise. The keypoints of every view come from a file of patch groups
(:mod:`featplug.training.data.patch_groups`); the views are rendered again, since context needs
whole images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.extractors.contextdesc import PatchSampler
from featplug.io.images import to_grey
from featplug.networks.contextdesc import normalise_positions
from featplug.training.data.batches import StepBatches
from featplug.training.data.frame_groups import NOISE
from featplug.training.data.homographies import warp_points
from featplug.training.data.patch_groups import PatchGroups
from featplug.training.data.patch_views import render_view
from featplug.training.data.photographs import Photographs, resized, shuffled_place


@dataclass(frozen=True)
class MatchSetOptions:
    """Contents of a batch of match sets; numbers are the released trainer's."""

    batch_size: int = 2
    """Number of pairs of views."""
    num_keypoints: int = 1024
    """Number of keypoints of a view, matching ones and noise."""
    min_inliers: int = 32
    """Number of matching keypoints that a pair of views must have."""
    max_inliers: int = 768
    """Largest number of matching keypoints, which leaves room for noise."""
    regional_size: int = 448
    """Side in pixels of the square images for the regional features."""
    pyramid: bool = False
    """Sample patches from a Gaussian pyramid, as the extractor's option of that name does."""
    scale_jitter: float = 0.15
    """Largest change of the patches' size, as a power of 2 to either side. The released 0.3 and
    change of aspect replace errors of keypoints; here views are tilted and keypoints detected in
    each."""
    angle_jitter: float = 5.0
    """Largest change of the patches' orientation, in degrees to either side."""
    corner_noise: float = 0.3
    """Largest shift of the corners of the homography that moves the positions for geometric
    context, where the image extends from −1 to 1."""


class MatchSets(StepBatches):
    """Match sets of photographs, read at the size that the patch groups were made at.

    A batch has, for k = 0 and 1, B pairs and N keypoints:

    - ``patches{k}``: B×N×32×32 float32, cut and standardised as at inference;
    - ``positions{k}``: B×N×2 from −1 to 1, for visual context;
    - ``moved_positions{k}``: the same under a random homography, for geometric context, so that
      it cannot memorise where things lie in photographs;
    - ``image{k}``: B×3×S×S in [0, 1], the view for the regional features, made square;

    and ``inliers`` B×N bool: keypoint i of view 0 matches keypoint i of view 1. Inliers come first.

    Raises:
        ValueError: the file lacks a photograph or was made at another size, or no photograph has
            two views with enough keypoints in common.
    """

    def __init__(
        self,
        groups: PatchGroups,
        photographs: Photographs,
        options: MatchSetOptions = MatchSetOptions(),
        seed: int = 0,
    ) -> None:
        super().__init__(options.batch_size, seed)
        self.groups, self.photographs, self.options = groups, photographs, options
        groups.require(photographs.names)
        self._look = groups.photometric
        if photographs.max_side != groups.max_side:
            raise ValueError(
                f"{groups.path} was made from photographs of at most {groups.max_side} px, not "
                f"{photographs.max_side}; read them at that size."
            )
        usable = (name for name in photographs.names if len(self._pairs(name)))
        if next(usable, None) is None:
            raise ValueError(
                f"{groups.path}: no photograph has two views with {self.options.min_inliers} "
                "keypoints in common; lower min_inliers."
            )

    def sample(self, number: int) -> dict[str, np.ndarray]:
        """Choose and render one match set."""
        options, rng = self.options, self.sample_rng(number)
        index, pair = self._choose_pair(number, rng)
        name = self.photographs.names[index]
        image, _ = self.photographs.read(index)
        frames, groups, views, warps, seeds = self.groups.read(
            name, "frames", "groups", "views", "homographies", "seeds"
        )
        rows, num_inliers = choose_match_set(groups, views, pair, options, rng)
        sample: dict[str, np.ndarray] = {"inliers": np.arange(options.num_keypoints) < num_inliers}
        for k, (view, chosen) in enumerate(zip(pair, rows, strict=True)):
            picture = render_view(image, warps[view], int(seeds[view]), self._look)
            size = (picture.shape[2], picture.shape[1])
            positions, scales, oris = np.split(frames[chosen], [2, 3], axis=1)
            jitter = rng.uniform(-1, 1, (2, len(chosen)))
            scales = scales[:, 0] * 2 ** (options.scale_jitter * jitter[0])
            oris = oris[:, 0] + options.angle_jitter * jitter[1]
            sampler = PatchSampler(to_grey(picture), scales, options.pyramid)
            sample[f"patches{k}"] = sampler(positions, scales, oris)
            normalised = normalise_positions(torch.from_numpy(positions), size)
            homography = _corner_homography(rng, options.corner_noise)
            sample[f"positions{k}"] = normalised.numpy()
            moved = warp_points(normalised[None], homography[None])[0]
            sample[f"moved_positions{k}"] = moved.numpy()
            planes = picture.mul(255).round().byte().permute(1, 2, 0).numpy()
            square = resized(planes, (options.regional_size,) * 2)
            sample[f"image{k}"] = square.transpose(2, 0, 1) / np.float32(255)
        return sample

    def _choose_pair(self, number: int, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """Choose a photograph, each once per round unless it has no pair, and one of its pairs."""
        count = len(self.photographs)
        _, first = shuffled_place(self.seed, number, count)
        indices = (first, *rng.permutation(count).tolist())
        candidates = ((index, self._pairs(self.photographs.names[index])) for index in indices)
        index, pairs = next(candidate for candidate in candidates if candidate[1])
        return index, pairs[rng.integers(len(pairs))]

    def _pairs(self, name: str) -> list[tuple[int, int]]:
        """List the pairs of a photograph's views with enough keypoints in common."""
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


def choose_match_set(
    groups: np.ndarray,
    views: np.ndarray,
    pair: Sequence[int],
    options: MatchSetOptions,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], int]:
    """Choose matching keypoints of a pair of views, and others of each view as noise.

    Groups D are the points that all keypoints show (:data:`NOISE` if no other view shows one), and
    views D their views. Each view has some noise, repeated if it is too little.

    Returns:
        N rows of the keypoints of either view, and the number of pairs that match, which come
        first.
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
    return rows, len(chosen)


def _corner_homography(rng: np.random.Generator, noise: float) -> Tensor:
    """Draw a homography of [−1, 1]² that moves corners by at most ``noise`` along x and y."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    moved = corners + rng.uniform(-noise, noise, corners.shape).astype(np.float32)
    return torch.from_numpy(cv2.getPerspectiveTransform(corners, moved))
