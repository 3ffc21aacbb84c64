"""Training of ContextDesc: N pairs of descriptors and quadruplets of matchabilities.

Luo et al., "ContextDesc: Local Descriptor Augmentation with Cross-Modality Context", CVPR 2019,
sections 3.5 and 4.1, and the released trainer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featplug.extractors.contextdesc import load_networks
from featplug.methods import feature_conf
from featplug.networks.contextdesc import ContextDesc
from featplug.networks.efficientnet_lite import EfficientNetLite0
from featplug.networks.l2net import DOAP
from featplug.networks.regional import RegionalNetwork
from featplug.training.data.match_sets import MatchSetOptions, MatchSets
from featplug.training.data.patch_groups import PatchGroups
from featplug.training.l2net_start import is_l2_net, start_from_doap
from featplug.training.losses.contextdesc import NPairLoss, neighbor_accuracy, quadruplet_loss
from featplug.training.task import Batch, Forward, Losses, Making, PhotographTask, TrainingOptions
from featplug.weights.converters.efficientnet import efficientnet_lite0, packaged_file
from featplug.weights.loading import load_network

_VALIDATION_BATCHES = 2
_NUM_TRUNK_LAYERS = 6


@dataclass(frozen=True)
class SetOptions:
    """Keypoints of several views, and match sets of them."""

    groups: Path | None = None
    """File of patch groups, made if missing; in the outputs by default."""
    match: MatchSetOptions = field(default_factory=MatchSetOptions)


@dataclass(frozen=True, kw_only=True)
class ContextDescOptions(TrainingOptions):
    """Train ContextDesc (Luo et al., CVPR 2019); the defaults are the released trainer's."""

    start: Path | None = None
    """Weights of ContextDesc to start from, with their regional network. By default all is drawn at
    random, except for the regional network, the packaged EfficientNet-Lite0."""
    start_local: Path | None = None
    """Weights of DOAP that the local network starts from."""
    learning_rate: float = 0.1
    trunk_rate: float = 1.0
    """Factor of the learning rate for the six convolutions that local feature and matchability
    share. 0 keeps them and their statistics as they are, which makes steps three times as fast and
    is sensible with trained ones."""
    temperature: float = 1.0
    """Temperature of both N-pair losses at the start; it is learned. With trained weights about 10,
    which it reaches at the end, avoids the steps in which it grows and pulls them apart."""
    weight_decay: float = 1e-4
    """Weight decay of SGD, of the temperatures too."""
    sets: SetOptions = field(default_factory=SetOptions)

    @property
    def groups_path(self) -> Path:
        """The file of patch groups."""
        return self.sets.groups or self.outputs / "patch_groups.h5"


class _Training(nn.Module):
    """ContextDesc with the temperatures of its losses, which start at the same value."""

    def __init__(self, contextdesc: ContextDesc, train_trunk: bool, temperature: float) -> None:
        super().__init__()
        self.contextdesc, self.train_trunk = contextdesc, train_trunk
        self.augmented_loss, self.local_loss = NPairLoss(temperature), NPairLoss(temperature)
        if not train_trunk:
            for layer in self.trunk():
                layer.requires_grad_(False)

    def trunk(self) -> list[nn.Module]:
        """List the convolutions that local feature and matchability share."""
        return [getattr(self.contextdesc.local, f"conv{n}") for n in range(_NUM_TRUNK_LAYERS)]

    def train(self, mode: bool = True) -> "_Training":
        super().train(mode)
        if not self.train_trunk:
            for layer in self.trunk():
                layer.eval()
        return self

    def forward(
        self, patches: Tensor, positions: Tensor, moved_positions: Tensor, regional: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Describe all N keypoints of M images.

        Patches are M×N×32×32; positions (for visual context) and moved positions (for geometric
        context) M×N×2; regional features M×C×h×w. Returns local features and descriptors M×N×128,
        the latter of unit length, and M×N raw matchabilities.
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


class ContextDescTask(PhotographTask[ContextDescOptions]):
    """ContextDesc, its local network and both contexts together.

    Unlike the released trainer's, the pairs of images are views of photographs under homographies,
    and the regional features come from a smaller network, which is not trained. They are computed
    in each step, since views differ every time.
    """

    system = "contextdesc"
    network: _Training

    def __init__(self, options: ContextDescOptions) -> None:
        self._groups = PatchGroups(options.groups_path)
        super().__init__(options)
        self.inputs[self._groups.kind] = self._groups.provenance.file_id

    @classmethod
    def prepare(cls, options: ContextDescOptions, names: Sequence[str]) -> Iterator[Making]:
        """Make the patch groups, which list the keypoints of the views."""
        path, workers = options.groups_path, options.num_workers
        yield "patches", PatchGroups.make(options.images, path, names, num_workers=workers)

    def _build_network(self) -> _Training:
        options = self.options
        contextdesc, regional = _first_networks(options)
        self._regional = regional.to(self.device).eval()
        return _Training(contextdesc, options.trunk_rate > 0, options.temperature)

    @property
    def max_side(self) -> int:
        """The longest side in pixels at which the patch groups were made."""
        return self._groups.max_side

    def _build_data(self) -> MatchSets:
        options = self.options
        self._validation = MatchSets(self._groups, self.held_out, options.sets.match)
        return MatchSets(self._groups, self.photographs, options.sets.match, options.seed)

    def optimizer(self) -> torch.optim.Optimizer:
        """Build SGD with momentum and another rate for the trunk."""
        options = self.options
        trunk = [p for layer in self.network.trunk() for p in layer.parameters()]
        known = set(trunk)
        others = [p for p in self.trained_parameters() if p not in known]
        groups: list[dict[str, Any]] = [{"params": others}]
        if options.trunk_rate > 0:
            groups.append({"params": trunk, "lr": options.learning_rate * options.trunk_rate})
        return torch.optim.SGD(
            groups, lr=options.learning_rate, momentum=0.9, weight_decay=options.weight_decay
        )

    def losses(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Losses:
        """Sum the N-pair losses of descriptors and local features, and the quadruplet loss."""
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
        terms = {
            "descriptor_loss": self.network.augmented_loss(descriptors0, descriptors1, inliers),
            "local_loss": self.network.local_loss(local0, local1, inliers),
            "quadruplet_loss": quadruplet_loss(logits0, logits1, inliers)[0],
        }
        return {
            "loss": torch.stack(list(terms.values())).sum(),
            **terms,
            "accuracy": neighbor_accuracy(descriptors0, descriptors1, inliers),
            "local_accuracy": neighbor_accuracy(local0, local1, inliers),
            "temperature": self.network.augmented_loss.temperature,
        }

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure losses on held-out match sets, and matching on held-out photographs."""
        batches = (self._validation[step] for step in range(_VALIDATION_BATCHES))
        losses = self.mean_losses(batches, "loss", "accuracy", "local_accuracy")
        return {**losses, **self.match_held_out(weights, pyramid=self.options.sets.match.pyramid)}

    def weights(self) -> dict[str, Tensor]:
        """Return ContextDesc's state dict, which may include the regional network."""
        return self.network.contextdesc.state_dict()

    def config(self) -> dict[str, Any]:
        """List the options and the regional network."""
        backbone, channels = type(self._regional).__name__, self._regional.num_channels
        network = {"backbone": backbone, "regional_channels": channels}
        return {**super().config(), "network": network}


def _first_networks(options: ContextDescOptions) -> tuple[ContextDesc, RegionalNetwork]:
    """Build the network that training starts from, and that of its regional features."""
    if options.start is not None:
        choices = {"weights": str(options.start), "regional_weights": "auto"}
        network, regional, _ = load_networks({**feature_conf("contextdesc")["model"], **choices})
    else:
        regional = EfficientNetLite0()
        regional.load_state_dict(efficientnet_lite0(packaged_file()))
        network = ContextDesc(regional.num_channels, regional)
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:  # TensorFlow's default, which the released trainer uses
                is_weight = name.endswith("weight")
                (nn.init.xavier_uniform_ if is_weight else nn.init.zeros_)(parameter)
    if options.start_local is not None:
        doap = load_network("doap", str(options.start_local), DOAP)[0]
        if not is_l2_net(doap):
            raise ValueError(
                f"{options.start_local} is not of DOAP's plain network with 128 outputs, the only "
                "one that the local network can start from; choose another --start-local."
            )
        start_from_doap(network, doap)
    return network, regional
