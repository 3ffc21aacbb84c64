"""Localization of queries in a COLMAP model, from features and matches with its images.

As hloc's ``localize_sfm``: the 2D-3D matches of all retrieved images together go into one PnP +
RANSAC, or those of each cluster of covisible images into one of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pycolmap
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from featplug.colmap.database import to_colmap_points
from featplug.io.store import FeatureReader
from featplug.localization.absolute_pose import AbsolutePose, AbsolutePoseOptions
from featplug.localization.file_localizer import FileLocalizer, LocalizedQuery, QueryMatches
from featplug.localization.queries import Query

_CACHED_IMAGES = 2048
"""Images of the model whose points stay in memory: 32 kB each with 8,000 keypoints."""


class ModelPoints:
    """The 3-D points of a COLMAP model, and those of each image's keypoints."""

    def __init__(self, model: pycolmap.Reconstruction) -> None:
        self._model = model
        points = model.points3D
        self.ids = np.array(sorted(points), dtype=np.int64)
        """P identifiers of the model's points."""
        self.xyz = np.array([points[i].xyz for i in self.ids.tolist()]).reshape(-1, 3)
        """P×3, in the world."""
        self.image_ids = {image.name: image_id for image_id, image in model.images.items()}
        """Image name to its identifier in the model."""
        self.rows = lru_cache(_CACHED_IMAGES)(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self.image_ids

    def _rows(self, name: str) -> np.ndarray:
        """Return for each keypoint of an image the row of its point in ``xyz``, or -1: N int32."""
        image = self._model.images[self.image_ids[name]]
        rows = np.full(len(image.points2D), -1, np.int32)
        observed = [point.point3D_id for point in image.get_observation_points2D()]
        rows[image.get_observation_point2D_idxs()] = np.searchsorted(self.ids, observed)
        return rows


_COMPARED_IMAGES = 100
_SAME_PLACE = 0.01
"""Largest distance in pixels of a 2D point of a model from the keypoint that it is; COLMAP's text
form has six digits."""


@dataclass(frozen=True, kw_only=True)
class ModelLocalizerOptions:
    """Options of localization in a model."""

    covisibility_clustering: bool = False
    """Try each group of retrieved images that see the same points separately."""


@dataclass(frozen=True)
class ModelLocalizer(FileLocalizer):
    """Localizes queries in a COLMAP model whose keypoints are those of the feature file.

    A 2D-3D match counts once, however many images of the model it was found in; ``num_matches``
    counts the matches whose keypoint in the model has a point. Retrieved images that are not in the
    model are ignored.
    """

    points: ModelPoints
    options: ModelLocalizerOptions = ModelLocalizerOptions()

    def gather(self, query: Query, database: Sequence[str]) -> list[QueryMatches]:
        """Return the matches with each cluster of images; see :meth:`FileLocalizer.gather`."""
        in_model = [name for name in database if name in self.points]
        clusters = [in_model]
        if self.options.covisibility_clustering:
            clusters = covisibility_clusters(in_model, self.points)
        return [self._gather(query, cluster) for cluster in clusters]

    def _gather(self, query: Query, database: list[str]) -> QueryMatches:
        keypoints = self.features.keypoints(query.name)
        parts = [np.zeros((0, 4), np.int64)]
        for index, name in enumerate(database):
            rows = self.points.rows(name)
            pair = self.read_matches(query.name, name, len(keypoints), len(rows))
            found = np.column_stack([pair, rows[pair[:, 1]], np.full(len(pair), index)])
            parts.append(found[found[:, 2] >= 0])
        of_query, of_database, all_rows, images = np.concatenate(parts).T
        # A match is a keypoint and a point; one number encodes both.
        num_points = max(1, len(self.points.xyz))
        keys, inverse = np.unique(of_query * num_points + all_rows, return_inverse=True)
        indices, point_rows = np.divmod(keys, num_points)
        return QueryMatches(
            query,
            database,
            [len(part) for part in parts[1:]],
            keypoints[indices],
            self.points.xyz[point_rows],
            np.column_stack([inverse, images, of_database]),
            indices,
            self.points.ids[point_rows],
        )

    def reason(self, tried: Sequence[QueryMatches], options: AbsolutePoseOptions) -> str:
        """Explain why none of a query's sets of matches gave a pose."""
        num_images = sum(len(matches.database) for matches in tried)
        if num_images == 0:
            return "none of the images it was paired with is in the model"
        most, needed = max(len(matches.points3d) for matches in tried), options.num_needed
        if most < needed:
            found = f"{most} 2D-3D matches, of {needed} needed"
            return f"its matches with {num_images} images give {found}"
        return f"no pose fits {needed} of its {most} 2D-3D matches within {options.max_error:g} px"

    def hloc_log(self, localized: LocalizedQuery) -> dict[str, Any]:
        """Return a query's entry in the pickled logs of hloc's ``localize_sfm``."""
        logs = [self._attempt_log(matches, pose) for matches, pose in localized.attempts]
        if not self.options.covisibility_clustering:
            return {**logs[0], "covisibility_clustering": False}
        return {
            "db": [self.points.image_ids[name] for name in localized.database],
            "best_cluster": localized.best,
            "log_clusters": logs,
            "covisibility_clustering": True,
        }

    def _attempt_log(self, matches: QueryMatches, pose: AbsolutePose | None) -> dict[str, Any]:
        supports: list[list[int]] = [[] for _ in matches.points3d]
        for match, image, _ in matches.supports.tolist():
            supports[match].append(image)
        point_ids = matches.point_ids.tolist()
        return {
            "db": [self.points.image_ids[name] for name in matches.database],
            "PnP_ret": None if pose is None else pose.hloc_log() | {"camera": pose.camera},
            "keypoints_query": to_colmap_points(matches.keypoints),
            "points3D_ids": point_ids,
            "points3D_xyz": None,
            "num_matches": sum(matches.num_matches),
            "keypoint_index_to_db": (
                matches.keypoint_indices.tolist(),
                list(zip(point_ids, supports, strict=True)),
            ),
        }


def has_points_of(model: pycolmap.Reconstruction, features: FeatureReader) -> bool:
    """Return whether the 2D points of a COLMAP model are the keypoints of a feature file.

    There must be points, and two images that have features. All of these are compared by their
    number of keypoints, and some, spread evenly, by the places of these.
    """
    images = [model.images[image_id] for image_id in model.reg_image_ids()]
    images = [image for image in images if image.name in features]
    if len(images) < 2 or not model.points3D:
        return False
    for image in images:
        if features.shapes(image.name)["keypoints"] != (image.num_points2D(), 2):
            return False
    for image in images[:: math.ceil(len(images) / _COMPARED_IMAGES)]:
        points = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
        keypoints = to_colmap_points(features.keypoints(image.name))
        if (np.abs(points - keypoints) > _SAME_PLACE).any():
            return False
    return True


def covisibility_clusters(names: Sequence[str], points: ModelPoints) -> list[list[str]]:
    """Split images of a model into groups that observe no point in common.

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
