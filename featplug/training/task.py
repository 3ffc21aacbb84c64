"""What the trainer asks of a system: its network, its data, its loss and its validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset


class Task(ABC):
    """One system's training.

    A step sees the same data and the same random numbers whenever it is computed, so that a run
    that was killed and started again ends as if it had not been: :attr:`data` is indexed by the
    step, and :meth:`losses` draws from the generator it is given.
    """

    network: nn.Module
    """What is trained, as it is used: its state dict is what :meth:`weights` exports."""
    data: Dataset[dict[str, Tensor]]
    """The batch of a step, on the CPU, as a function of the step alone."""
    score: str
    """The entry of :meth:`validate` by which the best weights are chosen; higher is better."""

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """Build the optimiser of the network's trainable parameters, at its highest rate."""

    def rate(self, progress: float) -> float:
        """Factor of the learning rate.

        Args:
            progress: part of the steps that are done, in [0, 1).
        """
        return 1.0 - progress

    @abstractmethod
    def losses(
        self,
        forward: Callable[..., Any],
        batch: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Compute the loss of one batch.

        Args:
            forward: calls :attr:`network`; what it returns has the run's precision and is best
                turned into float32 at once. Gradients are those of all processes together, for
                which every trainable parameter must take part in the loss.
            batch: an item of :attr:`data`, on the network's device.
            generator: of all random numbers, on the network's device.

        Returns:
            ``loss``, the scalar to minimise, and scalars to be logged beside it.
        """

    @abstractmethod
    def validate(self, weights: Path) -> dict[str, float]:
        """Measure the network, in evaluation mode, on photographs that are not trained on.

        Args:
            weights: its file, as inference loads it.
        """

    def weights(self) -> dict[str, Tensor]:
        """Give the state dict of the network that inference loads."""
        return self.network.state_dict()

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """List all that decides over the result beside the trainer's own options."""


def use_channels_last(network: nn.Module) -> None:
    """Lay out convolutions for CPUs and tensor cores, which are faster so."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
