"""Localization of queries from 2D-3D matches: one PnP + RANSAC for each set of matches.

:mod:`featplug.localization.in_model` finds the matches in COLMAP models,
:mod:`featplug.localization.in_scans` in scans.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from featplug.localization.absolute_pose import AbsolutePose, AbsolutePoseOptions
from featplug.localization.pose_search import search_pose
from featplug.localization.queries import Query
from featplug.utils.parallel import map_ahead


@dataclass(frozen=True)
class QueryMatches:
    """The 2D-3D matches of a query."""

    query: Query
    database: list[str]
    """Images that the query was matched with, best first."""
    num_matches: list[int]
    """Number of matches with each image of ``database``."""
    keypoints: np.ndarray
    """N×2 float32, keypoints in the query (integer = pixel centre)."""
    points3d: np.ndarray
    """N×3 float64, points in the world."""
    supports: np.ndarray
    """K×3 int: index of a match, index in ``database`` of an image that it was found in, index of
    its keypoint there."""
    keypoint_indices: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    """N int, indices of the query's keypoints; one that was matched with several points repeats.
    Empty for scans."""
    point_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    """N int, the model's numbers of the points; empty for scans."""

    @property
    def correspondences(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Keypoints N×2, points N×3, and the indices of the matches of each database image."""
        of_image = [
            np.unique(self.supports[self.supports[:, 1] == index, 0])
            for index in range(len(self.database))
        ]
        return self.keypoints.astype(np.float64), self.points3d, of_image

    def num_per_image(self, is_counted: np.ndarray) -> list[int]:
        """Count for each database image the matches that a mask (N bool) selects."""
        images = self.supports[is_counted[self.supports[:, 0]], 1]
        return np.bincount(images, minlength=len(self.database)).tolist()


@dataclass(frozen=True)
class PoseCandidate:
    """A pose of a query, as one scan shows it, which :mod:`pose_verification` compared."""

    image: str
    """Database image whose scan was rendered."""
    is_joint: bool
    """Whether the pose is that of all matches, instead of that image's own."""
    distance: float | None
    """Median distance of RootSIFT descriptors, 0 to √2; None where nothing could be compared."""
    problem: str | None = None
    """Reason why nothing could be compared."""


@dataclass(frozen=True)
class LocalizedQuery:
    """The outcome for one query."""

    query: Query
    attempts: list[tuple[QueryMatches, AbsolutePose | None]]
    """One attempt, or one for each cluster of covisible images, the largest first."""
    best: int | None
    """Index of the attempt with most inliers, of those that chance does not explain if there are
    any; None where no attempt gave a pose."""
    reason: str | None = None
    """Reason why the query is not localized; None where it is."""
    candidates: list[PoseCandidate] = field(default_factory=list)
    """Poses that were compared by dense pose verification; empty without it."""

    @property
    def database(self) -> list[str]:
        """Images that the query was matched with, attempt by attempt."""
        return [name for matches, _ in self.attempts for name in matches.database]

    @property
    def is_localized(self) -> bool:
        """Whether there is a pose whose inliers exceed what chance explains."""
        return self.reason is None

    @property
    def pose(self) -> AbsolutePose | None:
        """The pose, or None; one of a query that is not localized is not to be trusted."""
        return None if self.best is None else self.attempts[self.best][1]

    @property
    def best_attempt(self) -> tuple[QueryMatches, AbsolutePose]:
        """The matches that gave the pose, and the pose; ValueError without one."""
        if self.best is None or self.pose is None:
            raise ValueError(f"{self.query.name!r} has no pose.")
        return self.attempts[self.best][0], self.pose

    @property
    def best_image(self) -> str:
        """The database image with most inliers of the pose; ValueError without one."""
        matches, pose = self.best_attempt
        return matches.database[int(np.argmax(matches.num_per_image(pose.inliers)))]


class KeypointSource(Protocol):
    """Keypoints of images: a :class:`featplug.io.store.FeatureReader`, or some in memory."""

    def keypoints(self, name: str) -> np.ndarray:
        """Return the keypoints of an image: N×2 float32 in pixels (integer = pixel centre)."""


class MatchSource(Protocol):
    """Matches of pairs: a :class:`featplug.io.match_store.MatchReader`, or some in memory."""

    def __contains__(self, pair: tuple[str, str]) -> bool: ...

    def read(
        self, name0: str, name1: str, num_keypoints: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the matches of a pair: K×2 indices of keypoints, and K scores."""


@dataclass(frozen=True)
class FileLocalizer(ABC):
    """Localizes queries from features and matches, of files or in memory."""

    features: KeypointSource
    """Features of queries and database images."""
    matches: MatchSource
    """Matches of each query with its database images."""
    pose: AbsolutePoseOptions
    """Thresholds and seed; the seed is the same for each query."""

    @abstractmethod
    def gather(self, query: Query, database: Sequence[str]) -> list[QueryMatches]:
        """Return the sets of 2D-3D matches of a query, each of which is tried separately.

        Raises:
            ValueError: the query has no features, a pair was not matched, or the matches are of
                other features.
        """

    def pose_options(self, query: Query) -> AbsolutePoseOptions:
        """Return thresholds and seed for a query."""
        return self.pose

    @abstractmethod
    def reason(self, tried: Sequence[QueryMatches], options: AbsolutePoseOptions) -> str:
        """Explain why none of a query's sets of matches gave a pose."""

    @abstractmethod
    def hloc_log(self, localized: LocalizedQuery) -> dict[str, Any] | None:
        """Return a query's entry in the pickled logs of hloc; None where hloc has none."""

    def localize(
        self,
        queries: Iterable[Query],
        retrieved: Mapping[str, Sequence[str]],
        num_workers: int | None = None,
    ) -> Iterator[LocalizedQuery]:
        """Localize queries in the images that each was matched with, in the order of the queries.

        The poses do not depend on the number of workers, by default that of the cores.

        Raises:
            ValueError: see :meth:`gather`.
        """
        gathered = ((query, self.gather(query, retrieved.get(query.name, ()))) for query in queries)
        # COLMAP works without Python's lock.
        return map_ahead(self._estimate, gathered, num_workers or os.cpu_count() or 1)

    def _estimate(self, item: tuple[Query, Sequence[QueryMatches]]) -> LocalizedQuery:
        query, tried = item
        options = replace(self.pose_options(query), focal_length=query.focal_length)
        attempts = [
            (matches, search_pose(*matches.correspondences, query.camera, options))
            for matches in tried
        ]
        poses = {index: pose for index, (_, pose) in enumerate(attempts) if pose is not None}
        if not poses:
            return LocalizedQuery(query, attempts, None, self.reason(tried, options))
        best, pose = max(
            poses.items(), key=lambda item: (item[1].reason is None, item[1].num_inliers)
        )
        return LocalizedQuery(query, attempts, best, pose.reason)

    def read_matches(
        self, query: str, name: str, num_keypoints: int, num_points: int
    ) -> np.ndarray:
        """Read the matches of a query with a database image: K×2 indices of keypoints.

        Raises:
            ValueError: the pair was not matched, or its matches are of other features.
        """
        return self.matches.read(query, name, (num_keypoints, num_points))[0]

    def inliers_in_best_image(self, localized: LocalizedQuery) -> tuple[np.ndarray, np.ndarray]:
        """Return the inliers that a localized query has in its best database image.

        Returns:
            N×2 in the query and N×2 in the database image (integer = pixel centre).
        """
        matches, pose = localized.best_attempt
        best = matches.database.index(localized.best_image)
        supports = matches.supports[pose.inliers[matches.supports[:, 0]]]
        index, _, keypoint = supports[supports[:, 1] == best].T
        return matches.keypoints[index], self.features.keypoints(localized.best_image)[keypoint]
