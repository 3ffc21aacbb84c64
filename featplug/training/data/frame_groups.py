"""Keypoints of several views of one scene, grouped by the point that they show.

The views are related by homographies, so every keypoint's frame (position, scale, orientation) can
be warped to one common image. Keypoints whose frames agree there show the same point: the criterion
of Mikolajczyk et al., "A Comparison of Affine Region Detectors" (IJCV 2005), for oriented frames. A
frame is (x, y, σ, orientation in degrees).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

NOISE, AMBIGUOUS = -1, -2
"""Group of frames that appear in one view only, and of frames too near to another group."""
_MAX_CANDIDATES = 8


@dataclass(frozen=True)
class AgreementOptions:
    """Criteria for frames that show, or may show, the same point."""

    max_pixels: float = 1.0
    """Largest distance of frames of one point in pixels of either view; the larger of this and
    :attr:`max_sigmas` counts."""
    max_sigmas: float = 0.5
    """Largest distance of frames of one point in σ."""
    max_scale_ratio: float = 1.4
    """Largest ratio of the scales."""
    max_angle: float = 20.0
    """Largest difference of the orientations in degrees."""
    separation_pixels: float = 4.0
    """Smallest distance of groups of similar scale in pixels of the common image; the larger of
    this and :attr:`separation_sigmas` counts."""
    separation_sigmas: float = 1.0
    """Smallest distance of groups of similar scale in σ."""


def warp_frames(frames: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Warp N×4 frames by a 3×3 homography, as float64.

    The scale changes with the square root of the area, and the orientation is that of the warped
    direction. Frames beyond the horizon and where the homography mirrors are NaN.
    """
    frames = np.asarray(frames, np.float64).reshape(-1, 4)
    u, v, w = homography @ np.vstack([frames[:, :2].T, np.ones(len(frames))])
    angles = np.deg2rad(frames[:, 3])
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = u / w, v / w
        # The derivative of the homography at each point, 2×2×N.
        slopes = (homography[:2, :2, None] - [[x], [y]] * homography[2, :2, None]) / w
        area = slopes[0, 0] * slopes[1, 1] - slopes[0, 1] * slopes[1, 0]
        direction = slopes[:, 0] * np.cos(angles) + slopes[:, 1] * np.sin(angles)
        scales = frames[:, 2] * np.sqrt(area)
    oris = np.rad2deg(np.arctan2(direction[1], direction[0])) % 360
    warped = np.stack([x, y, scales, oris], axis=1)
    warped[~((w > 0) & (area > 0))] = np.nan
    return warped


def match_frames(
    frames0: np.ndarray,
    frames1: np.ndarray,
    pixel0: np.ndarray,
    pixel1: np.ndarray,
    options: AgreementOptions,
) -> np.ndarray:
    """Find pairs of frames, M×2, that agree in the common image and are each other's best match.

    For N0×4 and N1×4 frames, pixel sizes are those of pixels of their views in the common image.
    """
    if not (len(frames0) and len(frames1)):
        return np.zeros((0, 2), np.int64)
    count = min(_MAX_CANDIDATES, len(frames1))
    distances, rows1 = cKDTree(frames1[:, :2]).query(frames0[:, :2], k=np.arange(1, count + 1))
    rows0 = np.repeat(np.arange(len(frames0)), count)
    rows1, distances = rows1.ravel(), distances.ravel()
    pixel = np.maximum(pixel0[rows0], pixel1[rows1])
    reach = np.maximum(options.max_pixels * pixel, options.max_sigmas * frames0[rows0, 2])
    ratios = np.abs(np.log(frames0[rows0, 2] / frames1[rows1, 2]))
    angles = np.abs((frames0[rows0, 3] - frames1[rows1, 3] + 180) % 360 - 180)
    errors = np.stack(
        [distances / reach, ratios / np.log(options.max_scale_ratio), angles / options.max_angle]
    )
    (agreeing,) = np.nonzero((errors <= 1).all(0))
    order = agreeing[np.argsort(errors[:, agreeing].sum(0), kind="stable")]
    rows0, rows1 = rows0[order], rows1[order]
    _, best0 = np.unique(rows0, return_index=True)
    _, best1 = np.unique(rows1, return_index=True)
    mutual = np.intersect1d(best0, best1)
    return np.stack([rows0[mutual], rows1[mutual]], axis=1)


def group_frames(
    frames: Sequence[np.ndarray],
    homographies: np.ndarray,
    size: tuple[int, int],
    options: AgreementOptions,
) -> list[np.ndarray]:
    """Group the keypoints of several views by the point that they show.

    Every frame of a group agrees with the group's first, and no two are of one view.

    Args:
        frames: N_k×4 of each view, in its own pixels.
        homographies: K×3×3 from the common image to each view.
        size: (width, height) of the common image; frames outside of it are :data:`NOISE`.
        options: criteria.

    Returns:
        N_k int64 of each view: the group of at least two frames, counted from 0; :data:`NOISE`; or
        :data:`AMBIGUOUS` for a group near a larger group, and noise near any group.
    """
    counts = [len(view) for view in frames]
    common = np.concatenate(
        [warp_frames(view, np.linalg.inv(h)) for view, h in zip(frames, homographies, strict=True)]
    )
    sigmas = np.concatenate([view[:, 2] for view in frames])
    views = np.repeat(np.arange(len(frames)), counts)
    limits = np.array(size) - 1
    inside = np.all((common[:, :2] >= 0) & (common[:, :2] <= limits), axis=1)
    labels = np.full(len(common), NOISE)
    for view in range(len(frames)):
        (first,) = np.nonzero((views == view) & inside & (labels == NOISE))
        labels[first] = first  # a provisional group each, named after its first frame
        for other in range(view + 1, len(frames)):
            (rest,) = np.nonzero((views == other) & inside & (labels == NOISE))
            pairs = match_frames(
                common[first], common[rest],
                common[first, 2] / sigmas[first], common[rest, 2] / sigmas[rest],
                options,
            )  # fmt: skip
            labels[rest[pairs[:, 1]]] = first[pairs[:, 0]]
    sizes = np.bincount(labels[inside], minlength=len(labels))
    grouped = inside & (sizes[labels] > 1)
    labels[~grouped] = NOISE
    _set_ambiguous(labels, common, sizes, inside, options)
    kept = labels >= 0
    labels[kept] = np.unique(labels[kept], return_inverse=True)[1]
    return np.split(labels, np.cumsum(counts)[:-1])


def _set_ambiguous(
    labels: np.ndarray,
    common: np.ndarray,
    sizes: np.ndarray,
    inside: np.ndarray,
    options: AgreementOptions,
) -> None:
    """Mark groups that are too near to a larger group, and noise that is near a group.

    Labels N, the row of a group's first frame or :data:`NOISE`, are changed in place; sizes N are
    the numbers of frames of the groups that are named after the rows.
    """
    firsts = np.unique(labels[labels >= 0])
    firsts = firsts[np.argsort(-sizes[firsts], kind="stable")]
    noise = np.flatnonzero(inside & (labels == NOISE))
    if not len(firsts):
        return
    tree = cKDTree(common[firsts, :2])

    def near(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find near pairs of a row (index of rows) and a group (index of firsts)."""
        reach = np.maximum(options.separation_pixels, options.separation_sigmas * common[rows, 2])
        neighbours = tree.query_ball_point(common[rows, :2], reach)
        lengths = [len(groups) for groups in neighbours]
        row = np.repeat(np.arange(len(rows)), lengths)
        group = np.fromiter((g for groups in neighbours for g in groups), int, sum(lengths))
        ratio = np.abs(np.log(common[rows[row], 2] / common[firsts[group], 2]))
        similar = ratio <= np.log(options.max_scale_ratio)
        return row[similar], group[similar]

    alive = np.ones(len(firsts), bool)
    later, earlier = near(firsts)
    conflicts = np.sort(np.stack([later, earlier], axis=1), axis=1)
    conflicts = conflicts[conflicts[:, 0] < conflicts[:, 1]]
    for stronger, weaker in np.unique(conflicts, axis=0).tolist():
        alive[weaker] &= not alive[stronger]
    dropped = np.isin(labels, firsts[~alive])
    labels[dropped] = AMBIGUOUS
    row, group = near(noise)
    labels[noise[row[alive[group]]]] = AMBIGUOUS
