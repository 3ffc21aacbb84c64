"""What the commands of all systems have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from featplug.cli.command_line import leave_config
from featplug.io.images import list_images
from featplug.training.data.photographs import split_photographs
from featplug.training.task import Task
from featplug.training.trainer import (
    TrainOptions,
    join_processes,
    process_device,
    process_rank,
    train,
)
from featplug.utils.progress import progress_bar


@dataclass(frozen=True)
class Run:
    """What every training has; a run is stopped and started again at will."""

    images: Path
    """Folder of photographs; a twentieth of them is held out for validation."""
    outputs: Path
    """Folder of the run: weights, checkpoint, curves and history."""
    steps: int = 10_000
    """Steps of the whole run; the learning rate falls to 0 over them."""
    seed: int = 0
    """Of everything random."""
    device: str | None = None
    """Such as cpu or cuda:1; the best one by default."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of the network's products."""
    num_workers: int = 2
    """Processes that prepare data."""
    validate_every: int = 500
    """Steps between validations."""
    max_minutes: float | None = None
    """Stop after that many; the same command goes on."""

    @property
    def output_dir(self) -> Path:
        """Folder of the run."""
        return self.outputs

    def train(self, task: Task) -> None:
        """Train, and say how it ended and where all is."""
        options = TrainOptions(
            outputs=self.outputs,
            steps=self.steps,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            num_workers=self.num_workers,
            validate_every=self.validate_every,
            max_minutes=self.max_minutes,
        )
        if process_rank()[0] == 0:
            leave_config(self)
        summary = train(task, options, progress=True)
        if process_rank()[0] != 0:
            return
        state = "finished" if summary.finished else "stopped, run it again to go on,"
        figures = ", ".join(f"{key} {value:.3f}" for key, value in summary.metrics.items())
        print(f"{state} after {summary.step} steps: {figures or 'not validated yet'}")
        print(f"weights, configuration, curves and history are in {self.outputs}")

    def prepare(self, label: str, made: Iterable[str]) -> None:
        """Make a file with an entry for each photograph, and show how far it is.

        Of several processes the first one makes it, and the others wait.

        Args:
            label: of the progress bar.
            made: gives the name of each photograph that is done; does nothing before it is asked.
        """
        rank, world_size = process_rank()
        if world_size > 1:
            join_processes(process_device(self.device))
        if rank == 0:
            for _ in progress_bar(made, label, len(self.names()), "photograph", True):
                pass
        if world_size > 1:
            # Among CPUs: GPUs would count the wait as their work.
            torch.distributed.all_reduce(torch.zeros(()))

    def names(self) -> list[str]:
        """All photographs; too few are refused before anything is made of them."""
        names = list_images(self.images)
        split_photographs(names)
        return names
