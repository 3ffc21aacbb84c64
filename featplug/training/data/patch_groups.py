"""Groups of patches that show the same point, as a file.

They replace the patch data sets (UBC PhotoTour, HPatches) on which DOAP (He et al., "Local
Descriptors Optimized for Average Precision", CVPR 2018) and ContextDesc (Luo et al., CVPR 2019)
are trained; :mod:`featplug.training.data.patch_views` makes them from photographs.

The file is HDF5, a group per photograph: ``frames`` D×4 (x, y, σ, orientation in degrees, in the
pixels of the view) of all keypoints, their ``views`` D and ``groups`` D (−1: in one view
only); ``patches`` M×48×48, each scaled to the range of uint8, and ``patch_rows`` M, their frames,
those of one group together; ``positions`` M×2 of the patches in the photograph, from −1 to 1;
``homographies`` K×3×3 from the photograph to the views, and ``seeds`` K of their looks.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.training.data.patch_views import MARGIN, PatchGroupOptions, find_patch_groups
from featplug.training.data.photograph_files import Datasets, MadeOnce
from featplug.training.data.photographs import Photographs
from featplug.training.data.photometric import Change, PhotometricOptions


class PatchGroups(MadeOnce[PatchGroupOptions]):
    """A file of patch groups."""

    kind = "patch groups"
    options_type = PatchGroupOptions

    @staticmethod
    def compute(
        images: Photographs, options: PatchGroupOptions, device: torch.device, name: str
    ) -> Datasets:
        """Find the groups of a photograph, which do not depend on the others."""
        image, _ = images.read(name)
        rng = np.random.default_rng([options.seed, zlib.crc32(name.encode())])
        return find_patch_groups(image, options, rng)

    @property
    def photometric(self) -> PhotometricOptions:
        """The changes from which the looks of the views are drawn."""
        changes = self.provenance.conf["photometric"]
        return PhotometricOptions(
            **{name: Change(**change) for name, change in changes.items() if change is not None}
        )

    @property
    def max_side(self) -> int:
        """The longest side in pixels at which the photographs were used."""
        return self.provenance.conf["max_side"]

    def labels(self, name: str) -> np.ndarray:
        """Read the group of each patch of a photograph."""
        groups, rows = self.read(name, "groups", "patch_rows")
        return groups[rows]


@dataclass(frozen=True)
class JitterOptions:
    """Random changes of patches' windows, in addition to the detector's own errors."""

    max_angle: float = 6.0
    """Largest rotation to either side, in degrees."""
    scale: float = 0.15
    """Largest change of the window's size, as a power of 2 to either side."""
    anisotropy: float = 0.1
    """Largest change of the ratio of the window's sides, as a power of 2 to either side."""
    shift: float = 0.04
    """Largest shift along x and y, as a fraction of half the window's width."""
    flips: bool = True
    """Mirror patches and turn them by multiples of 90°, a group as a whole (DOAP, section 5.1)."""


def jitter_patches(
    patches: Tensor,
    options: JitterOptions,
    size: int,
    generator: torch.Generator,
    labels: Tensor | None = None,
) -> Tensor:
    """Cut windows of random position, scale and rotation out of stored patches.

    Args:
        patches: M×S×S of any type, 1.5 times as wide as the window.
        options: strength of the changes.
        size: side of the result M×size×size, which always has the extent of the window: 42 (for
            networks with a spatial transformer) shows the same as 32.
        generator: source of randomness, on the patches' device.
        labels: M int64 groups, at most M; without them no patch is flipped.
    """
    count = len(patches)

    def draw(reach: float) -> Tensor:
        fraction = torch.rand(count, generator=generator, device=patches.device)
        return reach * (2 * fraction - 1)

    angle = draw(torch.pi / 180 * options.max_angle)
    stretch = draw(options.anisotropy / 2)
    scale = draw(options.scale)
    x, y = (2.0 ** (scale + sign * stretch) / MARGIN for sign in (1, -1))
    if labels is not None and options.flips:
        drawn = torch.randint(8, (count,), generator=generator, device=patches.device)[labels]
        angle = angle + torch.pi / 2 * (drawn % 4)
        x = torch.where(drawn < 4, x, -x)
    cos, sin = angle.cos(), angle.sin()
    shifts = (draw(options.shift) / MARGIN, draw(options.shift) / MARGIN)
    affine = torch.stack([cos * x, -sin * y, shifts[0], sin * x, cos * y, shifts[1]], dim=1)
    grid = F.affine_grid(affine.view(-1, 2, 3), [count, 1, size, size], align_corners=False)
    windows = F.grid_sample(
        patches[:, None].float(), grid, padding_mode="border", align_corners=False
    )
    return windows[:, 0]
