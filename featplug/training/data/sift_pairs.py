"""Pairs of views of photographs with SIFT and upright SIFT, as a file and as training batches.

LISRD-SIFT learns to choose between descriptors that do not change, so they are computed once.

The file is HDF5, a group per photograph: ``descriptors0`` and ``descriptors1`` P×2×K×128 uint8,
SIFT and upright SIFT of up to K keypoints in P pairs; ``keypoints0`` and ``keypoints1`` P×K×2
(x, y) in pixels of the view; ``tiles0`` and ``tiles1`` P×K int8, column + 3·row, −1 as padding;
and ``matches0`` P×K int16, the keypoint of view 1 at the same point, or −1.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featplug.base import Extractor
from featplug.extractors.lisrd_sift import describe_both, keypoint_tiles
from featplug.extractors.sift import root_sift
from featplug.io.images import to_grey
from featplug.methods import build_extractor, feature_conf
from featplug.networks.lisrd import DESCRIPTOR_DIM, NUM_TILES
from featplug.training.data.batches import StepBatches
from featplug.training.data.homographies import warp_points
from featplug.training.data.photograph_files import Datasets, MadeOnce
from featplug.training.data.photographs import Photographs, shuffled_place
from featplug.training.data.triplets import VIEWS
from featplug.training.data.view_pairs import HomographyPairOptions, HomographyPairs

_TWO_VIEWS = replace(VIEWS, batch_size=2)
_DATASETS = (
    *(f"{key}{k}" for key in ("keypoints", "tiles", "descriptors") for k in (0, 1)),
    "matches0",
)


@dataclass(frozen=True)
class SIFTPairOptions:
    """How pairs are made."""

    views: HomographyPairOptions = _TWO_VIEWS
    """Views of a photograph; its pairs are one batch."""
    max_keypoints: int = 512
    """Number of keypoints of a view, the strongest."""
    correct_threshold: float = 3.0
    """Largest distance in pixels of keypoints that show the same point."""
    seed: int = 0
    """Seed of the views."""


class SIFTPairs(MadeOnce[SIFTPairOptions]):
    """A file of pairs.

    Keypoints and descriptors are those of the conf ``lisrd-sift``, before RootSIFT.
    """

    kind = "SIFT pairs"
    options_type = SIFTPairOptions

    @classmethod
    def conf(cls, options: SIFTPairOptions) -> dict[str, Any]:
        """List the options and those of the extractor."""
        return {**super().conf(options), "model": _model()}

    @staticmethod
    def compute(
        images: Photographs, options: SIFTPairOptions, device: torch.device, name: str
    ) -> Datasets:
        """Detect and describe keypoints in pairs of views."""
        batch, model = views_of_photograph(images.folder, name, options), _model()
        detector = build_extractor({**model["detector"], "max_keypoints": options.max_keypoints})
        pairs = []
        for image0, image1, homography in zip(
            batch["image0"], batch["image1"], batch["homography"], strict=True
        ):
            sides = [
                _described(image, detector, model["descriptor_window"], options.max_keypoints)
                for image in (image0, image1)
            ]
            warped = warp_points(torch.from_numpy(sides[0]["keypoints"])[None], homography[None])[0]
            pair = {
                f"{key}{k}": value for k, side in enumerate(sides) for key, value in side.items()
            }
            pair["matches0"] = same_points(
                warped.numpy(), sides[1]["keypoints"], options.correct_threshold
            )
            pairs.append(pair)
        return {key: np.stack([pair[key] for pair in pairs]) for key in pairs[0]}


def _model() -> dict[str, Any]:
    model = feature_conf("lisrd-sift")["model"]
    return {key: model[key] for key in ("detector", "descriptor_window")}


def views_of_photograph(folder: Path, name: str, options: SIFTPairOptions) -> dict[str, Tensor]:
    """Draw the pairs of a photograph, a batch of :class:`HomographyPairs`."""
    seed = zlib.crc32(name.encode()) + (options.seed << 32)
    return HomographyPairs(Photographs(folder, [name]), options.views, seed)[0]


def _described(
    image: Tensor, detector: Extractor, window: float, max_keypoints: int
) -> dict[str, np.ndarray]:
    """Compute padded keypoints, tiles and descriptors of a view."""
    detected = {key: value.numpy() for key, value in detector.detect(image).items()}
    grey = to_grey(image)
    num = len(detected["keypoints"])
    keypoints = np.full((max_keypoints, 2), np.nan, np.float32)
    keypoints[:num] = detected["keypoints"]
    descriptors = np.zeros((2, max_keypoints, DESCRIPTOR_DIM), np.uint8)
    descriptors[:, :num] = describe_both(grey, detected, window, precise_upscale=True)
    tiles = np.full(max_keypoints, -1, np.int8)
    tiles[:num] = keypoint_tiles(detected["keypoints"], grey.shape[::-1]) @ (1, NUM_TILES)
    return {"keypoints": keypoints, "tiles": tiles, "descriptors": descriptors}


def same_points(points0: np.ndarray, points1: np.ndarray, threshold: float) -> np.ndarray:
    """Find the points of two sets in one image that are each other's nearest neighbours.

    Returns indices in ``points1`` or −1 for each of N points0, int16. NaN is near to no point. Of
    several points at one place, as SIFT keypoints with several orientations, one is taken.
    """
    distances = np.linalg.norm(points0[:, None] - points1, axis=2)
    distances = np.where(distances <= threshold, distances, np.inf)
    nearest = distances.argmin(1)
    rows = np.arange(len(points0))
    is_same = np.isfinite(distances[rows, nearest]) & (distances.argmin(0)[nearest] == rows)
    return np.where(is_same, nearest, -1).astype(np.int16)


class SIFTPairBatches(StepBatches):
    """Batches of pairs of photographs (names), each of another one if they suffice.

    A batch has the file's arrays of B pairs, with ``descriptors0`` and ``descriptors1`` as RootSIFT
    B×2×K×128 float32, and tiles and matches as int64.

    Raises:
        ValueError: the file lacks a photograph.
    """

    def __init__(
        self, pairs: SIFTPairs, names: Sequence[str], batch_size: int, seed: int = 0
    ) -> None:
        super().__init__(batch_size, seed)
        pairs.require(names)
        self.pairs, self.names = pairs, list(names)

    def sample(self, number: int) -> dict[str, np.ndarray]:
        """Read one pair."""
        round_, place = shuffled_place(self.seed, number, len(self.names))
        arrays = self.pairs.read(self.names[place], *_DATASETS)
        index = round_ % len(arrays[0])
        pair = {key: array[index] for key, array in zip(_DATASETS, arrays, strict=True)}
        for key in ("descriptors0", "descriptors1"):
            flat = pair[key].reshape(-1, DESCRIPTOR_DIM).astype(np.float32)
            pair[key] = root_sift(flat).reshape(pair[key].shape)
        return pair | {k: pair[k].astype(np.int64) for k in ("tiles0", "tiles1", "matches0")}
