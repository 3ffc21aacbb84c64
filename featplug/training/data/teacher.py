"""Keypoints that teach a detector: their file, and a classical teacher that makes one.

The file holds a group per photograph with ``keypoints`` N×2 float32 (x, y; pixels of the
photograph, integer = pixel centre), strongest first, ``scores`` N and, if known, ``repeatable`` N.
:func:`make_teacher` is homographic adaptation (DeTone et al., "SuperPoint", CVPR Workshops 2018,
section 5) of Shi and Tomasi's corners ("Good Features to Track", CVPR 1994) in place of a network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from kornia.feature import gftt_response
from kornia.filters import gaussian_blur2d
from torch import Tensor

from featplug.io.artifact import Provenance
from featplug.io.store import FeatureReader
from featplug.keypoints.detection import non_maximum_suppression
from featplug.training.data.homographies import (
    HomographyOptions,
    random_homography,
    valid_masks,
    warp_images,
)
from featplug.training.data.photograph_files import make_photograph_file
from featplug.training.data.photographs import Photographs

ADAPTATION = HomographyOptions(
    patch_ratio=0.85, scale=(0.6, 1.6), max_angle=np.pi / 2, distribution="normal"
)
"""Homographies under which a corner is to be found again."""


@dataclass(frozen=True)
class Taught:
    """A teacher's keypoints of one photograph."""

    keypoints: np.ndarray
    """N×2 float32 (x, y) in pixels of the photograph, integer = pixel centre."""
    scores: np.ndarray
    """N, higher is stronger."""
    repeatable: np.ndarray
    """N bool; all, where the teacher does not say."""

    def repeatable_only(self) -> Taught:
        """Leave out what is not repeatable."""
        kept = self.repeatable
        return Taught(self.keypoints[kept], self.scores[kept], self.repeatable[kept])


class TeacherKeypoints:
    """A teacher's file, open in each process that reads it.

    Args:
        path: an HDF5 file of the module's form.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._reader: FeatureReader | None = None
        self._process = os.getpid()
        names = self._open().names()
        if not names:
            raise ValueError(f"{self.path} has no keypoints of any photograph.")
        self._names = frozenset(names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    def require(self, names: Sequence[str]) -> None:
        """Check that there are keypoints of all these photographs.

        Raises:
            ValueError: names one that has none.
        """
        missing = [name for name in names if name not in self._names]
        if missing:
            raise ValueError(
                f"{self.path} has no keypoints of {len(missing)} of {len(names)} photographs, such "
                f"as {missing[0]!r}; make them with the teacher, or leave those photographs out."
            )

    @cached_property
    def largest(self) -> int:
        """The largest number of keypoints of a photograph."""
        reader = self._open()
        return max(reader.shapes(name)["keypoints"][0] for name in self._names)

    def read(self, name: str) -> Taught:
        """Read the keypoints of a photograph."""
        arrays = self._open().read(name, ("keypoints", "scores", "repeatable"))
        keypoints = arrays["keypoints"].astype(np.float32)
        repeatable = arrays.get("repeatable", np.ones(len(keypoints)))
        return Taught(keypoints, arrays["scores"].astype(np.float32), repeatable.astype(bool))

    def _open(self) -> FeatureReader:
        # An HDF5 file that was opened before a fork must not be read after it.
        if self._reader is None or self._process != os.getpid():
            self._reader, self._process = FeatureReader(self.path), os.getpid()
        return self._reader


@dataclass(frozen=True)
class TeacherOptions:
    """How :func:`make_teacher` finds keypoints."""

    max_keypoints: int = 600
    num_homographies: int = 32
    """In how many views of a photograph corners are sought, the photograph itself being one."""
    homographies: HomographyOptions = ADAPTATION
    min_response: float = 0.01
    """The least square root of Shi and Tomasi's response, of grey values in [0, 1]."""
    nms_radius: int = 4
    """Pixels around a stronger keypoint in which there is none."""
    max_side: int = 1024
    """Longest side in pixels at which a photograph is searched."""
    seed: int = 0


def make_teacher(
    photographs: Path,
    path: Path,
    names: Sequence[str],
    options: TeacherOptions | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[str]:
    """Find keypoints that homographies do not move, for every photograph that has none yet.

    Can be stopped at any time; called again with the same options, it goes on.

    Args:
        photographs: folder of the photographs.
        path: the teacher's file, made or continued.
        names: relative to the folder.
        options: see there.
        device: to compute on.

    Yields:
        The name of each photograph that the file now has; nothing is done ahead of the caller.

    Raises:
        FileNotFoundError: a photograph is gone.
        ValueError: a photograph cannot be read, or the file is of other options.
    """
    options = options or TeacherOptions()
    provenance = Provenance(kind="teacher keypoints", conf=asdict(options))
    images = Photographs(photographs, names, options.max_side, cache_bytes=0)
    compute = partial(_corners_of_photograph, options=options, device=torch.device(device))
    yield from make_photograph_file(images, path, provenance, compute, num_workers=0)


def _corners_of_photograph(
    images: Photographs, index: int, options: TeacherOptions, device: torch.device
) -> dict[str, np.ndarray]:
    """The datasets of a photograph."""
    image, size = images.read(index)
    taught = adapted_corners(image, options, device)
    scale = np.array(size) / (image.shape[1], image.shape[0])
    keypoints = ((taught.keypoints + 0.5) * scale - 0.5).astype(np.float32)
    return {"keypoints": keypoints, "scores": taught.scores, "repeatable": taught.repeatable}


@torch.no_grad()
def adapted_corners(image: np.ndarray, options: TeacherOptions, device: torch.device) -> Taught:
    """Find corners in many views of an image and keep those that most views agree on.

    Args:
        image: H×W×3 uint8 RGB.
        options: see there; the seed gives the same views to all images of a size.
        device: to compute on.

    Returns:
        Keypoints to a part of a pixel, strongest first. A score is the square root of the corner
        response times the part of the views that found it; repeatable are those that more than
        half of the views found.
    """
    height, width = image.shape[:2]
    planes = torch.tensor(image, device=device).float() / 255
    grey = (planes @ planes.new_tensor([0.299, 0.587, 0.114]))[None, None]
    rng = np.random.default_rng(options.seed)
    size = torch.tensor([[width, height]])
    sums = grey.new_zeros(3, height, width)
    for view in range(options.num_homographies):
        homography = np.eye(3)
        if view:
            homography = random_homography(rng, (width, height), options.homographies)
        there = torch.from_numpy(homography)[None].to(device, torch.float32)
        back = torch.linalg.inv(there)
        seen = valid_masks(there, size, (height, width))[:, None]
        maps = _corner_maps(warp_images(grey, there, (height, width)), seen, options.min_response)
        sums += warp_images(maps, back, (height, width))[0]
    strength, found = (sums[:2] / sums[2].clamp(min=1.0)).cpu().double().numpy()
    rows, columns = non_maximum_suppression(
        strength, options.min_response / 4, options.nms_radius
    ).T
    rows, columns = rows[: options.max_keypoints], columns[: options.max_keypoints]
    offsets = _peak_offsets(strength, rows, columns)
    return Taught(
        (np.stack([columns, rows], axis=1) + offsets).astype(np.float32),
        strength[rows, columns].astype(np.float32),
        found[rows, columns] > 0.5,
    )


def _corner_maps(grey: Tensor, seen: Tensor, min_response: float) -> Tensor:
    """Give 1×3×H×W maps of a 1×1×H×W view.

    Corners blurred by a pixel; whether there is a corner within two pixels; and where that is
    known, as the view's own border is full of corners that the photograph does not have.
    """
    response = gftt_response(grey).clamp(min=0).sqrt()
    inner = _local_maximum((~seen).float(), 4) == 0
    peak = (response == _local_maximum(response, 4)) & inner & (response > min_response)
    # Such that a corner that every view finds at the same place keeps its response.
    blurred = gaussian_blur2d(response * peak, 7, (1.0, 1.0)) * (2 * np.pi)
    return torch.cat([blurred, _local_maximum(peak.float(), 2), inner.float()], dim=1)


def _local_maximum(values: Tensor, radius: int) -> Tensor:
    """The highest value in a square around each pixel; one direction at a time is far faster."""
    side = 2 * radius + 1
    rows = F.max_pool2d(values, (1, side), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(radius, 0))


def _peak_offsets(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """N×2 (x, y): where the parabolas through a peak and its neighbours are highest."""
    padded = np.pad(values, 1, mode="edge")
    y, x = rows + 1, columns + 1
    offsets = []
    for dy, dx in ((0, 1), (1, 0)):
        before, at, after = padded[y - dy, x - dx], padded[y, x], padded[y + dy, x + dx]
        curvature = np.maximum(2 * at - before - after, 1e-12)
        offsets.append(np.clip((after - before) / (2 * curvature), -0.5, 0.5))
    return np.stack(offsets, axis=1)
