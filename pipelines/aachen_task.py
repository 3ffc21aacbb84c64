"""What is localized in Aachen: the queries, the reference model, and what is matched with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pycolmap
import tyro

from featplug.io.pair_lists import Pair, read_pairs, unique_pairs
from featplug.localization.evaluation import NIGHT, truth_of_queries
from featplug.localization.queries import Query, check_base_names, read_poses
from featplug.metrics.poses import model_cameras
from featplug.stages import pairs
from featplug.stages.retrieve import RetrievalSummary
from pipelines.datasets.aachen import (
    Aachen,
    Version,
    local_feature_pairs,
    open_aachen,
    read_query_lists,
    read_reference_model,
)
from pipelines.datasets.demo import DEMO, DEMO_FOLDER, make_demo_world
from pipelines.run import (
    FeatureOptions,
    Features,
    default_outputs,
    require_positive,
    retrieve_pairs,
)

_NUM_LOC, _DEMO_NUM_LOC, _LOCAL_FEATURES_NUM_LOC = 50, 20, 20


@dataclass(frozen=True)
class AachenOptions:
    """What to localize, and how."""

    dataset: Path = Path("datasets/aachen")
    """Folder of Aachen Day-Night as released, v1 or v1.1, or of a set in its layout; `demo` renders
    a small town into datasets/demo."""
    version: Version | None = None
    """Which of the two, where the folder has both; by default the newer."""
    protocol: Literal["sfm", "local-features"] = "sfm"
    """sfm: a model of the whole database, all queries. local-features: as the benchmark of 2019 for
    local features, the night queries in a model of the images that each is paired with."""
    extraction: Annotated[FeatureOptions, tyro.conf.arg(name="")] = field(
        default_factory=FeatureOptions
    )
    """Which features, and how they are made."""
    matcher: str | None = None
    """Name of the matcher; by default the feature's own."""
    num_covis: int = 20
    """Reference images that each reference image is matched with, by covisibility."""
    num_loc: int | None = None
    """Database images that each query is matched with, by retrieval; by default 50, in the small
    demo 20; 20 at most for local-features."""
    pairs: Path | None = None
    """Pair list, a query and a database image a line, in place of retrieval; where it also has
    pairs of two database images, these are used in place of covisibility. By default retrieval;
    for local-features the benchmark's list, and retrieval in sets of one's own that have true poses
    and no such list."""
    retrieval: str = "vlad"
    """Name of the global descriptor: vlad or netvlad."""
    covisibility_clustering: bool = False
    """Try each group of retrieved images that see the same points by itself."""
    max_error: float = 12.0
    """Of an inlier of a pose, in pixels."""
    min_inliers: int = 4
    """A pose with fewer is none."""
    ground_truth: Path | None = None
    """True poses of the queries; by default the dataset's ground_truth.txt, where it has one."""
    outputs: Path | None = None
    """Folder for everything; by default outputs/aachen/DATASET-FEATURE, with the name of a given
    feature file for the feature, and version and protocol where asked for."""
    seed: int = 0
    """Of everything random."""
    memory_gib: float = 1.0
    """Memory for matching."""
    num_workers: int | None = None
    """Threads that estimate poses; as many as cores by default."""
    hloc_logs: bool = False
    """Also write hloc's pickled logs beside the submission, for its visualization."""

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        if self.outputs is not None:
            return self.outputs
        settings: list[str] = [] if self.version is None else [self.version]
        if self.protocol != "sfm":
            settings.append(self.protocol)
        return default_outputs("aachen", self.dataset.resolve().name, self.extraction, *settings)

    @property
    def num_retrieved(self) -> int:
        """Database images that each query is matched with, under the protocol."""
        wanted = self.num_loc
        if wanted is None:
            wanted = _DEMO_NUM_LOC if self.dataset == DEMO else _NUM_LOC
        return wanted if self.protocol == "sfm" else min(wanted, _LOCAL_FEATURES_NUM_LOC)


@dataclass(frozen=True)
class Task:
    """Queries and the model to localize them in."""

    dataset: Aachen
    reference: pycolmap.Reconstruction
    conditions: dict[str, list[Query]]
    truth: dict[str, np.ndarray] | None
    given_pairs: list[Pair]

    @property
    def queries(self) -> list[Query]:
        """Those of all conditions."""
        return [query for queries in self.conditions.values() for query in queries]


@dataclass(frozen=True)
class ChosenPairs:
    """What is matched with what."""

    database: list[Pair]
    localization: list[Pair]
    retrieval: RetrievalSummary | None = None
    """What it did, where it chose pairs."""


def open_dataset(options: AachenOptions, progress: bool = False) -> Aachen:
    """Find the dataset, or make the demo world.

    Raises:
        FileNotFoundError: it is not there; says where to get it.
    """
    if options.dataset == DEMO:
        return open_aachen(make_demo_world(DEMO_FOLDER, progress=progress))
    return open_aachen(options.dataset, options.version)


def read_task(options: AachenOptions, dataset: Aachen) -> Task:
    """Read queries, reference model, true poses and given pairs.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is damaged, they do not belong together, or a number is out of range.
    """
    require_positive(
        num_loc=options.num_loc,
        num_covis=options.num_covis,
        max_error=options.max_error,
        min_inliers=options.min_inliers,
        num_workers=options.num_workers,
    )
    conditions = read_query_lists(dataset)
    path = options.pairs
    if options.protocol == "local-features":
        if NIGHT not in conditions:
            raise ValueError(
                f"The protocol local-features localizes night queries; {dataset.root} has those of "
                f"{', '.join(conditions)}."
            )
        conditions = {NIGHT: conditions[NIGHT]}
        # Without true poses it is the benchmark's set, whose list is then missed.
        has_list = dataset.local_feature_pairs.is_file()
        if path is None and (has_list or not dataset.ground_truth.is_file()):
            path = local_feature_pairs(dataset)
    queries = [query.name for listed in conditions.values() for query in listed]
    check_base_names(queries)  # not after hours of work, when the submission is written
    truth_path = options.ground_truth or dataset.ground_truth
    truth = None
    if options.ground_truth is not None or truth_path.is_file():
        truth = truth_of_queries(queries, read_poses(truth_path))
    given = [] if path is None else read_pairs(path)
    if given and not set(queries).intersection(name for pair in given for name in pair):
        raise ValueError(
            f"No pair of {path} has a query, such as {queries[0]!r}; its first is {given[0]}."
        )
    return Task(dataset, read_reference_model(dataset), conditions, truth, given)


def wanted_images(options: AachenOptions, task: Task) -> dict[str, pycolmap.Camera]:
    """Give the cameras of the images to extract: the queries, and of the database what is needed.

    That is all of it, but where given pairs also say which of its images make the model.
    """
    database = model_cameras(task.reference)
    has_pairs_of_database = any(database.keys() >= set(pair) for pair in task.given_pairs)
    if has_pairs_of_database or (task.given_pairs and options.protocol == "local-features"):
        paired = {name for pair in task.given_pairs for name in pair}
        database = {name: camera for name, camera in database.items() if name in paired}
    return database | {query.name: query.camera for query in task.queries}


def choose_pairs(
    options: AachenOptions, task: Task, features: Features, progress: bool = False
) -> ChosenPairs:
    """Choose which images of the database are matched with each other and with the queries.

    Only images that have features are paired.

    Raises:
        ValueError: there is nothing to match.
    """
    known = set(features.names)
    queries = {query.name for query in task.queries}
    database = set(model_cameras(task.reference)) & known
    retrieval = None
    # Queries stand first, as the localization reads them.
    given = list(
        dict.fromkeys(pair if pair[0] in queries else pair[::-1] for pair in task.given_pairs)
    )
    localization = [pair for pair in given if pair[0] in queries and pair[1] in database]
    if not given:
        localization, retrieval = _retrieve(options, task, features, database, progress)
    localization = [pair for pair in localization if pair[0] in known]
    of_database = unique_pairs(pair for pair in given if database.issuperset(pair))
    if not of_database and options.protocol == "sfm":
        covisible = pairs.covisible(task.reference, options.num_covis)
        of_database = unique_pairs(pair for pair in covisible if database.issuperset(pair))
    elif not of_database:
        of_database = _pairs_of_sets(localization)
    wanted = {"a query and a database image": localization, "two database images": of_database}
    for images, found in wanted.items():
        if not found:
            raise ValueError(
                f"There is no pair of {images} that have features; give more by --num-loc, "
                "--num-covis or --pairs."
            )
    return ChosenPairs(of_database, localization, retrieval)


def _retrieve(
    options: AachenOptions,
    task: Task,
    features: Features,
    database: set[str],
    progress: bool,
) -> tuple[list[Pair], RetrievalSummary]:
    """Pair each query with the database images that look most like it."""
    queries = {query.name for query in task.queries}
    return retrieve_pairs(
        options.retrieval,
        options.num_retrieved,
        task.dataset.image_dir,
        options.output_dir,
        features,
        options.extraction,
        queries=[name for name in features.names if name in queries],
        database=sorted(database),
        progress=progress,
    )


def _pairs_of_sets(localization: Sequence[Pair]) -> list[Pair]:
    """Pair the images that one query is paired with, all with all (Dusmanu et al. 2019, 5.3)."""
    sets: dict[str, list[str]] = {}
    for query, name in localization:
        sets.setdefault(query, []).append(name)
    return unique_pairs(pair for names in sets.values() for pair in combinations(names, 2))
