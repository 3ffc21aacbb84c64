"""Training of ContextDesc: N pairs of descriptors and quadruplets of matchabilities.

Luo et al., "ContextDesc: Local Descriptor Augmentation with Cross-Modality Context", CVPR 2019,
sections 3.5 and 4.1, and the released trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featplug.extractors.contextdesc import load_networks
from featplug.io.images import list_images
from featplug.methods import feature_conf
from featplug.networks.contextdesc import ContextDesc
from featplug.networks.efficientnet_lite import EfficientNetLite0
from featplug.networks.l2net import DOAP
from featplug.networks.regional import RegionalNetwork
from featplug.training import validation
from featplug.training.data.match_sets import MatchSetOptions, MatchSets
from featplug.training.data.patch_groups import PatchGroups
from featplug.training.data.photographs import Photographs, split_photographs
from featplug.training.data.view_pairs import VALIDATION_PAIRS, HomographyPairs
from featplug.training.l2net_start import is_l2_net, start_from_doap
from featplug.training.losses.contextdesc import NPairLoss, neighbor_accuracy, quadruplet_loss
from featplug.training.task import Task, use_channels_last
from featplug.weights.converters.efficientnet import efficientnet_lite0, packaged_file
from featplug.weights.loading import load_network

_VALIDATION_BATCHES = 2
_NUM_TRUNK_LAYERS = 6


@dataclass(frozen=True)
class ContextDescOptions:
    """What ContextDesc is trained on, and how; the defaults are the released trainer's."""

    groups: Path
    """File of :func:`~featplug.training.data.patch_groups.make_patch_groups`."""
    photographs: Path
    """Folder of the photographs it was made from; those held out are validated on."""
    start: Path | None = None
    """Weights of ContextDesc to start from, and to take the regional network of. Without them all
    is drawn at random but the regional network, the packaged EfficientNet-Lite0."""
    start_local: Path | None = None
    """Weights of DOAP that the local network starts from."""
    learning_rate: float = 0.1
    trunk_rate: float = 1.0
    """Factor of the learning rate of the six convolutions that local feature and matchability have
    in common. 0 keeps them as they are, their statistics too, which makes a step a third as long:
    sensible after a start from trained ones."""
    temperature: float = 1.0
    """Of both N-pair losses at the start. What they end with, 10 and more, saves trained weights
    the steps in which it grows, and being pulled apart meanwhile."""
    weight_decay: float = 1e-4
    sets: MatchSetOptions = field(default_factory=MatchSetOptions)


class _Training(nn.Module):
    """ContextDesc with the temperatures of its losses.

    Args:
        contextdesc: the network.
        train_trunk: whether the convolutions change that local feature and matchability share.
        temperature: of both losses at the start.
    """

    def __init__(self, contextdesc: ContextDesc, train_trunk: bool, temperature: float) -> None:
        super().__init__()
        self.contextdesc, self.train_trunk = contextdesc, train_trunk
        self.augmented_loss, self.local_loss = (
            NPairLoss(temperature=temperature) for _ in range(2)
        )
        if not train_trunk:
            for layer in self.trunk():
                layer.requires_grad_(False)

    def trunk(self) -> list[nn.Module]:
        """The convolutions that local feature and matchability have in common."""
        return [getattr(self.contextdesc.local, f"conv{n}") for n in range(_NUM_TRUNK_LAYERS)]

    def train(self, mode: bool = True) -> _Training:
        super().train(mode)
        if not self.train_trunk:
            for layer in self.trunk():
                layer.eval()
        return self

    def forward(
        self, patches: Tensor, positions: Tensor, moved_positions: Tensor, regional: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Describe all keypoints of M images.

        Args:
            patches: M×N×32×32.
            positions: M×N×2, for visual context.
            moved_positions: M×N×2, for geometric context.
            regional: M×C×h×w.

        Returns:
            Local features and descriptors M×N×128, the latter of unit length, and M×N raw
            matchabilities.
        """
        network, shape = self.contextdesc, patches.shape[:2]
        maps = network.local.feature_maps(patches.flatten(0, 1))
        local = network.local(maps).unflatten(0, shape)
        logits = network.matchability.logits(maps)
        matchability = network.matchability.bounded(logits).view(shape)
        descriptors = network(
            local, matchability, positions, regional, moved_positions=moved_positions
        )
        return local, descriptors, logits.view(shape)


class ContextDescTask(Task):
    """ContextDesc, its local network and both contexts together.

    Where the released trainer and this differ: the pairs of images are views of photographs under
    homographies, and the regional features come from a smaller network. They are computed anew in
    each step, since views differ every time; that network is not trained.

    Args:
        options: see there.
        seed: of the first weights and of the order of the data.
        device: for validation and the regional network.
        validation_pairs: of views of held-out photographs that are matched.

    Raises:
        FileNotFoundError: weights to start from, or those of the regional network, are not there.
        ValueError: they do not fit, or the data do not suffice.
    """

    network: _Training
    score = "mma_3"

    def __init__(
        self,
        options: ContextDescOptions,
        seed: int,
        device: torch.device,
        validation_pairs: int = 12,
    ) -> None:
        self.options, self.device = options, device
        self._validation_pairs = validation_pairs
        torch.manual_seed(seed)
        contextdesc, regional = _first_networks(options)
        self._regional = regional.to(device).eval()
        self.network = _Training(contextdesc, options.trunk_rate > 0, options.temperature)
        use_channels_last(self.network)
        groups = PatchGroups(options.groups)
        self._groups_id = groups.provenance.file_id
        max_side = groups.provenance.conf["max_side"]
        trained, held_out = (
            Photographs(options.photographs, part, max_side)
            for part in split_photographs(list_images(options.photographs))
        )
        self.data = MatchSets(groups, trained, options.sets, seed)
        self._held_out = MatchSets(groups, held_out, options.sets)
        self._pairs = HomographyPairs(held_out, VALIDATION_PAIRS)

    def optimizer(self) -> torch.optim.Optimizer:
        """SGD with momentum; the temperatures decay with the weights."""
        rate = self.options.learning_rate
        trunk = [p for layer in self.network.trunk() for p in layer.parameters()]
        known = set(trunk)
        others = [p for p in self.network.parameters() if p.requires_grad and p not in known]
        groups: list[dict[str, Any]] = [{"params": others}]
        if self.options.trunk_rate > 0:
            groups.append({"params": trunk, "lr": rate * self.options.trunk_rate})
        return torch.optim.SGD(
            groups, lr=rate, momentum=0.9, weight_decay=self.options.weight_decay
        )

    def losses(
        self,
        forward: Callable[..., tuple[Tensor, Tensor, Tensor]],
        batch: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Sum of the N-pair losses of descriptors and local features, and the quadruplet loss."""
        patches, positions, moved, images = (
            torch.cat([batch[f"{key}0"], batch[f"{key}1"]])
            for key in ("patches", "positions", "moved_positions", "image")
        )
        with torch.no_grad():
            regional = self._regional(self._regional.standardise(images * 255))
        local, descriptors, logits = (
            output.float() for output in forward(patches, positions, moved, regional)
        )
        local0, local1 = F.normalize(local, dim=-1).chunk(2)
        descriptors0, descriptors1 = descriptors.chunk(2)
        logits0, logits1 = logits.chunk(2)
        inliers = batch["inliers"]
        quadruplet, _ = quadruplet_loss(logits0, logits1, inliers)
        terms = {
            "descriptor_loss": self.network.augmented_loss(descriptors0, descriptors1, inliers),
            "local_loss": self.network.local_loss(local0, local1, inliers),
            "quadruplet_loss": quadruplet,
        }
        return {
            "loss": torch.stack(list(terms.values())).sum(),
            **terms,
            "accuracy": neighbor_accuracy(descriptors0, descriptors1, inliers),
            "local_accuracy": neighbor_accuracy(local0, local1, inliers),
            "temperature": self.network.augmented_loss.temperature,
        }

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure the loss on held-out match sets, and matching on held-out photographs."""
        generator = torch.Generator(self.device).manual_seed(0)
        results = []
        for step in range(_VALIDATION_BATCHES):
            batch = {key: value.to(self.device) for key, value in self._held_out[step].items()}
            results.append(self.losses(self.network, batch, generator))
        model, matcher = validation.trained_confs("contextdesc", weights)
        model["pyramid"] = self.options.sets.pyramid
        accuracy = validation.matching_accuracy(
            model, matcher, self._pairs, range(self._validation_pairs), device=self.device
        )
        means = {
            key: float(torch.stack([result[key] for result in results]).mean())
            for key in ("loss", "accuracy", "local_accuracy")
        }
        return {**means, **accuracy}

    def weights(self) -> dict[str, Tensor]:
        """Give ContextDesc's state dict, with the regional network where it is a part of it."""
        return self.network.contextdesc.state_dict()

    def config(self) -> dict[str, Any]:
        """List the options, the regional network and the file of patches."""
        return {
            "system": "contextdesc",
            "network": {
                "backbone": type(self._regional).__name__,
                "regional_channels": self._regional.num_channels,
            },
            **asdict(self.options),
            "groups_id": self._groups_id,
        }


def _first_networks(options: ContextDescOptions) -> tuple[ContextDesc, RegionalNetwork]:
    """The network that training starts from, and that of its regional features."""
    if options.start is not None:
        choices = {"weights": str(options.start), "regional_weights": "auto"}
        network, regional, _ = load_networks({**feature_conf("contextdesc")["model"], **choices})
    else:
        regional = EfficientNetLite0()
        regional.load_state_dict(efficientnet_lite0(packaged_file()))
        network = ContextDesc(regional.num_channels, regional)
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            # What TensorFlow, of the released trainer, draws by default.
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
    if options.start_local is not None:
        doap = cast(DOAP, load_network("doap", str(options.start_local), DOAP)[0])
        if not is_l2_net(doap):
            raise ValueError(
                f"{options.start_local} is not of DOAP's plain network with 128 outputs, the only "
                "one that the local network can start from."
            )
        start_from_doap(network, doap)
    return network, regional
