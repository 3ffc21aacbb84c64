"""The training loop: steps, checkpoints, validation, curves; the same for every system.

Everything random of a step follows from the seed and the step, so that a run resumed from a
checkpoint is the run that was not interrupted, on a GPU up to its rounding. Several GPUs are
torch's DistributedDataParallel under ``torchrun``.
"""

from __future__ import annotations

import atexit
import csv
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from featplug import __version__
from featplug.base import PRECISIONS, autocast, choose_device
from featplug.io.files import write_whole
from featplug.io.results import environment, write_results
from featplug.training.data.batches import load_ahead
from featplug.training.history import draw_curves
from featplug.training.task import Task
from featplug.utils.progress import progress_bar
from featplug.weights.checkpoints import read_torch, save_readable, state_sha256

CHECKPOINT, HISTORY, CONFIG = "checkpoint.pt", "history.csv", "config.json"
WEIGHTS, BEST = "weights.safetensors", "best.safetensors"
RESULTS = "results.json"


@dataclass(frozen=True)
class TrainOptions:
    """How long, where and how precisely to train."""

    outputs: Path
    """Folder of the run; a run that is there already goes on."""
    steps: int
    """Steps of the whole run."""
    seed: int = 0
    """Of everything random."""
    device: str | None = None
    """Such as cpu or cuda:1; the best one by default."""
    precision: str = "fp32"
    """``fp32``, ``fp16`` or ``bf16`` products; parameters are float32 always."""
    num_workers: int = 2
    """Processes that make batches ahead; 0 makes them in the training process."""
    validate_every: int = 500
    """Steps between validations, each of which exports the weights."""
    checkpoint_minutes: float = 2.0
    """Minutes between checkpoints: what a kill can cost."""
    max_minutes: float | None = None
    """Stop after that many, with a checkpoint; the same command goes on."""


@dataclass(frozen=True)
class TrainSummary:
    """Where a run stands."""

    step: int
    finished: bool
    weights: Path
    metrics: dict[str, float]
    """Of the last validation."""


def train(task: Task, options: TrainOptions, progress: bool = False) -> TrainSummary:
    """Train, or go on training, until the last step or the end of the time.

    Args:
        task: the system.
        options: of the run.
        progress: show a bar.

    Raises:
        ValueError: the folder holds another run, an option is no positive number, or the loss or
            its gradient is no longer finite.
        KeyboardInterrupt: Ctrl-C; the step it came in was finished and saved, unless a second one
            came before.
    """
    return _Run(task, options).go(progress)


def process_rank() -> tuple[int, int]:
    """Give the rank of this process, and how many processes ``torchrun`` has started."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def process_device(name: str | None = None) -> torch.device:
    """Give the device of this process: its own GPU under ``torchrun``, or see ``choose_device``."""
    device = choose_device(name)
    if process_rank()[1] > 1 and device.type == "cuda":
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def join_processes(device: torch.device) -> None:
    """Connect with the other processes of ``torchrun``, once."""
    if not torch.distributed.is_initialized():
        # Long enough for the first process to prepare the data of a large folder alone.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=timedelta(days=1))
        # Its threads must have ended before the interpreter does, which else may abort.
        atexit.register(torch.distributed.destroy_process_group)


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let cuDNN look for the fastest algorithms, which pays as all batches are of one size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def _finishing_first() -> Iterator[None]:
    """Let Ctrl-C wait until the block ends; a second one does not wait."""
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or before in (None, signal.SIG_IGN):
        yield
        return
    pressed = []

    def hold(*_: object) -> None:
        pressed.append(True)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


class _Run:
    def __init__(self, task: Task, options: TrainOptions) -> None:
        if options.precision not in PRECISIONS:
            raise ValueError(
                f"The precision must be one of {', '.join(PRECISIONS)}, not {options.precision}."
            )
        for name in ("steps", "validate_every"):
            if getattr(options, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(options, name)}.")
        self.task, self.options = task, options
        self.rank, self.world_size = process_rank()
        self.device = process_device(options.device)
        if self.world_size > 1:
            join_processes(self.device)
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
        task.network.to(self.device)
        self.network: nn.Module = task.network
        if self.world_size > 1:
            self.network = DistributedDataParallel(task.network)
        self.optimizer = task.optimizer()
        self.full_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(
            self.device.type,
            enabled=options.precision == "fp16" and self.device.type == "cuda",
        )
        self.step = 0
        self.best = -math.inf
        self.seconds = 0.0
        self.metrics: dict[str, float] = {}
        options.outputs.mkdir(parents=True, exist_ok=True)
        self._check_config()
        self._resume()

    def go(self, progress: bool) -> TrainSummary:
        """Train until the end, or until the time is over."""
        self._started = self._saved = time.monotonic()
        self._seconds_before = self.seconds
        steps = self.options.steps
        shown = progress and self.rank == 0
        bar = progress_bar(self._batches(), "train", steps, "step", shown, done=self.step)
        is_whole = True
        try:
            for batch in bar:
                with _finishing_first():
                    is_whole = False
                    is_over = self._finish_step(batch)
                    is_whole = True
                if is_over:
                    break
        except KeyboardInterrupt:
            if is_whole:
                self._save()
            raise
        return TrainSummary(
            self.step, self.step == steps, self.options.outputs / WEIGHTS, self.metrics
        )

    def _finish_step(self, batch: dict[str, Tensor]) -> bool:
        """Train, validate and save where it is time to; returns whether the time is over."""
        with _fastest_convolutions():
            self._train_step(batch)
        now = time.monotonic()
        self.seconds = self._seconds_before + now - self._started
        most = self.options.max_minutes
        is_over = self._agreed(most is not None and now - self._started > 60 * most)
        is_last = self.step == self.options.steps
        if self.step % self.options.validate_every == 0 or is_last:
            self._validate()
        is_due = now - self._saved > 60 * self.options.checkpoint_minutes
        if is_over or is_last or self._agreed(is_due):
            self._save()
            self._saved = now
        return is_over

    def _train_step(self, batch: dict[str, Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.full_rates, strict=True):
            group["lr"] = rate * self.task.rate(self.step / self.options.steps)
        seed = (self.options.seed << 32) + self.step * self.world_size + self.rank
        torch.manual_seed(seed)  # dropout's
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
        self._log({"step": self.step, **values})

    def _check_finite(self, loss: float) -> None:
        """Refuse a step that would spoil the weights; infinities of float16 the scaler sees to."""
        gradients = [p.grad for p in self.task.network.parameters() if p.grad is not None]
        is_finite = math.isfinite(loss)
        if is_finite and not self.scaler.is_enabled():
            is_finite = bool(nn.utils.get_total_norm(gradients).isfinite())
        if is_finite:
            return
        best = self.options.outputs / BEST
        start = f"from --start {best}" if best.is_file() else "anew"
        raise ValueError(
            f"The loss of step {self.step + 1} is {loss}, or its gradient is not finite; train "
            f"{start} with another --outputs and a lower --learning-rate."
        )

    def _validate(self) -> None:
        if self.rank != 0:
            return
        self.task.network.eval()
        self._export(WEIGHTS)
        with torch.no_grad():
            self.metrics = self.task.validate(self.options.outputs / WEIGHTS)
        self._log({"step": self.step, **{f"val_{k}": v for k, v in self.metrics.items()}})
        self._export(WEIGHTS)
        if self.metrics[self.task.score] > self.best:
            self.best = self.metrics[self.task.score]
            self._export(BEST)
        draw_curves(self.options.outputs / HISTORY, self.options.outputs / "curves.png")
        results = {
            "config": json.loads((self.options.outputs / CONFIG).read_text()),
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "environment": environment(),
            "metrics": self.metrics,
            "best": {self.task.score: self.best},
        }
        write_results(self.options.outputs / RESULTS, results)

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """The batches of the steps to come, made ahead by other processes."""
        indices = [
            step * self.world_size + self.rank for step in range(self.step, self.options.steps)
        ]
        return load_ahead(
            self.task.data, indices, self.options.num_workers, self.device.type == "cuda"
        )

    def _forward(self, *inputs: Any) -> Any:
        """The network at the run's precision; losses are computed in float32."""
        with autocast(self.device, self.options.precision):
            return self.network(*inputs)

    def _agreed(self, flag: bool) -> bool:
        """What the first process finds; all must stop and save at the same step."""
        if self.world_size == 1:
            return flag
        shared = torch.tensor(int(flag))
        torch.distributed.broadcast(shared, 0)
        return bool(shared)

    # What is in the folder

    def _check_config(self) -> None:
        """Write what the run is, or refuse to continue another one."""
        path = self.options.outputs / CONFIG
        own: dict[str, Any] = {"steps": self.options.steps, "seed": self.options.seed}
        own |= {"precision": self.options.precision, "processes": self.world_size}
        config = json.loads(json.dumps({**own, **self.task.config()}, default=str))
        if path.is_file():
            there = json.loads(path.read_text())
            changed = [k for k in config | there if config.get(k) != there.get(k)]
            if changed:
                key = changed[0]
                raise ValueError(
                    f"{self.options.outputs} holds a run with {key} = {there.get(key)}, not "
                    f"{config.get(key)}; give another --outputs."
                )
        elif self.rank == 0:
            write_whole(path, lambda part: part.write_text(json.dumps(config, indent=1) + "\n"))

    def _resume(self) -> None:
        path = self.options.outputs / CHECKPOINT
        if not path.is_file():
            (self.options.outputs / HISTORY).unlink(missing_ok=True)
            return
        state = read_torch(path)
        self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
        self.task.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.metrics = state["metrics"]
        if self.rank == 0:
            _drop_later(self.options.outputs / HISTORY, self.step)

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
        write_whole(self.options.outputs / CHECKPOINT, lambda part: torch.save(state, part))

    def _export(self, name: str) -> None:
        """Write the weights that inference loads, with what made them."""
        weights = {
            key: value.detach().cpu().contiguous().clone()
            for key, value in self.task.weights().items()
        }
        config = (self.options.outputs / CONFIG).read_text()
        metadata = {
            "format": "pt",
            "featplug": __version__,
            "step": str(self.step),
            "config": config,
            "metrics": json.dumps(self.metrics),
            "tensors_sha256": state_sha256(weights),
        }
        write_whole(
            self.options.outputs / name, lambda part: save_readable(weights, part, metadata)
        )

    def _log(self, values: dict[str, float]) -> None:
        """Append to the history: one row ``step, name, value`` each."""
        if self.rank != 0:
            return
        with (self.options.outputs / HISTORY).open("a", newline="") as file:
            writer = csv.writer(file)
            step = values.pop("step")
            writer.writerows([step, key, f"{value:.6g}"] for key, value in values.items())


def _drop_later(history: Path, step: int) -> None:
    """Drop what was logged after the checkpoint that a run goes on from."""
    if not history.is_file():
        return
    rows = [row for row in csv.reader(history.open(newline="")) if len(row) == 3]
    kept = [row for row in rows if int(row[0]) <= step]

    def write(part: Path) -> None:
        with part.open("w", newline="") as file:
            csv.writer(file).writerows(kept)

    write_whole(history, write)
