"""Training of LISRD-SIFT: the meta descriptors that choose between SIFT and upright SIFT.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, sections
3.2 and 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from torch import Tensor

from featplug.io.images import list_images
from featplug.networks.lisrd import LISRDSIFT, NUM_TILES
from featplug.networks.netvlad import NetVLAD
from featplug.training.data.photographs import Photographs, split_photographs
from featplug.training.data.sift_pairs import SIFTPairBatches, SIFTPairs
from featplug.training.data.triplets import VALIDATION_VIEWS
from featplug.training.data.view_pairs import HomographyPairs
from featplug.training.losses.lisrd import triplet_loss
from featplug.training.losses.negatives import excluded_negatives
from featplug.training.task import Task
from featplug.training.validation import heads_accuracy, trained_confs
from featplug.weights.loading import load_weights

HEADS = ("sift", "upright")
_SHARPNESS = 10.0
"""Of the first assignment, which goes as exp(−sharpness · distance²)."""


class _Side(NamedTuple):
    """The keypoints of one image of each pair."""

    keypoints: Tensor
    """B×K×2, NaN as padding."""
    descriptors: Tensor
    """B×2×K×128."""
    tiles: Tensor
    """B×K, −1 as padding."""

    def take(self, points: Tensor) -> _Side:
        """Choose the keypoints B×N, with padding at -1."""
        return _Side(
            self.keypoints.take_along_dim(points[..., None], 1).nan_to_num(-1.0),
            self.descriptors.take_along_dim(points[:, None, :, None], 2),
            self.tiles.gather(1, points),
        )


@dataclass(frozen=True)
class LISRDSIFTOptions:
    """What LISRD-SIFT is trained on, and how."""

    pairs: Path
    """File of :func:`~featplug.training.data.sift_pairs.make_sift_pairs`."""
    photographs: Path
    """Folder of the photographs it was made from; those held out are validated on."""
    start: Path | None = None
    """Weights to start from; clusters of the first step's descriptors where there are none."""
    batch_size: int = 16
    learning_rate: float = 1e-2
    margin: float = 1.0
    """M of the triplets (section 3.1)."""
    distance_threshold: float = 8.0
    """T: pixels within which a keypoint is no negative."""


class LISRDSIFTTask(Task):
    """LISRD-SIFT by the meta loss.

    The authors' loop is that of LISRD, with keypoints of one image that are warped to the other.
    Here both images' keypoints are detected, as they are at inference, and those that are found
    in both are trained on; descriptors and distance are those of extractor and matcher.

    Args:
        options: see there.
        seed: of the first weights and of the order of the data.
        device: for validation.
        validation_pairs: of views of held-out photographs that are matched.
    """

    score = "mma_3"

    def __init__(
        self,
        options: LISRDSIFTOptions,
        seed: int,
        device: torch.device,
        validation_pairs: int = 24,
    ) -> None:
        self.options, self.device = options, device
        self._steps = range(validation_pairs)
        torch.manual_seed(seed)
        pairs = SIFTPairs(options.pairs)
        self._pairs_id = pairs.provenance.file_id
        names, held_out = split_photographs(list_images(options.photographs))
        self.data = SIFTPairBatches(pairs, names, options.batch_size, seed)
        self.network = LISRDSIFT()
        if options.start is not None:
            load_weights("lisrd-sift", str(options.start), self.network)
        else:
            batch = self.data[0]
            vlads = (self.network.vlad_sift, self.network.vlad_upright_sift)
            for head, vlad in enumerate(vlads):
                found = batch["descriptors0"][:, head][batch["tiles0"] >= 0]
                _initialize(vlad, found, seed)
        self._held_out = HomographyPairs(
            Photographs(options.photographs, held_out), VALIDATION_VIEWS
        )

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, as in the released code."""
        return torch.optim.Adam(self.network.parameters(), lr=self.options.learning_rate)

    def losses(
        self,
        forward: Callable[..., Tensor],
        batch: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Triplets of distances that are weighted by the meta descriptors (equations 7 and 8)."""
        sides = [_Side(*(batch[f"{key}{k}"] for key in _Side._fields)) for k in (0, 1)]
        both = _Side(*map(torch.cat, zip(*sides, strict=True)))
        metas0, metas1 = forward(both.descriptors, both.tiles).float().flatten(3).chunk(2)
        # The points that both images have, of which there are far fewer than keypoints.
        found = batch["matches0"] >= 0
        rows = found.int().argsort(dim=1, descending=True, stable=True)
        rows = rows[:, : max(1, int(found.sum(1).max()))]
        columns = batch["matches0"].gather(1, rows).clamp(min=0)
        side0, side1 = sides[0].take(rows), sides[1].take(columns)
        valid = found.gather(1, rows)
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
        model, matcher = trained_confs("lisrd-sift", weights)
        return heads_accuracy(
            model, matcher, HEADS, self._held_out, self._steps, device=self.device
        )

    def config(self) -> dict[str, Any]:
        """List the options and the file of pairs."""
        return {"system": "lisrd-sift", **asdict(self.options), "pairs_id": self._pairs_id}


def _initialize(vlad: NetVLAD, descriptors: Tensor, seed: int) -> None:
    """Start from clusters of descriptors, to which they are assigned by their distance.

    Arandjelović et al., "NetVLAD", CVPR 2016, section 3.1. At random, as in the released code, the
    centroids are so far from all descriptors that the meta descriptors hardly depend on these.
    """
    found, _ = kmeans2(descriptors.numpy(), len(vlad.centroids), minit="++", seed=seed)
    centroids = torch.from_numpy(found).to(descriptors)
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
    """Vectors whose products are those of the keypoints' meta descriptors.

    Args:
        metas0: B×H×M×T of unit length.
        metas1: the same of the other image.
        tiles0: B×N, −1 as padding.
        tiles1: B×N.

    Returns:
        Twice B×H×N×T.
    """
    at0, at1 = (
        F.one_hot(tiles.clamp(min=0), NUM_TILES**2).to(metas0)[:, None]
        for tiles in (tiles0, tiles1)
    )
    return at0 @ (metas0.mT @ metas1), at1.expand(-1, metas0.shape[1], -1, -1)
