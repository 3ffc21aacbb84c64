"""Training of DOAP: average precision over batches of patch groups.

He et al., "Local Descriptors Optimized for Average Precision", CVPR 2018, sections 3 to 5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from featplug.networks.l2net import DOAP, NUM_BITS, l2_net
from featplug.training.data.mining import MinedLabels
from featplug.training.data.patch_batches import PatchBatchOptions, PatchGroupBatches, count_patches
from featplug.training.data.patch_groups import JitterOptions, PatchGroups, jitter_patches
from featplug.training.distributed import process_device
from featplug.training.losses.average_precision import (
    average_precision_loss,
    tie_aware_average_precision,
)
from featplug.training.task import Batch, Forward, Losses, Making, PhotographTask, TrainingOptions
from featplug.weights.loading import load_network

_VALIDATION_BATCHES = 2


@dataclass(frozen=True)
class PatchOptions:
    """Groups of patches that are cut out of the photographs and put into batches."""

    groups: Path | None = None
    """File of patch groups, made if missing; in the outputs by default."""
    mine: bool = True
    """Ignore patches of a photograph that look alike at different points (DOAP, section 4.2)."""
    batch: PatchBatchOptions = field(default_factory=PatchBatchOptions)
    jitter: JitterOptions = field(default_factory=JitterOptions)


@dataclass(frozen=True, kw_only=True)
class DOAPOptions(TrainingOptions):
    """Train DOAP (He et al., CVPR 2018); the defaults are the paper's (section 5.1)."""

    start: Path | None = None
    """Weights to start from; drawn at random by default."""
    binary: bool = False
    """Train 256 bits instead of 128 numbers."""
    distance: Literal["euclidean", "squared"] = "euclidean"
    """Distance of real descriptors: euclidean as in the paper, squared as in the released layer."""
    learning_rate: float = 0.1
    """Learning rate at the start for 1,024 patches; it is scaled with the size of the batch."""
    weight_decay: float = 1e-4
    """Weight decay of SGD."""
    gain: float = 1.0
    """Factor inside the tanh of binary descriptors."""
    patches: PatchOptions = field(default_factory=PatchOptions)

    @property
    def groups_path(self) -> Path:
        """The file of patch groups."""
        return self.patches.groups or self.outputs / "patch_groups.h5"

    @property
    def labels_path(self) -> Path:
        """The file of mined labels."""
        return self.groups_path.with_name(f"{self.groups_path.stem}_labels.h5")


class DOAPTask(PhotographTask[DOAPOptions]):
    """DOAP without spatial transformer.

    Unlike the paper's, the groups are views of photographs, detected and cut as at inference, and
    no dropout precedes the last layer, since the variety of patches is far larger.
    """

    network: DOAP

    @property
    def system(self) -> str:
        """The name of the feature."""
        return "doap-binary" if self.options.binary else "doap"

    @classmethod
    def prepare(cls, options: DOAPOptions, names: Sequence[str]) -> Iterator[Making]:
        """Make the patch groups, and labels mined from them."""
        path, workers = options.groups_path, options.num_workers
        yield "patches", PatchGroups.make(options.images, path, names, num_workers=workers)
        if options.patches.mine:
            groups, device = PatchGroups(path), process_device(options.device)
            yield "mine", MinedLabels.make(groups, options.labels_path, device=device)

    def _build_network(self) -> DOAP:
        if self.options.start is not None:
            network = load_network(self.system, str(self.options.start), DOAP)[0]
        else:
            network = DOAP(l2_net(NUM_BITS if self.options.binary else 128))
            # He's initialisation (section 5.1).
            for name, parameter in network.named_parameters():
                if parameter.ndim == 4:
                    nn.init.kaiming_normal_(parameter)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)
        return network

    def _build_data(self) -> PatchGroupBatches:
        options, batch = self.options, self.options.patches.batch
        groups = PatchGroups(options.groups_path)
        self.inputs[groups.kind] = groups.provenance.file_id
        mined = MinedLabels(options.labels_path) if options.patches.mine else None
        names = self.held_out.names
        groups.require(names)
        # The held-out photographs may have fewer patches than a batch.
        most = count_patches(groups, names, batch.max_per_group, batch.batch_size)
        held_out = replace(batch, batch_size=min(batch.batch_size, max(most, 2)))
        self._validation = PatchGroupBatches(groups, names, held_out)
        return PatchGroupBatches(groups, self.photographs.names, batch, options.seed, mined)

    def optimizer(self) -> torch.optim.Optimizer:
        """Build SGD with momentum (section 5.1)."""
        return torch.optim.SGD(
            self.network.parameters(),
            lr=self.options.learning_rate * self.options.patches.batch.batch_size / 1024,
            momentum=0.9,
            weight_decay=self.options.weight_decay,
        )

    def losses(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Losses:
        """Compute minus the mean average precision of all patches as queries."""
        options, size = self.options, self.network.patch_size
        patches = jitter_patches(
            batch["patches"], options.patches.jitter, size, generator, batch["labels"]
        )
        outputs = forward(patches).float()
        distance = "hamming" if options.binary else options.distance
        loss = average_precision_loss(outputs, batch["affinity"], distance, gain=options.gain)
        return {"loss": loss}

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure average precision of held-out patches, and matching on held-out photographs."""
        precisions = [self._average_precision(step) for step in range(_VALIDATION_BATCHES)]
        mean = float(torch.stack(precisions).mean())
        return {"average_precision": mean, **self.match_held_out(weights)}

    def _average_precision(self, step: int) -> Tensor:
        batch = {key: value.to(self.device) for key, value in self._validation[step].items()}
        still, generator = JitterOptions(0, 0, 0, 0, flips=False), torch.Generator(self.device)
        patches = jitter_patches(batch["patches"], still, self.network.patch_size, generator)
        outputs = self.network(patches).float()
        features = outputs.sign() if self.options.binary else nn.functional.normalize(outputs)
        affinity = batch["affinity"].clone().fill_diagonal_(0)
        return tie_aware_average_precision(-features @ features.t(), affinity).mean()
