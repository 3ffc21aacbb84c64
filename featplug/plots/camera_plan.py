"""Where queries were localized; drawn without a display and written as a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from featplug.metrics.poses import camera_centres
from featplug.plots.match_lines import draw_matches

_COLOURS = ("tab:blue", "tab:orange", "tab:purple", "tab:red", "tab:brown")

_TURN_WEIGHTS = np.array([1.0, 0.95, 0.95, 0.9])
"""Weights of images as stored, turned by 90° either way, and upside down."""
_RISE_WEIGHT = 0.2
"""Weight of the fraction of the cameras' movement that is along a direction."""
_LEAST_AGREEMENT = 0.9
"""Least mean cosine between a direction and the axes of images that have it in common."""
_MOST_TRIED = 64


@dataclass(frozen=True)
class MatchedPair:
    """Two images and matches between them."""

    title: str
    image0: np.ndarray
    """H×W×3 or H×W, uint8."""
    image1: np.ndarray
    points0: np.ndarray
    """N×2 (x, y), integer = pixel centre."""
    points1: np.ndarray


def ground_axes(cam_from_world: np.ndarray) -> np.ndarray:
    """Find two directions of the ground from cameras N×3×4 that are held upright or turned.

    Returns:
        2×3, to the right and forward in a view from above.
    """
    down = _down(cam_from_world)
    down /= np.linalg.norm(down)
    axis = np.eye(3)[np.argmin(np.abs(down))]
    right = axis - (axis @ down) * down
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, down)])


def _down(cam_from_world: np.ndarray) -> np.ndarray:
    """Return the direction in the world that is down in most images, as stored or by turns of 90°.

    Of directions that fit equally well, as in front of a wall, that which the cameras were moved
    along least: photographers walk on the ground. Of cameras without any common direction, the mean
    of the images' y axes.
    """
    x, y = cam_from_world[:, 0, :3], cam_from_world[:, 1, :3]
    axes = np.stack([y, x, -x, -y], axis=1)
    candidates = axes[:: 1 + len(axes) // _MOST_TRIED].reshape(-1, 3)
    agreement = np.einsum("kd,nad->kna", candidates, axes) * _TURN_WEIGHTS
    centres = camera_centres(cam_from_world)
    moved = (centres - centres.mean(0)) @ candidates.T
    rise = np.square(moved).mean(0) / max(np.square(centres - centres.mean(0)).sum(1).mean(), 1e-12)
    fit = agreement.max(2).mean(1)
    best = candidates[np.argmax(fit - _RISE_WEIGHT * rise)]
    if fit.max() < _LEAST_AGREEMENT:
        return y.mean(0)
    turns = np.argmax(axes @ best * _TURN_WEIGHTS, axis=1)
    return axes[np.arange(len(axes)), turns].mean(0)


def draw_top_view(
    axes: Axes,
    ground: np.ndarray,
    database: np.ndarray,
    estimated: Mapping[str, Mapping[str, np.ndarray]],
    truth: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Draw cameras from above: the database's, the queries' and where these truly are.

    Args:
        axes: where to draw.
        ground: 2×3, see :func:`ground_axes`.
        database: N×3, where the database was photographed or scanned from.
        estimated: condition to the estimated poses of its queries.
        truth: query name to its true pose.
    """

    def flat(poses: np.ndarray) -> np.ndarray:
        return camera_centres(poses) @ ground.T

    def scatter(points: np.ndarray, **style: Any) -> None:
        axes.scatter(points[:, 0], points[:, 1], **style)

    truth = truth or {}
    at = database @ ground.T
    scatter(at, s=8, color="0.75", label="database", zorder=1)
    if truth:
        centres = flat(np.stack(list(truth.values())))
        scatter(centres, s=46, facecolors="none", edgecolors="tab:green", label="true", zorder=2)
        at = np.concatenate([at, centres])
    for (condition, poses), colour in zip(estimated.items(), cycle(_COLOURS), strict=False):
        if not poses:
            continue
        centres = flat(np.stack(list(poses.values())))
        scatter(centres, s=12, marker="x", color=colour, label=condition, zorder=3)
        segments = [
            (centre, flat(truth[name]))
            for name, centre in zip(poses, centres, strict=True)
            if name in truth
        ]
        axes.add_collection(LineCollection(segments, colors=colour, linewidths=0.6))
    # Without the estimates, so that one far off does not shrink the rest.
    low, high = at.min(0), at.max(0)
    margin = 0.08 * max(*(high - low), 1e-6)
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_aspect("equal")
    axes.set_title("cameras from above")
    axes.legend(loc="best", fontsize=8)


def draw_localization(
    path: Path,
    ground: np.ndarray,
    database: np.ndarray,
    estimated: Mapping[str, Mapping[str, np.ndarray]],
    truth: Mapping[str, np.ndarray] | None,
    pairs: Sequence[MatchedPair],
) -> None:
    """Write a picture (PNG, PDF): :func:`draw_top_view`, and some queries with their best image."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    grid = figure.add_gridspec(max(1, len(pairs)), 2)
    draw_top_view(figure.add_subplot(grid[:, 0]), ground, database, estimated, truth)
    for row, pair in enumerate(pairs):
        _draw_pair(figure.add_subplot(grid[row, 1]), pair)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def draw_pairs(path: Path, pairs: Sequence[MatchedPair]) -> None:
    """Write a picture (PNG, PDF) of pairs of images below each other, with their titles."""
    figure = Figure(figsize=(8, 2.9 * len(pairs)), layout="constrained")
    for axes, pair in zip(figure.subplots(len(pairs), squeeze=False).flat, pairs, strict=True):
        _draw_pair(axes, pair)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_pair(axes: Axes, pair: MatchedPair) -> None:
    draw_matches(axes, pair.image0, pair.image1, pair.points0, pair.points1)
    axes.set_title(pair.title, fontsize=8)
