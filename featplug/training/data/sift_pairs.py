"""Pairs of views of photographs with SIFT and upright SIFT, as a file and as training batches.

LISRD-SIFT learns to choose between descriptors that do not change, so that they are computed once.

The file is HDF5, a group per photograph: ``descriptors0`` and ``descriptors1`` P×2×K×128 uint8,
SIFT and upright SIFT of K keypoints at most in P pairs; ``keypoints0`` and ``keypoints1`` P×K×2
(x, y) in pixels of the view; ``tiles0`` and ``tiles1`` P×K int8, column + 3·row, −1 as padding;
and ``matches0`` P×K int16, the keypoint of view 1 at the same point, or −1.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from featplug.base import Extractor
from featplug.extractors.lisrd_sift import describe_both, keypoint_tiles
from featplug.extractors.sift import root_sift
from featplug.io.artifact import Provenance
from featplug.io.images import to_grey
from featplug.methods import build_extractor, feature_conf
from featplug.networks.lisrd import DESCRIPTOR_DIM, NUM_TILES
from featplug.training.data.homographies import warp_points
from featplug.training.data.photograph_files import PhotographFile, make_photograph_file
from featplug.training.data.photographs import Photographs, shuffled_place
from featplug.training.data.triplets import VIEWS
from featplug.training.data.view_pairs import HomographyPairOptions, HomographyPairs

_KIND = "SIFT pairs"
_TWO_VIEWS = replace(VIEWS, batch_size=2)
_DATASETS = (
    *(f"{key}{k}" for key in ("keypoints", "tiles", "descriptors") for k in (0, 1)),
    "matches0",
)


@dataclass(frozen=True)
class SIFTPairOptions:
    """How the pairs of :func:`make_sift_pairs` are made."""

    views: HomographyPairOptions = _TWO_VIEWS
    """A batch is the pairs of one photograph."""
    max_keypoints: int = 512
    """Of each view."""
    correct_threshold: float = 3.0
    """Pixels between the places of keypoints that are one point."""
    seed: int = 0


def make_sift_pairs(
    photographs: Path,
    path: Path,
    names: Sequence[str],
    options: SIFTPairOptions | None = None,
    num_workers: int = 2,
) -> Iterator[str]:
    """Make the pairs of every photograph that has none yet.

    Keypoints and descriptors are those of the conf ``lisrd-sift``, before RootSIFT. Can be stopped
    at any time; called again with the same options, it goes on.

    Args:
        photographs: folder of the photographs.
        path: the file, made or continued.
        names: relative to the folder.
        options: see there.
        num_workers: processes; 0 works in this one.

    Yields:
        The name of each photograph that the file now has.

    Raises:
        FileNotFoundError: a photograph is gone.
        ValueError: a photograph cannot be read, or the file is of other options.
    """
    options = options or SIFTPairOptions()
    conf = feature_conf("lisrd-sift")["model"]
    model = {key: conf[key] for key in ("detector", "descriptor_window")}
    provenance = Provenance(kind=_KIND, conf={**asdict(options), "model": model})
    images = Photographs(photographs, names, cache_bytes=0)
    compute = partial(_pairs_of_photograph, options=options, model=model)
    yield from make_photograph_file(images, path, provenance, compute, num_workers)


def _pairs_of_photograph(
    images: Photographs, index: int, options: SIFTPairOptions, model: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The datasets of a photograph."""
    batch = views_of_photograph(images.folder, images.names[index], options)
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
        pair = {f"{key}{k}": value for k, side in enumerate(sides) for key, value in side.items()}
        pair["matches0"] = same_points(
            warped.numpy(), sides[1]["keypoints"], options.correct_threshold
        )
        pairs.append(pair)
    return {key: np.stack([pair[key] for pair in pairs]) for key in pairs[0]}


def views_of_photograph(folder: Path, name: str, options: SIFTPairOptions) -> dict[str, Tensor]:
    """Draw the pairs of a photograph, a batch of :class:`HomographyPairs`."""
    seed = zlib.crc32(name.encode()) + (options.seed << 32)
    return HomographyPairs(Photographs(folder, [name]), options.views, seed)[0]


def _described(
    image: Tensor, detector: Extractor, window: float, max_keypoints: int
) -> dict[str, np.ndarray]:
    """Keypoints, tiles and descriptors of a view, padded."""
    found = {key: value.numpy() for key, value in detector.detect(image).items()}
    grey = to_grey(image)
    num = len(found["keypoints"])
    keypoints = np.full((max_keypoints, 2), np.nan, np.float32)
    keypoints[:num] = found["keypoints"]
    descriptors = np.zeros((2, max_keypoints, DESCRIPTOR_DIM), np.uint8)
    descriptors[:, :num] = describe_both(grey, found, window, precise_upscale=True)
    tiles = np.full(max_keypoints, -1, np.int8)
    tiles[:num] = keypoint_tiles(found["keypoints"], grey.shape[::-1]) @ (1, NUM_TILES)
    return {"keypoints": keypoints, "tiles": tiles, "descriptors": descriptors}


def same_points(points0: np.ndarray, points1: np.ndarray, threshold: float) -> np.ndarray:
    """Find which points of two sets in one image are each other's nearest.

    Of several points at one place, such as SIFT's with several orientations, one is taken.

    Args:
        points0: N×2; NaN is near to nothing.
        points1: M×2.
        threshold: pixels that they may lie apart.

    Returns:
        N int16, the index in ``points1`` or −1.
    """
    distances = np.linalg.norm(points0[:, None] - points1, axis=2)
    distances = np.where(distances <= threshold, distances, np.inf)
    nearest = distances.argmin(1)
    rows = np.arange(len(points0))
    is_same = np.isfinite(distances[rows, nearest]) & (distances.argmin(0)[nearest] == rows)
    return np.where(is_same, nearest, -1).astype(np.int16)


class SIFTPairs(PhotographFile):
    """A file of pairs, open in each process that reads it.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _KIND)


class SIFTPairBatches(Dataset[dict[str, Tensor]]):
    """Batches of pairs; a step's batch follows from the seed and the step alone.

    A batch has the file's arrays of B pairs, with ``descriptors0`` and ``descriptors1`` as RootSIFT
    B×2×K×128 float32, and tiles and matches as int64.

    Args:
        pairs: the file.
        names: the photographs to take pairs of.
        batch_size: B; each pair is of another photograph, as far as there are as many.
        seed: of the order.

    Raises:
        FileNotFoundError: the file is gone.
        ValueError: a photograph is missing in it.
    """

    def __init__(
        self, pairs: SIFTPairs, names: Sequence[str], batch_size: int, seed: int = 0
    ) -> None:
        pairs.require(names)
        self.pairs, self.names = pairs, list(names)
        self.batch_size, self.seed = batch_size, seed

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Give the batch of a step, see the class."""
        first = step * self.batch_size
        samples = [self._sample(number) for number in range(first, first + self.batch_size)]
        batch = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
        for key in ("descriptors0", "descriptors1"):
            flat = batch[key].reshape(-1, DESCRIPTOR_DIM).astype(np.float32)
            batch[key] = root_sift(flat).reshape(batch[key].shape)
        for key in ("tiles0", "tiles1", "matches0"):
            batch[key] = batch[key].astype(np.int64)
        return {key: torch.from_numpy(value) for key, value in batch.items()}

    def _sample(self, number: int) -> dict[str, np.ndarray]:
        round_, place = shuffled_place(self.seed, number, len(self.names))
        arrays = self.pairs.read(self.names[place], *_DATASETS)
        index = round_ % len(arrays[0])
        return {key: array[index] for key, array in zip(_DATASETS, arrays, strict=True)}
