"""One measurement, in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featplug.results import peak_memory


@dataclass(frozen=True)
class Setup:
    """What the measurements share; everything can be handed to another process."""

    images: Path
    reference: Path | None
    work: Path
    hloc: Path | None
    d2net: Path | None


Measurement = Callable[[Setup], dict[str, Any]]


def _in_process(measurement: Measurement, setup: Setup, channel: Any) -> None:
    figures = measurement(setup)
    figures.setdefault("peak_memory_mib", peak_memory() / 2**20)
    channel.send(figures)


def measure(measurement: Measurement, setup: Setup) -> dict[str, Any]:
    """Run one measurement in a new process.

    Raises:
        ValueError: it failed; its own error is on the terminal.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_in_process, args=(measurement, setup, sender))
    process.start()
    sender.close()
    try:
        figures = receiver.recv()
    except EOFError:
        raise ValueError(f"The measurement {measurement.__name__} failed.") from None
    finally:
        process.join()
    return figures
