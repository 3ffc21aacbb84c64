"""References that queries are localized in: a model, triangulated from known poses, or scans."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from featplug.colmap.added_images import PosedImage, with_images
from featplug.colmap.model_files import read_model, write_model
from featplug.io.files import remove
from featplug.io.images import MAX_MEGAPIXELS, read_image
from featplug.io.match_store import MatchReader
from featplug.io.metric_table import with_units
from featplug.io.names import checked_name
from featplug.io.pair_lists import Pair, unique_pairs, write_pairs
from featplug.io.parts.feature_parts import open_features
from featplug.io.store import FeatureReader
from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.file_localizer import FileLocalizer
from featplug.localization.in_model import ModelLocalizer, ModelPoints, has_points_of
from featplug.localization.in_scans import ScanLocalizer, WorldPoints, images_with_matches
from featplug.localization.pose_verification import ColouredScan, PoseVerifier
from featplug.localization.scans import SamplingOptions, ScanPointReader, sample_scans
from featplug.metrics.poses import (
    camera_centres,
    model_cameras,
    model_poses,
    reconstruction_statistics,
)
from featplug.plots import ground_axes
from featplug.stages.map import SPARSE
from featplug.stages.pairs import covisible, from_poses
from featplug.stages.triangulate import Triangulation, triangulate_known_poses
from pipelines.datasets.protocol import (
    InModelOptions,
    LocalizationDataset,
    LocalizeOptions,
    ModelDataset,
    ScanDataset,
    ScanOptions,
)
from pipelines.given_files import Features
from pipelines.run import Stages

MODEL = "sfm"
"""Name of the folder of the triangulated model in the output folder."""

Retrieved = Mapping[str, Sequence[str]]
"""Query to the database images that it was matched with."""


class Reference(ABC):
    """The model or the scans of a data set."""

    query_stage: str
    """Name of the stage that matches the queries."""
    skipped: dict[str, str]
    """Images that :meth:`localizer` could not use, and why."""
    has_points = False
    """Whether queries are matched with the reference model's own points."""

    @abstractmethod
    def images(self, given: Sequence[Pair]) -> dict[str, pycolmap.Camera | None]:
        """Return the database images, of given pairs or all, with the cameras that are known."""

    def examine(self, features: Features) -> None:  # noqa: B027
        """Learn which features the images have, before pairs are selected."""

    def database_pairs(
        self, names: set[str], given: Sequence[Pair], query_pairs: Sequence[Pair]
    ) -> list[Pair]:
        """Return the pairs of database images to match; none for scans.

        Raises:
            ValueError: the reference needs pairs, and none have features.
        """
        return []

    def build(  # noqa: B027
        self, stages: Stages, features: Features, pairs: Sequence[Pair], working: Path
    ) -> None:
        """Make the model, in the working folder, before the queries are matched; none for scans."""

    @abstractmethod
    def localizer(
        self, stages: Stages, features: FeatureReader, matches: MatchReader, retrieved: Retrieved
    ) -> AbstractContextManager[FileLocalizer]:
        """Return the localizer of the queries."""

    def write_with(self, images: Sequence[PosedImage], working: Path) -> None:  # noqa: B027
        """Write the model with more images in it, to a folder; scans are no model."""

    @abstractmethod
    def metrics(self) -> dict[str, Any]:
        """Return figures of the reference, without the queries."""

    @abstractmethod
    def cameras(self, poses: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the axes of the ground, 2×3, and the cameras of the database, N×3."""


class TriangulatedModel(Reference):
    """A model of the features' own points, triangulated from a reference model's poses."""

    query_stage = "match_queries"

    def __init__(self, options: InModelOptions, dataset: ModelDataset) -> None:
        self.skipped = {}
        self.options = options
        self.dataset = dataset
        self.reference = dataset.reference_model()
        self.sfm: Triangulation | None = None
        """The triangulation, unless the points of the reference model serve."""
        """Whether the points of the reference model are those of the features."""

    def images(self, given: Sequence[Pair]) -> dict[str, pycolmap.Camera | None]:
        """Return all images, or those in the given pairs where these define the model, too."""
        cameras: dict[str, pycolmap.Camera | None] = {}
        for name, camera in model_cameras(self.reference).items():
            try:
                cameras[checked_name(name)] = camera
            except ValueError as error:
                self.skipped[name] = str(error)
        has_pairs_of_database = any(cameras.keys() >= set(pair) for pair in given)
        if has_pairs_of_database or (given and self.dataset.model_of_pairs):
            paired = {name for pair in given for name in pair}
            cameras = {name: camera for name, camera in cameras.items() if name in paired}
        return cameras

    def examine(self, features: Features) -> None:
        """Find out whether the reference model has the features' own points."""
        if self.dataset.has_own_points:
            with open_features(features.path) as reader:
                self.has_points = has_points_of(self.reference, reader)

    def database_pairs(
        self, names: set[str], given: Sequence[Pair], query_pairs: Sequence[Pair]
    ) -> list[Pair]:
        """Return given pairs, else pairs of covisible images, or of images of one query.

        None where the points of the reference model serve. Of a reference model without points,
        near images that look the same way are paired.
        """
        if self.has_points:
            return []
        pairs: Sequence[Pair] = [pair for pair in given if names.issuperset(pair)]
        if not pairs and self.dataset.model_of_pairs:
            pairs = pairs_of_queries(query_pairs)
        elif not pairs and self.reference.points3D:
            pairs = covisible(self.reference, self.options.num_covis)
        elif not pairs:
            poses = model_poses(self.reference)
            usable_poses = {name: pose for name, pose in poses.items() if name in names}
            pairs = from_poses(usable_poses, self.options.num_covis)
        usable = unique_pairs(pair for pair in pairs if names.issuperset(pair))
        if not usable:
            raise ValueError(
                "No two database images that have features are paired; ask for more pairs by "
                "--num-covis or --pairs."
            )
        return usable

    def build(
        self, stages: Stages, features: Features, pairs: Sequence[Pair], working: Path
    ) -> None:
        """Match the pairs of the database, and triangulate the points unless there is the model."""
        if self.has_points:
            self.model = self.reference
            return
        outputs = self.options.output_dir
        write_pairs(outputs / "pairs-db.txt", pairs)
        matches = stages.match("match", features, outputs / "pairs-db.txt")
        with stages.recorder.stage("triangulate"):
            self.sfm = triangulate_known_poses(
                self.reference,
                self.dataset.image_dir,
                pairs,
                features.path,
                matches,
                working / MODEL,
                seed=self.options.seed,
                max_megapixels=self.options.extraction.max_megapixels,
                earlier=outputs / MODEL,
            )
            if self.sfm.model_dir.parent != working / MODEL:
                remove(working / MODEL)  # which a failed run of other options made
            self.model = read_model(self.sfm.model_dir)
        stages.reused["triangulate"] = self.model.num_reg_images() if self.sfm.is_reused else 0

    @contextmanager
    def localizer(
        self, stages: Stages, features: FeatureReader, matches: MatchReader, retrieved: Retrieved
    ) -> Iterator[FileLocalizer]:
        """Localize in the triangulated model."""
        options = self.options
        pose = AbsolutePoseOptions(options.max_error, options.min_inliers, seed=options.seed)
        points = ModelPoints(self.model)
        yield ModelLocalizer(features, matches, pose, points, options)

    def write_with(self, images: Sequence[PosedImage], working: Path) -> None:
        """Write the model that the queries were localized in, with more images in it."""
        write_model(with_images(self.model, images, self.options.max_error), working / SPARSE)

    def metrics(self) -> dict[str, Any]:
        """Return figures of the triangulated model."""
        statistics = reconstruction_statistics(self.model)
        fitting = (
            {}
            if self.sfm is None
            else {"matches_that_fit_the_poses": 100 * self.sfm.check.inlier_ratio}
        )
        return with_units(
            {
                "database_images": statistics.num_registered,
                "sparse_points": statistics.num_points,
                "mean_track_length": statistics.mean_track_length,
                "mean_reprojection_error": statistics.mean_reprojection_error,
                **fitting,
            }
        )

    def cameras(self, poses: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ground that the database's cameras stand upright on, and their centres."""
        database = np.stack(list(model_poses(self.reference).values()))
        return ground_axes(database), camera_centres(database)


class Scans(Reference):
    """Scans with the points of the keypoints of database images."""

    query_stage = "match"

    def __init__(self, options: ScanOptions, dataset: ScanDataset) -> None:
        self.skipped = {}
        self.options = options
        self.dataset = dataset
        self.alignments: dict[str, np.ndarray] = {}
        """Used database image to the alignment of its scan."""

    def images(self, given: Sequence[Pair]) -> dict[str, pycolmap.Camera | None]:
        """Return the database images of the given pairs, or all."""
        return dict.fromkeys([name for _, name in given] or self.dataset.database_names())

    @contextmanager
    def localizer(
        self, stages: Stages, features: FeatureReader, matches: MatchReader, retrieved: Retrieved
    ) -> Iterator[FileLocalizer]:
        """Localize with points from the scans whose images have matches with queries."""
        options, path = self.options, features.path
        pose = AbsolutePoseOptions(min_num_inliers=options.min_inliers, seed=options.seed)
        with stages.recorder.stage("scan"):
            alignments, skipped = {}, {}
            for name in images_with_matches(retrieved, matches, options):
                try:
                    alignments[name] = self.dataset.alignment(name)
                except (OSError, ValueError) as error:
                    skipped[name] = str(error)
            scans = sample_scans(
                {name: self.dataset.scan_path(name) for name in alignments},
                self.dataset.read_scan,
                path,
                options.output_dir / f"scan-points-{path.stem}.h5",
                SamplingOptions(
                    options.extraction.overwrite,
                    int(options.memory_gib * 2**30),
                    options.num_workers,
                ),
                stages.progress,
            )
        stages.reused["scan"] = scans.num_present
        self.skipped = skipped | scans.skipped
        self.alignments = {n: a for n, a in alignments.items() if n not in scans.skipped}
        with ScanPointReader(scans.path) as scan_points:
            points = WorldPoints(scan_points, alignments)
            verifier = None
            if options.pose_verification == "dense":
                limit = options.extraction.max_megapixels
                verifier = PoseVerifier(
                    lambda name: coloured_scan(self.dataset, name, limit),
                    lambda name: read_grey(self.dataset.image_path(name), limit),
                )
            yield ScanLocalizer(features, matches, pose, points, options, verifier)

    def metrics(self) -> dict[str, Any]:
        """Return the number of scans that were used."""
        return with_units({"scans_used": len(self.alignments)})

    def cameras(self, poses: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ground that the queries stand upright on, and the places of the scans."""
        places = np.stack([alignment[:3, 3] for alignment in self.alignments.values()])
        return ground_axes(np.stack(list(poses.values()))), np.unique(places, axis=0)


def read_grey(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Read the luma of an image; see :func:`read_image`."""
    return read_image(path, grayscale=True, max_megapixels=max_megapixels)


def coloured_scan(
    dataset: ScanDataset, name: str, max_megapixels: float = MAX_MEGAPIXELS
) -> ColouredScan:
    """Read the points of a database image in the world, with the grey values of the image.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged, or the image and its scan differ in size.
    """
    points, path = dataset.read_scan(dataset.scan_path(name)), dataset.image_path(name)
    grey, alignment = read_grey(path, max_megapixels), dataset.alignment(name)
    if grey.shape != points.shape[:2]:
        sizes = ["×".join(map(str, array.shape[1::-1])) for array in (grey, points)]
        raise ValueError(f"{path} has {sizes[0]} pixels, its scan {sizes[1]}; get both again.")
    known = np.isfinite(points).all(axis=2)
    return ColouredScan(points[known] @ alignment[:3, :3].T + alignment[:3, 3], grey[known])


def reference_of(options: LocalizeOptions, dataset: LocalizationDataset) -> Reference:
    """Return the reference of a data set."""
    if isinstance(options, InModelOptions) and isinstance(dataset, ModelDataset):
        return TriangulatedModel(options, dataset)
    if isinstance(options, ScanOptions) and isinstance(dataset, ScanDataset):
        return Scans(options, dataset)
    raise TypeError(f"{options!r} cannot localize in {type(dataset).__name__}.")


def pairs_of_queries(query_pairs: Sequence[Pair]) -> list[Pair]:
    """Pair the images that one query is paired with, all with all (Dusmanu et al. 2019, 5.3)."""
    sets: dict[str, list[str]] = {}
    for query, name in query_pairs:
        sets.setdefault(query, []).append(name)
    return unique_pairs(pair for names in sets.values() for pair in combinations(names, 2))
