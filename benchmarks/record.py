"""The record of a benchmark, ``results.json`` in its output folder, which the report reads.

A run is a list of rows. A row is one feature on one part of one data set, with one seed, so that
tables, means over seeds and comparisons with published numbers are all selections of rows.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from featplug.io.artifact import files_hash
from featplug.io.results import (
    SCHEMA_VERSION,
    Metrics,
    StageCosts,
    WeightsFiles,
    environment,
    read_results,
    write_results,
)
from featplug.io.run_folder import replace_results, run_folder
from featplug.io.typed_json import ADDED, NonNegative
from pipelines.output_folder import announce_replacement, reject_other_command

RECORD = "results.json"
"""Name of the record in the folder of a run."""


@dataclass(frozen=True)
class Curve:
    """Values over a range, such as accuracy over thresholds."""

    x: list[float]
    y: list[float]
    x_label: str
    """Label of the axis, with its unit."""
    y_label: str
    shipped: list[float] = field(default_factory=list, metadata=ADDED)
    """x and y of the point that the method's conf ships with; empty where the curve has none."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} numbers, y {len(self.y)}.")


@dataclass(frozen=True)
class Picture:
    """An image file of a run."""

    path: str
    """Path relative to the run's folder."""
    title: str
    pair: list[str] = field(default_factory=list, metadata=ADDED)
    """Names of the two images; the page shows the pictures of one pair next to each other."""
    counts: dict[str, Annotated[int, NonNegative]] = field(default_factory=dict, metadata=ADDED)
    """What is drawn to its number, such as ``right`` and ``wrong`` matches."""


@dataclass(frozen=True)
class ModelSize:
    """Size of a COLMAP model."""

    images: Annotated[int, NonNegative]
    points: Annotated[int, NonNegative]


def model_sizes(record: Mapping[str, Any]) -> list[ModelSize]:
    """Return the sizes of the models in the record of a reconstruction."""
    models = record.get("models", [])
    return [ModelSize(len(model["images"]), model["points"]) for model in models]


@dataclass(frozen=True)
class Row:
    """One feature on one part of one data set."""

    feature: str
    """Name of the conf."""
    dataset: str
    """Name of the data set, such as hpatches or fountain-P11."""
    protocol: str
    """Name of the protocol; only published numbers of the same protocol are compared."""
    part: str = "all"
    """Part of the data set: all, illumination, viewpoint, a sequence, a condition."""
    seed: int | None = None
    """Seed of all random numbers; None where the figures have none."""
    matcher: str | None = None
    """Name of the matcher, with its ratio test."""
    settings: dict[str, Any] = field(default_factory=dict, metadata=ADDED)
    """Settings that the figures depend on by name (:mod:`benchmarks.settings`)."""
    weights: WeightsFiles = field(default_factory=list)
    metrics: Metrics = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    stages: StageCosts = field(default_factory=dict)
    reused: list[str] = field(default_factory=list, metadata=ADDED)
    """Stages that an earlier run made, wholly or in part; their cost is not that of this run."""
    pictures: list[Picture] = field(default_factory=list)
    model: str | None = None
    """Folder of a COLMAP model, relative to the run's folder."""
    not_comparable: str | None = None
    """Reason why the row is not compared with published numbers, such as missing sequences."""
    models: list[ModelSize] = field(default_factory=list, metadata=ADDED)
    """All models that COLMAP made, the one with most images first."""
    verified_pairs_by_inliers: dict[str, Annotated[int, NonNegative]] = field(
        default_factory=dict, metadata=ADDED
    )
    """Range of inlier matches to the number of verified pairs with as many."""
    methods: list[dict[str, str]] = field(default_factory=list, metadata=ADDED)
    """Class of each method; where it comes from, and the sha256 of a source that is not installed.
    """
    estimator: str | None = field(default=None, metadata=ADDED)
    """Robust estimator of the geometry, with its threshold; None where nothing is estimated."""
    pair_values: str | None = field(default=None, metadata=ADDED)
    """CSV file, relative to the run's folder, with the values of each pair
    (:mod:`benchmarks.pair_values`)."""


@dataclass(frozen=True)
class Problem:
    """A failure that left something unmeasured; the rest of the run is valid."""

    subject: str
    """Name of the feature, scene or sequence."""
    reason: str


class _DataSet(TypedDict):
    path: str
    fingerprint: NotRequired[str | None]


@dataclass
class Run:
    """One call of one benchmark."""

    benchmark: str
    """Name of the benchmark, such as reconstruction, matching or relative-pose."""
    options: dict[str, Any]
    """Options of the command, as JSON stores them."""
    data: dict[str, Annotated[dict[str, Any], _DataSet]]
    """Data set to its path and fingerprint."""
    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    command: list[str] = field(default_factory=lambda: list(sys.argv))
    environment: dict[str, Any] = field(default_factory=environment)

    def add_data(self, name: str, folder: Path, files: Sequence[str], **facts: Any) -> None:
        """Record the folder of a data set and the fingerprint of its files.

        Raises:
            ValueError: the run has another data set of that name.
        """
        path = str(folder.resolve())
        if name in self.data:
            raise ValueError(
                f"{self.data[name]['path']} and {path} are both named {name}; rename one of the "
                "folders, or measure them in two runs."
            )
        self.data[name] = {"path": path, "fingerprint": files_hash(folder, files), **facts}


@contextmanager
def benchmark_folder(folder: Path, run: Run) -> Iterator[Path]:
    """Lock the output folder of a benchmark, and return the folder for the record of a run.

    That is the folder itself in a first run, which can be reported at any time. The record of an
    earlier one stays until the new run is finished and has measured something.

    Raises:
        ValueError: the folder is in use, or has a run of another command.
    """
    folder = Path(folder)
    with run_folder(folder, kept=[RECORD]) as working:
        reject_other_command(folder, run.benchmark)
        if not (folder / RECORD).exists():
            yield folder
            return
        announce_replacement(folder, run.options)
        yield working
        if run.rows:
            replace_results(folder)


def write_run(folder: Path, run: Run) -> None:
    """Write a run's record; a reader never sees half of it."""
    write_results(Path(folder) / RECORD, {"schema_version": SCHEMA_VERSION, **asdict(run)})


def read_run(folder: Path) -> Run:
    """Read the record of a benchmark from the folder of a run, or from its ``results.json``.

    Raises:
        FileNotFoundError: the record does not exist.
        ValueError: the record is damaged, of another version, or not a benchmark's.
    """
    folder = Path(folder)
    return read_results(folder if folder.is_file() else folder / RECORD, Run)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number and what it counts; the plural takes an s by default."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
