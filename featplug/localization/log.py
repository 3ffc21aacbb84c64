"""The files that localization writes: submissions, and the outcome of each query."""

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featplug.io.results import write_results
from featplug.localization.absolute_pose import AbsolutePose
from featplug.localization.file_localizer import LocalizedQuery, QueryMatches
from featplug.localization.queries import base_name, camera_log, write_poses

SUBMISSION = "submission.txt"
"""Poses in the form of visuallocalization.net."""
LOGS = "logs.json"
HLOC_LOGS = f"{SUBMISSION}_logs.pkl"


@dataclass
class LocalizationLog:
    """The outcome for all queries."""

    names: list[str]
    """Names of the queries, in their order."""
    poses: dict[str, np.ndarray] = field(default_factory=dict)
    """Query name to ``cam_from_world`` 3×4, also of queries that are not localized because chance
    explains the inliers: in the benchmarks, a wrong pose costs no more than none."""
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Query name to its outcome as values of JSON."""
    hloc_entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Query name to its entry in hloc's logs, where requested."""

    @property
    def failed(self) -> dict[str, str]:
        """Queries that are not localized, and why."""
        reasons = {name: self.entries[name].get("reason") for name in self.names}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    @property
    def localized_poses(self) -> dict[str, np.ndarray]:
        """Poses of the localized queries."""
        failed = self.failed
        return {name: pose for name, pose in self.poses.items() if name not in failed}

    def add(self, localized: LocalizedQuery) -> None:
        """Record a query that was tried."""
        name = localized.query.name
        self.entries[name] = json_log(localized)
        if localized.pose is not None:
            self.poses[name] = localized.pose.cam_from_world

    def add_failure(self, name: str, reason: str) -> None:
        """Record a query that could not be tried."""
        self.entries[name] = {"cam_from_world": None, "reason": reason}

    def write(self, folder: Path, files: Mapping[str, Path]) -> None:
        """Write the logs as JSON, and as hloc's pickle where it has entries.

        ``files`` are features, matches and pairs of the queries, under hloc's names.
        """
        plain = {key: str(path) for key, path in files.items()}
        entries = {name: self.entries[name] for name in self.names}
        write_results(folder / LOGS, {**plain, "loc": entries})
        if self.hloc_entries:
            with (folder / HLOC_LOGS).open("wb") as stream:
                pickle.dump({**files, "loc": self.hloc_entries}, stream)

    def require_poses(self) -> None:
        """Raise ValueError if no query is localized."""
        failed = self.failed
        if len(failed) == len(self.names):
            name, reason = next(iter(failed.items()))
            raise ValueError(
                f"None of the {len(self.names)} queries could be localized; the first, {name!r}: "
                f"{reason}."
            )

    def write_submissions(
        self,
        folder: Path,
        conditions: Mapping[str, Sequence[str]],
        name_of: Callable[[str], str] = base_name,
    ) -> None:
        """Write the benchmark's files: one of all queries, one of each condition with a name.

        Args:
            folder: gets the files.
            conditions: condition to the names of its queries.
            name_of: returns the name that a query has in the files.
        """
        files = {SUBMISSION: list(self.poses)}
        files |= {_condition_submission(c): list(names) for c, names in conditions.items() if c}
        for file, names in files.items():
            poses = {name_of(name): self.poses[name] for name in names if name in self.poses}
            write_poses(folder / file, poses, "full")


def _condition_submission(condition: str) -> str:
    return f"submission-{condition}.txt"


def result_files(conditions: Iterable[str]) -> list[str]:
    """List the names of all files that a run may write, for the conditions of its queries."""
    return ["results.json", LOGS, HLOC_LOGS, SUBMISSION, *map(_condition_submission, conditions)]


def json_log(localized: LocalizedQuery) -> dict[str, Any]:
    """Return the outcome of a query as values of JSON."""
    pose = localized.pose
    entry: dict[str, Any] = {
        "camera": camera_log(localized.query.camera if pose is None else pose.camera),
        "attempts": [_attempt_log(*attempt) for attempt in localized.attempts],
        "best_attempt": localized.best,
    }
    if pose is None:
        return {**entry, "cam_from_world": None, "reason": localized.reason}
    entry |= {"num_inliers": pose.num_inliers, "cam_from_world": pose.cam_from_world.tolist()}
    uncertainty = asdict(pose.uncertainty).items()
    entry["uncertainty"] = {n: value if np.isfinite(value) else None for n, value in uncertainty}
    if pose.warning is not None:
        entry["warning"] = pose.warning
    return entry if localized.is_localized else {**entry, "reason": localized.reason}


def _attempt_log(matches: QueryMatches, pose: AbsolutePose | None) -> dict[str, Any]:
    is_inlier = np.zeros(len(matches.points3d), bool) if pose is None else pose.inliers
    return {
        "db": matches.database,
        "num_matches_db": matches.num_matches,
        "num_inliers_db": matches.num_per_image(is_inlier),
        "num_matches": len(matches.points3d),
        "num_inliers": int(np.count_nonzero(is_inlier)),
    }
