"""The pictures of a localization: what went well, and what failed and why."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featplug.io.images import read_image
from featplug.localization.file_localizer import FileLocalizer, LocalizedQuery
from featplug.metrics.poses import absolute_pose_errors
from featplug.plots import MatchedPair, draw_localization, draw_pairs, shrink
from featplug.utils.errors import described

PICTURE = "localization.png"
"""Picture of the cameras on the ground, and of matches of queries that were localized."""
FAILURES = "failures.png"
"""Picture of queries without a pose, or with a wrong one; none where there are none."""
_NUM_SHOWN = 3
"""Number of queries in each picture, at most."""
_TITLE_WIDTH = 100


@dataclass(frozen=True)
class _ShownQuery:
    """A query to draw, with its inliers in the database image that has most of them."""

    condition: str
    query: str
    database: str
    points: tuple[np.ndarray, np.ndarray]
    outcome: str
    """Words on the pose, for the title."""
    rank: float
    """Larger values are drawn first."""

    @property
    def title(self) -> str:
        """Return the images, the number of inliers and the outcome in lines of text."""
        start = f"{self.condition}: " if self.condition else ""
        text = f"{start}{self.query} and {self.database}, {len(self.points[0])} inliers"
        return textwrap.fill(f"{text}{self.outcome}", _TITLE_WIDTH)


@dataclass
class QueryPictures:
    """Selects queries to draw, the clearest of each condition, and of the failures the worst.

    A query failed that is not localized, or whose pose is further from the true one than the
    benchmark's largest threshold.
    """

    conditions: Mapping[str, str]
    """Query name to its condition."""
    truth: Mapping[str, np.ndarray] | None
    """True poses, where they are known."""
    threshold: tuple[float, float]
    """Largest error of a pose that is right, in metres and degrees."""
    shown: list[_ShownQuery] = field(default_factory=list)
    failures: list[_ShownQuery] = field(default_factory=list)

    def consider(self, found: LocalizedQuery, localizer: FileLocalizer) -> None:
        """Select a query, if it is clearer than those that were selected before."""
        if found.pose is None:
            return
        name, pose = found.query.name, found.pose
        outcome, error = "", 0.0
        if self.truth is not None and name in self.truth:
            errors = absolute_pose_errors({name: pose.cam_from_world}, {name: self.truth[name]})
            position, rotation = float(errors.position[0]), float(errors.rotation[0])
            outcome = f"; {position:.2f} m and {rotation:.1f}° off"
            error = max(position / self.threshold[0], rotation / self.threshold[1])
        if not found.is_localized:
            reason = f"; not localized: {found.reason}"
            self._add(self.failures, found, localizer, reason, pose.num_inliers / 1e6)
        elif error > 1:
            self._add(self.failures, found, localizer, f"{outcome}, a wrong pose", error)
        else:
            self._add(self.shown, found, localizer, outcome, pose.num_inliers)

    def _add(
        self,
        selected: list[_ShownQuery],
        found: LocalizedQuery,
        localizer: FileLocalizer,
        outcome: str,
        rank: float,
    ) -> None:
        condition = self.conditions[found.query.name]
        is_failure = selected is self.failures
        num_each = max(1, _NUM_SHOWN // len(set(self.conditions.values())))
        rivals = [q for q in selected if is_failure or q.condition == condition]
        if len(rivals) >= (_NUM_SHOWN if is_failure else num_each):
            weakest = min(rivals, key=lambda query: query.rank)
            if weakest.rank >= rank:
                return
            selected.remove(weakest)
        points = localizer.inliers_in_best_image(found)
        name = found.query.name
        selected.append(_ShownQuery(condition, name, found.best_image, points, outcome, rank))

    def draw(
        self,
        folder: Path,
        image_dir: Path,
        cameras: Callable[[], tuple[np.ndarray, np.ndarray]],
        poses: Mapping[str, Mapping[str, np.ndarray]],
    ) -> dict[str, str]:
        """Draw the pictures.

        Args:
            folder: gets the pictures.
            image_dir: folder of the images.
            cameras: returns the axes of the ground, 2×3, and the cameras of the database, N×3.
            poses: condition to the poses of its localized queries.

        Returns:
            What could not be drawn, with the reason.
        """
        not_drawn: dict[str, str] = {}
        order = list(dict.fromkeys(self.conditions.values()))
        shown = sorted(self.shown, key=lambda query: order.index(query.condition))[:_NUM_SHOWN]
        pictures = _matched_pairs(shown, image_dir, not_drawn)
        estimated = {condition or "queries": dict(of_it) for condition, of_it in poses.items()}
        try:
            draw_localization(folder / PICTURE, *cameras(), estimated, self.truth, pictures)
        except Exception as error:  # no picture is worth the poses
            not_drawn[PICTURE] = described(error)
            (folder / PICTURE).unlink(missing_ok=True)
        failures = sorted(self.failures, key=lambda query: -query.rank)
        if pairs := _matched_pairs(failures, image_dir, not_drawn):
            try:
                draw_pairs(folder / FAILURES, pairs)
            except Exception as error:
                not_drawn[FAILURES] = described(error)
                (folder / FAILURES).unlink(missing_ok=True)
        return not_drawn


def _matched_pairs(
    queries: Sequence[_ShownQuery], image_dir: Path, not_drawn: dict[str, str]
) -> list[MatchedPair]:
    pairs = []
    for query in queries:
        names = query.query, query.database
        try:
            (image0, xy0), (image1, xy1) = (
                shrink(read_image(image_dir / name), xy)
                for name, xy in zip(names, query.points, strict=True)
            )
        except Exception as error:  # of images that have gone since
            not_drawn[query.query] = described(error)
        else:
            pairs.append(MatchedPair(query.title, image0, image1, xy0, xy1))
    return pairs
