"""Training of DOAP: average precision over batches of patch groups.

He et al., "Local Descriptors Optimized for Average Precision", CVPR 2018, sections 3 to 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from featplug.io.images import list_images
from featplug.networks.l2net import DOAP, NUM_BITS, l2_net
from featplug.training.data.mining import MinedLabels
from featplug.training.data.patch_groups import (
    JitterOptions,
    PatchBatchOptions,
    PatchGroupBatches,
    PatchGroups,
    count_patches,
    jitter_patches,
)
from featplug.training.data.photographs import Photographs, split_photographs
from featplug.training.data.view_pairs import VALIDATION_PAIRS, HomographyPairs
from featplug.training.losses.average_precision import (
    average_precision_loss,
    tie_aware_average_precision,
)
from featplug.training.task import Task, use_channels_last
from featplug.training.validation import matching_accuracy, trained_confs
from featplug.weights.loading import load_network

_VALIDATION_BATCHES = 2


@dataclass(frozen=True)
class DOAPOptions:
    """What DOAP is trained on, and how; the defaults are the paper's (section 5.1)."""

    groups: Path
    """File of :func:`~featplug.training.data.patch_groups.make_patch_groups`."""
    photographs: Path
    """Folder of the photographs it was made from; those held out are validated on."""
    mined: Path | None = None
    """File of mined labels; without it all groups of a photograph are taken to differ."""
    start: Path | None = None
    """Weights to start from; drawn at random where there are none."""
    binary: bool = False
    """Train 256 bits in place of 128 numbers."""
    distance: str = "euclidean"
    """``euclidean`` as the paper or ``squared`` as the released layer, of real descriptors."""
    learning_rate: float = 0.1
    """At 1,024 patches; proportional to the size of the batch."""
    weight_decay: float = 1e-4
    gain: float = 1.0
    """Factor within the tanh of binary descriptors."""
    batch: PatchBatchOptions = field(default_factory=PatchBatchOptions)
    jitter: JitterOptions = field(default_factory=JitterOptions)


class DOAPTask(Task):
    """DOAP without spatial transformer.

    Where the paper and this differ: the groups are views of photographs, found and cut as at
    inference, in place of data sets of patches; and there is no dropout in front of the last
    layer, which the far larger variety of patches makes needless.

    Args:
        options: see there.
        seed: of the first weights and of the order of the data.
        device: for validation.
        validation_pairs: of views of held-out photographs that are matched.
    """

    score = "mma_3"

    def __init__(
        self,
        options: DOAPOptions,
        seed: int,
        device: torch.device,
        validation_pairs: int = 12,
    ) -> None:
        self.options, self.device = options, device
        self._validation_pairs = validation_pairs
        torch.manual_seed(seed)
        network = self._first_network()
        use_channels_last(network)
        self.network, self._patch_size = network, network.patch_size
        groups = PatchGroups(options.groups)
        self._groups_id = groups.provenance.file_id
        mined = None if options.mined is None else MinedLabels(options.mined)
        names, held_out = split_photographs(list_images(options.photographs))
        self.data = PatchGroupBatches(groups, names, options.batch, seed, mined)
        self._held_out = PatchGroupBatches(
            groups, held_out, _no_more(options.batch, groups, held_out)
        )
        self._pairs = HomographyPairs(Photographs(options.photographs, held_out), VALIDATION_PAIRS)

    @property
    def _feature(self) -> str:
        return "doap-binary" if self.options.binary else "doap"

    def _first_network(self) -> DOAP:
        """The network that training starts from (He initialisation, section 5.1)."""
        if self.options.start is not None:
            return cast(DOAP, load_network(self._feature, str(self.options.start), DOAP)[0])
        network = DOAP(l2_net(NUM_BITS if self.options.binary else 128))
        for name, parameter in network.named_parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        return network

    def optimizer(self) -> torch.optim.Optimizer:
        """SGD with momentum (section 5.1)."""
        rate = self.options.learning_rate * self.options.batch.batch_size / 1024
        return torch.optim.SGD(
            self.network.parameters(),
            lr=rate,
            momentum=0.9,
            weight_decay=self.options.weight_decay,
        )

    def losses(
        self,
        forward: Callable[..., Tensor],
        batch: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Minus the mean average precision of all patches as queries."""
        patches = jitter_patches(
            batch["patches"],
            self.options.jitter,
            self._patch_size,
            generator,
            batch["labels"],
        )
        loss = self._loss(forward(patches).float(), batch["affinity"])
        return {"loss": loss}

    def _loss(self, outputs: Tensor, affinity: Tensor) -> Tensor:
        distance = "hamming" if self.options.binary else self.options.distance
        return average_precision_loss(outputs, affinity, distance, gain=self.options.gain)

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure average precision of held-out patches, and matching on held-out photographs."""
        generator = torch.Generator(self.device).manual_seed(0)
        precisions = []
        for step in range(_VALIDATION_BATCHES):
            batch = {key: value.to(self.device) for key, value in self._held_out[step].items()}
            still = JitterOptions(0, 0, 0, 0, flips=False)
            patches = jitter_patches(batch["patches"], still, self._patch_size, generator)
            outputs = self.network(patches).float()
            features = outputs.sign() if self.options.binary else nn.functional.normalize(outputs)
            distances = -features @ features.t()
            affinity = batch["affinity"].clone().fill_diagonal_(0)
            precisions.append(tie_aware_average_precision(distances, affinity).mean())
        accuracy = matching_accuracy(
            *trained_confs(self._feature, weights),
            self._pairs,
            range(self._validation_pairs),
            device=self.device,
        )
        return {"average_precision": float(torch.stack(precisions).mean()), **accuracy}

    def config(self) -> dict[str, Any]:
        """List the options and the file of patches."""
        return {
            "system": self._feature,
            **asdict(self.options),
            "groups_id": self._groups_id,
        }


def _no_more(
    options: PatchBatchOptions, groups: PatchGroups, names: Sequence[str]
) -> PatchBatchOptions:
    """Batches of no more patches than the photographs have."""
    groups.require(names)
    most = count_patches(groups, names, options.max_per_group, options.batch_size)
    return replace(options, batch_size=min(options.batch_size, max(most, 2)))
