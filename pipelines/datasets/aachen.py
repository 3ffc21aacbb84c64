"""Aachen Day-Night: photographs of an old town by day and night, with a reference model by day.

Sattler et al., CVPR 2018, and v1.1 of Zhang et al., IJCV 2021. Read as released, below one folder,
as hloc and the local feature benchmark have it::

    images_upright/{db,query}/…       or images/images_upright/{db,query}/…
    queries/{day,night}_time_queries_with_intrinsics.txt
    3D-models/aachen_cvpr2018_db.nvm and database_intrinsics.txt                           (v1)
    3D-models/aachen_v_1_1/: cameras.bin, images.bin, points3D.bin                         (v1.1)
                             or aachen_v_1_1.nvm and database_intrinsics_v1_1.txt          (v1.1)
    image_pairs_to_match.txt, image_pairs_to_match_v1_1.txt      of the local feature benchmark

Sets of one's own have the same layout, may have other conditions than day and night, and may add
``ground_truth.txt``, a pose file of the queries under their full names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pycolmap

from featplug.colmap.model_files import read_model
from featplug.colmap.nvm import read_nvm
from featplug.io.images import list_images, read_image
from featplug.localization.queries import Query, read_queries
from featplug.metrics.poses import model_cameras
from featplug.utils.parallel import map_ahead
from featplug.utils.progress import progress_bar
from pipelines.datasets.problem import Problem, image_problem

QUERIES = "queries"
_LIST_SUFFIX = "_time_queries_with_intrinsics.txt"
_ALL_FROM = (
    "Aachen Day-Night: https://www.visuallocalization.net/datasets, or "
    "https://data.ciirc.cvut.cz/public/projects/2020VisualLocalization/Aachen-Day-Night/"
)
_IMAGES_FROM = f"images/database_and_query_images.zip and, for v1.1, aachen_v1_1.zip of {_ALL_FROM}"
_MODELS_FROM = {
    "v1": f"3D-models/ of {_ALL_FROM}",
    "v1.1": f"aachen_v1_1.zip of {_ALL_FROM}",
}
_PAIRS_FROM = (
    "local_feature_evaluation/data/aachen-day-night/ of "
    "https://github.com/tsattler/visuallocalizationbenchmark"
)

Version = Literal["v1", "v1.1"]


@dataclass(frozen=True)
class Aachen:
    """A tree of Aachen Day-Night; image names are relative to ``image_dir``."""

    root: Path
    version: Version
    image_dir: Path

    @property
    def model_dir(self) -> Path:
        """Where the reference model is."""
        models = self.root / "3D-models"
        return models if self.version == "v1" else models / "aachen_v_1_1"

    @property
    def nvm(self) -> Path:
        """The reference model as VisualSFM writes it."""
        name = "aachen_cvpr2018_db.nvm" if self.version == "v1" else "aachen_v_1_1.nvm"
        return self.model_dir / name

    @property
    def intrinsics(self) -> Path:
        """List of the reference images' cameras."""
        suffix = "" if self.version == "v1" else "_v1_1"
        return self.model_dir / f"database_intrinsics{suffix}.txt"

    @property
    def local_feature_pairs(self) -> Path:
        """Pair list of the local feature benchmark, which comes apart from the data set."""
        suffix = "" if self.version == "v1" else "_v1_1"
        return self.root / f"image_pairs_to_match{suffix}.txt"

    @property
    def ground_truth(self) -> Path:
        """Pose file of the queries; the benchmark's own is not public."""
        return self.root / "ground_truth.txt"

    @property
    def query_lists(self) -> dict[str, Path]:
        """Condition, such as day, to its query list."""
        lists = sorted((self.root / QUERIES).glob(f"*{_LIST_SUFFIX}"))
        return {path.name.removesuffix(_LIST_SUFFIX): path for path in lists}

    @property
    def has_colmap_model(self) -> bool:
        """Whether the reference model is there in COLMAP's form, which is read faster."""
        return any((self.model_dir / f"images.{suffix}").is_file() for suffix in ("bin", "txt"))


def open_aachen(root: Path, version: Version | None = None) -> Aachen:
    """Find out which version and layout a folder has.

    Args:
        root: the folder.
        version: where both are there; the newer if None.

    Raises:
        FileNotFoundError: the folder or its main parts are not there; says where to get them.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no dataset {root}. Get {_ALL_FROM}, and name its folder by --dataset; "
            "--dataset demo needs no download."
        )
    if version is None:
        version = "v1.1" if (root / "3D-models" / "aachen_v_1_1").is_dir() else "v1"
    folders = [root / "images_upright", root / "images" / "images_upright"]
    images = next((folder for folder in folders if folder.is_dir()), None)
    if images is None:
        raise FileNotFoundError(
            f"{root} is no Aachen dataset: it has neither images_upright nor "
            f"images/images_upright; unpack {_IMAGES_FROM}."
        )
    dataset = Aachen(root, version, images)
    if not dataset.query_lists:
        raise FileNotFoundError(
            f"{root} has no query list {QUERIES}/*{_LIST_SUFFIX}; get {QUERIES}/ of {_ALL_FROM}."
        )
    if not dataset.has_colmap_model and not dataset.nvm.is_file():
        raise FileNotFoundError(
            f"{root} has no reference model: {dataset.model_dir} has neither images.bin nor "
            f"{dataset.nvm.name}; get {_MODELS_FROM[version]}."
        )
    return dataset


def read_reference_model(dataset: Aachen) -> pycolmap.Reconstruction:
    """Read the reference model: COLMAP's where it is there, else NVM with the list of cameras.

    Raises:
        FileNotFoundError: the list of cameras is not there.
        ValueError: a file is damaged.
    """
    if dataset.has_colmap_model:
        return read_model(dataset.model_dir)
    cameras = {query.name: query.camera for query in read_queries(dataset.intrinsics)}
    return read_nvm(dataset.nvm, cameras)


def read_query_lists(dataset: Aachen) -> dict[str, list[Query]]:
    """Read the queries of each condition.

    Raises:
        ValueError: a list is damaged or empty, or a query is in two of them.
    """
    queries = {condition: read_queries(path) for condition, path in dataset.query_lists.items()}
    seen: dict[str, str] = {}
    for condition, listed in queries.items():
        for query in listed:
            if (other := seen.setdefault(query.name, condition)) != condition:
                raise ValueError(
                    f"{query.name!r} is in the query lists of {other} and of {condition} in "
                    f"{dataset.root / QUERIES}; remove it from one."
                )
    return queries


def check_dataset(
    dataset: Aachen, listed: Iterable[str] = (), progress: bool = False
) -> list[Problem]:
    """Look for missing and damaged files; reads all images.

    Args:
        dataset: what to check.
        listed: names of more images that must be there, such as those of a pair list.
        progress: show a progress bar.
    """
    problems = []
    sizes: dict[str, tuple[int, int] | None] = dict.fromkeys(listed)
    models_from = _MODELS_FROM[dataset.version]
    try:
        model = read_reference_model(dataset)
        sizes |= {name: (c.width, c.height) for name, c in model_cameras(model).items()}
        if not model.points3D:
            problems.append(Problem(f"{dataset.model_dir} has no points.", models_from))
    except (OSError, ValueError) as error:
        problems.append(Problem(str(error), models_from))
    for condition in ("day", "night"):
        if condition not in dataset.query_lists:
            path = dataset.root / QUERIES / f"{condition}{_LIST_SUFFIX}"
            problems.append(Problem(f"There is no query list {path}.", f"queries/ of {_ALL_FROM}"))
    try:
        for queries in read_query_lists(dataset).values():
            sizes |= {q.name: (q.camera.width, q.camera.height) for q in queries}
    except (OSError, ValueError) as error:
        problems.append(Problem(str(error), f"queries/ of {_ALL_FROM}"))
    on_disk = set(list_images(dataset.image_dir))
    problems += [
        Problem(
            f"{dataset.image_dir / name} is in no query list.",
            "lists: write a line `name MODEL width height p0 p1 …` for it, or leave it out",
        )
        for name in sorted(on_disk - set(sizes))
        if name.startswith("query/")
    ]

    def check(name: str) -> str | None:
        path = dataset.image_dir / name
        if (reason := image_problem(path, sizes[name])) is not None:
            return reason
        try:
            read_image(path, grayscale=True)
        except ValueError as error:
            return str(error)
        return None

    found = map_ahead(check, sorted(sizes), os.cpu_count() or 1)
    reasons = progress_bar(found, "check", len(sizes), "image", progress)
    return problems + [Problem(reason, _IMAGES_FROM) for reason in reasons if reason]


def local_feature_pairs(dataset: Aachen) -> Path:
    """Give the local feature benchmark's pair list.

    Raises:
        FileNotFoundError: it is not there; says where to get it.
    """
    path = dataset.local_feature_pairs
    if not path.is_file():
        raise FileNotFoundError(f"There is no pair list {path}; get it from {_PAIRS_FROM}.")
    return path
