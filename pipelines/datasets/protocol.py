"""The protocol of data sets whose queries :mod:`pipelines.localize` localizes.

A data set is one file of this folder with two classes: options, which name the pipeline, and the
data set itself, a :class:`ModelDataset` or a :class:`ScanDataset`, which their ``open`` returns.
CONTRIBUTING.md has the recipe.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pycolmap

from featplug.colmap.added_images import PosedImage
from featplug.io.images import read_image, read_image_size
from featplug.localization.evaluation import RecallRules
from featplug.localization.in_model import ModelLocalizerOptions
from featplug.localization.in_scans import ScanLocalizerOptions
from featplug.localization.queries import Query, base_name, read_poses, read_queries
from featplug.localization.rig_pose import RigFrame
from featplug.metrics.poses import model_cameras
from featplug.utils.parallel import map_ahead
from featplug.utils.progress import progress_bar
from pipelines.run_options import MatchingOptions, PipelineOptions, require_positive

GROUND_TRUTH = "ground_truth.txt"
"""Pose file of the queries; no benchmark's own is public."""


@dataclass(frozen=True)
class _Folder:
    """The first option of ``--help``, which lists base classes first."""

    dataset: Path
    """Folder of the data set as released, or of a set in its layout."""


@dataclass(frozen=True, kw_only=True)
class QueryOptions(MatchingOptions):
    """Options of queries and their matching, the same in the benchmark of localization."""

    pairs: Path | None = None
    """Pair list, a query and a database image a line, to use instead of retrieval, whose pairs
    depend on the feature with vlad."""
    ground_truth: Path | None = None
    """True poses of the queries; by default the dataset's ground_truth.txt, where it has one."""


class _NamedByFolder:
    dataset: Path

    @property
    def data_name(self) -> str:
        """Name of the data set's folder."""
        return self.dataset.resolve().name


@dataclass(frozen=True)
class LocalizeOptions(QueryOptions, PipelineOptions):
    """Options of localization."""

    rules: ClassVar[RecallRules] = RecallRules()
    """Thresholds that the data set's recalls are measured by."""

    num_loc: int | None = None
    """Number of database images that each query is matched with, by retrieval; 50 by default."""
    min_inliers: int = 4
    """Least number of inliers of a pose."""
    num_workers: int | None = None
    """Threads that read scans and estimate poses; as many as cores by default."""
    hloc_logs: bool = False
    """Also write hloc's pickled logs next to the submission, for its visualization."""

    def open(self, progress: bool = False) -> "LocalizationDataset":
        """Return the data set; a demo is rendered.

        Raises:
            FileNotFoundError: it does not exist; the message says where to get it.
        """
        raise NotImplementedError

    def completed(self) -> Self:
        """Return the options with what the data decide of those that are not set.

        Raises:
            FileNotFoundError: the data do not exist.
            ValueError: they are damaged.
        """
        return self

    @property
    def num_retrieved(self) -> int:
        """Number of database images that each query is matched with, by retrieval."""
        return 50 if self.num_loc is None else self.num_loc

    @property
    def pair_list(self) -> Path | None:
        """The given pair list, or None."""
        return self.pairs

    def check(self) -> str:
        """Check the request, and that its numbers are above zero; return the matcher's name."""
        names = ("num_loc", "num_covis", "max_error", "min_inliers", "num_workers")
        require_positive(**{name: getattr(self, name) for name in names if hasattr(self, name)})
        return super().check()


@dataclass(frozen=True)
class InModelOptions(ModelLocalizerOptions, LocalizeOptions):
    """Options of localization in a reference model, wherever its files are."""

    num_covis: int = 20
    """Number of reference images that each reference image is matched with: those that share most
    points with it or, in a model without points, the nearest that look the same way."""
    max_error: float = 12.0
    """Largest error of an inlier of a pose, in pixels."""


@dataclass(frozen=True)
class ModelOptions(_NamedByFolder, InModelOptions, _Folder):
    """Options of localization in the reference model of a data set."""


@dataclass(frozen=True)
class ScanOptions(_NamedByFolder, ScanLocalizerOptions, LocalizeOptions, _Folder):
    """Options of localization in scans."""


class LocalizationDataset(ABC):
    """A data set in a folder: images, queries by condition, and their true poses.

    Raises:
        FileNotFoundError: the folder does not exist.
    """

    source: str
    """Name of the data set, and its address."""
    has_demo = False
    """Whether ``--dataset demo`` renders one."""
    version: str | None = None
    """Version of the data set, for the record."""
    is_benchmark = True
    """Whether all poses are submitted; else accepted ones, and the model with them, are results."""
    masks: Path | None = None
    """Folder of masks, instead of that of the options."""

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
        """Return the queries of each condition, such as day; a sole condition has an empty name.

        Raises:
            FileNotFoundError: a list does not exist.
            ValueError: a list is damaged.
        """

    @property
    def pair_list(self) -> Path | None:
        """Pair list that comes with the data set and is used instead of retrieval."""
        return None

    def image_path(self, name: str) -> Path:
        """Return the file of an image."""
        return self.image_dir / name

    def listed_name(self, name: str) -> str:
        """Return the name that a query has in pair lists and pose files: its full name."""
        return name

    def near(self, query: str) -> Collection[str] | None:
        """Return the database images that a query may be matched with; None for all."""
        return None

    def doubt(self, query: str, cam_from_world: np.ndarray) -> str | None:
        """Return a reason to reject a pose that its inliers support, or None."""
        return None

    def rig_frames(self, queries: Mapping[str, Query]) -> list[RigFrame]:
        """Return the frames of rigs that queries, by their names, were taken in."""
        return []

    def camera_lines(self) -> list[str]:
        """Return how the queries' cameras were chosen, as lines of text; none where given."""
        return []

    def finish(self, images: Sequence[PosedImage]) -> dict[str, Any]:
        """Use the localized queries, after all other results are made; return what to record."""
        return {}

    def prepare(self, outputs: Path, names: Sequence[str]) -> None:  # noqa: B027
        """Prepare the output folder for the images that are used."""

    def submission_name(self, name: str) -> str:
        """Return the name that a query has in the benchmark's files: that without folders."""
        return base_name(name)

    def truth(self) -> dict[str, np.ndarray] | None:
        """Return the true poses of queries, ``cam_from_world`` 3×4, or None if not known."""
        path = self.root / GROUND_TRUTH
        return read_poses(path) if path.is_file() else None

    @abstractmethod
    def check(self, listed: Iterable[str] = (), progress: bool = False) -> "list[FileProblem]":
        """List missing and damaged files; reads all images.

        Args:
            listed: names of more images that must exist, such as those of a pair list.
            progress: show a progress bar.
        """


class ModelDataset(LocalizationDataset):
    """Queries to localize in a model, triangulated from a reference model's cameras and poses."""

    model_of_pairs = False
    """Whether the model has only the images that queries are paired with, all images of a query
    matched with each other (Dusmanu et al. 2019, 5.3), instead of the whole database, matched by
    covisibility."""
    has_own_points = False
    """Whether the points of the reference model serve where they are those of the features."""

    @abstractmethod
    def reference_model(self) -> pycolmap.Reconstruction:
        """Read the reference model: registered images with cameras and poses.

        Its points, where it has some, select the pairs of database images; see ``num_covis``.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file is damaged.
        """

    @property
    def sources(self) -> tuple[str, str, str]:
        """Addresses of the reference model, the query lists and the images."""
        return self.source, self.source, self.source

    def check(self, listed: Iterable[str] = (), progress: bool = False) -> "list[FileProblem]":
        """List missing and damaged files; see :meth:`LocalizationDataset.check`."""
        cameras: dict[str, pycolmap.Camera | None] = dict.fromkeys(listed)
        problems = []
        model_from, queries_from, images_from = self.sources
        for read, source in ((self._database, model_from), (self._queries, queries_from)):
            try:
                cameras |= read()
            except (OSError, ValueError) as error:
                problems.append(FileProblem(str(error), source, stops=True))

        def check(name: str) -> str | None:
            path = self.image_path(name)
            try:
                read_image(path, grayscale=True)
            except (OSError, ValueError) as error:
                return str(error)
            return image_problem(path, cameras[name])

        checked = map_ahead(check, sorted(cameras), os.cpu_count() or 1)
        reasons = progress_bar(checked, "check", len(cameras), "image", progress)
        return problems + [FileProblem(reason, images_from) for reason in reasons if reason]

    def _database(self) -> dict[str, pycolmap.Camera]:
        return model_cameras(self.reference_model())

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
            FileNotFoundError: the file does not exist.
            ValueError: the file is damaged.
        """

    @abstractmethod
    def alignment(self, name: str) -> np.ndarray:
        """Return ``world_from_scan`` 4×4 of a database image's scan.

        Raises:
            FileNotFoundError: its file does not exist.
            ValueError: its file is damaged.
        """


@dataclass(frozen=True)
class FileProblem:
    """A file that is missing, damaged, or not as the others say."""

    reason: str
    remedy: str
    """Address of the file."""
    stops: bool = False
    """Whether no run is possible without the file; others are left out of a run."""


def image_problem(path: Path, camera: pycolmap.Camera | None) -> str | None:
    """Return why an image cannot be read or does not fit its camera, or None; reads its header."""
    try:
        width, height = read_image_size(path)
    except (OSError, ValueError) as error:
        return str(error)
    if camera is None or (camera.width, camera.height) == (width, height):
        return None
    size = f"{camera.width}×{camera.height}"
    return f"{path} has {width}×{height} pixels, its camera in the lists {size}."


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
