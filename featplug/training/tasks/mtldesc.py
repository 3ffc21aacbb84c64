"""Training of MTLDesc: descriptors, their attention and the detector at once.

Wang et al., "MTLDesc: Looking Wider to Describe Better", AAAI 2022, sections 3.4, 3.5 and 4.1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.io.artifact import file_hash
from featplug.networks.mtldesc import UNUSED, Maps, MTLDesc, normalize
from featplug.training.data import photometric
from featplug.training.data.teacher import TeacherKeypoints
from featplug.training.data.view_pairs import MTLDescPairOptions, MTLDescPairs
from featplug.training.distributed import process_device
from featplug.training.losses.mtldesc import (
    MTLDescLossOptions,
    attention_weighted_triplet_loss,
    keypoint_loss,
)
from featplug.training.task import Batch, Forward, Losses, Making, PhotographTask, TrainingOptions
from featplug.weights.loading import load_weights


@dataclass(frozen=True, kw_only=True)
class MTLDescOptions(MTLDescLossOptions, TrainingOptions):
    """Train MTLDesc (Wang et al., AAAI 2022); the defaults are the released code's."""

    start: Path | None = None
    """Weights to start from; drawn at random by default."""
    teacher: Path | None = None
    """File of keypoints of the photographs that teach the detector. By default one is made in the
    outputs, of corners that homographies do not move."""
    look: Literal["released", "general"] = "released"
    """Photometric changes: light and noise as released, or blur, exposure and JPEG as well."""
    weight_decay: float = 1e-4
    """Weight decay of Adam."""
    pairs: MTLDescPairOptions = field(default_factory=MTLDescPairOptions)

    @property
    def teacher_path(self) -> Path:
        """The teacher's file."""
        return self.teacher or self.outputs / "teacher_keypoints.h5"


class MTLDescTask(PhotographTask[MTLDescOptions]):
    """MTLDesc, both losses with weight 1.

    The paper trains on pairs of MegaDepth and on these, views of one photograph under a homography.
    The learning rate falls in every step, the released code's once per epoch.
    """

    system = "mtldesc"
    data: MTLDescPairs

    @classmethod
    def prepare(cls, options: MTLDescOptions, names: Sequence[str]) -> Iterator[Making]:
        """Make the teacher's keypoints, unless a file of them is given."""
        if options.teacher is None:
            device = process_device(options.device)
            made = TeacherKeypoints.make(options.images, options.teacher_path, names, device=device)
            yield "teacher's keypoints, once, unless --teacher names a file", made

    def _build_network(self) -> MTLDesc:
        network = MTLDesc()
        if self.options.start is not None:
            load_weights("mtldesc", str(self.options.start), network)
        for name, parameter in network.named_parameters():
            if name.startswith(UNUSED):
                parameter.requires_grad_(False)
        return network

    def _build_data(self) -> MTLDescPairs:
        pairs = self.options.pairs
        if self.options.look == "general":
            pairs = replace(pairs, photometric=photometric.GENERAL)
        teacher = TeacherKeypoints(self.options.teacher_path)
        self.inputs["teacher keypoints"] = file_hash(teacher.path)
        return MTLDescPairs(self.photographs, teacher, pairs, self.options.seed, rendered=False)

    def optimizer(self) -> torch.optim.Optimizer:
        """Build Adam with weight decay, as in the released code."""
        options = self.options
        return torch.optim.Adam(
            self.trained_parameters(), options.learning_rate, weight_decay=options.weight_decay
        )

    def losses(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Losses:
        """Sum attention-weighted triplets and the detector's cross-entropy."""
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
            self.options,
        )
        detector_loss = keypoint_loss(
            maps.logits[:, 0],
            torch.cat([pairs["heatmap0"], pairs["heatmap1"]]),
            torch.cat([pairs["heatmap_valid0"], pairs["heatmap_valid1"]]),
            self.options.positive_weight,
        )
        return {
            "loss": descriptor_loss + detector_loss,
            "descriptor_loss": descriptor_loss,
            "detector_loss": detector_loss,
        }


def sample_maps(maps: Maps, points: Tensor) -> tuple[Tensor, Tensor]:
    """Sample B×N×128 unit descriptors and B×N attention at points B×N×2 (x, y) in pixels.

    This is as the extractor does, but for both with border padding.
    """
    height, width = maps.logits.shape[-2:]
    grid = (2 * points / points.new_tensor([width - 1, height - 1]) - 1)[:, None]
    directions, attention = (
        F.grid_sample(of_images, grid, padding_mode="border", align_corners=True)[:, :, 0]
        for of_images in (maps.descriptors, maps.attention)
    )
    return F.normalize(directions, dim=1).mT, attention[:, 0]
