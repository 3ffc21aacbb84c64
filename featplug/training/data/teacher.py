"""Keypoints that teach a detector: their file, and a classical teacher that makes one.

The file holds a group per photograph with ``keypoints`` N×2 float32 (x, y; pixels of the
photograph, integer = pixel centre), strongest first, ``scores`` N and, if known, ``repeatable`` N.
:meth:`TeacherKeypoints.make` is homographic adaptation (DeTone et al., "SuperPoint", CVPR Workshops
2018, section 5) of Shi and Tomasi's corners ("Good Features to Track", CVPR 1994) instead of a
network.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from kornia.feature import gftt_response
from kornia.filters import gaussian_blur2d
from torch import Tensor

from featplug.io.artifact import Provenance
from featplug.keypoints.detection import non_maximum_suppression
from featplug.training.data.homographies import (
    HomographyOptions,
    random_homography,
    valid_masks,
    warp_images,
)
from featplug.training.data.photograph_files import Datasets, MadeOnce
from featplug.training.data.photographs import MAX_SIDE, Photographs

ADAPTATION = HomographyOptions(
    patch_ratio=0.85, scale=(0.6, 1.6), max_angle=np.pi / 2, distribution="normal"
)
"""Homographies under which a corner must be found again."""


@dataclass(frozen=True)
class Taught:
    """A teacher's keypoints of one photograph."""

    keypoints: np.ndarray
    """Keypoints N×2 float32 (x, y) in pixels of the photograph, integer = pixel centre."""
    scores: np.ndarray
    """Scores N, higher is stronger."""
    repeatable: np.ndarray
    """Mask N bool of the repeatable keypoints; all, if the teacher does not say."""


@dataclass(frozen=True)
class TeacherOptions:
    """How the classical teacher finds keypoints."""

    max_keypoints: int = 600
    """Number of keypoints of a photograph, the strongest."""
    num_homographies: int = 32
    """Number of views of a photograph in which corners are searched, itself included."""
    homographies: HomographyOptions = ADAPTATION
    """Distribution of the views' homographies."""
    min_response: float = 0.01
    """Smallest square root of Shi and Tomasi's response, of grey values in [0, 1]."""
    nms_radius: int = 4
    """Pixels around a stronger keypoint in which no other keypoint is kept."""
    max_side: int = MAX_SIDE
    """Longest side in pixels at which a photograph is searched."""
    seed: int = 0
    """Seed of the homographies."""


class TeacherKeypoints(MadeOnce[TeacherOptions]):
    """A teacher's file, made here or by another program; it must have keypoints."""

    kind = "teacher keypoints"
    options_type = TeacherOptions

    def _checked_provenance(self) -> Provenance:
        if not self.names():
            raise ValueError(f"{self.path} has no keypoints of any photograph.")
        return self._open().provenance or Provenance(self.kind, {})

    @staticmethod
    def compute(
        images: Photographs, options: TeacherOptions, device: torch.device, name: str
    ) -> Datasets:
        """Find keypoints that homographies do not move."""
        image, size = images.read(name)
        taught = adapted_corners(image, options, device)
        scale = np.array(size) / (image.shape[1], image.shape[0])
        keypoints = ((taught.keypoints + 0.5) * scale - 0.5).astype(np.float32)
        return {"keypoints": keypoints, "scores": taught.scores, "repeatable": taught.repeatable}

    @cached_property
    def largest(self) -> int:
        """The largest number of keypoints of a photograph."""
        return max(len(*self.read(name, "keypoints")) for name in self.names())

    def keypoints(self, name: str) -> Taught:
        """Read the keypoints of a photograph."""
        keypoints, scores = self.read(name, "keypoints", "scores")
        others = self._open().arrays(name, ["repeatable"])
        repeatable = others.get("repeatable", np.ones(len(keypoints)))
        return Taught(
            keypoints.astype(np.float32), scores.astype(np.float32), repeatable.astype(bool)
        )


@torch.no_grad()
def adapted_corners(image: np.ndarray, options: TeacherOptions, device: torch.device) -> Taught:
    """Find corners in many views of an H×W×3 uint8 image and keep those that most views agree on.

    Keypoints have subpixel positions, strongest first. A score is the square root of the corner
    response times the ratio of views that found it; a keypoint is repeatable if more than half of
    the views found it. Images of one size get the same views.
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
        to_view = torch.from_numpy(homography)[None].to(device, torch.float32)
        from_view = torch.linalg.inv(to_view)
        seen = valid_masks(to_view, size, (height, width))[:, None]
        maps = _corner_maps(warp_images(grey, to_view, (height, width)), seen, options.min_response)
        sums += warp_images(maps, from_view, (height, width))[0]
    strength, ratio = (sums[:2] / sums[2].clamp(min=1.0)).cpu().double().numpy()
    rows, columns = non_maximum_suppression(
        strength, options.min_response / 4, options.nms_radius
    ).T
    rows, columns = rows[: options.max_keypoints], columns[: options.max_keypoints]
    offsets = _peak_offsets(strength, rows, columns)
    return Taught(
        (np.stack([columns, rows], axis=1) + offsets).astype(np.float32),
        strength[rows, columns].astype(np.float32),
        ratio[rows, columns] > 0.5,
    )


def _corner_maps(grey: Tensor, seen: Tensor, min_response: float) -> Tensor:
    """Compute 1×3×H×W maps of a 1×1×H×W view.

    The maps are corners blurred by a pixel; whether a corner lies within two pixels; and where
    this is known, since the border of the view creates corners that the photograph does not have.
    """
    response = gftt_response(grey).clamp(min=0).sqrt()
    inner = _local_maximum((~seen).float(), 4) == 0
    peak = (response == _local_maximum(response, 4)) & inner & (response > min_response)
    # The factor keeps the response of a corner that every view finds at the same place.
    blurred = gaussian_blur2d(response * peak, 7, (1.0, 1.0)) * (2 * np.pi)
    return torch.cat([blurred, _local_maximum(peak.float(), 2), inner.float()], dim=1)


def _local_maximum(values: Tensor, radius: int) -> Tensor:
    """Compute the maximum in a square around each pixel, one direction at a time for speed."""
    side = 2 * radius + 1
    rows = F.max_pool2d(values, (1, side), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(radius, 0))


def _peak_offsets(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Compute N×2 (x, y) offsets to the tops of the parabolas through peaks and neighbours."""
    padded = np.pad(values, 1, mode="edge")
    y, x = rows + 1, columns + 1
    offsets = []
    for dy, dx in ((0, 1), (1, 0)):
        before, at, after = padded[y - dy, x - dx], padded[y, x], padded[y + dy, x + dx]
        curvature = np.maximum(2 * at - before - after, 1e-12)
        offsets.append(np.clip((after - before) / (2 * curvature), -0.5, 0.5))
    return np.stack(offsets, axis=1)
