"""Training of LISRD: four descriptors of different invariances and the choice between them.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, sections 3
and 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featplug.io.images import list_images
from featplug.io.results import data_fingerprint
from featplug.networks.lisrd import HEADS, LISRD
from featplug.networks.netvlad import NetVLAD
from featplug.training.data.photographs import Photographs, split_photographs
from featplug.training.data.triplets import VALIDATION_VIEWS, LISRDTripletOptions, LISRDTriplets
from featplug.training.data.view_pairs import HomographyPairs
from featplug.training.losses.lisrd import (
    Changes,
    LISRDLossOptions,
    lisrd_loss,
    rotation_factor,
    sample_descriptors,
    sample_meta_factors,
)
from featplug.training.task import Task, use_channels_last
from featplug.training.validation import heads_accuracy, trained_confs
from featplug.weights.loading import load_weights


@dataclass(frozen=True)
class LISRDOptions:
    """What LISRD is trained on, and how.

    The defaults are the released code's, but for :attr:`accumulate` and :attr:`constant_rate`.
    """

    photographs: Path
    """Folder of the photographs; those held out are validated on."""
    start: Path | None = None
    """Weights to start from; drawn at random where there are none."""
    triplets: LISRDTripletOptions = field(default_factory=LISRDTripletOptions)
    learning_rate: float = 1e-3
    constant_rate: bool = False
    """Keep the learning rate, as released, in place of letting it fall to 0."""
    metas: bool = True
    """Train the meta descriptors as well; the paper trains the descriptors alone at first, and
    goes on from them with all (section 4.1)."""
    meta_weight: float = 1.0
    """λ of equation 9."""
    margin: float = 1.0
    """M of equations 3 and 5."""
    distance_threshold: float = 8.0
    """T: pixels within which a keypoint is no negative."""
    accumulate: bool = False
    """Apply to a sample the choices of the samples before it, as the released loop does; see
    :func:`~featplug.training.losses.lisrd.lisrd_loss`."""


class LISRDTask(Task):
    """LISRD, all heads and meta descriptors at once.

    Where the paper and this differ: all views are of the user's photographs, and relighting stands
    in for photographs by day and by night; the loss is the released code's, see
    :mod:`featplug.training.losses.lisrd`.

    Args:
        options: see there.
        seed: of the first weights and of the data.
        device: for validation.
        validation_pairs: of views of held-out photographs that are matched.
    """

    data: LISRDTriplets
    score = "mma_3"

    def __init__(
        self,
        options: LISRDOptions,
        seed: int,
        device: torch.device,
        validation_pairs: int = 24,
    ) -> None:
        self.options, self.device = options, device
        self._steps = range(validation_pairs)
        torch.manual_seed(seed)
        self.network = _first_network(options.start)
        if not options.metas:
            for head in HEADS:
                self.network.get_submodule(f"vlad_{head}").requires_grad_(False)
        found = list_images(options.photographs)
        self._photographs_id = data_fingerprint(options.photographs, found)
        names, held_out = split_photographs(found)
        photographs = Photographs(options.photographs, names)
        self.data = LISRDTriplets(photographs, options.triplets, seed, rendered=False)
        self._held_out = HomographyPairs(
            Photographs(options.photographs, held_out), VALIDATION_VIEWS
        )

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, as in the released code."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, lr=self.options.learning_rate)

    def rate(self, progress: float) -> float:
        """Factor of the learning rate; see :class:`Task`."""
        return 1.0 if self.options.constant_rate else super().rate(progress)

    def losses(
        self,
        forward: Callable[..., tuple[list[Tensor], Tensor]],
        batch: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Total loss of the descriptors, and of their weighted distance (equation 9)."""
        options = self.options
        with torch.no_grad():
            triplets = self.data.render(batch)
        maps, metas = forward(torch.cat([triplets[f"image{k}"] for k in range(3)]))
        size = options.triplets.size
        keypoints0, keypoints1, keypoints2 = (triplets[f"keypoints{k}"] for k in range(3))
        maps0, maps1, maps2 = torch.stack(maps, dim=1).float().chunk(3)
        factors = None
        if options.metas:
            metas0, metas1, _ = metas.float().chunk(3)
            factors = sample_meta_factors(metas0, metas1, keypoints0, keypoints1, size)
        return lisrd_loss(
            (
                sample_descriptors(maps0, keypoints0, size),
                sample_descriptors(maps1, keypoints1, size),
                sample_descriptors(maps2, keypoints2, size),
            ),
            factors,
            (keypoints0, keypoints1),
            triplets["valid"],
            Changes(
                triplets["is_rotated"], triplets["is_relit"], rotation_factor(triplets["angle"])
            ),
            LISRDLossOptions(
                margin=options.margin,
                distance_threshold=options.distance_threshold,
                meta_weight=options.meta_weight,
                accumulate=options.accumulate,
            ),
        )

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure matching on held-out photographs, by all descriptors and by each."""
        model, matcher = trained_confs("lisrd", weights)
        return heads_accuracy(
            model, matcher, tuple(HEADS), self._held_out, self._steps, device=self.device
        )

    def config(self) -> dict[str, Any]:
        """List the options and the photographs."""
        return {
            "system": "lisrd",
            **asdict(self.options),
            "photographs_id": self._photographs_id,
        }


def _first_network(start: Path | None) -> LISRD:
    """The network that training starts from; as released, He's initialisation for NetVLAD, too."""
    network = LISRD()
    if start is not None:
        load_weights("lisrd", str(start), network)
    else:
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.constant_(module.bias, 0.01)
            elif isinstance(module, NetVLAD):
                # Of about unit length, as what is assigned to them; the released code's are so
                # long that at first the meta descriptors hardly depend on the image.
                nn.init.normal_(module.centroids, std=module.centroids.shape[1] ** -0.5)
    use_channels_last(network)
    return network
