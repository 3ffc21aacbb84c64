"""The interface between trainer and systems, and the base of trainings on photographs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from featplug.io.artifact import files_hash
from featplug.methods import matcher_of
from featplug.stages.shared_options import MatcherOptions, MethodOptions
from featplug.training.data.photographs import (
    MAX_SIDE,
    Photographs,
    list_photographs,
    split_photographs,
)
from featplug.training.data.view_pairs import (
    VALIDATION_PAIRS,
    HomographyPairOptions,
    HomographyPairs,
)
from featplug.training.distributed import process_device
from featplug.training.validation import matching_accuracy, trained_feature
from featplug.weights.registry import read_registry

Batch = Mapping[str, Tensor]
Forward = Callable[..., Any]
Losses = dict[str, Tensor]
Making = tuple[str, Iterable[str]]
"""Label and iterable that makes a file while it yields names of photographs."""

_NOT_IDENTITY = (
    "outputs",
    "methods",
    "device",
    "num_workers",
    "validate_every",
    "validation_pairs",
    "checkpoint_minutes",
    "max_minutes",
)
"""Options that may differ when a run is resumed."""


@dataclass(frozen=True, kw_only=True)
class _Folders:
    """The first options of ``--help``, which lists base classes first."""

    images: Path
    """Folder of photographs; a twentieth of them is held out for validation."""
    outputs: Path
    """Folder of the run: weights, checkpoint, curves and history. The same command resumes it."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(MatcherOptions, MethodOptions, _Folders):
    """Options of every training."""

    steps: int = 10_000
    """Number of steps of the whole run; the learning rate falls to 0 over them."""
    learning_rate: float = 1e-3
    """Learning rate at the start."""
    seed: int = 0
    """Seed of everything random."""
    device: str | None = None
    """Name of the device, for example cpu or cuda:1; the best one by default."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of the network's products; parameters are always float32."""
    num_workers: int = 2
    """Number of processes that prepare data; 0 prepares it in the training process."""
    validate_every: int = 500
    """Number of steps between validations, each of which exports the weights."""
    validation_pairs: int = 12
    """Number of pairs of views of held-out photographs that each validation matches."""
    matcher: str | None = None
    """Name of the matcher of validations; by default the feature's own for two views."""
    checkpoint_minutes: float = 2.0
    """Minutes between checkpoints, and so the most that a kill can cost."""
    max_minutes: float | None = None
    """Minutes after which the run stops; the same command resumes it."""

    @property
    def output_dir(self) -> Path:
        """The folder of the run."""
        return self.outputs

    def identity(self) -> dict[str, Any]:
        """Return the options that the result depends on."""
        options = asdict(self)
        left_out = _NOT_IDENTITY if self.matcher_option else (*_NOT_IDENTITY, "matcher_option")
        return {key: value for key, value in options.items() if key not in left_out}

    def check(self) -> None:
        """Check the request, before any file is made.

        Raises:
            FileNotFoundError: a file to start from does not exist.
            ValueError: a number is out of range.
        """
        for name in ("steps", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        if self.matcher is not None:
            self.matcher_conf(self.matcher)
        for name in ("start", "start_local", "teacher", "megadepth"):
            path = getattr(self, name, None)
            known = {"auto", "official", "featplug", *read_registry()}
            if path is not None and str(path) not in known and not path.exists():
                option = name.replace("_", "-")
                raise FileNotFoundError(f"There is no {path}; correct --{option}.")


class Task(ABC):
    """One system's training.

    A step sees the same data and the same random numbers whenever it is computed, so that a run
    that was killed and resumed ends as if it had not been: :attr:`data` is indexed by the step, and
    :meth:`losses` draws from the generator that it receives.
    """

    options: TrainingOptions
    network: nn.Module
    """The network in training."""
    data: Dataset[dict[str, Tensor]]
    """Batches on the CPU, indexed by the step."""
    inputs: dict[str, str | None]
    """Hashes or identities of the files that the result depends on."""
    score: ClassVar[str] = "mma_3"
    """Entry of :meth:`validate` by which the best weights are selected; higher is better."""

    @property
    @abstractmethod
    def system(self) -> str:
        """The name of the trained feature."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """List the parameters that are trained."""
        return [p for p in self.network.parameters() if p.requires_grad]

    def optimizer(self) -> torch.optim.Optimizer:
        """Build the optimiser at its highest learning rate."""
        return torch.optim.Adam(self.trained_parameters(), self.options.learning_rate)

    def rate(self, progress: float) -> float:
        """Compute the factor of the learning rate from the fraction of steps done, in [0, 1)."""
        return 1.0 - progress

    @abstractmethod
    def losses(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Losses:
        """Compute the loss of one batch.

        Args:
            forward: calls :attr:`network`. Its results have the run's precision and should be
                converted to float32 at once. Gradients are those of all processes together, so
                every trained parameter must contribute to the loss.
            batch: an item of :attr:`data`, on the network's device.
            generator: source of randomness, on the network's device.

        Returns:
            ``loss``, the scalar to minimise, and other scalars for the history.
        """

    @abstractmethod
    def validate(self, weights: Path) -> dict[str, float]:
        """Measure the network, in evaluation mode, on photographs that are not trained on.

        The file has the same weights, as inference loads them.
        """

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict that inference loads."""
        return self.network.state_dict()

    def config(self) -> dict[str, Any]:
        """List the options that the result depends on, in addition to :attr:`inputs`."""
        return {"system": self.system, **self.options.identity()}


OptionsT = TypeVar("OptionsT", bound=TrainingOptions)


class PhotographTask(Task, Generic[OptionsT]):
    """Training on a folder of photographs, of which some are held out for validation.

    Raises:
        FileNotFoundError: a file of weights or data does not exist.
        ValueError: an option, a file or the number of photographs does not fit.
    """

    options: OptionsT
    channels_last: ClassVar[bool] = True
    """Whether convolutions use the layout that is faster on CPUs and tensor cores."""

    def __init__(self, options: OptionsT) -> None:
        self.options, self.device = options, process_device(options.device)
        names = list_photographs(options.images, options.outputs)
        self.inputs = {"photographs": files_hash(options.images, names)}
        self.photographs, self.held_out = (
            Photographs(options.images, part, self.max_side) for part in split_photographs(names)
        )
        torch.manual_seed(options.seed)
        self.network = self._build_network()
        if self.channels_last:
            for parameter in self.network.parameters():
                if parameter.ndim == 4:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
        self.data = self._build_data()
        self.pairs = HomographyPairs(self.held_out, self.validation_views)

    @classmethod
    def prepare(cls, options: OptionsT, names: Sequence[str]) -> Iterator[Making]:
        """Yield the files that are made once from photographs of these names, if they are missing.

        Each must be exhausted before the next one is requested.
        """
        yield from ()

    @abstractmethod
    def _build_network(self) -> nn.Module:
        """Build the network with the weights that training starts from."""

    @abstractmethod
    def _build_data(self) -> Dataset[dict[str, Tensor]]:
        """Build the batches of the photographs to train on."""

    @property
    def max_side(self) -> int:
        """The longest side in pixels at which photographs are used."""
        return MAX_SIDE

    @property
    def validation_views(self) -> HomographyPairOptions:
        """The pairs of views of held-out photographs that are matched."""
        return VALIDATION_PAIRS

    def match_held_out(
        self, weights: Path, heads: Sequence[str] = (), **model_options: Any
    ) -> dict[str, float]:
        """Match pairs of views of held-out photographs with the weights, as users will.

        Descriptors of the named heads are also matched alone; ``model_options`` replace options of
        the feature.
        """
        feature = trained_feature(self.system, weights, self.device, **model_options)
        pairs = (self.pairs[step] for step in range(self.options.validation_pairs))
        own = matcher_of(feature.conf, two_views=True)
        matcher = self.options.matcher_conf(self.options.matcher or own, feature.conf)
        return matching_accuracy(feature, pairs, heads, matcher=matcher)

    def mean_losses(self, batches: Iterable[Batch], *keys: str) -> dict[str, float]:
        """Compute means of losses over held-out batches."""
        generator = torch.Generator(self.device).manual_seed(0)
        results = [
            self.losses(self.network, {k: v.to(self.device) for k, v in batch.items()}, generator)
            for batch in batches
        ]
        return {key: float(torch.stack([r[key] for r in results]).mean()) for key in keys}

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure matching, and how well keypoints are repeated, on held-out photographs."""
        return self.match_held_out(weights)
