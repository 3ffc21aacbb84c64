"""Training of D2-Net: the last layers of VGG16, on cells of a feature map that correspond.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Description and Detection of Local Features",
CVPR 2019, section 4, supplement, table 3, and the released training code.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from featplug.networks.d2net import CELL_SIZE, TRAINING_CELL_SIZE, D2Net, normalize_caffe
from featplug.training.data.correspondences import (
    Correspondences,
    find_correspondences,
    homography_correspondences,
)
from featplug.training.data.homographies import HomographyOptions
from featplug.training.data.view_pairs import (
    VALIDATION_PAIRS,
    HomographyPairOptions,
    HomographyPairs,
)
from featplug.training.data.viewpoint import (
    ViewpointOptions,
    ViewpointPairs,
    posed_depth,
    read_megadepth,
    read_workspace,
)
from featplug.training.losses.d2net import (
    D2NetLossOptions,
    detection_weighted_triplet_loss,
    soft_detection_scores,
)
from featplug.training.task import Batch, Forward, Losses, PhotographTask, TrainingOptions
from featplug.weights.loading import load_weights

_SHIFT_STEPS = 16
_HALVINGS = 4

HOMOGRAPHIES = HomographyOptions(scale=(0.5, 1.6), max_angle=0.6, perspective=(0.25, 0.25))
"""Moderate homographies of pairs of photographs: D2-Net is not invariant to rotation."""


@dataclass(frozen=True, kw_only=True)
class D2NetOptions(D2NetLossOptions, TrainingOptions):
    """Train D2-Net (Dusmanu et al., CVPR 2019) from VGG16, on homographies or true viewpoints.

    The defaults are the paper's (section 4.3).
    """

    start: Path | None = None
    """Weights to start from; those of d2net-ots (VGG16 on ImageNet) by default."""
    workspaces: tuple[Path, ...] = ()
    """Dense workspaces of COLMAP to take pairs from, instead of homographies."""
    megadepth: Path | None = None
    """Folder of MegaDepth to take pairs from, instead of homographies."""
    scenes: tuple[str, ...] = ()
    """Scenes of MegaDepth, for example 0015 0022."""
    layers: int = 1
    """Number of the last convolutions that are trained."""
    schedule: Literal["halving", "constant", "linear"] = "halving"
    """Schedule of the learning rate: halved four times as in the paper, constant as released, or
    linear to 0."""
    cell_size: Literal[8, 4] = 8
    """Pixels of a cell: 8 as in the paper, or 4 to train the network as it is used."""
    crop: int = 256
    """Side of the images of a pair in pixels."""
    batch_size: int = 1
    """Number of pairs per step."""
    rectify: bool = False
    """Rectify descriptors as at inference; the released code does not when it trains."""
    active: float | None = None
    """Fraction of the last layer's values that a shift of biases makes positive at the start, for
    example 0.8, for short trainings: more of VGG16's descriptors survive the rectification."""
    zoom: tuple[float, float] = (1.0, 2.0)
    """Range of the scale of pairs under a homography; 1 is the smallest that fits."""
    photometric_probability: float = 0.7
    """Probability that the look of a pair under a homography is changed."""
    validation_pairs: int = 6


class D2NetTask(PhotographTask[D2NetOptions]):
    """D2-Net in its training architecture.

    The layers that are not trained keep no activations. Where paper and released code differ, the
    soft scores follow the code (:func:`~featplug.training.losses.d2net.soft_detection_scores`), and
    so do the descriptors of the triplets, which are not rectified unless ``rectify`` is set; the
    learning rate follows the paper. The shift of biases by ``active`` is in neither.
    """

    system = "d2net"
    network: D2Net
    data: HomographyPairs | ViewpointPairs

    def __init__(self, options: D2NetOptions) -> None:
        if options.cell_size not in (CELL_SIZE, TRAINING_CELL_SIZE):
            raise ValueError(
                f"cell_size is {TRAINING_CELL_SIZE} in training or {CELL_SIZE} as in use, not "
                f"{options.cell_size}."
            )
        if options.active is not None and not 0 < options.active < 1:
            raise ValueError(f"active must be between 0 and 1, not {options.active}.")
        if (options.megadepth is None) != (not options.scenes):
            raise ValueError("--megadepth and --scenes belong together; give both or neither.")
        super().__init__(options)
        if options.active is not None:
            self._shift_biases(options.active)

    @property
    def validation_views(self) -> HomographyPairOptions:
        """Pairs of the size of the crops."""
        return replace(VALIDATION_PAIRS, size=(self.options.crop, self.options.crop))

    def _build_network(self) -> D2Net:
        options = self.options
        network = D2Net(use_relu=False, cell_size=options.cell_size)
        start = "auto" if options.start is None else str(options.start)
        self.inputs["start"] = load_weights("d2net-ots", start, network).sha256
        layers = _convolutions(network)
        if not 0 < options.layers <= len(layers):
            raise ValueError(f"layers must be 1 to {len(layers)}, not {options.layers}.")
        for layer in layers[: -options.layers]:
            layer.requires_grad_(False)
        return network

    def _build_data(self) -> HomographyPairs | ViewpointPairs:
        options = self.options
        scenes = [read_workspace(folder) for folder in options.workspaces]
        if options.megadepth is not None:
            scenes += [read_megadepth(options.megadepth, scene) for scene in options.scenes]
        if scenes:
            viewpoint = ViewpointOptions(options.batch_size, options.crop)
            return ViewpointPairs(scenes, viewpoint, options.seed)
        pairs = HomographyPairOptions(
            batch_size=options.batch_size,
            size=(options.crop, options.crop),
            zoom=options.zoom,
            homographies=HOMOGRAPHIES,
            photometric_probability=options.photometric_probability,
        )
        return HomographyPairs(self.photographs, pairs, options.seed)

    @torch.no_grad()
    def _shift_biases(self, active: float) -> None:
        """Make a fraction of the last layer's values positive, over images to train on."""
        quantiles = []
        for step in range(_SHIFT_STEPS):
            values = self.network(normalize_caffe(self.data[step]["image0"])).flatten()
            rank = round((1 - active) * (len(values) - 1))
            quantiles.append(float(values.kthvalue(rank + 1).values))
        bias = cast(Tensor, _convolutions(self.network)[-1].bias)
        bias.sub_(sum(quantiles) / len(quantiles))

    def rate(self, progress: float) -> float:
        """Compute the factor of the learning rate by the schedule."""
        if self.options.schedule == "halving":
            return 0.5 ** int(progress * (_HALVINGS + 1))
        return 1.0 if self.options.schedule == "constant" else super().rate(progress)

    def losses(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Losses:
        """Compute the triplet loss of pairs, weighted by detection, and the pairs' overlap."""
        images = torch.cat([batch["image0"], batch["image1"]])
        features0, features1 = forward(normalize_caffe(images)).float().chunk(2)
        cells1 = self._correspondences(batch, features0, features1).cells1
        scores0, scores1 = map(soft_detection_scores, (features0, features1))
        if self.options.rectify:
            features0, features1 = features0.relu(), features1.relu()
        loss = detection_weighted_triplet_loss(
            features0, features1, scores0, scores1, cells1, self.options
        )
        return {"loss": loss, "overlap": (cells1 >= 0).float().mean()}

    def _correspondences(
        self, batch: Batch, features0: Tensor, features1: Tensor
    ) -> Correspondences:
        size0, size1 = ((f.shape[2], f.shape[3]) for f in (features0, features1))
        cell_size = self.options.cell_size
        if "homography" in batch:
            return homography_correspondences(
                batch["homography"], batch["valid1"], size0, size1, cell_size
            )
        view0, view1 = (posed_depth(batch, index) for index in (0, 1))
        return find_correspondences(view0, view1, size0, size1, cell_size)

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure the loss, and matching as the weights are used, on held-out photographs."""
        batches = (self.pairs[step] for step in range(self.options.validation_pairs))
        return {**self.mean_losses(batches, "loss"), **self.match_held_out(weights)}


def _convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
