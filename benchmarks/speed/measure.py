"""One measurement, in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featplug.io.results import peak_memory


@dataclass(frozen=True)
class Setup:
    """What the measurements share; everything can be handed to another process."""

    photographs: Path | None
    reference: Path | None
    work: Path
    hloc: Path | None = None
    d2net: Path | None = None
    max_keypoints: int | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    """Feature to ``official``, ``featplug`` or a file."""
    device: str | None = None

    @property
    def images(self) -> Path:
        """Folder of overlapping photographs.

        Raises:
            ValueError: none was given.
        """
        if self.photographs is None:
            raise ValueError("Give --images DIR, a folder of overlapping photographs.")
        return self.photographs


Figures = dict[str, Any]
"""``seconds``, ``peak_memory_mib`` and whatever else there is to say: numbers whose names end on
their unit, or :func:`featplug.io.results.metric`; under ``stages`` and ``curves`` a row's."""

Measurement = Callable[[Setup], Figures]


@dataclass(frozen=True)
class Case:
    """One comparison: ours, and the peers that do the same."""

    feature: str
    """Name of the conf that is measured."""
    measurements: Mapping[str, Measurement]
    """Name to what is measured, in this order; ours is featplug."""
    make_inputs: Callable[[Setup], object] | None = None
    """Writes what all of them read; not part of any measurement."""
    uses_images: bool = True
    """Whether it needs photographs; others draw their inputs at random."""


def measure_here(measurement: Measurement, setup: Setup) -> Figures:
    """Run one measurement in this process, whose peak memory is that of all it has done."""
    figures = measurement(setup)
    figures.setdefault("peak_memory_mib", peak_memory() / 2**20)
    return figures


def _send(measurement: Measurement, setup: Setup, channel: Any) -> None:
    channel.send(measure_here(measurement, setup))


def measure(name: str, measurement: Measurement, setup: Setup) -> Figures:
    """Run one measurement in a new process.

    Args:
        name: of the measurement, for the error.
        measurement: a function of a module, or a partial of one.
        setup: handed to it.

    Raises:
        ValueError: it failed; its own error is on the terminal.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(measurement, setup, sender))
    process.start()
    sender.close()
    try:
        figures: Figures = receiver.recv()
    except EOFError:
        raise ValueError(f"The measurement {name} failed.") from None
    finally:
        process.join()
    return figures
