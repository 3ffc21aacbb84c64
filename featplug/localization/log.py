"""The files that localization writes: submissions, and the outcome of each query."""

import csv
import io
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featplug.io.files import write_whole_text
from featplug.io.results import write_results
from featplug.localization.absolute_pose import AbsolutePose
from featplug.localization.file_localizer import LocalizedQuery, QueryMatches
from featplug.localization.queries import base_name, camera_log, quaternion, write_poses

SUBMISSION = "submission.txt"
"""Poses in the form of visuallocalization.net."""
LOGS = "logs.json"
POSES, STATISTICS = "poses.txt", "poses.csv"
"""Accepted poses, and the same with the evidence for each, and the queries without a pose."""
HLOC_LOGS = f"{SUBMISSION}_logs.pkl"
_SHOWN = 3


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
    def notes(self) -> dict[str, str]:
        """Localized queries whose pose is doubtful, and why."""
        notes = {name: self.entries[name].get("warning") for name in self.names}
        failed = self.failed
        return {name: note for name, note in notes.items() if note and name not in failed}

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
            reasons = [f"{name!r}: {reason}" for name, reason in failed.items()]
            if len(reasons) == 1:
                raise ValueError(f"The query could not be localized: {reasons[0]}.")
            more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
            raise ValueError(
                f"None of the {len(self.names)} queries could be localized; the first, "
                f"{'; '.join(reasons[:_SHOWN])}{more}."
            )

    def renamed(self, name_of: Callable[[str], str]) -> "LocalizationLog":
        """Return the same under other names of the queries."""
        return LocalizationLog(
            [name_of(name) for name in self.names],
            {name_of(name): pose for name, pose in self.poses.items()},
            {name_of(name): entry for name, entry in self.entries.items()},
            {name_of(name): entry for name, entry in self.hloc_entries.items()},
        )

    def write_poses(self, folder: Path) -> None:
        """Write the accepted poses under their full names, and a table of all queries."""
        write_poses(folder / POSES, self.localized_poses, "full")
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(self._row(name) for name in self.names)
        write_whole_text(folder / STATISTICS, table.getvalue())

    def _row(self, name: str) -> list[object]:
        """Return the line of a query in the table."""
        entry = self.entries[name]
        is_accepted = "reason" not in entry
        pose: list[object] = [""] * 7
        if is_accepted:
            cam_from_world = np.array(entry["cam_from_world"])
            pose = [*quaternion(cam_from_world), *cam_from_world[:, 3].tolist()]
        camera = entry.get("camera", {})
        of_pose = camera.values() if is_accepted else ()
        uncertainty = entry.get("uncertainty", {})
        attempt = entry["attempts"][entry["best_attempt"]] if "num_inliers" in entry else {}
        return [
            *(name, "yes" if is_accepted else "no", entry.get("confidence", 0.0)),
            *pose,
            *(attempt.get("num_matches", ""), attempt.get("num_inliers", "")),
            *(uncertainty.get(key, "") for key in _UNCERTAINTIES),
            *([*of_pose][:3] or [""] * 3),
            " ".join(map(repr, camera["params"])) if is_accepted else "",
            entry.get("reason") or entry.get("warning") or "",
        ]

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


_UNCERTAINTIES = "median_error", "position", "rotation", "focal_length"
_MOST = 1e6
"""Number that stands for infinity in JSON."""
_COLUMNS = (
    *("name", "localized", "confidence", "qw", "qx", "qy", "qz", "tx", "ty", "tz"),
    *("num_matches", "num_inliers", "median_error_px", "position_deviation"),
    *("rotation_deviation_deg", "relative_focal_length_deviation"),
    *("camera_model", "width", "height", "camera_params", "note"),
)


def _condition_submission(condition: str) -> str:
    return f"submission-{condition}.txt"


def result_files(conditions: Iterable[str]) -> list[str]:
    """List the names of all files that a run may write, for the conditions of its queries."""
    submissions = [SUBMISSION, *map(_condition_submission, conditions)]
    return ["results.json", LOGS, HLOC_LOGS, POSES, STATISTICS, *submissions]


def json_log(localized: LocalizedQuery) -> dict[str, Any]:
    """Return the outcome of a query as values of JSON."""
    pose = localized.pose
    entry: dict[str, Any] = {
        "camera": camera_log(localized.query.camera if pose is None else pose.camera),
        "attempts": [_attempt_log(*attempt) for attempt in localized.attempts],
        "best_attempt": localized.best,
    }
    if localized.candidates:
        entry["pose_verification"] = [
            {key: value for key, value in asdict(each).items() if key != "problem" or value}
            for each in localized.candidates
        ]
    if pose is None:
        return {**entry, "cam_from_world": None, "reason": localized.reason}
    entry |= {"num_inliers": pose.num_inliers, "cam_from_world": pose.cam_from_world.tolist()}
    uncertainty = asdict(pose.uncertainty).items()
    entry["uncertainty"] = {n: value if np.isfinite(value) else None for n, value in uncertainty}
    entry["confidence"] = round(pose.confidence, 4)
    entry["evidence"] = {
        name: value if isinstance(value, int) else float(np.clip(value, -_MOST, _MOST))
        for name, value in asdict(pose.evidence).items()
    }
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
