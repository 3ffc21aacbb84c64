"""DOAP's label mining: which patches of a photograph look different enough to be distractors.

He et al., "Local Descriptors Optimized for Average Precision", CVPR 2018, section 4.2 and
appendix C. All patches of an image sequence, here of a photograph, are clustered by appearance.
Patches of clusters that are far from each other are distractors; the others are ignored, since
repeated structures look alike at different points. The features, 2240 numbers as in the paper, are
the patch itself and the HOG of Felzenszwalb et al. ("Object Detection with Discriminatively Trained
Part-Based Models", PAMI 2010, section 6) as VLFeat computes it, with 31 numbers per cell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import KMeans
from torch import Tensor

from featplug.training.data.patch_groups import PatchGroups
from featplug.training.data.patch_views import MARGIN
from featplug.training.data.photograph_files import Datasets, PhotographFile

_HOG_SIZE, _CELL, _RAW_SIZE = 64, 8, 16
_ORIENTATIONS = 9
_CLIP = 0.2
_CHUNK = 128


@dataclass(frozen=True)
class MiningOptions:
    """Options of the clustering of patches; the defaults are the paper's."""

    num_clusters: int = 100
    """Number of clusters of a photograph's patches."""
    percentile: float = 20.0
    """Percentile of the distances between clusters above which they are distractors."""
    iterations: int = 20
    """Largest number of k-means iterations."""
    seed: int = 0
    """Seed of the first centres."""


def hog(images: Tensor) -> Tensor:
    """Compute histograms of oriented gradients of N×H×W grey images, H and W multiples of 8.

    The result is N×(H/8)×(W/8)×31: 18 directions, 9 undirected ones, and the cell's gradient energy
    relative to each of the four blocks of 2×2 cells that contain it.
    """
    padded = F.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    dx = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    dy = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    directions, end = 2 * _ORIENTATIONS, 3 * _ORIENTATIONS
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
    features = cells.new_zeros(len(images), end + 4, height, width)
    for block in range(4):
        down, right = divmod(block, 2)
        norm = blocks[:, :, down : down + height, right : right + width].add(1e-8).sqrt()
        directed = (cells / norm).clamp(max=_CLIP)
        features[:, :directions] += directed / 2
        features[:, directions:end] += (undirected / norm).clamp(max=_CLIP) / 2
        features[:, end + block] = directed.sum(1) / directions**0.5
    return features.permute(0, 2, 3, 1)


def _pooling(side: int) -> Tensor:
    """Compute weights of pixels in cells, (side/8)×side; a pixel counts in the two nearest."""
    centres = torch.arange(side // _CELL) * _CELL + (_CELL - 1) / 2
    return (1 - (torch.arange(side) - centres[:, None]).abs() / _CELL).clamp(min=0)


@torch.no_grad()
def appearance(patches: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
    """Compute the features that patches are clustered by (appendix C.1).

    For N×S×S uint8 patches as stored, of which the window is the middle, S / 1.5 wide, they are
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


def cluster(features: np.ndarray, options: MiningOptions) -> tuple[np.ndarray, np.ndarray]:
    """Cluster N×D float32 features by k-means, and find the clusters that are far from each other.

    Returns:
        N int64 clusters, at most one for each distinct feature; and K×K bool, symmetric,
        whether the distance of two centres is above the percentile of all such distances.
    """
    count = min(options.num_clusters, len(np.unique(features, axis=0)))
    if count < 2:
        return np.zeros(len(features), np.int64), np.zeros((count, count), bool)
    k_means = KMeans(count, n_init=1, max_iter=options.iterations, random_state=options.seed)
    used, clusters = np.unique(k_means.fit_predict(features), return_inverse=True)
    distances = pdist(k_means.cluster_centers_[used])
    threshold = np.percentile(distances, options.percentile) if len(distances) else np.inf
    return clusters, squareform(distances > threshold).astype(bool)


class MinedLabels(PhotographFile):
    """A file of mined labels: ``clusters`` M and ``far`` K×K of :func:`cluster` per photograph."""

    kind = "mined labels"
    revision = 2

    @classmethod
    def make(
        cls,
        groups: PatchGroups,
        path: Path,
        options: MiningOptions = MiningOptions(),
        device: torch.device | str = "cpu",
    ) -> Iterator[str]:
        """Mine labels of all patches by :meth:`make_missing`."""

        def compute(name: str) -> Datasets:
            (patches,) = groups.read(name, "patches")
            clusters, far = cluster(appearance(patches, device), options)
            return {"clusters": clusters.astype(np.int32), "far": far}

        sources = {"patch_groups": groups.provenance.file_id}
        return cls.make_missing(path, groups.names(), compute, asdict(options), sources)

    def require_of(self, groups: PatchGroups, names: Sequence[str]) -> None:
        """Raise ValueError unless the labels are of this file of patches and these photographs."""
        if groups.provenance.file_id != self.provenance.inputs["patch_groups"]:
            raise ValueError(
                f"{self.path} was mined from other patches than {groups.path}; mine labels again."
            )
        self.require(names)

    def are_far(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Compute which patches (rows) of a photograph are distractors of each other, N×N bool.

        False does not mean that two patches show the same point.
        """
        clusters, far = self.read(name, "clusters", "far")
        return far[np.ix_(clusters[rows], clusters[rows])]
