"""DOAP's label mining: which patches of a photograph look different enough to be distractors.

He et al., "Local Descriptors Optimized for Average Precision", CVPR 2018, section 4.2 and
appendix C. All patches of an image sequence, here of a photograph, are clustered by appearance;
patches of clusters far from each other are distractors, the others are ignored, since repeated
structures look alike at different points. The features are HOG of Felzenszwalb et al. ("Object
Detection with Discriminatively Trained Part-Based Models", PAMI 2010, section 6), whose 31 numbers
per cell make the paper's 2240 dimensions, as VLFeat computes them, and the patch itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from featplug.io.artifact import Provenance
from featplug.io.h5file import H5Writer
from featplug.training.data.patch_views import MARGIN
from featplug.training.data.photograph_files import PhotographFile, is_whole

if TYPE_CHECKING:
    from featplug.training.data.patch_groups import PatchGroups

_HOG_SIZE, _CELL, _RAW_SIZE = 64, 8, 16
_ORIENTATIONS = 9
_CLIP = 0.2
_CHUNK = 128
_KIND = "mined labels"


@dataclass(frozen=True)
class MiningOptions:
    """How :func:`mine_labels` clusters; the defaults are the paper's."""

    num_clusters: int = 100
    percentile: float = 20.0
    """Of the distances between clusters: those above it make distractors."""
    iterations: int = 20
    seed: int = 0


def hog(images: Tensor) -> Tensor:
    """Histograms of oriented gradients.

    Args:
        images: N×H×W grey, H and W multiples of 8.

    Returns:
        N×(H/8)×(W/8)×31: 18 directions, 9 undirected ones, and the cell's gradient energy relative
        to each of the four blocks of 2×2 cells that it is in.
    """
    padded = F.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    dx = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    dy = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    directions = 2 * _ORIENTATIONS
    angle = torch.atan2(dy, dx) * (directions / (2 * torch.pi))
    nearest = angle.round().long() % directions
    maps = images.new_zeros(len(images), directions, *images.shape[1:])
    maps.scatter_(1, nearest[:, None], torch.hypot(dx, dy)[:, None])
    rows, columns = (_pooling(side).to(images) for side in images.shape[1:])
    cells = rows @ maps @ columns.mT

    undirected = cells[:, :_ORIENTATIONS] + cells[:, _ORIENTATIONS:]
    energy = F.pad(undirected.square().sum(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    blocks = F.avg_pool2d(energy, 2, stride=1) * 4
    height, width = cells.shape[2:]
    features = cells.new_zeros(len(images), 3 * _ORIENTATIONS + 4, height, width)
    for block in range(4):
        down, right = divmod(block, 2)
        norm = blocks[:, :, down : down + height, right : right + width].add(1e-8).sqrt()
        directed = (cells / norm).clamp(max=_CLIP)
        features[:, :directions] += directed / 2
        features[:, directions : directions + _ORIENTATIONS] += (undirected / norm).clamp(
            max=_CLIP
        ) / 2
        features[:, 3 * _ORIENTATIONS + block] = directed.sum(1) / directions**0.5
    return features.permute(0, 2, 3, 1)


def _pooling(side: int) -> Tensor:
    """Share of each pixel in each cell, (side/8)×side: a pixel counts in the two nearest."""
    centres = torch.arange(side // _CELL) * _CELL + (_CELL - 1) / 2
    return (1 - (torch.arange(side) - centres[:, None]).abs() / _CELL).clamp(min=0)


@torch.no_grad()
def appearance(patches: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
    """Compute the features that patches are clustered by (appendix C.1).

    Args:
        patches: N×S×S uint8, as stored: the window is the middle, S / 1.5 wide.
        device: to compute on.

    Returns:
        N×2240 float32: HOG of the window at 64×64, and the window at 16×16, in [0, 1].
    """
    side = round(patches.shape[-1] / MARGIN)
    start = (patches.shape[-1] - side) // 2
    features = []
    for first in range(0, len(patches), _CHUNK):
        chunk = torch.from_numpy(patches[first : first + _CHUNK]).to(device)
        windows = chunk[:, None, start : start + side, start : start + side].float() / 255
        large = F.interpolate(windows, (_HOG_SIZE,) * 2, mode="bilinear", align_corners=False)
        small = F.interpolate(windows, (_RAW_SIZE,) * 2, mode="area")
        features.append(torch.cat([hog(large[:, 0]).flatten(1), small.flatten(1)], dim=1).cpu())
    dimensions = (_HOG_SIZE // _CELL) ** 2 * (3 * _ORIENTATIONS + 4) + _RAW_SIZE**2
    return torch.cat(features or [torch.zeros(0, dimensions)]).numpy()


def cluster(
    features: np.ndarray, options: MiningOptions, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster by k-means, and tell which clusters are far from each other.

    Args:
        features: N×D float32.
        options: see there; there are at most N clusters.
        device: to compute on.

    Returns:
        N int64 clusters; K×K bool, symmetric, whether the distance of two centres is above the
        percentile of the distances of all.
    """
    count = min(options.num_clusters, len(features))
    if count < 2:
        return np.zeros(len(features), np.int64), np.zeros((count, count), bool)
    data = torch.from_numpy(features).to(device)
    assigned, centres = _k_means(data, count, options.iterations, options.seed)
    used, clusters = np.unique(assigned.numpy(force=True), return_inverse=True)
    distances = pdist(centres.numpy(force=True)[used])
    threshold = np.percentile(distances, options.percentile) if len(distances) else np.inf
    return clusters, squareform(distances > threshold).astype(bool)


@torch.no_grad()
def _k_means(data: Tensor, count: int, iterations: int, seed: int) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations from k-means++ centres, as products of matrices.

    SciPy's takes twenty times as long in so many dimensions.

    Args:
        data: N×D.
        count: K.
        iterations: at most.
        seed: of the first centres.

    Returns:
        N clusters, some of the K perhaps empty, and K×D centres.
    """
    rng = np.random.default_rng(seed)
    squares = data.square().sum(1)

    def squared_distances(centres: Tensor) -> Tensor:
        return (squares[:, None] + centres.square().sum(1) - 2 * data @ centres.mT).clamp(min=0)

    rows = [int(rng.integers(len(data)))]
    nearest = squared_distances(data[rows])[:, 0]
    for _ in range(count - 1):
        total = nearest.double().cumsum(0)
        drawn = torch.searchsorted(total, total[-1] * rng.random(), right=True)
        rows.append(min(int(drawn), len(data) - 1))
        nearest = torch.minimum(nearest, squared_distances(data[rows[-1:]])[:, 0])
    centres = data[rows]
    assigned = squared_distances(centres).argmin(1)
    for _ in range(iterations):
        sizes = torch.bincount(assigned, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, assigned, data)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
        before, assigned = assigned, squared_distances(centres).argmin(1)
        if torch.equal(before, assigned):
            break
    return assigned, centres


def mine_labels(
    groups: PatchGroups,
    path: Path,
    options: MiningOptions | None = None,
    names: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[str]:
    """Mine labels of the patches of every photograph that has none yet.

    Can be stopped at any time; called again with the same options, it goes on.

    Args:
        groups: the file of patches.
        path: the file of labels, made or continued: a group per photograph with ``clusters`` M
            and ``far`` K×K, see :func:`cluster`.
        options: see there.
        names: of photographs; all by default.
        device: to compute on.

    Yields:
        The name of each photograph that the file now has.

    Raises:
        ValueError: the file is of other options or other patches.
    """
    options = options or MiningOptions()
    provenance = Provenance(
        _KIND, asdict(options), inputs={"patch_groups": groups.provenance.file_id}
    )
    names = groups.names() if names is None else names
    if is_whole(path, provenance, lambda reader: all(name in reader.file for name in names)):
        yield from names
        return
    with H5Writer(path, provenance) as writer:
        for name in names:
            if name not in writer.file:
                (patches,) = groups.read(name, "patches")
                clusters, far = cluster(appearance(patches, device), options, device)
                with writer.explaining_failures():
                    writer.link(name, {"clusters": clusters.astype(np.int32), "far": far}, {})
                    writer.file.flush()
            yield name


class MinedLabels(PhotographFile):
    """A file of mined labels, open in each process that reads it.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _KIND)

    def require_of(self, groups_id: str, names: Sequence[str]) -> None:
        """Check that the labels are of this file of patches, and of all these photographs.

        Raises:
            ValueError: they are not.
        """
        if groups_id != self.provenance.inputs["patch_groups"]:
            raise ValueError(f"{self.path} was mined from other patches; mine labels of these.")
        self.require(names)

    def are_far(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Tell which patches of a photograph are distractors of each other.

        Args:
            name: of the photograph.
            rows: N of its patches.

        Returns:
            N×N bool; false says nothing of patches that show the same point.
        """
        clusters, far = self.read(name, "clusters", "far")
        return far[np.ix_(clusters[rows], clusters[rows])]
