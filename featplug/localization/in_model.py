"""Queries localized in a COLMAP model, from given features and matches with images of the model.

As hloc's ``localize_sfm``: the 2D-3D matches of all retrieved images together go into one PnP +
RANSAC, or those of each cluster of covisible images into one of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pycolmap
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from featplug.io.store import FeatureReader, MatchReader
from featplug.localization.absolute_pose import AbsolutePose, AbsolutePoseOptions
from featplug.localization.localizer import LocalizedQuery, QueryMatches, localize_matched
from featplug.localization.queries import Query

_CACHED_IMAGES = 2048
"""Images of the model whose points stay in memory: 32 kB each with 8,000 keypoints."""


class ModelPoints:
    """Which keypoint of an image of a COLMAP model has which 3-D point."""

    def __init__(self, model: pycolmap.Reconstruction) -> None:
        self._model = model
        points = model.points3D
        self.ids = np.array(sorted(points), dtype=np.int64)
        """P numbers of the model's points."""
        self.xyz = np.array([points[i].xyz for i in self.ids.tolist()]).reshape(-1, 3)
        """P×3, in the world."""
        self.image_ids = {image.name: image_id for image_id, image in model.images.items()}
        """The model's number of each image."""
        self.rows = lru_cache(_CACHED_IMAGES)(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self.image_ids

    def _rows(self, name: str) -> np.ndarray:
        """Give for each keypoint of an image the row of its point in ``xyz``, or -1: N int32."""
        image = self._model.images[self.image_ids[name]]
        rows = np.full(len(image.points2D), -1, np.int32)
        observed = [point.point3D_id for point in image.get_observation_points2D()]
        rows[image.get_observation_point2D_idxs()] = np.searchsorted(self.ids, observed)
        return rows


@dataclass(frozen=True)
class ModelMatches(QueryMatches):
    """A query's 2D-3D matches, each once, however many images of the model it was found in.

    ``num_matches`` counts those of keypoints that have a point.
    """

    keypoint_indices: np.ndarray
    """N int, of the query's keypoints; one that was matched with several points repeats."""
    point_rows: np.ndarray
    """N int, of :attr:`ModelPoints.xyz`."""
    supports: np.ndarray
    """K×2 int: index of a match, index in ``database`` of an image it was found in."""

    def num_per_image(self, chosen: np.ndarray) -> list[int]:
        """Count for each database image those matches that a mask (N bool) chooses."""
        images = self.supports[chosen[self.supports[:, 0]], 1]
        return np.bincount(images, minlength=len(self.database)).tolist()


@dataclass(frozen=True)
class LocalizationOptions:
    """How queries are localized."""

    pose: AbsolutePoseOptions = field(default_factory=AbsolutePoseOptions)
    """Thresholds and seed; each query has the same seed, whatever the others do."""
    covisibility_clustering: bool = False
    """Try each group of images that observe the same points by itself."""


def localize_queries(
    queries: Sequence[Query],
    retrieved: Mapping[str, Sequence[str]],
    features: FeatureReader,
    matches: MatchReader,
    points: ModelPoints,
    options: LocalizationOptions,
    num_workers: int | None = None,
) -> Iterator[LocalizedQuery[ModelMatches]]:
    """Localize queries in their order, some at the same time.

    The poses do not depend on the number of workers.

    Args:
        queries: what to localize.
        retrieved: query name to the images it was matched with; those that the model does not have
            are passed over.
        features: of the queries.
        matches: of each query with its images.
        points: the model's.
        options: thresholds and seed.
        num_workers: threads; as many as cores if None.

    Raises:
        ValueError: a pair was not matched, or a query has no features.
    """

    def gather(query: Query) -> list[ModelMatches]:
        database = [name for name in retrieved.get(query.name, ()) if name in points]
        clusters = [database]
        if options.covisibility_clustering:
            clusters = covisibility_clusters(database, points)
        return [gather_matches(query, cluster, features, matches, points) for cluster in clusters]

    gathered = ((query, gather(query)) for query in queries)
    return localize_matched(gathered, lambda query: options.pose, _reason, num_workers)


def covisibility_clusters(names: Sequence[str], points: ModelPoints) -> list[list[str]]:
    """Part images of a model into groups that observe no point in common.

    Returns:
        The largest group first, each in the order given.
    """
    if not names:
        return []
    rows = [points.rows(name) for name in names]
    observed = [np.unique(of_image[of_image >= 0]) for of_image in rows]
    images = np.repeat(np.arange(len(names)), [len(of_image) for of_image in observed])
    entries = (np.ones(len(images), np.int8), (images, np.concatenate(observed)))
    incidence = coo_array(entries, shape=(len(names), len(points.xyz))).tocsr().astype(np.int32)
    _, labels = connected_components(incidence @ incidence.T, directed=False)
    groups: dict[int, list[str]] = {}
    for name, label in zip(names, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(name)
    return sorted(groups.values(), key=len, reverse=True)


def gather_matches(
    query: Query,
    database: Sequence[str],
    features: FeatureReader,
    matches: MatchReader,
    points: ModelPoints,
) -> ModelMatches:
    """Find the 3-D points that a query's keypoints were matched with.

    Raises:
        ValueError: a pair was not matched, the query has no features, or the matches are of other
            features than the model.
    """
    keypoints = features.keypoints(query.name)
    found_keypoints, found_rows, num_matches = [], [], []
    for name in database:
        pair, _ = matches.read(query.name, name)
        rows = points.rows(name)
        if len(pair) and (pair.max(0) >= (len(keypoints), len(rows))).any():
            raise ValueError(
                f"The matches of {query.name!r} and {name!r} in {matches.path} are of other "
                "features than the query's or the model's; match or triangulate again."
            )
        matched = rows[pair[:, 1]]
        found_keypoints.append(pair[matched >= 0, 0])
        found_rows.append(matched[matched >= 0])
        num_matches.append(len(found_rows[-1]))
    all_keypoints = np.concatenate([np.zeros(0, np.int64), *found_keypoints])
    all_rows = np.concatenate([np.zeros(0, np.int64), *found_rows])
    # A match is a keypoint and a point: both in one number.
    keys, inverse = np.unique(
        all_keypoints * max(1, len(points.xyz)) + all_rows, return_inverse=True
    )
    indices, point_rows = np.divmod(keys, max(1, len(points.xyz)))
    found_in = np.repeat(np.arange(len(database)), num_matches)
    return ModelMatches(
        query,
        list(database),
        num_matches,
        keypoints[indices],
        points.xyz[point_rows],
        indices,
        point_rows,
        np.column_stack([inverse, found_in]),
    )


def _reason(gathered: Sequence[ModelMatches], options: AbsolutePoseOptions) -> str:
    """Say why a query has no pose."""
    num_images = sum(len(matches.database) for matches in gathered)
    if num_images == 0:
        return "none of the images it was paired with is in the model"
    most = max(len(matches.points3d) for matches in gathered)
    needed = options.num_needed
    if most < needed:
        return f"its matches with {num_images} images give {most} 2D-3D matches, of {needed} needed"
    return f"no pose fits {needed} of its {most} 2D-3D matches within {options.max_error:g} px"


def hloc_log(
    localized: LocalizedQuery[ModelMatches], points: ModelPoints, options: LocalizationOptions
) -> dict[str, Any]:
    """Give a query's entry in the pickled logs of hloc's ``localize_sfm``."""
    logs = [
        _hloc_attempt_log(matches, pose, localized.query.camera, points)
        for matches, pose in localized.attempts
    ]
    if not options.covisibility_clustering:
        return {**logs[0], "covisibility_clustering": False}
    return {
        "db": [points.image_ids[name] for name in localized.database],
        "best_cluster": localized.best,
        "log_clusters": logs,
        "covisibility_clustering": True,
    }


def _hloc_attempt_log(
    matches: ModelMatches,
    pose: AbsolutePose | None,
    camera: pycolmap.Camera,
    points: ModelPoints,
) -> dict[str, Any]:
    supports: list[list[int]] = [[] for _ in matches.points3d]
    for match, image in matches.supports.tolist():
        supports[match].append(image)
    point_ids = points.ids[matches.point_rows].tolist()
    found = None
    if pose is not None:
        found = {
            "cam_from_world": pycolmap.Rigid3d(pose.cam_from_world),
            "num_inliers": pose.num_inliers,
            "inlier_mask": pose.inliers,
            "camera": camera,
        }
    return {
        "db": [points.image_ids[name] for name in matches.database],
        "PnP_ret": found,
        "keypoints_query": matches.keypoints + np.float32(0.5),  # COLMAP's origin, as hloc logs it
        "points3D_ids": point_ids,
        "points3D_xyz": None,
        "num_matches": sum(matches.num_matches),
        "keypoint_index_to_db": (
            matches.keypoint_indices.tolist(),
            list(zip(point_ids, supports, strict=True)),
        ),
    }


def inlier_matches(
    localized: LocalizedQuery[ModelMatches],
    features: FeatureReader,
    matches: MatchReader,
    points: ModelPoints,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the inliers that a localized query has in its best database image, for a picture.

    Returns:
        N×2 in the query and N×2 in the database image (integer = pixel centre).

    Raises:
        ValueError: the query has no pose.
    """
    name = localized.best_image
    used, pose = localized.best_attempt
    inliers = pose.inliers
    chosen = set(
        zip(used.keypoint_indices[inliers].tolist(), used.point_rows[inliers].tolist(), strict=True)
    )
    pair, _ = matches.read(localized.query.name, name)
    rows = points.rows(name)[pair[:, 1]]
    kept = [key in chosen for key in zip(pair[:, 0].tolist(), rows.tolist(), strict=True)]
    of_query, of_database = pair[np.array(kept, bool)].T
    return (
        features.keypoints(localized.query.name)[of_query],
        features.keypoints(name)[of_database],
    )
