"""Mapping by clusters of images: each one is mapped on its own, then all are aligned and merged.

A cluster is a task from a database to models on disk, which needs nothing of the others, so memory
is that of one cluster until all are merged. The models of clusters are kept, and used again where
they were made from the same images, keypoints and verified pairs, with the same options.
"""

import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from featplug.colmap.cross_matches import join_matched_tracks
from featplug.colmap.database_rows import open_database, remove_database
from featplug.colmap.database_subset import subset_hash, write_subset
from featplug.colmap.geometric_verification import HISTOGRAM, nonzero_pairs
from featplug.colmap.merged_models import merge_models
from featplug.colmap.model_alignment import AlignedGroup, align_all, model_arrays
from featplug.colmap.model_files import read_model
from featplug.colmap.view_graph import cluster_images
from featplug.io.artifact import Artifact, Provenance
from featplug.io.files import discard

REVISION = 1
"""Revision of the models of clusters, see :mod:`featplug.io.artifact`."""
_FEWEST_IMAGES = 2
"""Number of images from which a cluster is mapped."""
_MAX_ERROR, _MIN_ANGLE = 4.0, 1.5
"""Largest reprojection error of an observation in pixels and smallest angle between the rays of a
point in degrees, as in COLMAP's incremental mapper."""
_MAX_ROUNDS, _FEW_REMOVED = 5, 5e-4
"""Number of rounds of bundle adjustment and removal at most, and fraction of observations removed
below which it ends, as in COLMAP's incremental mapper."""
Adjust = Callable[[pycolmap.Reconstruction, bool], object]
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterOptions:
    """How clusters are made and kept."""

    max_images: int
    """Largest number of images of a cluster, without those of its neighbours."""
    overlap: int
    """Number of images that neighbouring clusters share."""
    folder: Path | None = None
    """Folder that keeps the models of clusters; None for a temporary one."""


@dataclass(frozen=True)
class MappedCluster:
    """What became of a cluster of images."""

    num_images: int
    """Number of images that only this cluster has as its own."""
    num_shared: int
    """Number of images of its neighbours."""
    num_registered: int
    """Number of its images that its models have."""
    is_reused: bool
    """Whether an earlier run had mapped it."""
    model: int | None = None
    """Index of the merged model that its largest model is part of, or None."""


def map_clusters(
    database_path: Path,
    options: ClusterOptions,
    conf: Mapping[str, Any],
    map_cluster: Callable[[Path, Path], object],
    adjust: Adjust,
    on_images: Callable[[int], Any],
) -> tuple[dict[int, pycolmap.Reconstruction], list[MappedCluster]]:
    """Make models of the images of a database, by clusters.

    Args:
        database_path: a database with two-view geometries.
        options: how clusters are made and kept.
        conf: options that change the models of clusters, JSON values.
        map_cluster: makes models from a database, numbered folders in a folder, by any mapper.
        adjust: adjusts all poses and points of a model, with a robust loss if its second argument
            says so.
        on_images: called with the number of its images when a cluster is finished.

    Returns:
        Models by number, that with most images first, and what became of the clusters.

    Raises:
        ValueError: the disk is full.
    """
    graph = _ViewGraph.read(database_path)
    clusters = graph.clusters(options)
    models: list[pycolmap.Reconstruction] = []
    cluster_of: list[int] = []
    mapped: list[MappedCluster] = []
    with _cluster_folder(options.folder) as folder:
        for number, (own, shared) in enumerate(clusters):
            path = folder / f"{number:05d}"
            images = own | shared
            made, is_reused = _map_cluster(database_path, images, path, conf, map_cluster)
            models += made
            cluster_of += [number] * len(made)
            registered = set().union(*(model.reg_image_ids() for model in made))
            mapped.append(MappedCluster(len(own), len(shared), len(registered), is_reused))
            on_images(len(own))
        _discard_others(folder, len(clusters))
    arrays = [model_arrays(model) for model in models]
    merged: dict[int, pycolmap.Reconstruction] = {}
    for group in _groups_with_own_images(align_all(arrays), models):
        number = len(merged)
        for index in group.members:
            of_cluster = mapped[cluster_of[index]]
            if of_cluster.model is None:
                mapped[cluster_of[index]] = replace(of_cluster, model=number)
        if len(group.members) == 1:
            merged[number] = models[group.members[0]]
            continue
        model = merge_models(models, arrays, group)
        _refine(model, adjust)
        join_matched_tracks(model, database_path, graph.pairs_between(clusters))
        _refine(model, adjust)
        merged[number] = model
    _warn_of_clusters_left_out(mapped)
    return merged, mapped


@dataclass(frozen=True)
class _ViewGraph:
    """The verified pairs of a database, between frames: images of a rig at one time."""

    frames: list[list[int]]
    """Numbers of the images of each frame."""
    inliers: dict[tuple[int, int], int]
    """Pair of image numbers to its number of inlier matches, enough for COLMAP's mappers."""

    @classmethod
    def read(cls, database_path: Path) -> "_ViewGraph":
        with open_database(database_path) as database:
            frames = [
                sorted(
                    data.id
                    for data in frame.data_ids
                    if data.sensor_id.type == pycolmap.SensorType.CAMERA
                )
                for frame in database.read_all_frames()
            ]
            counts = nonzero_pairs(*database.read_two_view_geometry_num_inliers())
        return cls(frames, {pair: num for pair, num in counts.items() if num >= HISTOGRAM[0]})

    def clusters(self, options: ClusterOptions) -> list[tuple[set[int], set[int]]]:
        """Return the own and the shared images of each cluster."""
        frame_of = {
            image_id: number for number, images in enumerate(self.frames) for image_id in images
        }
        pairs = np.array([(frame_of[a], frame_of[b]) for a, b in self.inliers]).reshape(-1, 2)
        made = cluster_images(
            pairs,
            np.array(list(self.inliers.values())),
            np.array([len(images) for images in self.frames]),
            options.max_images,
            options.overlap,
        )
        found = [
            (self._images(cluster.own.tolist()), self._images(cluster.shared.tolist()))
            for cluster in made
        ]
        return [each for each in found if len(each[0] | each[1]) >= _FEWEST_IMAGES]

    def _images(self, frames: Collection[int]) -> set[int]:
        return {image_id for number in frames for image_id in self.frames[number]}

    def pairs_between(
        self, clusters: Sequence[tuple[set[int], set[int]]]
    ) -> Iterator[tuple[int, int]]:
        """Yield the pairs of images that are together in no cluster."""
        clusters_of: dict[int, set[int]] = {}
        for number, (own, shared) in enumerate(clusters):
            for image_id in own | shared:
                clusters_of.setdefault(image_id, set()).add(number)
        for id0, id1 in self.inliers:
            if not clusters_of.get(id0, set()) & clusters_of.get(id1, set()):
                yield id0, id1


@contextmanager
def _cluster_folder(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def _map_cluster(
    database_path: Path,
    images: Collection[int],
    path: Path,
    conf: Mapping[str, Any],
    map_cluster: Callable[[Path, Path], object],
) -> tuple[list[pycolmap.Reconstruction], bool]:
    """Return the models of a cluster, in the order of their numbers, and whether they were there.

    A cluster of which nothing can be reconstructed has an empty folder.
    """
    provenance = Provenance(
        "models of a cluster",
        {**conf, "pycolmap": pycolmap.__version__},
        inputs={"images_and_matches": subset_hash(database_path, images)},
        revisions={"partitioned": REVISION},
    )

    def write(part: Path) -> None:
        part.mkdir()
        database = part / "database.db"
        write_subset(database_path, images, database)
        map_cluster(database, part)
        remove_database(database)

    artifact = Artifact(path, provenance)
    is_reused = artifact.reason_to_make() is None
    if not is_reused:
        artifact.make(write, _read_models)
    return _read_models(path), is_reused


def _read_models(folder: Path) -> list[pycolmap.Reconstruction]:
    numbered = sorted(
        (path for path in folder.iterdir() if path.is_dir()), key=lambda p: int(p.name)
    )
    return [read_model(path) for path in numbered]


def _discard_others(folder: Path, num_clusters: int) -> None:
    """Remove the models of clusters that an earlier run of more clusters left."""
    for path in folder.iterdir():
        number = path.name.partition(".")[0]
        if number.isdecimal() and int(number) >= num_clusters:
            discard(path)


def _groups_with_own_images(
    groups: Sequence[AlignedGroup], models: Sequence[pycolmap.Reconstruction]
) -> Iterator[AlignedGroup]:
    """Yield the groups that have an image which none before has."""
    known: set[int] = set()
    for group in groups:
        images = set().union(*(models[index].reg_image_ids() for index in group.members))
        if images - known:
            yield group
            known |= images


def _refine(model: pycolmap.Reconstruction, adjust: Adjust) -> None:
    """Adjust a model and remove observations that do not fit, until next to none is left.

    The first round is robust: where the models of clusters contradict each other, squared errors
    would bend both until neither fits, and 4 of 5 points of such a model of the demo town were
    lost. One round is too few even if they agree: the median error of the camera centres is then
    3.5 cm in that town, after two 1.4 cm.
    """
    for number in range(_MAX_ROUNDS):
        adjust(model, number == 0)
        num_before = model.compute_num_observations()
        pycolmap.ObservationManager(model).filter_all_points3D(_MAX_ERROR, _MIN_ANGLE)
        num_removed = num_before - model.compute_num_observations()
        if number > 0 and num_removed <= _FEW_REMOVED * num_before:
            break
    model.update_point_3d_errors()


def _warn_of_clusters_left_out(clusters: Sequence[MappedCluster]) -> None:
    for number, cluster in enumerate(clusters, start=1):
        if cluster.num_registered == 0:
            _logger.warning(
                "cluster %d of %d images is left out: nothing of it could be reconstructed; match "
                "more pairs, or use larger clusters.",
                number,
                cluster.num_images,
            )
        elif cluster.model != 0:
            _logger.warning(
                "cluster %d of %d images is left out of the largest model: it could not be aligned "
                "by the images that they share; match more pairs, or use larger clusters or more "
                "overlap.",
                number,
                cluster.num_images,
            )
