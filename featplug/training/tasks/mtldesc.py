"""Training of MTLDesc: descriptors, their attention and the detector at once.

Wang et al., "MTLDesc: Looking Wider to Describe Better", AAAI 2022, sections 3.4, 3.5 and 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.io.images import list_images
from featplug.io.results import data_fingerprint
from featplug.networks.mtldesc import UNUSED, Maps, MTLDesc, normalize
from featplug.training.data.photographs import Photographs, split_photographs
from featplug.training.data.teacher import TeacherKeypoints
from featplug.training.data.view_pairs import (
    VALIDATION_PAIRS,
    HomographyPairs,
    MTLDescPairOptions,
    MTLDescPairs,
)
from featplug.training.losses.mtldesc import (
    MTLDescLossOptions,
    attention_weighted_triplet_loss,
    keypoint_loss,
)
from featplug.training.task import Task, use_channels_last
from featplug.training.validation import matching_accuracy, trained_confs
from featplug.weights.checkpoints import file_sha256
from featplug.weights.loading import load_weights


@dataclass(frozen=True)
class MTLDescOptions:
    """What MTLDesc is trained on, and how; the defaults are the released code's."""

    photographs: Path
    """Folder of the photographs; those held out are validated on."""
    teacher: Path
    """File of keypoints of all of them; see :mod:`featplug.training.data.teacher`."""
    start: Path | None = None
    """Weights to start from; drawn at random where there are none."""
    pairs: MTLDescPairOptions = field(default_factory=MTLDescPairOptions)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    loss: MTLDescLossOptions = field(default_factory=MTLDescLossOptions)


class MTLDescTask(Task):
    """MTLDesc, both losses with weight 1.

    The paper trains on pairs of MegaDepth as well as on these, views of one photograph under a
    homography. The learning rate falls to 0 in every step, the released code's once in an epoch.

    Args:
        options: see there.
        seed: of the first weights and of the data.
        device: for validation.
        validation_pairs: of views of held-out photographs that are matched.
    """

    data: MTLDescPairs
    score = "mma_3"

    def __init__(
        self,
        options: MTLDescOptions,
        seed: int,
        device: torch.device,
        validation_pairs: int = 12,
    ) -> None:
        self.options, self.device = options, device
        self._steps = range(validation_pairs)
        torch.manual_seed(seed)
        self.network = MTLDesc()
        if options.start is not None:
            load_weights("mtldesc", str(options.start), self.network)
        use_channels_last(self.network)
        for name, parameter in self.network.named_parameters():
            if name.startswith(UNUSED):
                parameter.requires_grad_(False)
        found = list_images(options.photographs)
        self._photographs_id = data_fingerprint(options.photographs, found)
        names, held_out = split_photographs(found)
        self.data = MTLDescPairs(
            Photographs(options.photographs, names),
            TeacherKeypoints(options.teacher),
            options.pairs,
            seed,
            rendered=False,
        )
        self._held_out = HomographyPairs(
            Photographs(options.photographs, held_out), VALIDATION_PAIRS
        )

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, as in the released code."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        options = self.options
        return torch.optim.Adam(
            trained, lr=options.learning_rate, weight_decay=options.weight_decay
        )

    def losses(
        self,
        forward: Callable[..., Maps],
        batch: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Attention-weighted triplets and the detector's cross-entropy, and their sum."""
        options = self.options
        with torch.no_grad():
            pairs = self.data.render(batch)
        images = torch.cat([pairs["image0"], pairs["image1"]])
        maps = Maps(*(of_images.float() for of_images in forward(normalize(255 * images))))
        points = torch.cat([pairs["points0"], pairs["points1"]])
        descriptors, attention = sample_maps(maps, points)
        descriptors0, descriptors1 = descriptors.chunk(2)
        attention0, attention1 = attention.chunk(2)
        descriptor_loss = attention_weighted_triplet_loss(
            descriptors0,
            descriptors1,
            attention0,
            attention1,
            pairs["valid"],
            pairs["excluded"],
            options.loss,
        )
        detector_loss = keypoint_loss(
            maps.logits[:, 0],
            torch.cat([pairs["heatmap0"], pairs["heatmap1"]]),
            torch.cat([pairs["heatmap_valid0"], pairs["heatmap_valid1"]]),
            options.loss.positive_weight,
        )
        return {
            "loss": descriptor_loss + detector_loss,
            "descriptor_loss": descriptor_loss,
            "detector_loss": detector_loss,
        }

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure matching, and how well keypoints are found again, on held-out photographs."""
        model, matcher = trained_confs("mtldesc", weights)
        return matching_accuracy(model, matcher, self._held_out, self._steps, device=self.device)

    def config(self) -> dict[str, Any]:
        """List the options, the photographs and the teacher's keypoints."""
        return {
            "system": "mtldesc",
            **asdict(self.options),
            "photographs_id": self._photographs_id,
            "teacher_sha256": file_sha256(self.options.teacher),
        }


def sample_maps(maps: Maps, points: Tensor) -> tuple[Tensor, Tensor]:
    """Sample descriptors and attention as the extractor does, but both with the border's values.

    Args:
        maps: of B images.
        points: B×N×2 (x, y) in their pixels.

    Returns:
        B×N×128 unit vectors and B×N attention.
    """
    height, width = maps.logits.shape[-2:]
    grid = (2 * points / points.new_tensor([width - 1, height - 1]) - 1)[:, None]
    directions, attention = (
        F.grid_sample(of_images, grid, padding_mode="border", align_corners=True)[:, :, 0]
        for of_images in (maps.descriptors, maps.attention)
    )
    return F.normalize(directions, dim=1).mT, attention[:, 0]
