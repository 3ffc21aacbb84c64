"""Training of LISRD-SIFT: the meta descriptors that choose between SIFT and upright SIFT.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, sections
3.2 and 4.2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from torch import Tensor

from featplug.networks.lisrd import LISRDSIFT, NUM_TILES
from featplug.networks.netvlad import NetVLAD
from featplug.training.data.sift_pairs import SIFTPairBatches, SIFTPairs
from featplug.training.data.triplets import VALIDATION_VIEWS
from featplug.training.losses.lisrd import triplet_loss
from featplug.training.losses.negatives import excluded_negatives
from featplug.training.task import Batch, Forward, Losses, Making, PhotographTask, TrainingOptions
from featplug.weights.loading import load_weights

HEADS = ("sift", "upright")
_SHARPNESS = 10.0
"""Sharpness of the first assignment, which is proportional to exp(−sharpness · distance²)."""


class _Side(NamedTuple):
    """Keypoints of one image of each pair."""

    keypoints: Tensor  # B×K×2, NaN as padding
    descriptors: Tensor  # B×2×K×128
    tiles: Tensor  # B×K, −1 as padding

    def take(self, points: Tensor) -> "_Side":
        """Take the keypoints B×N, with padding at −1."""
        return _Side(
            self.keypoints.take_along_dim(points[..., None], 1).nan_to_num(-1.0),
            self.descriptors.take_along_dim(points[:, None, :, None], 2),
            self.tiles.gather(1, points),
        )


@dataclass(frozen=True, kw_only=True)
class LISRDSIFTOptions(TrainingOptions):
    """Train LISRD-SIFT (Pautrat et al., ECCV 2020): the choice between SIFT and upright SIFT."""

    start: Path | None = None
    """Weights to start from; clusters of the first step's descriptors by default."""
    pairs: Path | None = None
    """File of keypoints and descriptors of pairs, made if missing; in the outputs by default."""
    batch_size: int = 16
    """Number of pairs per step."""
    learning_rate: float = 1e-2
    margin: float = 1.0
    """Margin of the triplets (M of section 3.1)."""
    distance_threshold: float = 8.0
    """Pixels within which a keypoint is no negative (T)."""
    validation_pairs: int = 24

    @property
    def pairs_path(self) -> Path:
        """The file of pairs."""
        return self.pairs or self.outputs / "sift_pairs.h5"


class LISRDSIFTTask(PhotographTask[LISRDSIFTOptions]):
    """LISRD-SIFT by the meta loss.

    The authors' loop is LISRD's, which warps keypoints of one image to the other. Here keypoints
    are detected in both images, as at inference, and those that are found in both are trained on;
    descriptors and distance are those of extractor and matcher.
    """

    system = "lisrd-sift"
    channels_last = False
    validation_views = VALIDATION_VIEWS

    @classmethod
    def prepare(cls, options: LISRDSIFTOptions, names: Sequence[str]) -> Iterator[Making]:
        """Make the file of pairs."""
        path, workers = options.pairs_path, options.num_workers
        yield "pairs", SIFTPairs.make(options.images, path, names, num_workers=workers)

    def _build_network(self) -> LISRDSIFT:
        network = LISRDSIFT()
        if self.options.start is not None:
            load_weights("lisrd-sift", str(self.options.start), network)
            return network
        batch = self._build_data()[0]
        for head, vlad in enumerate((network.vlad_sift, network.vlad_upright_sift)):
            described = batch["descriptors0"][:, head][batch["tiles0"] >= 0]
            _initialize(vlad, described, self.options.seed)
        return network

    def _build_data(self) -> SIFTPairBatches:
        options, pairs = self.options, SIFTPairs(self.options.pairs_path)
        self.inputs[pairs.kind] = pairs.provenance.file_id
        return SIFTPairBatches(pairs, self.photographs.names, options.batch_size, options.seed)

    def losses(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Losses:
        """Compute triplets of distances weighted by the meta descriptors (equations 7 and 8)."""
        sides = [_Side(*(batch[f"{key}{k}"] for key in _Side._fields)) for k in (0, 1)]
        both = _Side(*map(torch.cat, zip(*sides, strict=True)))
        metas0, metas1 = forward(both.descriptors, both.tiles).float().flatten(3).chunk(2)
        # Far fewer points are seen in both images than in one.
        is_common = batch["matches0"] >= 0
        rows = is_common.int().argsort(dim=1, descending=True, stable=True)
        rows = rows[:, : max(1, int(is_common.sum(1).max()))]
        columns = batch["matches0"].gather(1, rows).clamp(min=0)
        side0, side1 = sides[0].take(rows), sides[1].take(columns)
        valid = is_common.gather(1, rows)
        excluded = excluded_negatives(
            (side0.keypoints, side1.keypoints), valid, self.options.distance_threshold
        )
        loss = triplet_loss(
            side0.descriptors,
            side1.descriptors,
            valid,
            excluded,
            _tile_factors(metas0, metas1, side0.tiles, side1.tiles),
            self.options.margin,
            distance="l2",
        )
        return {"loss": loss.mean()}

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure matching on held-out photographs, by both descriptors and by each."""
        return self.match_held_out(weights, HEADS)


def _initialize(vlad: NetVLAD, descriptors: Tensor, seed: int) -> None:
    """Initialise the centroids and the assignment to them with clusters of descriptors.

    Arandjelović et al., "NetVLAD", CVPR 2016, section 3.1. The released code's random centroids are
    so far from all descriptors that the meta descriptors hardly depend on these.
    """
    clusters, _ = kmeans2(descriptors.numpy(), len(vlad.centroids), minit="++", seed=seed)
    centroids = torch.from_numpy(clusters).to(descriptors)
    vlad.load_state_dict(
        {
            "centroids": centroids,
            "conv.weight": 2 * _SHARPNESS * centroids[..., None, None],
            "conv.bias": -_SHARPNESS * centroids.square().sum(1),
        }
    )


def _tile_factors(
    metas0: Tensor, metas1: Tensor, tiles0: Tensor, tiles1: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute vectors B×H×N×T with the products of the keypoints' meta descriptors.

    Metas are B×H×M×T of unit length, tiles B×N with −1 as padding.
    """
    at0, at1 = (
        F.one_hot(tiles.clamp(min=0), NUM_TILES**2).to(metas0)[:, None]
        for tiles in (tiles0, tiles1)
    )
    return at0 @ (metas0.mT @ metas1), at1.expand(-1, metas0.shape[1], -1, -1)
