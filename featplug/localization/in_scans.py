"""Localization of queries from matches with database images whose keypoints have points from scans.

As InLoc's baseline of hloc: the matches of all retrieved images together go into one PnP + RANSAC.
Unlike hloc, half a pixel is added to the queries' keypoints (integer = pixel centre) for the
camera, whose principal point is measured from the corner of the first pixel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from featplug.io.match_store import MatchReader
from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.file_localizer import FileLocalizer, LocalizedQuery, QueryMatches
from featplug.localization.pose_verification import PoseVerifier
from featplug.localization.queries import Query, camera_log
from featplug.localization.scans import ScanPointReader

BENCHMARK_WIDTH = 4032
"""Longer side of InLoc's queries, in pixels."""
BENCHMARK_MAX_ERROR = 48.0
"""Largest error of an inlier in InLoc's queries, in pixels."""

_CACHED_IMAGES = 256
"""Database images whose points stay in memory: about 100 kB each with 4,096 keypoints."""


class WorldPoints:
    """Points of the keypoints of database images, from scans, in the world.

    Args:
        scan_points: points in the scans' frames.
        world_from_scan: database image to the 4×4 alignment of its scan.
    """

    def __init__(
        self, scan_points: ScanPointReader, world_from_scan: Mapping[str, np.ndarray]
    ) -> None:
        self._scan_points = scan_points
        self._world_from_scan = world_from_scan
        self.read = lru_cache(_CACHED_IMAGES)(self._read)

    def __contains__(self, name: str) -> bool:
        return name in self._scan_points and name in self._world_from_scan

    def _read(self, name: str) -> np.ndarray:
        """Return the points of an image's keypoints: N×3 float64, NaN for none."""
        alignment = self._world_from_scan[name]
        return self._scan_points.read(name) @ alignment[:3, :3].T + alignment[:3, 3]


@dataclass(frozen=True, kw_only=True)
class ScanLocalizerOptions:
    """Options of localization in scans; the defaults are the benchmark's."""

    skip_matches: int = 20
    """Number of matches below which a database image is ignored."""
    max_error: float | None = None
    """Largest error of an inlier, in pixels; by default the benchmark's 48 in photographs 4032
    pixels wide, and in proportion in others."""
    pose_verification: Literal["none", "dense"] = "none"
    """dense: compare each query with the scans, rendered from its pose and from the poses of single
    database images, and keep the most similar (Taira et al. 2018; "+ Dense PV" in papers)."""

    def has_enough(self, num_matches: int) -> bool:
        """Return whether a database image has enough matches to be used."""
        return num_matches >= max(1, self.skip_matches)


def images_with_matches(
    retrieved: Mapping[str, Sequence[str]], matches: MatchReader, options: ScanLocalizerOptions
) -> list[str]:
    """List the database images that a query has enough matches with; other scans are not needed."""
    pairs = ((query, name) for query, names in retrieved.items() for name in names)
    usable = (
        pair[1]
        for pair in pairs
        if pair in matches and options.has_enough(len(matches.read(*pair)[0]))
    )
    return list(dict.fromkeys(usable))


@dataclass(frozen=True)
class ScanLocalizer(FileLocalizer):
    """Localizes queries from points of scans at the keypoints of database images.

    Images without points, and pairs without matches or with too few, are ignored; ``num_matches``
    also counts matches without a point, and is 0 for ignored images.
    """

    points: WorldPoints
    options: ScanLocalizerOptions = ScanLocalizerOptions()
    verifier: PoseVerifier | None = None
    """Verification of poses, if requested."""

    def _estimate(self, item: tuple[Query, Sequence[QueryMatches]]) -> LocalizedQuery:
        localized = super()._estimate(item)
        if self.verifier is None:
            return localized
        query = localized.query
        options = replace(self.pose_options(query), focal_length=query.focal_length)
        return self.verifier.verify(localized, options)

    def pose_options(self, query: Query) -> AbsolutePoseOptions:
        """Return the options for a query, whose size the largest error depends on."""
        max_error = self.options.max_error
        if max_error is None:
            longer_side = max(query.camera.width, query.camera.height)
            max_error = BENCHMARK_MAX_ERROR * longer_side / BENCHMARK_WIDTH
        return replace(self.pose, max_error=max_error)

    def gather(self, query: Query, database: Sequence[str]) -> list[QueryMatches]:
        """Return the query's matches with all images; see :meth:`FileLocalizer.gather`."""
        keypoints = self.features.keypoints(query.name)
        num_matches, parts, points = [], [np.zeros((0, 3), np.int64)], [np.zeros((0, 3))]
        for index, name in enumerate(database):
            num_matches.append(0)
            if name not in self.points or (query.name, name) not in self.matches:
                continue
            of_image = self.points.read(name)
            pair = self.read_matches(query.name, name, len(keypoints), len(of_image))
            if not self.options.has_enough(len(pair)):
                continue
            num_matches[-1] = len(pair)
            matched = of_image[pair[:, 1]]
            has_point = np.isfinite(matched).all(axis=1)
            of_query, of_database = pair[has_point].T
            parts.append(np.column_stack([of_query, np.full(len(of_query), index), of_database]))
            points.append(matched[has_point])
        supports = np.concatenate(parts)
        xy = keypoints[supports[:, 0]]
        supports[:, 0] = np.arange(len(supports))  # every match was found in one image
        return [
            QueryMatches(query, list(database), num_matches, xy, np.concatenate(points), supports)
        ]

    def reason(self, tried: Sequence[QueryMatches], options: AbsolutePoseOptions) -> str:
        """Explain why a query's matches gave no pose."""
        (matches,) = tried
        if not any(matches.num_matches):
            return (
                f"none of its {len(matches.database)} database images has "
                f"{self.options.skip_matches} matches with it and a scan"
            )
        num_points, num_matches = len(matches.points3d), sum(matches.num_matches)
        if num_points < options.num_needed:
            return f"only {num_points} of its {num_matches} matches have a point in the scans"
        return (
            f"no pose fits {options.num_needed} of its {num_points} matches within "
            f"{options.max_error:.3g} px"
        )

    def hloc_log(self, localized: LocalizedQuery) -> dict[str, Any] | None:
        """Return a query's entry in the logs of hloc's ``localize_inloc``; None without a pose."""
        if localized.pose is None:
            return None
        matches, pose = localized.best_attempt
        xy = [np.zeros((0, 2), np.float32)]
        for index, name in enumerate(matches.database):
            of_image = matches.supports[matches.supports[:, 1] == index, 2]
            if len(of_image):
                xy.append(self.features.keypoints(name)[of_image])
        return {
            "db": matches.database,
            "PnP_ret": pose.hloc_log() | {"cfg": camera_log(matches.query.camera)},
            "keypoints_query": matches.keypoints,
            "keypoints_db": np.concatenate(xy),
            "3d_points": matches.points3d,
            "indices_db": matches.supports[:, 1],
            "num_matches": sum(matches.num_matches),
        }
