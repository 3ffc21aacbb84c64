"""Training of D2-Net: the last layers of VGG16, on cells of a feature map that correspond.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Description and Detection of Local Features",
CVPR 2019, section 4, supplement, table 3, and the released training code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from featplug.io.images import list_images
from featplug.io.results import data_fingerprint
from featplug.networks.d2net import CELL_SIZE, TRAINING_CELL_SIZE, D2Net, normalize_caffe
from featplug.training.data import photometric
from featplug.training.data.correspondences import (
    Correspondences,
    find_correspondences,
    homography_correspondences,
)
from featplug.training.data.homographies import HomographyOptions
from featplug.training.data.photographs import Photographs, split_photographs
from featplug.training.data.photometric import PhotometricOptions
from featplug.training.data.view_pairs import (
    VALIDATION_PAIRS,
    HomographyPairOptions,
    HomographyPairs,
)
from featplug.training.data.viewpoint import (
    ViewpointOptions,
    ViewpointPairs,
    ViewpointScene,
    posed_depth,
)
from featplug.training.losses.d2net import (
    D2NetLossOptions,
    detection_weighted_triplet_loss,
    soft_detection_scores,
)
from featplug.training.task import Task, use_channels_last
from featplug.training.validation import matching_accuracy, trained_confs
from featplug.weights.loading import load_weights

_SHIFT_STEPS = 16
_HALVINGS = 4

HOMOGRAPHIES = HomographyOptions(scale=(0.5, 1.6), max_angle=0.6, perspective=(0.25, 0.25))
"""Of pairs of photographs: D2-Net has no invariance to rotation, so it is moderate."""


@dataclass(frozen=True)
class D2NetOptions:
    """What D2-Net is trained on, and how; the defaults are the paper's (section 4.3)."""

    photographs: Path
    """Folder to make pairs under homographies of; those held out are validated on."""
    start: Path | None = None
    """Weights to start from; those of ``d2net-ots``, VGG16 on ImageNet, by default."""
    layers: int = 1
    """How many of the last convolutions to train."""
    learning_rate: float = 1e-3
    schedule: Literal["halving", "constant", "linear"] = "halving"
    """``halving`` four times as in the paper, ``constant`` as released, or ``linear`` to 0."""
    cell_size: int = TRAINING_CELL_SIZE
    """Pixels of a cell: 8 as in the paper, or 4 to train the network as it is used."""
    crop: int = 256
    """Side of the images of a pair in pixels."""
    batch_size: int = 1
    """Pairs of a step."""
    rectify: bool = False
    """Rectify descriptors as they are when used; the released code trains them as they are."""
    active: float | None = None
    """Part of the last layer's values that its biases, all shifted alike, make positive at the
    start. Few of VGG16's are, so that a rectified descriptor has little left, and Adam's steps are
    too small for biases in the hundreds; what is detected does not change. None for no shift."""
    margin: float = 1.0
    safe_radius: int = 4
    """Cells around the true one in which no negative is searched."""
    min_correspondences: int = 128
    """Pairs with fewer are left out."""
    zoom: tuple[float, float] = (1.0, 2.0)
    """Range of the scale of views under a homography; 1 is the smallest at which a view fits."""
    homographies: HomographyOptions = HOMOGRAPHIES
    photometric: PhotometricOptions = photometric.GENERAL
    photometric_probability: float = 0.7
    """That the look of both images of a pair under a homography is changed."""


class D2NetTask(Task):
    """D2-Net in its training architecture.

    The layers that are not trained keep no activations. Where paper and released code differ:

    * the soft scores follow the code, see
      :func:`~featplug.training.losses.d2net.soft_detection_scores`;
    * the triplets' descriptors are, as in the code, not rectified, but are when the weights are
      used, as the paper reports; ``rectify`` trains them so;
    * the learning rate is halved as in the paper.

    Neither shifts biases at the start, as ``active`` does.

    Args:
        options: see there.
        seed: of the order of the data.
        device: for validation.
        scenes: to take pairs with a change of viewpoint from; without them pairs are homographies.
        validation_pairs: of views of held-out photographs.
    """

    score = "mma_3"

    def __init__(
        self,
        options: D2NetOptions,
        seed: int,
        device: torch.device,
        scenes: list[ViewpointScene] | None = None,
        validation_pairs: int = 6,
    ) -> None:
        if options.cell_size not in (CELL_SIZE, TRAINING_CELL_SIZE):
            raise ValueError(
                f"D2-Net's cells have {TRAINING_CELL_SIZE} pixels in training or {CELL_SIZE} as it "
                f"is used, not {options.cell_size}."
            )
        if options.active is not None and not 0 < options.active < 1:
            raise ValueError(
                f"The part of the last layer's values that are positive at the start must be "
                f"between 0 and 1, not {options.active}."
            )
        self.options, self.device = options, device
        self._validation_pairs = range(validation_pairs)
        network = D2Net(use_relu=False, cell_size=options.cell_size)
        start = "auto" if options.start is None else str(options.start)
        self._start = load_weights("d2net-ots", start, network)
        self.network = network
        self._choose_layers(network)
        found = list_images(options.photographs)
        self._photographs_id = data_fingerprint(options.photographs, found)
        names, held_out = split_photographs(found)
        self.data: HomographyPairs | ViewpointPairs
        if scenes:
            viewpoint = ViewpointOptions(options.batch_size, options.crop)
            self.data = ViewpointPairs(scenes, viewpoint, seed)
        else:
            pairs = HomographyPairOptions(
                options.batch_size,
                (options.crop, options.crop),
                options.zoom,
                homographies=options.homographies,
                photometric=options.photometric,
                photometric_probability=options.photometric_probability,
            )
            self.data = HomographyPairs(Photographs(options.photographs, names), pairs, seed)
        if options.active is not None:
            self._shift_biases(network, options.active)
        self._scenes = [str(scene.photographs[0].image.parent) for scene in scenes or ()]
        validation = replace(VALIDATION_PAIRS, size=(options.crop, options.crop))
        self._held_out = HomographyPairs(Photographs(options.photographs, held_out), validation)

    def _choose_layers(self, network: D2Net) -> None:
        convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        if not 0 < self.options.layers <= len(convolutions):
            raise ValueError(
                f"D2-Net has {len(convolutions)} layers to train, not {self.options.layers}."
            )
        use_channels_last(network)
        for layer in convolutions[: -self.options.layers]:
            layer.requires_grad_(False)

    @torch.no_grad()
    def _shift_biases(self, network: D2Net, active: float) -> None:
        """Make that part of the last layer's values positive, over images to train on."""
        images = (self.data[step]["image0"] for step in range(_SHIFT_STEPS))
        quantiles = []
        for image in images:
            values = network(normalize_caffe(image)).flatten()
            rank = round((1 - active) * (len(values) - 1))
            quantiles.append(float(values.kthvalue(rank + 1).values))
        last = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)][-1]
        cast(Tensor, last.bias).sub_(sum(quantiles) / len(quantiles))

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam (section 4.3)."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, self.options.learning_rate)

    def rate(self, progress: float) -> float:
        """Follow the schedule."""
        if self.options.schedule == "halving":
            return 0.5 ** int(progress * (_HALVINGS + 1))
        return 1.0 if self.options.schedule == "constant" else super().rate(progress)

    def losses(
        self,
        forward: Callable[..., Tensor],
        batch: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The triplet loss of a batch of pairs, weighted by detection, and the pairs' overlap."""
        images = torch.cat([batch["image0"], batch["image1"]])
        features0, features1 = forward(normalize_caffe(images)).float().chunk(2)
        found = self._correspondences(batch, features0, features1)
        scores0, scores1 = map(soft_detection_scores, (features0, features1))
        if self.options.rectify:
            features0, features1 = features0.relu(), features1.relu()
        loss = detection_weighted_triplet_loss(
            features0,
            features1,
            scores0,
            scores1,
            found.cells1,
            D2NetLossOptions(
                margin=self.options.margin,
                safe_radius=self.options.safe_radius,
                min_correspondences=self.options.min_correspondences,
            ),
        )
        return {"loss": loss, "overlap": (found.cells1 >= 0).float().mean()}

    def _correspondences(
        self, batch: Mapping[str, Tensor], features0: Tensor, features1: Tensor
    ) -> Correspondences:
        size0, size1 = ((f.shape[2], f.shape[3]) for f in (features0, features1))
        cell_size = self.options.cell_size
        if "homography" in batch:
            return homography_correspondences(
                batch["homography"], batch["valid1"], size0, size1, cell_size
            )
        return find_correspondences(
            posed_depth(batch, 0), posed_depth(batch, 1), size0, size1, cell_size
        )

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure the loss, and matching as the weights are used, on held-out photographs."""
        generator = torch.Generator(self.device)
        losses = []
        for step in self._validation_pairs:
            batch = {key: value.to(self.device) for key, value in self._held_out[step].items()}
            losses.append(self.losses(self.network, batch, generator)["loss"])
        confs = trained_confs("d2net", weights)
        accuracy = matching_accuracy(
            *confs, self._held_out, self._validation_pairs, device=self.device
        )
        return {"loss": float(torch.stack(losses).mean()), **accuracy}

    def config(self) -> dict[str, Any]:
        """List the options and the scenes, and tell the photographs and the weights."""
        return {
            "system": "d2net",
            **asdict(self.options),
            "scenes": self._scenes,
            "photographs_id": self._photographs_id,
            "start_sha256": self._start.sha256,
        }
