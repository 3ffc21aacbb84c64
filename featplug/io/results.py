"""The record that every run leaves as ``results.json``.

It holds what was run, on which data, by which software and machine, the seconds and peak memory of
the stages, and the metrics with their units. Keys and metrics are listed in docs/results.md.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar

import torch

from featplug import __version__
from featplug.io.files import write_whole_text
from featplug.io.metric_table import OWN_UNITS, find_metric
from featplug.io.run_folder import complete
from featplug.io.typed_json import NonNegative, as_type, read_json
from featplug.utils.versions import installed_versions

SCHEMA_VERSION = 2
"""Version of the keys of ``results.json``; raised when an older reader would misread a new file.

Version 1 had it as ``format``, or not at all, and explained metrics in their units.
"""
_READABLE = (1, SCHEMA_VERSION)
"""Versions that :func:`read_results` reads."""
_LIBRARIES = ("torch", "pycolmap", "opencv-python-headless", "numpy", "h5py", "pillow")

_Kind = TypeVar("_Kind")
_Other = TypeVar("_Other")


class _Metric(TypedDict):
    value: float
    unit: str


class StageCost(TypedDict):
    """Cost of a stage."""

    seconds: NotRequired[Annotated[float, NonNegative]]
    peak_memory_mib: NotRequired[Annotated[float, NonNegative]]


class _WeightsFile(TypedDict):
    name: str
    origin: NotRequired[str | None]
    sha256: NotRequired[str | None]


Metrics = dict[str, Annotated[dict[str, Any], _Metric]]
"""Name to value and unit (:data:`featplug.io.metric_table.METRICS`)."""
StageCosts = dict[str, Annotated[dict[str, float], StageCost]]
"""Stage to seconds and peak_memory_mib."""
WeightsFiles = list[Annotated[dict[str, Any], _WeightsFile]]
"""Weights files with their hashes, as in a feature file."""


class StageRecorder:
    """Recorder of the time and memory of a run's stages."""

    def __init__(self) -> None:
        self.stages: StageCosts = {}

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


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write a run's record; a reader never sees half of it."""
    try:
        text = json.dumps(results, indent=2, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path} cannot hold a result that is infinite or undefined.") from error
    write_whole_text(Path(path), text + "\n")


def read_results(path: Path, kind: type[_Kind], *others: type[_Other]) -> _Kind | _Other:
    """Read a run's record, and check every value that its kind has.

    Args:
        path: the file ``results.json``.
        kind: dataclass or ``TypedDict`` of the record.
        others: those of other records that may be there; a record is of the first kind whose first
            key it has.

    Raises:
        FileNotFoundError: the record does not exist.
        ValueError: it is damaged, of another version or of none of the kinds; the message names the
            file, the key and the type that is expected.
    """
    path = Path(path)
    complete(path.parent)
    kinds: list[type[_Kind | _Other]] = [kind, *others]
    marks = [next(iter(each.__annotations__)) for each in kinds]
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {path.parent} is not the folder of a run.")
    try:
        record = read_json(path)
        _check_version(path, record)
        for marked, mark in zip(kinds, marks, strict=True):
            if mark in record:
                checked = as_type(record, marked, path)
                _check_units(path, record, marked.__annotations__)
                return checked
    except ValueError as error:
        raise ValueError(
            f"{str(error).rstrip('.')}; make the run again, or leave it out."
        ) from error
    expected = " or ".join(map(repr, marks))
    raise ValueError(
        f"{path} has no key {expected}: it is the record of another command; leave it out."
    )


def _check_units(path: Path, record: dict[str, Any], keys: Collection[str]) -> None:
    """Check that metrics which :mod:`featplug.io.metric_table` has are in its units.

    The first version of the record explained metrics in their units.
    """
    if record.get("schema_version") != SCHEMA_VERSION:
        return
    parts, conditions = {}, []
    if "rows" in keys:
        parts = {f"rows[{i}].metrics": row["metrics"] for i, row in enumerate(record["rows"])}
    elif "metrics" in keys:
        parts, conditions = {"metrics": record["metrics"]}, record["data"].get("conditions", [])
    for where, metrics in parts.items():
        for name, entry in metrics.items():
            condition = next((c for c in conditions if name.startswith(f"{c}_")), None)
            metric = find_metric(name if condition is None else name.removeprefix(f"{condition}_"))
            units = [] if metric is None else [metric.unit, *OWN_UNITS.get(metric.unit, ())]
            if units and entry["unit"] not in units:
                raise ValueError(
                    f"{path}: {where}.{name}.unit: expected {units[0]!r}, got {entry['unit']!r:.60}"
                )


def _check_version(path: Path, record: dict[str, Any]) -> None:
    key = "schema_version" if "schema_version" in record else "format"
    version = as_type(record.get(key, 1), int, path, key)
    if version in _READABLE:
        return
    environment = record.get("environment")
    writer = environment.get("featplug") if isinstance(environment, dict) else None
    raise ValueError(
        f"{path} has schema version {version}, but this featplug reads up to {SCHEMA_VERSION}; use "
        f"featplug {writer if isinstance(writer, str) else 'of a later version':.60}"
    )
