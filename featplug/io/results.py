"""The record that every run leaves as ``results.json``.

It holds what was run, on which data, by which software and machine, the seconds and peak memory of
the stages, and the metrics with their units. Keys and metrics are listed in docs/results.md.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from featplug import __version__
from featplug.io.files import write_whole_text
from featplug.utils.versions import installed_versions

SCHEMA_VERSION = 2
"""Version of the keys of ``results.json``; raised when an older reader would misread a new file.

Version 1 had it as ``format``, or not at all, and explained metrics in their units.
"""
_LIBRARIES = ("torch", "pycolmap", "opencv-python-headless", "numpy", "h5py", "pillow")


class StageRecorder:
    """Recorder of the time and memory of a run's stages."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage: seconds, and the peak resident memory of the process in MiB.

        Where the system cannot reset the peak (all but Linux), it is the peak of the run so far.
        """
        _reset_peak_memory()
        start = time.perf_counter()
        yield
        self.stages[name] = {
            "seconds": round(time.perf_counter() - start, 3),
            "peak_memory_mib": round(peak_memory() / 2**20, 1),
        }


def _reset_peak_memory() -> None:
    with suppress(OSError):  # only Linux has the file, and some containers do not allow writing it
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes, since the last reset."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def environment() -> dict[str, Any]:
    """Return the software and the machine."""
    return {
        "featplug": __version__,
        "python": platform.python_version(),
        "libraries": installed_versions(_LIBRARIES),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write a run's record; a reader never sees half of it."""
    write_whole_text(Path(path), json.dumps(results, indent=2, allow_nan=False) + "\n")
