"""What is localized in scans: the dataset, its queries, what they are matched with, true poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from featplug.io.pair_lists import Pair, read_pairs
from featplug.localization.evaluation import truth_of_queries
from featplug.localization.queries import Query, check_base_names, read_poses
from pipelines.datasets.demo import DEMO, DEMO_FOLDER, make_demo_world
from pipelines.datasets.inloc import InLoc
from pipelines.run import FeatureOptions, default_outputs, require_positive


@dataclass(frozen=True)
class InLocOptions:
    """What to localize, and how."""

    dataset: Path = Path("datasets/inloc")
    """Folder of InLoc as released, or of a set in its layout; `demo` renders a room into
    datasets/demo."""
    extraction: Annotated[FeatureOptions, tyro.conf.arg(name="")] = field(
        default_factory=FeatureOptions
    )
    """Which features, and how they are made."""
    matcher: str | None = None
    """Name of the matcher; by default the feature's own."""
    pairs: Path | None = None
    """Pair list: a query and a database image a line, best first."""
    retrieval: str = "vlad"
    """Name of the global descriptor that chooses pairs where no list is given."""
    num_loc: int = 40
    """Database images that it pairs a query with."""
    queries: Path | None = None
    """Query list with intrinsics; by default the dataset's queries_with_intrinsics.txt, if there is
    one. Queries that are not in it have the benchmark's camera."""
    ground_truth: Path | None = None
    """True poses of the queries; by default the dataset's ground_truth.txt, where it has one."""
    matches: Path | None = None
    """Match file to use instead of matching; needs --pairs with its list."""
    outputs: Path | None = None
    """Folder for everything; by default outputs/inloc/DATASET-FEATURE, with the name of a given
    feature file for the feature."""
    skip_matches: int = 20
    """Database images with fewer matches are left out."""
    max_error: float | None = None
    """Of an inlier, in pixels; by default the benchmark's 48 in photographs of 4032 pixels, and in
    proportion in others."""
    min_inliers: int = 4
    """A pose with fewer is none."""
    seed: int = 0
    """Of everything random."""
    memory_gib: float = 1.0
    """Memory for matching, and for scans: one of 1600×1200 points takes 0.07."""
    num_workers: int | None = None
    """Threads that read scans and estimate poses; as many as cores by default."""
    hloc_logs: bool = False
    """Also write hloc's pickled logs beside the submission, for its visualization."""

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        name = self.dataset.resolve().name
        return self.outputs or default_outputs("inloc", name, self.extraction)


@dataclass(frozen=True)
class Task:
    """What is asked for."""

    dataset: InLoc
    names: list[str]
    """All queries."""
    cameras: dict[str, Query]
    """Those with known intrinsics."""
    given_pairs: list[Pair] | None
    truth: dict[str, np.ndarray] | None
    """True poses, of some queries at least."""


def read_task(options: InLocOptions, progress: bool = False) -> Task:
    """Read what is given: dataset, queries, pairs, true poses.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is damaged, they do not belong together, or a number is out of range.
    """
    require_positive(
        num_loc=options.num_loc,
        max_error=options.max_error,
        min_inliers=options.min_inliers,
        num_workers=options.num_workers,
    )
    dataset = open_dataset(options, progress)
    names, cameras = dataset.queries(options.queries)
    check_base_names(names)  # not after hours of work, when the submission is written
    given_pairs = None if options.pairs is None else _given_pairs(options.pairs, names)
    truth = None
    if options.ground_truth is not None or dataset.ground_truth.is_file():
        truth = truth_of_queries(names, read_poses(options.ground_truth or dataset.ground_truth))
    return Task(dataset, names, cameras, given_pairs, truth)


def open_dataset(options: InLocOptions, progress: bool = False) -> InLoc:
    """Find the dataset, or make the demo room.

    Raises:
        FileNotFoundError: it is not there; says where to get it.
    """
    if options.dataset == DEMO:
        return InLoc(make_demo_world(DEMO_FOLDER, layout="inloc", progress=progress))
    return InLoc(options.dataset)


def _given_pairs(path: Path, names: Sequence[str]) -> list[Pair]:
    """Read the pairs of the queries.

    Raises:
        ValueError: there is none.
    """
    listed = list(dict.fromkeys(read_pairs(path)))
    known = set(names)
    chosen = [pair for pair in listed if pair[0] in known]
    if not chosen:
        raise ValueError(
            f"No pair of {path} starts with a query, such as {names[0]!r}; the first one starts "
            f"with {listed[0][0]!r}."
        )
    return chosen
