"""Queries localized from matches with database images whose keypoints have points from scans.

As InLoc's baseline of hloc: the matches of all retrieved images together go into one PnP + RANSAC.
Unlike there, half a pixel is added to the queries' keypoints (integer = pixel centre) for the
camera, whose principal point is measured from the corner of the first pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pycolmap

from featplug.io.store import FeatureReader, MatchReader
from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.localizer import (
    LocalizedQuery,
    QueryMatches,
    camera_log,
    localize_matched,
)
from featplug.localization.queries import Query
from featplug.localization.scans import ScanPointReader

BENCHMARK_WIDTH = 4032
"""Longer side of InLoc's queries, in pixels."""
BENCHMARK_MAX_ERROR = 48.0
"""Of an inlier in these, in pixels."""

_CACHED_IMAGES = 256
"""Database images whose points stay in memory: about 100 kB each with 4,096 keypoints."""


class WorldPoints:
    """The points that scans give the keypoints of database images, in the world."""

    def __init__(
        self, scan_points: ScanPointReader, world_from_scan: Mapping[str, np.ndarray]
    ) -> None:
        self._scan_points = scan_points
        self._world_from_scan = world_from_scan
        self.read = lru_cache(_CACHED_IMAGES)(self._read)

    def __contains__(self, name: str) -> bool:
        return name in self._scan_points and name in self._world_from_scan

    def _read(self, name: str) -> np.ndarray:
        """Give the points of an image's keypoints: N×3 float64, NaN for none."""
        alignment = self._world_from_scan[name]
        return self._scan_points.read(name) @ alignment[:3, :3].T + alignment[:3, 3]


@dataclass(frozen=True)
class ScanMatches(QueryMatches):
    """A query's matches that have a 3-D point, of all its database images one after the other.

    ``num_matches`` also counts those without a 3-D point; 0 where there were too few to be used.
    """

    database_keypoints: np.ndarray
    """N×2 float32 (integer = pixel centre)."""
    database_indices: np.ndarray
    """N int, index in ``database``."""

    def num_per_image(self, chosen: np.ndarray) -> list[int]:
        """Count for each database image those matches that a mask (N bool) chooses."""
        indices = self.database_indices[chosen]
        return np.bincount(indices, minlength=len(self.database)).tolist()


@dataclass(frozen=True)
class ScanLocalizationOptions:
    """How queries are localized; the defaults are the benchmark's."""

    skip_matches: int = 20
    """Database images with fewer matches are left out."""
    max_error: float | None = None
    """Of an inlier, in pixels; by default 48 in photographs of 4032 pixels, as the benchmark has
    them, and in proportion in others."""
    pose: AbsolutePoseOptions = field(default_factory=AbsolutePoseOptions)
    """Everything else about the search for a pose."""

    def pose_options(self, query: Query) -> AbsolutePoseOptions:
        """Give the options for one query's camera."""
        max_error = self.max_error
        if max_error is None:
            longer_side = max(query.camera.width, query.camera.height)
            max_error = BENCHMARK_MAX_ERROR * longer_side / BENCHMARK_WIDTH
        return replace(self.pose, max_error=max_error)


def images_with_matches(
    retrieved: Mapping[str, Sequence[str]], matches: MatchReader, skip_matches: int
) -> list[str]:
    """List the database images that a query has enough matches with; other scans are not needed.

    Args:
        retrieved: query name to the database images it was matched with.
        matches: of these pairs; those that are not there are passed over.
        skip_matches: a pair with fewer is left out.
    """
    chosen = dict.fromkeys(
        database
        for query, names in retrieved.items()
        for database in names
        if (query, database) in matches
        and len(matches.read(query, database)[0]) >= max(1, skip_matches)
    )
    return list(chosen)


def localize_queries(
    queries: Sequence[Query],
    retrieved: Mapping[str, Sequence[str]],
    features: FeatureReader,
    matches: MatchReader,
    scan_points: ScanPointReader,
    world_from_scan: Mapping[str, np.ndarray],
    options: ScanLocalizationOptions,
    num_workers: int | None = None,
) -> Iterator[LocalizedQuery[ScanMatches]]:
    """Localize queries in their order, some at the same time.

    Args:
        queries: what to localize.
        retrieved: query name to the database images it was matched with.
        features: of queries and database images.
        matches: of each query with its database images; pairs that are not there are passed over.
        scan_points: of the database images' keypoints; images that are not there are passed over.
        world_from_scan: database image name to the 4×4 alignment of its scan, in the same way.
        options: thresholds and seed; each query has the same seed, whatever the others do.
        num_workers: threads; as many as cores if None.

    Raises:
        ValueError: the matches are of other features.
    """
    points = WorldPoints(scan_points, world_from_scan)

    def gather(query: Query) -> list[ScanMatches]:
        database, fewest = retrieved[query.name], options.skip_matches
        return [gather_matches(query, database, features, matches, points, fewest)]

    def reason(tried: Sequence[ScanMatches], pose_options: AbsolutePoseOptions) -> str:
        return _reason(tried[0], options.skip_matches, pose_options)

    gathered = ((query, gather(query)) for query in queries)
    return localize_matched(gathered, options.pose_options, reason, num_workers)


def gather_matches(
    query: Query,
    database: Sequence[str],
    features: FeatureReader,
    matches: MatchReader,
    points: WorldPoints,
    skip_matches: int,
) -> ScanMatches:
    """Find the 3-D points that a query's keypoints were matched with.

    Images without points, pairs without matches and those with fewer than ``skip_matches`` are
    passed over.

    Raises:
        ValueError: the matches are of other features.
    """
    keypoints = features.keypoints(query.name)
    num_matches, parts = [], []
    for index, name in enumerate(database):
        pair = np.zeros((0, 2), np.int64)
        if name in points and (query.name, name) in matches:
            pair, _ = matches.read(query.name, name)
        if len(pair) < max(skip_matches, 1):
            num_matches.append(0)
            continue
        num_matches.append(len(pair))
        of_image = points.read(name)
        if (pair.max(axis=0) >= (len(keypoints), len(of_image))).any():
            raise ValueError(
                f"The matches of {query.name!r} and {name!r} in {matches.path} are of other "
                f"features than those in {features.path}; match again."
            )
        matched = of_image[pair[:, 1]]
        there = np.isfinite(matched).all(axis=1)
        of_query, of_database = pair[there].T
        parts.append(
            (
                keypoints[of_query],
                matched[there],
                features.keypoints(name)[of_database],
                np.full(len(of_query), index),
            )
        )
    nothing = (np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0, np.int64))
    joined = map(np.concatenate, zip(*parts, strict=True)) if parts else nothing
    return ScanMatches(query, list(database), num_matches, *joined)


def _reason(matches: ScanMatches, skip_matches: int, options: AbsolutePoseOptions) -> str:
    """Say why a query has no pose."""
    if not any(matches.num_matches):
        return (
            f"none of its {len(matches.database)} database images has {skip_matches} "
            "matches with it and a scan"
        )
    num_points, num_matches = len(matches.points3d), sum(matches.num_matches)
    if num_points < options.num_needed:
        return f"only {num_points} of its {num_matches} matches have a point in the scans"
    return (
        f"no pose fits {options.num_needed} of its {num_points} matches within "
        f"{options.max_error:.3g} px"
    )


def hloc_log(localized: LocalizedQuery[ScanMatches]) -> dict[str, Any]:
    """Give a localized query's entry in the logs of hloc's ``localize_inloc``.

    Raises:
        ValueError: the query has no pose.
    """
    matches, pose = localized.best_attempt
    return {
        "db": matches.database,
        "PnP_ret": {
            "cam_from_world": pycolmap.Rigid3d(pose.cam_from_world),
            "num_inliers": pose.num_inliers,
            "inlier_mask": pose.inliers,
            "cfg": camera_log(matches.query.camera),
        },
        "keypoints_query": matches.keypoints,
        "keypoints_db": matches.database_keypoints,
        "3d_points": matches.points3d,
        "indices_db": matches.database_indices,
        "num_matches": sum(matches.num_matches),
    }


def inlier_matches(localized: LocalizedQuery[ScanMatches]) -> tuple[np.ndarray, np.ndarray]:
    """Give the inliers that a localized query has in its best database image, for a picture.

    Returns:
        N×2 in the query and N×2 in the database image (integer = pixel centre).

    Raises:
        ValueError: the query has no pose.
    """
    matches, pose = localized.best_attempt
    index = matches.database.index(localized.best_image)
    chosen = pose.inliers & (matches.database_indices == index)
    return matches.keypoints[chosen], matches.database_keypoints[chosen]
