"""Training of LISRD: four descriptors of different invariances and the choice between them.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, sections 3
and 4.1.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from featplug.networks.lisrd import HEADS, LISRD
from featplug.networks.netvlad import NetVLAD
from featplug.training.data.triplets import VALIDATION_VIEWS, LISRDTripletOptions, LISRDTriplets
from featplug.training.losses.lisrd import (
    Changes,
    LISRDLossOptions,
    lisrd_loss,
    rotation_factor,
    sample_descriptors,
    sample_meta_factors,
)
from featplug.training.task import Batch, Forward, Losses, PhotographTask, TrainingOptions
from featplug.weights.loading import load_weights


@dataclass(frozen=True, kw_only=True)
class LISRDOptions(LISRDLossOptions, TrainingOptions):
    """Train LISRD (Pautrat et al., ECCV 2020).

    The defaults are the released code's, except for the learning rate, which falls, and the choices
    of heads, which apply to one sample each.
    """

    start: Path | None = None
    """Weights to start from; drawn at random by default."""
    constant_rate: bool = False
    """Keep the learning rate constant, as released, instead of letting it fall to 0."""
    metas: bool = True
    """Train the meta descriptors as well. The paper first trains without them, and then all from
    these weights (section 4.1)."""
    triplets: LISRDTripletOptions = field(default_factory=LISRDTripletOptions)
    validation_pairs: int = 24


class LISRDTask(PhotographTask[LISRDOptions]):
    """LISRD, all heads and meta descriptors at once.

    Unlike the paper's, all views are of the user's photographs, and relighting replaces photographs
    by day and by night; the loss is the released code's
    (:mod:`featplug.training.losses.lisrd`).
    """

    system = "lisrd"
    data: LISRDTriplets
    validation_views = VALIDATION_VIEWS

    def _build_network(self) -> LISRD:
        network = LISRD()
        if self.options.start is not None:
            load_weights("lisrd", str(self.options.start), network)
        else:
            for module in network.modules():
                if isinstance(module, nn.Conv2d):  # He's initialisation, as released
                    nn.init.kaiming_normal_(module.weight)
                    if module.bias is not None:
                        nn.init.constant_(module.bias, 0.01)
                elif isinstance(module, NetVLAD):
                    # Of about unit length, like the vectors that are assigned to them; the released
                    # code's are so long that the meta descriptors hardly depend on the image.
                    nn.init.normal_(module.centroids, std=module.centroids.shape[1] ** -0.5)
        if not self.options.metas:
            for head in HEADS:
                network.get_submodule(f"vlad_{head}").requires_grad_(False)
        return network

    def _build_data(self) -> LISRDTriplets:
        options = self.options
        return LISRDTriplets(self.photographs, options.triplets, options.seed, rendered=False)

    def rate(self, progress: float) -> float:
        """Compute the factor of the learning rate."""
        return 1.0 if self.options.constant_rate else super().rate(progress)

    def losses(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Losses:
        """Compute the loss of the descriptors and of their weighted distance (equation 9)."""
        options, size = self.options, self.options.triplets.size
        with torch.no_grad():
            triplets = self.data.render(batch)
        maps, metas = forward(torch.cat([triplets[f"image{k}"] for k in range(3)]))
        keypoints = [triplets[f"keypoints{k}"] for k in range(3)]
        all_maps = torch.stack(maps, dim=1).float().chunk(3)
        anchor, invariant, variant = (
            sample_descriptors(of_image, points, size)
            for of_image, points in zip(all_maps, keypoints, strict=True)
        )
        descriptors, points = (anchor, invariant, variant), (keypoints[0], keypoints[1])
        factors = None
        if options.metas:
            metas0, metas1, _ = metas.float().chunk(3)
            factors = sample_meta_factors(metas0, metas1, *points, size)
        rotation = rotation_factor(triplets["angle"])
        changes = Changes(triplets["is_rotated"], triplets["is_relit"], rotation)
        return lisrd_loss(descriptors, factors, points, triplets["valid"], changes, options)

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure matching on held-out photographs, by all descriptors and by each."""
        return self.match_held_out(weights, tuple(HEADS))
