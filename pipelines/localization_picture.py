"""The picture of a localization: the cameras on the ground, and matches of some queries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featplug.io.images import read_image
from featplug.plots import MatchedPair, draw_localization, shrink
from featplug.utils.errors import described

PICTURE = "localization.png"
_NUM_SHOWN = 3
"""Number of queries whose matches are drawn, at most."""


@dataclass(frozen=True)
class ShownQuery:
    """A localized query to draw, with its inliers in the database image that has most of them."""

    condition: str
    query: str
    database: str
    points: tuple[np.ndarray, np.ndarray]


def is_shown(condition: str, num_conditions: int, shown: Sequence[ShownQuery]) -> bool:
    """Return whether to draw one more query of a condition, next to those selected before."""
    num_each = max(1, _NUM_SHOWN // num_conditions)
    of_condition = [entry for entry in shown if entry.condition == condition]
    return len(shown) < _NUM_SHOWN and len(of_condition) < num_each


def draw_queries(
    path: Path,
    image_dir: Path,
    shown: Sequence[ShownQuery],
    cameras: Callable[[], tuple[np.ndarray, np.ndarray]],
    poses: Mapping[str, Mapping[str, np.ndarray]],
    truth: Mapping[str, np.ndarray] | None,
) -> dict[str, str]:
    """Draw cameras and the matches of some queries.

    Args:
        path: the picture.
        image_dir: folder of the images.
        shown: the queries.
        cameras: returns the axes of the ground, 2×3, and the cameras of the database, N×3.
        poses: condition to the poses of its localized queries.
        truth: true poses, where they are known.

    Returns:
        What could not be drawn, with the reason.
    """
    pictures: list[MatchedPair] = []
    failed: dict[str, str] = {}
    for entry in shown:
        names, points = (entry.query, entry.database), entry.points
        start = f"{entry.condition}: " if entry.condition else ""
        title = f"{start}{entry.query} and {entry.database}, {len(points[0])} inliers"
        try:
            (image0, xy0), (image1, xy1) = (
                shrink(read_image(image_dir / name), xy)
                for name, xy in zip(names, points, strict=True)
            )
        except Exception as error:  # no picture is worth the poses
            failed[entry.query] = described(error)
        else:
            pictures.append(MatchedPair(title, image0, image1, xy0, xy1))
    estimated = {condition or "queries": dict(of_it) for condition, of_it in poses.items()}
    try:
        draw_localization(path, *cameras(), estimated, truth, pictures)
    except Exception as error:
        failed[path.name] = described(error)
        path.unlink(missing_ok=True)
    return failed
