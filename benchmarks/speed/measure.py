"""Options of the benchmark, and one measurement in a process of its own."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from benchmarks.choices import KeypointOptions, problem_of
from featplug.io.results import StageRecorder

CaseName = Literal["stages", "image-size", "keypoints", "agreement"]
Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class SpeedOptions(KeypointOptions):
    """Methods to measure in turn, the photographs, and the peers to measure next to them."""

    benchmark: ClassVar[str] = "speed"
    runs_alone: ClassVar[bool] = True

    images: Path
    """Folder of overlapping photographs."""
    reference: Path | None = None
    """True poses of the photographs, for the errors of the models."""
    cases: tuple[CaseName, ...] = ("stages", "image-size", "keypoints")
    """Measurements: the stages of a reconstruction, extraction (or the matching of two images) by
    image size, matching by number of keypoints, and agreement with the results of the CPU in
    float32."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    """Floating-point types of the products of networks; methods without one have fp32 only.
    Measured on --device, or on the CPU and on the GPU if there is one."""
    repeats: int = 3
    """Number of times that each measurement is made; figures are medians."""
    max_seconds: float = 60.0
    """Seconds of a call after which no larger size is measured."""
    hloc: Path | None = None
    """Checkout of hloc to measure in the same run."""
    d2net: Path | None = None
    """Checkout of the D2-Net authors' code to measure in the same run."""


@dataclass(frozen=True)
class Setup:
    """Input of a measurement; it can be sent to another process."""

    options: SpeedOptions
    feature: str
    work: Path
    """Folder for temporary files, shared by all measurements."""
    device: str = "cpu"
    precision: Precision = "fp32"

    @property
    def is_reference(self) -> bool:
        """Whether it is the CPU in float32, which others are compared with."""
        return (self.device, self.precision) == ("cpu", "fp32")

    def part(self, case: str) -> str:
        """Return the name of a case for tables, with the device and precision."""
        words = [self.device] * (self.device != "cpu") + [self.precision] * (
            self.precision != "fp32"
        )
        return ", ".join([case, *words])


@dataclass(frozen=True)
class Step:
    """Time and memory of one stage, or at one size."""

    name: str
    """Name of the stage, or the size as text."""
    seconds: list[float]
    """Seconds of each call."""
    peak_memory_mib: float
    counts: dict[str, float] = field(default_factory=dict)
    """Amounts that were processed, by the names of their metrics."""


@dataclass(frozen=True)
class Sample:
    """Outcome of one measurement."""

    steps: list[Step]
    x_label: str | None = None
    """Label of the sizes that the steps are named by; None where they are stages."""
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Quality of the results, such as the number of points."""


Measurement = Callable[[Setup], Sample]


def measure_step(
    name: str, call: Callable[[], Any], device: torch.device, rounds: int
) -> tuple[Step, Any]:
    """Measure calls of a function, and return what the last one returned as well."""
    recorder, seconds = StageRecorder(), []
    with recorder.stage(name):
        for _ in range(rounds):
            start = time.perf_counter()
            result = call()
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return Step(name, seconds, recorder.stages[name]["peak_memory_mib"]), result


def measure(measurement: Measurement, setup: Setup) -> Sample:
    """Run a measurement, a function of a module, in a new process with memory of its own.

    Raises:
        ValueError: the measurement failed.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measurement, setup).result()
        except Exception as error:  # peers raise any, and one without their libraries ImportError
            raise ValueError(problem_of(setup.feature, error).reason) from error
