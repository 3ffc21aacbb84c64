"""The training loop: steps, checkpoints, validation, curves; the same for every system.

All randomness of a step depends on the seed and the step, so a run resumed from a checkpoint equals
the run that was not interrupted, on a GPU up to rounding. Several GPUs are torch's
DistributedDataParallel under ``torchrun``.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from featplug import __version__
from featplug.base import autocast
from featplug.io.artifact import Provenance
from featplug.io.files import write_whole, write_whole_text
from featplug.io.folder_lock import locked_folder
from featplug.io.results import environment, write_results
from featplug.training.data.batches import load_ahead
from featplug.training.distributed import agreed, join_processes, process_device, process_rank
from featplug.training.history import append_history, draw_curves, drop_later
from featplug.training.task import Task, TrainingOptions
from featplug.utils.interrupts import delayed_interrupts
from featplug.utils.progress import progress_bar
from featplug.weights.checkpoints import (
    max_file_bytes,
    read_torch,
    save_readable,
    state_sha256,
)

CHECKPOINT, HISTORY, MADE_FROM = "checkpoint.pt", "history.csv", "made_from.json"
WEIGHTS, BEST = "weights.safetensors", "best.safetensors"
RESULTS = "results.json"
_REMEDY = "choose another --outputs"
# All that loading a state raises which is not this run's.
_NOT_A_STATE = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class _RecordedConfig(TypedDict):
    system: str
    seed: int
    steps: int


class TrainingRecord(TypedDict):
    """Record of a training: the key of ``results.json`` that is read again."""

    config: Annotated[dict[str, Any], _RecordedConfig]


@dataclass(frozen=True)
class TrainSummary:
    """State of a run."""

    step: int
    """Number of steps that are done."""
    finished: bool
    """Whether these are all steps."""
    weights: Path
    """File of the last weights."""
    metrics: dict[str, float]
    """Metrics of the last validation."""


def train(task: Task, progress: bool = False) -> TrainSummary:
    """Train, or resume training, until the last step or until the time is over.

    Raises:
        ValueError: the folder holds another run, an option is out of range, or the loss or its
            gradient is no longer finite.
        KeyboardInterrupt: Ctrl-C; the current step was finished and saved, unless a second Ctrl-C
            came before.
    """
    is_first = process_rank()[0] == 0
    with locked_folder(task.options.outputs) if is_first else nullcontext():
        return Trainer(task).run(progress)


def check_resumable(options: TrainingOptions, photographs: str) -> None:
    """Check that the folder of a run holds no run of other options, before any file is made.

    Args:
        options: options of the run.
        photographs: hash of its photographs.

    Raises:
        ValueError: it does.
    """
    if (options.outputs / MADE_FROM).is_file():
        found = _read_provenance(options.outputs)
        of_task = {key: found.conf.get(key) for key in ("system", "processes")}
        conf = json.loads(json.dumps({**of_task, **options.identity()}, default=str))
        inputs = {**found.inputs, "photographs": photographs}
        _require_same(options.outputs, replace(found, conf=conf, inputs=inputs))
    elif (options.outputs / RESULTS).exists() and not (options.outputs / CHECKPOINT).exists():
        raise ValueError(f"{options.outputs} holds a run of another command; {_REMEDY}.")


def _require_same(folder: Path, provenance: Provenance) -> None:
    difference = _read_provenance(folder).difference(provenance)
    if difference is not None:
        raise ValueError(f"{folder} {difference}; {_REMEDY}.")


def _read_provenance(folder: Path) -> Provenance:
    path = folder / MADE_FROM
    try:
        return Provenance.from_json(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not the record of a training; {_REMEDY}.") from error


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let cuDNN search for the fastest algorithms, which pays since all batches have one size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Trainer:
    """A run, ready to start or to resume; see :func:`train` for the errors."""

    def __init__(self, task: Task) -> None:
        self.task, self.options = task, task.options
        self.options.check()
        self.rank, self.world_size = process_rank()
        self.device = process_device(self.options.device)
        join_processes(self.device)
        if self.world_size > 1 and self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        task.network.to(self.device)
        self.network: nn.Module = task.network
        if self.world_size > 1:
            self.network = DistributedDataParallel(task.network)
        self.optimizer = task.optimizer()
        self.full_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(
            self.device.type,
            enabled=self.options.precision == "fp16" and self.device.type == "cuda",
        )
        self.step, self.best, self.seconds = 0, -math.inf, 0.0
        self.metrics: dict[str, float] = {}
        self.folder = self.options.outputs
        self.folder.mkdir(parents=True, exist_ok=True)
        self.made_from = self._check_provenance()
        self._resume()

    def run(self, progress: bool = False) -> TrainSummary:
        """Train as :func:`train` does."""
        self._started = self._saved = time.monotonic()
        self._seconds_before = self.seconds
        steps = self.options.steps
        shown = progress and self.rank == 0
        bar = progress_bar(self._batches(), "train", steps, "step", shown, done=self.step)
        is_whole = True
        try:
            for batch in bar:
                with delayed_interrupts():
                    is_whole = False
                    is_over = self._finish_step(batch)
                    is_whole = True
                if is_over:
                    break
        except KeyboardInterrupt:
            if is_whole:
                self._save()
            raise
        return TrainSummary(self.step, self.step == steps, self.folder / WEIGHTS, self.metrics)

    def _finish_step(self, batch: dict[str, Tensor]) -> bool:
        """Train a step, validate and save when due; return whether the time is over."""
        with _fastest_convolutions():
            self._train_step(batch)
        now = time.monotonic()
        self.seconds = self._seconds_before + now - self._started
        limit = self.options.max_minutes
        is_over = agreed(limit is not None and now - self._started > 60 * limit)
        is_last = self.step == self.options.steps
        if self.step % self.options.validate_every == 0 or is_last:
            self._validate()
        is_due = now - self._saved > 60 * self.options.checkpoint_minutes
        if is_over or is_last or agreed(is_due):
            self._save()
            self._saved = now
        return is_over

    def _train_step(self, batch: dict[str, Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.full_rates, strict=True):
            group["lr"] = rate * self.task.rate(self.step / self.options.steps)
        seed = (self.options.seed << 32) + self.step * self.world_size + self.rank
        torch.manual_seed(seed)  # for dropout
        generator = torch.Generator(self.device).manual_seed(seed)
        self.task.network.train()
        on_device = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        losses = self.task.losses(self._forward, on_device, generator)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses["loss"]).backward()
        values = {key: float(value.detach()) for key, value in losses.items()}
        self._check_finite(values["loss"])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        if self.rank == 0:
            append_history(self.folder / HISTORY, self.step, values)

    def _check_finite(self, loss: float) -> None:
        """Stop before a step that would ruin the weights; the scaler handles those of float16."""
        is_finite = math.isfinite(loss)
        if is_finite and not self.scaler.is_enabled():
            gradients = [p.grad for p in self.task.network.parameters() if p.grad is not None]
            is_finite = bool(nn.utils.get_total_norm(gradients).isfinite())
        if not is_finite:
            raise ValueError(
                f"The loss of step {self.step + 1} is {loss}, or its gradient is not finite; train "
                f"{self._start()} with another --outputs and a lower --learning-rate."
            )

    def _start(self) -> str:
        best = self.folder / BEST
        return f"from --start {best}" if best.is_file() else "again"

    def _validate(self) -> None:
        if self.rank != 0:
            return
        self.task.network.eval()
        self._export(WEIGHTS)
        with torch.no_grad():
            self.metrics = self.task.validate(self.folder / WEIGHTS)
        values = {f"val_{k}": v for k, v in self.metrics.items()}
        append_history(self.folder / HISTORY, self.step, values)
        self._export(WEIGHTS)  # with the metrics
        score = self.metrics[self.task.score]
        if score > self.best:
            self.best = score
            self._export(BEST)
        draw_curves(self.folder / HISTORY, self.folder / "curves.png")
        results = {
            "config": self.made_from.conf,
            "inputs": self.made_from.inputs,
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "environment": environment(),
            "metrics": self.metrics,
            "best": {self.task.score: self.best},
        }
        write_results(self.folder / RESULTS, results)

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """Prepare the batches of the remaining steps ahead in other processes."""
        first, last = (step * self.world_size for step in (self.step, self.options.steps))
        indices = range(first + self.rank, last, self.world_size)
        is_cuda = self.device.type == "cuda"
        return load_ahead(self.task.data, indices, self.options.num_workers, pin_memory=is_cuda)

    def _forward(self, *inputs: Any) -> Any:
        """Call the network at the run's precision."""
        with autocast(self.device, self.options.precision):
            return self.network(*inputs)

    def _check_provenance(self) -> Provenance:
        """Write the provenance of the run, or check that the folder holds the same run."""
        conf = {"processes": self.world_size, **self.task.config()}
        conf = json.loads(json.dumps(conf, default=str))
        kind = f"a training of {self.task.system}"
        provenance = Provenance(kind, conf, inputs=dict(self.task.inputs))
        path = self.folder / MADE_FROM
        if path.is_file():
            _require_same(self.folder, provenance)
        elif (self.folder / CHECKPOINT).is_file():
            raise ValueError(
                f"{self.folder} holds a run of featplug 0.1, which cannot be resumed; train "
                f"{self._start()} with another --outputs."
            )
        elif self.rank == 0:
            write_whole_text(path, provenance.to_json() + "\n")
        return provenance

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            (self.folder / HISTORY).unlink(missing_ok=True)
            return
        state = read_torch(path, max_file_bytes(self.task.network))
        try:
            self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
            self.metrics = state["metrics"]
            counted = (self.step, self.best, self.seconds, *self.metrics.values())
            if not all(isinstance(number, Real) for number in counted):
                raise TypeError("its step, its scores or its time are not numbers")
            self.task.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
        except _NOT_A_STATE as error:
            reason = str(error).split("\n")[0].rstrip(".:") or type(error).__name__
            raise ValueError(
                f"{path} does not hold the state of this run ({reason}); train {self._start()} "
                "with another --outputs."
            ) from error
        if self.rank == 0:
            drop_later(self.folder / HISTORY, self.step)

    def _save(self) -> None:
        if self.rank != 0:
            return
        state = {
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "metrics": self.metrics,
            "network": self.task.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        write_whole(self.folder / CHECKPOINT, lambda part: torch.save(state, part))

    def _export(self, name: str) -> None:
        """Write the weights that inference loads, with a record of the run."""
        weights = {
            key: value.detach().cpu().contiguous().clone()
            for key, value in self.task.weights().items()
        }
        metadata = {
            "format": "pt",
            "featplug": __version__,
            "step": str(self.step),
            "config": json.dumps(self.made_from.conf),
            "metrics": json.dumps(self.metrics),
            "tensors_sha256": state_sha256(weights),
        }
        write_whole(self.folder / name, lambda part: save_readable(weights, part, metadata))
