"""Queries localized from 2D-3D matches, and what became of them: one PnP + RANSAC each, logs.

:mod:`featplug.localization.in_model` finds the matches in COLMAP models,
:mod:`featplug.localization.in_scans` in scans.
"""

from __future__ import annotations

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pycolmap

from featplug.io.images import read_image
from featplug.io.results import write_results
from featplug.localization.absolute_pose import AbsolutePose, AbsolutePoseOptions, estimate_pose
from featplug.localization.queries import Query
from featplug.plots import MatchedPair, draw_localization, shrink
from featplug.utils.parallel import map_ahead

SUBMISSION = "submission.txt"
"""Poses in the form of visuallocalization.net."""
LOGS = "logs.json"
HLOC_LOGS = f"{SUBMISSION}_logs.pkl"
PICTURE = "localization.png"
NUM_SHOWN = 3
"""Queries whose matches are drawn, at most."""


@dataclass(frozen=True)
class QueryMatches(ABC):
    """A query's 2D-3D matches."""

    query: Query
    database: list[str]
    """The images it was matched with, best first."""
    num_matches: list[int]
    """With each of them."""
    keypoints: np.ndarray
    """N×2 float32 in the query (integer = pixel centre)."""
    points3d: np.ndarray
    """N×3 float64, in the world."""

    @abstractmethod
    def num_per_image(self, chosen: np.ndarray) -> list[int]:
        """Count for each database image those matches that a mask (N bool) chooses."""


Matches = TypeVar("Matches", bound=QueryMatches)


@dataclass(frozen=True)
class LocalizedQuery(Generic[Matches]):
    """What became of a query."""

    query: Query
    attempts: list[tuple[Matches, AbsolutePose | None]]
    """One, or one for each cluster of covisible images, the largest first."""
    best: int | None
    """The attempt with most inliers; None where no attempt gave a pose."""
    reason: str | None = None
    """Why there is no pose."""

    @property
    def database(self) -> list[str]:
        """The images it was matched with, attempt by attempt."""
        return [name for matches, _ in self.attempts for name in matches.database]

    @property
    def pose(self) -> AbsolutePose | None:
        """The pose, where there is one."""
        return None if self.best is None else self.attempts[self.best][1]

    @property
    def best_attempt(self) -> tuple[Matches, AbsolutePose]:
        """The matches that gave the pose, and the pose.

        Raises:
            ValueError: there is no pose.
        """
        if self.best is None or self.pose is None:
            raise ValueError(f"{self.query.name!r} has no pose.")
        return self.attempts[self.best][0], self.pose

    @property
    def best_image(self) -> str:
        """The database image with most inliers of the pose.

        Raises:
            ValueError: there is no pose.
        """
        matches, pose = self.best_attempt
        return matches.database[int(np.argmax(matches.num_per_image(pose.inliers)))]


def localize_matched(
    gathered: Iterable[tuple[Query, Sequence[Matches]]],
    pose_options: Callable[[Query], AbsolutePoseOptions],
    reason: Callable[[Sequence[Matches], AbsolutePoseOptions], str],
    num_workers: int | None = None,
) -> Iterator[LocalizedQuery[Matches]]:
    """Estimate the poses of queries in their order, some at the same time.

    Args:
        gathered: queries with their matches, each set of which is tried by itself.
        pose_options: gives thresholds and seed for a query.
        reason: says why none of a query's sets gives a pose.
        num_workers: threads; as many as cores if None.
    """

    def localize(item: tuple[Query, Sequence[Matches]]) -> LocalizedQuery[Matches]:
        query, tried = item
        options = pose_options(query)
        attempts = [
            (matches, estimate_pose(matches.keypoints, matches.points3d, query.camera, options))
            for matches in tried
        ]
        num_inliers = [0 if pose is None else pose.num_inliers for _, pose in attempts]
        if any(num_inliers):
            return LocalizedQuery(query, attempts, int(np.argmax(num_inliers)))
        return LocalizedQuery(query, attempts, None, reason(tried, options))

    # COLMAP works without Python's lock.
    return map_ahead(localize, gathered, num_workers or os.cpu_count() or 1)


@dataclass
class LocalizationLog:
    """What became of all queries."""

    names: list[str]
    """Of the queries, in their order."""
    poses: dict[str, np.ndarray] = field(default_factory=dict)
    """Query name to ``cam_from_world`` 3×4."""
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each query in plain values."""
    hloc_entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """As hloc logs them, where asked for."""

    @property
    def failed(self) -> dict[str, str]:
        """Queries without a pose, and why."""
        without = (name for name in self.names if name not in self.poses)
        return {name: self.entries[name]["reason"] for name in without}

    def add(self, found: LocalizedQuery[Any]) -> None:
        """Take note of a query that was tried."""
        name = found.query.name
        self.entries[name] = json_log(found)
        if found.pose is not None:
            self.poses[name] = found.pose.cam_from_world

    def add_failure(self, name: str, reason: str) -> None:
        """Take note of a query that could not be tried."""
        self.entries[name] = {"cam_from_world": None, "reason": reason}

    def write(self, folder: Path, files: Mapping[str, Path]) -> None:
        """Write the logs as JSON, and as hloc pickles them where there are entries of that form.

        Args:
            folder: gets them.
            files: what the queries were localized from, under hloc's names.
        """
        plain = {key: str(path) for key, path in files.items()}
        entries = {name: self.entries[name] for name in self.names}
        write_results(folder / LOGS, {**plain, "loc": entries})
        if self.hloc_entries:
            with (folder / HLOC_LOGS).open("wb") as stream:
                pickle.dump({**files, "loc": self.hloc_entries}, stream)

    def check_poses(self) -> None:
        """Refuse to go on without a single pose.

        Raises:
            ValueError: there is none.
        """
        if not self.poses:
            name, reason = next(iter(self.failed.items()))
            raise ValueError(
                f"None of the {len(self.names)} queries could be localized; the first, {name!r}: "
                f"{reason}."
            )


def condition_submission(condition: str) -> str:
    """Name the file with the poses of one condition's queries."""
    return f"submission-{condition}.txt"


def remove_old_results(folder: Path, conditions: Iterable[str] = ()) -> None:
    """So that a run that fails does not leave an earlier run's results as its own.

    Args:
        folder: where they are; other files stay.
        conditions: whose submissions an earlier run may have written.
    """
    submissions = [SUBMISSION, *map(condition_submission, conditions)]
    for name in ("results.json", LOGS, HLOC_LOGS, PICTURE, *submissions):
        (folder / name).unlink(missing_ok=True)


def camera_log(camera: pycolmap.Camera) -> dict[str, Any]:
    """Give a camera in plain values."""
    return {
        "model": camera.model.name,
        "width": camera.width,
        "height": camera.height,
        "params": [float(value) for value in camera.params],
    }


def json_log(localized: LocalizedQuery[Any]) -> dict[str, Any]:
    """Give what became of a query in plain values."""
    pose = localized.pose
    entry: dict[str, Any] = {
        "camera": camera_log(localized.query.camera),
        "attempts": [_attempt_log(matches, found) for matches, found in localized.attempts],
    }
    if pose is None:
        return {**entry, "best_attempt": None, "cam_from_world": None, "reason": localized.reason}
    return {
        **entry,
        "best_attempt": localized.best,
        "num_inliers": pose.num_inliers,
        "cam_from_world": pose.cam_from_world.tolist(),
    }


def _attempt_log(matches: QueryMatches, pose: AbsolutePose | None) -> dict[str, Any]:
    chosen = np.zeros(len(matches.points3d), bool) if pose is None else pose.inliers
    return {
        "db": matches.database,
        "num_matches_db": matches.num_matches,
        "num_inliers_db": matches.num_per_image(chosen),
        "num_matches": len(matches.points3d),
        "num_inliers": int(np.count_nonzero(chosen)),
    }


@dataclass(frozen=True)
class ShownMatches:
    """The inliers that a localized query has in the database image with most of them."""

    query: str
    database: str
    keypoints0: np.ndarray
    """N×2 in the query (integer = pixel centre)."""
    keypoints1: np.ndarray
    """N×2 in the database image."""
    condition: str = ""
    """Of the query."""


def draw_results(
    path: Path,
    ground: np.ndarray,
    database: np.ndarray,
    estimated: Mapping[str, Mapping[str, np.ndarray]],
    truth: Mapping[str, np.ndarray] | None,
    shown: Iterable[ShownMatches],
    image_dir: Path,
) -> dict[str, str]:
    """Draw cameras and some matches, as far as the images can be read.

    Args:
        path: the picture.
        ground: see :func:`featplug.plots.draw_localization`.
        database: see there.
        estimated: see there.
        truth: see there.
        shown: matches of some queries.
        image_dir: folder of their images.

    Returns:
        Query name, or the picture's, to why it is not drawn.
    """
    pictures: list[MatchedPair] = []
    failed: dict[str, str] = {}
    for matches in shown:
        try:
            pictures.append(_matched_pair(matches, image_dir))
        except (OSError, ValueError) as error:
            failed[matches.query] = str(error)
    try:
        draw_localization(path, ground, database, estimated, truth, pictures)
    except (OSError, ValueError) as error:
        failed[path.name] = str(error)
    return failed


def _matched_pair(shown: ShownMatches, image_dir: Path) -> MatchedPair:
    title = f"{shown.query} and {shown.database}, {len(shown.keypoints0)} inliers"
    image0, points0 = shrink(read_image(image_dir / shown.query), shown.keypoints0)
    image1, points1 = shrink(read_image(image_dir / shown.database), shown.keypoints1)
    return MatchedPair(
        f"{shown.condition}: {title}" if shown.condition else title,
        image0,
        image1,
        points0,
        points1,
    )
