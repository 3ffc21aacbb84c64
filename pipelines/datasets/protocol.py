"""What a data set offers so that :mod:`pipelines.localize` can localize its queries.

A data set is one file of this folder. It has two classes: options, which name the pipeline, and the
data set itself, which their ``open`` returns: a :class:`ModelDataset` has a reference model with
known cameras and poses, a :class:`ScanDataset` a 3-D point for each pixel of its database images.
CONTRIBUTING.md has the recipe.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import numpy as np
import pycolmap

from featplug.io.images import read_image, read_image_size
from featplug.localization.evaluation import RecallRules
from featplug.localization.in_model import ModelLocalizerOptions
from featplug.localization.in_scans import ScanLocalizerOptions
from featplug.localization.queries import Query, read_poses, read_queries
from featplug.metrics.poses import model_cameras
from featplug.utils.parallel import map_ahead
from featplug.utils.progress import progress_bar
from featplug.utils.suggestions import unknown_name
from pipelines.run import PipelineOptions, require_positive

GROUND_TRUTH = "ground_truth.txt"
"""Pose file of the queries; no benchmark's own is public."""


@dataclass(frozen=True)
class _Folder:
    """A base of its own, so that ``--help`` begins with it."""

    dataset: Path
    """Folder of the data set as released, or of a set in its layout."""


@dataclass(frozen=True)
class LocalizeOptions(PipelineOptions, _Folder):
    """What to localize, and how."""

    pipeline: ClassVar[str]
    """Name of the pipeline in records and in the names of output folders."""
    rules: ClassVar[RecallRules] = RecallRules()
    """Thresholds that the data set's recalls are measured by."""

    pairs: Path | None = None
    """Pair list, a query and a database image a line, in place of retrieval."""
    num_loc: int | None = None
    """Number of database images that each query is matched with, by retrieval; 50 by default."""
    ground_truth: Path | None = None
    """True poses of the queries; by default the dataset's ground_truth.txt, where it has one."""
    min_inliers: int = 4
    """Number of inliers below which there is no pose."""
    num_workers: int | None = None
    """Threads that read scans and estimate poses; as many as cores by default."""
    hloc_logs: bool = False
    """Also write hloc's pickled logs next to the submission, for its visualization."""

    def open(self, progress: bool = False) -> LocalizationDataset:
        """Find the data set, or render it where it is a demo.

        Raises:
            FileNotFoundError: it does not exist; the message has where to get it.
        """
        raise NotImplementedError

    @property
    def num_retrieved(self) -> int:
        """Number of database images that each query is matched with, by retrieval."""
        return 50 if self.num_loc is None else self.num_loc

    @property
    def settings(self) -> list[str]:
        """Options that have results of their own, for the name of the output folder."""
        return []

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        name = self.dataset.resolve().name
        return self.outputs or self.default_outputs(self.pipeline, name, *self.settings)

    def check_numbers(self) -> None:
        """Check the ranges of numbers.

        Raises:
            ValueError: one is out of range.
        """
        names = ("num_loc", "num_covis", "max_error", "min_inliers", "num_workers")
        require_positive(**{name: getattr(self, name) for name in names if hasattr(self, name)})


@dataclass(frozen=True)
class ModelOptions(ModelLocalizerOptions, LocalizeOptions):
    """What to localize in a reference model, and how."""

    num_covis: int = 20
    """Number of reference images that each reference image is matched with, by covisibility."""
    max_error: float = 12.0
    """Error of an inlier of a pose, in pixels."""


@dataclass(frozen=True)
class ScanOptions(ScanLocalizerOptions, LocalizeOptions):
    """What to localize in scans, and how."""


class LocalizationDataset(ABC):
    """Images, queries by condition, and what is known of them.

    Args:
        root: folder of the data set.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    source: str
    """Name of the data set, and where to get it."""
    has_demo = False
    """Whether ``--dataset demo`` renders one."""
    version: str | None = None
    """Version of the data set, for the record."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.image_dir = self.root
        """Folder that the names of images are relative to."""
        if not self.root.is_dir():
            demo = "; --dataset demo needs no download" if self.has_demo else ""
            raise FileNotFoundError(
                f"There is no dataset {root}. Get {self.source}, and name its folder by --dataset"
                f"{demo}."
            )

    @abstractmethod
    def queries(self) -> dict[str, list[Query]]:
        """Return condition, such as day, to its queries; the name is empty where there is one only.

        Raises:
            FileNotFoundError: a list does not exist.
            ValueError: a list is damaged.
        """

    @property
    def pair_list(self) -> Path | None:
        """Pair list that comes with the data set and is used in place of retrieval."""
        return None

    def truth(self) -> dict[str, np.ndarray] | None:
        """Return the true poses of queries, ``cam_from_world`` 3×4, or None."""
        path = self.root / GROUND_TRUTH
        return read_poses(path) if path.is_file() else None

    @abstractmethod
    def check(self, listed: Iterable[str] = (), progress: bool = False) -> list[FileProblem]:
        """Look for missing and damaged files; reads all images.

        Args:
            listed: names of more images that must exist, such as those of a pair list.
            progress: show a progress bar.
        """


class ModelDataset(LocalizationDataset):
    """Queries to localize in a model, triangulated from a reference model's cameras and poses."""

    model_of_pairs = False
    """Whether the model is of the images that queries are paired with, all images of a query
    matched with each other (Dusmanu et al. 2019, 5.3), in place of the whole database matched by
    covisibility."""

    @abstractmethod
    def reference_model(self) -> pycolmap.Reconstruction:
        """Read the reference model: registered images with cameras and poses, and their points.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file is damaged.
        """

    @property
    def sources(self) -> tuple[str, str, str]:
        """Where to get the reference model, the query lists and the images."""
        return self.source, self.source, self.source

    def check(self, listed: Iterable[str] = (), progress: bool = False) -> list[FileProblem]:
        """Look for missing and damaged files; see :meth:`LocalizationDataset.check`."""
        sizes: dict[str, tuple[int, int] | None] = dict.fromkeys(listed)
        problems = []
        model_from, queries_from, images_from = self.sources
        for read, source in ((self._database, model_from), (self._queries, queries_from)):
            try:
                sizes |= {name: (camera.width, camera.height) for name, camera in read().items()}
            except (OSError, ValueError) as error:
                problems.append(FileProblem(str(error), source))

        def check(name: str) -> str | None:
            path = self.image_dir / name
            try:
                read_image(path, grayscale=True)
            except (OSError, ValueError) as error:
                return str(error)
            return image_problem(path, sizes[name])

        checked = map_ahead(check, sorted(sizes), os.cpu_count() or 1)
        reasons = progress_bar(checked, "check", len(sizes), "image", progress)
        return problems + [FileProblem(reason, images_from) for reason in reasons if reason]

    def _database(self) -> dict[str, pycolmap.Camera]:
        model = self.reference_model()
        if not model.points3D:
            raise ValueError(f"The reference model of {self.root} has no points.")
        return model_cameras(model)

    def _queries(self) -> dict[str, pycolmap.Camera]:
        return {query.name: query.camera for q in self.queries().values() for query in q}


class ScanDataset(LocalizationDataset):
    """Queries to localize in scans that have a 3-D point for each pixel of a database image."""

    @abstractmethod
    def database_names(self) -> list[str]:
        """List the database images."""

    @abstractmethod
    def scan_path(self, name: str) -> Path:
        """Return the file of a database image's scan."""

    @abstractmethod
    def read_scan(self, path: Path) -> np.ndarray:
        """Read the points of an image's pixels in the scan's frame: H×W×3, NaN for none.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged.
        """

    @abstractmethod
    def alignment(self, name: str) -> np.ndarray:
        """Return ``world_from_scan`` 4×4 of a database image's scan.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
        """


@dataclass(frozen=True)
class FileProblem:
    """A file that is missing or damaged."""

    reason: str
    remedy: str
    """Where to get the file."""


def image_problem(path: Path, size: tuple[int, int] | None) -> str | None:
    """Return what is wrong with an image's header, or None.

    Args:
        path: the image.
        size: (width, height) that it must have; any if None.
    """
    try:
        found = read_image_size(path)
    except (OSError, ValueError) as error:
        return str(error)
    if size is not None and size != found:
        return (
            f"{path} has {found[0]}×{found[1]} pixels, its camera in the lists {size[0]}×{size[1]}."
        )
    return None


def read_conditions(lists: Mapping[str, Path]) -> dict[str, list[Query]]:
    """Read a query list for each condition.

    Raises:
        ValueError: a list is damaged or empty, or a query is in two of them.
    """
    queries = {condition: read_queries(path) for condition, path in lists.items()}
    seen: dict[str, str] = {}
    for condition, listed in queries.items():
        for query in listed:
            if (other := seen.setdefault(query.name, condition)) != condition:
                raise ValueError(
                    f"{query.name!r} is in the query lists of {other} and of {condition} in "
                    f"{lists[condition].parent}; remove it from one."
                )
    return queries


def find_options(pipeline: str) -> type[LocalizeOptions]:
    """Return the options of a pipeline, whose data set is in a file of this folder.

    Raises:
        ValueError: there is no such pipeline.
    """
    folder = Path(__file__).parent
    for path in sorted(folder.glob("*.py")):
        import_module(f"{__package__}.{path.stem}")
    known = _pipelines(LocalizeOptions)
    if pipeline not in known:
        raise unknown_name("localization pipeline", pipeline, sorted(known))
    return known[pipeline]


def _pipelines(base: type[LocalizeOptions]) -> dict[str, type[LocalizeOptions]]:
    known = {}
    for options in base.__subclasses__():
        if "pipeline" in vars(options):
            known[options.pipeline] = options
        known |= _pipelines(options)
    return known
