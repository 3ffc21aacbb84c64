"""Aachen Day-Night: photographs of an old town by day and night, with a reference model by day.

Sattler et al., CVPR 2018, and v1.1 of Zhang et al., IJCV 2021. Read as released, below one folder,
as hloc and the local feature benchmark have it::

    images_upright/{db,query}/…       or images/images_upright/{db,query}/…
    queries/{day,night}_time_queries_with_intrinsics.txt
    3D-models/aachen_cvpr2018_db.nvm and database_intrinsics.txt                           (v1)
    3D-models/aachen_v_1_1/: cameras.bin, images.bin, points3D.bin                         (v1.1)
                             or aachen_v_1_1.nvm and database_intrinsics_v1_1.txt          (v1.1)
    image_pairs_to_match.txt, image_pairs_to_match_v1_1.txt      of the local feature benchmark

Own sets have the same layout, may have other conditions than day and night, and may add
``ground_truth.txt``, a pose file of the queries under their full names.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pycolmap

from featplug.colmap.model_files import holds_model, read_model
from featplug.colmap.nvm import read_nvm
from featplug.io.image_folder import list_images
from featplug.localization.evaluation import RecallRules
from featplug.localization.queries import Query, read_queries
from featplug.metrics.poses import OLD_NIGHT_THRESHOLDS
from pipelines.datasets.demo import DEMO, DEMO_FOLDER, make_demo_world
from pipelines.datasets.protocol import (
    GROUND_TRUTH,
    FileProblem,
    ModelDataset,
    ModelOptions,
    read_conditions,
)

NIGHT = "night"
QUERIES = "queries"
_LIST_SUFFIX = "_time_queries_with_intrinsics.txt"
_PAIRS_FROM = (
    "local_feature_evaluation/data/aachen-day-night/ of "
    "https://github.com/tsattler/visuallocalizationbenchmark"
)
_DEMO_NUM_LOC, _LOCAL_FEATURES_NUM_LOC = 20, 20

Version = Literal["v1", "v1.1"]
Protocol = Literal["sfm", "local-features"]


@dataclass(frozen=True)
class AachenOptions(ModelOptions):
    """Options of localization in Aachen."""

    pipeline = "aachen"
    rules = RecallRules(older={NIGHT: OLD_NIGHT_THRESHOLDS}, until="2020")

    dataset: Path = Path("datasets/aachen")
    """Folder of Aachen Day-Night as released, v1 or v1.1, or of a set in its layout; `demo` renders
    a small town into datasets/demo."""
    version: Version | None = None
    """Version to use if the folder has both; by default the newer."""
    protocol: Protocol = "sfm"
    """sfm: all queries, in a model of the whole database. local-features: the night queries, in a
    model of the images that they are paired with, as the local feature benchmark of 2019."""
    num_loc: int | None = None
    """Number of database images that each query is matched with, by retrieval; by default 50, in
    the small demo 20; 20 at most for local-features."""
    pairs: Path | None = None
    """Pair list, a query and a database image a line, to use instead of retrieval; its pairs of two
    database images are used instead of covisibility. By default retrieval; for local-features the
    benchmark's list, or retrieval in own sets that have true poses but no such list."""

    def open(self, progress: bool = False) -> "Aachen":
        """Return the data set; see :class:`Aachen`."""
        if self.dataset == DEMO:
            return Aachen(make_demo_world(DEMO_FOLDER, progress=progress), None, self.protocol)
        return Aachen(self.dataset, self.version, self.protocol)

    @property
    def num_retrieved(self) -> int:
        """Number of database images that each query is matched with, by retrieval."""
        num = super().num_retrieved
        if self.num_loc is None and self.dataset == DEMO:
            num = _DEMO_NUM_LOC
        return num if self.protocol == "sfm" else min(num, _LOCAL_FEATURES_NUM_LOC)


class Aachen(ModelDataset):
    """Aachen Day-Night; arguments as in :class:`AachenOptions`.

    Raises:
        FileNotFoundError: the folder lacks images, query lists or reference model.
    """

    source = (
        "Aachen Day-Night: https://www.visuallocalization.net/datasets, or "
        "https://data.ciirc.cvut.cz/public/projects/2020VisualLocalization/Aachen-Day-Night/"
    )
    has_demo = True

    def __init__(
        self, root: Path, version: Version | None = None, protocol: Protocol = "sfm"
    ) -> None:
        super().__init__(root)
        models = self.root / "3D-models"
        if version is None:
            version = "v1.1" if (models / "aachen_v_1_1").is_dir() else "v1"
        is_v1 = version == "v1"
        self.version = version
        self.model_of_pairs = protocol == "local-features"
        self.model_dir = models if is_v1 else models / "aachen_v_1_1"
        self.nvm = self.model_dir / ("aachen_cvpr2018_db.nvm" if is_v1 else "aachen_v_1_1.nvm")
        suffix = "" if is_v1 else "_v1_1"
        self.intrinsics = self.model_dir / f"database_intrinsics{suffix}.txt"
        lists = sorted((self.root / QUERIES).glob(f"*{_LIST_SUFFIX}"))
        self.query_lists = {path.name.removesuffix(_LIST_SUFFIX): path for path in lists}
        self._benchmark_pairs = self.root / f"image_pairs_to_match{suffix}.txt"
        self._require_parts()

    @property
    def sources(self) -> tuple[str, str, str]:
        """Addresses of the reference model, the query lists and the images."""
        archive = f"aachen_v1_1.zip of {self.source}"
        return (
            f"3D-models/ of {self.source}" if self.version == "v1" else archive,
            f"{QUERIES}/ of {self.source}",
            f"images/database_and_query_images.zip and, for v1.1, {archive}",
        )

    def _require_parts(self) -> None:
        model_from, queries_from, images_from = self.sources
        folders = [self.root / "images_upright", self.root / "images" / "images_upright"]
        images = next((folder for folder in folders if folder.is_dir()), None)
        if images is None:
            raise FileNotFoundError(
                f"{self.root} is no Aachen dataset: it has neither images_upright nor "
                f"images/images_upright; unpack {images_from}."
            )
        self.image_dir = images
        if not self.query_lists:
            raise FileNotFoundError(
                f"{self.root} has no query list {QUERIES}/*{_LIST_SUFFIX}; get {queries_from}."
            )
        if not holds_model(self.model_dir) and not self.nvm.is_file():
            raise FileNotFoundError(
                f"{self.root} has no reference model: {self.model_dir} has neither images.bin nor "
                f"{self.nvm.name}; get {model_from}."
            )

    @property
    def pair_list(self) -> Path | None:
        """Pair list of the local feature benchmark, which comes separately.

        Raises:
            FileNotFoundError: it does not exist, and the set, without true poses, needs it.
        """
        path = self._benchmark_pairs
        if not self.model_of_pairs or path.is_file():
            return path if self.model_of_pairs else None
        if (self.root / GROUND_TRUTH).is_file():
            return None
        raise FileNotFoundError(f"There is no pair list {path}; get it from {_PAIRS_FROM}.")

    def reference_model(self) -> pycolmap.Reconstruction:
        """Read the reference model: COLMAP's where it exists, else NVM with the list of cameras."""
        if holds_model(self.model_dir):  # which is faster to read
            return read_model(self.model_dir)
        cameras = {query.name: query.camera for query in read_queries(self.intrinsics)}
        return read_nvm(self.nvm, cameras)

    def queries(self) -> dict[str, list[Query]]:
        """Read the queries of each condition; only of night for the local feature benchmark."""
        conditions = read_conditions(self.query_lists)
        if not self.model_of_pairs:
            return conditions
        if NIGHT not in conditions:
            raise ValueError(
                f"The protocol local-features localizes night queries; {self.root} has those of "
                f"{', '.join(conditions)}."
            )
        return {NIGHT: conditions[NIGHT]}

    def check(self, listed: Iterable[str] = (), progress: bool = False) -> list[FileProblem]:
        """List missing and damaged files, and queries that are in no list."""
        problems = []
        for condition in ("day", NIGHT):
            if condition not in self.query_lists:
                path = self.root / QUERIES / f"{condition}{_LIST_SUFFIX}"
                problems.append(FileProblem(f"There is no query list {path}.", self.sources[1]))
        known = set(listed)
        with suppress(OSError, ValueError):  # the base class reports a damaged list
            conditions = read_conditions(self.query_lists).values()
            known |= {query.name for queries in conditions for query in queries}
        problems += [
            FileProblem(
                f"{self.image_dir / name} is in no query list.",
                "lists: write a line `name MODEL width height p0 p1 …` for it, or leave it out",
            )
            for name in list_images(self.image_dir)
            if name.startswith("query/") and name not in known
        ]
        return problems + super().check(listed, progress)
