"""Which images are matched with which: all, neighbours, covisible ones, those at near places.

Pairs by global descriptors are selected in :mod:`featplug.stages.retrieval_pairs`.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, combinations, product
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist

from featplug.io.names import natural_key
from featplug.io.pair_lists import Pair
from featplug.metrics.poses import camera_centres

if TYPE_CHECKING:
    import pycolmap

_Item = TypeVar("_Item")

_BLOCK_SCORES = 2**22
_BLOCK_QUERIES = 1024
"""Largest numbers of scores and queries in memory at a time."""
LOOP_PERIOD = 10
"""Every how many-th image of a sequence is looked up for loops, as COLMAP does."""


def exhaustive(names: Sequence[str], database: Sequence[str] | None = None) -> list[Pair]:
    """Pair every image with every later one, or every query with every image of a database."""
    if database is None:
        return list(combinations(names, 2))
    return [pair for pair in product(names, database) if pair[0] != pair[1]]


def sequential(
    names: Sequence[_Item], overlap: int = 10, quadratic: bool = True
) -> list[tuple[_Item, _Item]]:
    """Pair every image of a sequence with those that follow it.

    Args:
        names: image names in the order of capture, see :func:`sequences`.
        overlap: number of following images.
        quadratic: also pair with the 1st, 2nd, 4th, 8th … following image up to
            ``2**(overlap - 1)``, as COLMAP's sequential matcher does, against drift.

    Raises:
        ValueError: the overlap is below 1.
    """
    if overlap < 1:
        raise ValueError(f"The overlap of sequential pairs must be at least 1, not {overlap}.")
    steps = set(range(1, overlap + 1))
    if quadratic:
        steps |= {2**k for k in range(overlap)}
    ordered = sorted(steps)
    return [
        (name, names[i + step])
        for i, name in enumerate(names)
        for step in ordered
        if i + step < len(names)
    ]


def sequences(names: Iterable[str]) -> list[list[str]]:
    """Split images into sequences: those of one folder, ``frame2`` before ``frame10``.

    The sequences of two cameras, which have a folder each, then do not mix.
    """
    folders: dict[str, list[str]] = {}
    for name in sorted(names, key=natural_key):
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    return list(folders.values())


def sequential_frames(
    frames: Sequence[Sequence[str]], overlap: int = 10, quadratic: bool = True
) -> list[Pair]:
    """Pair the images of every frame of a rig with each other and with those of following frames.

    Args:
        frames: the images that were taken at one time, in the order of capture.
        overlap: number of following frames.
        quadratic: see :func:`sequential`.

    Raises:
        ValueError: the overlap is below 1.
    """
    within = chain.from_iterable(combinations(frame, 2) for frame in frames)
    numbers = sequential(range(len(frames)), overlap, quadratic)
    following = (product(frames[first], frames[second]) for first, second in numbers)
    return [*within, *chain.from_iterable(following)]


def loop_queries(sequences: Iterable[Sequence[_Item]], period: int = LOOP_PERIOD) -> list[_Item]:
    """Return every ``period``-th image or frame of each sequence, to be looked up for loops."""
    return [item for sequence in sequences for item in sequence[::period]]


def most_partners(pairs: Iterable[Pair]) -> int:
    """Return the largest number of images that an image is paired with."""
    return max(Counter(chain.from_iterable(pairs)).values(), default=0)


def loop_closures(retrieved: Iterable[Pair], known: Iterable[Pair], num: int) -> list[Pair]:
    """Select the pairs that close loops: each query's first retrieved ones that are not known yet.

    Most like an image of a sequence are its neighbours, which are known: as many more as
    :func:`most_partners` have to be retrieved.

    Args:
        retrieved: pairs (query, image), for each query the most similar image first.
        known: pairs of the sequences, in either order.
        num: largest number of pairs of a query.
    """
    seen = {frozenset(pair) for pair in known}
    counts: Counter[str] = Counter()
    closures = []
    for query, image in retrieved:
        if counts[query] < num and frozenset((query, image)) not in seen:
            seen.add(frozenset((query, image)))
            counts[query] += 1
            closures.append((query, image))
    return closures


def near(positions: Mapping[str, np.ndarray], num: int, max_distance: float = 100.0) -> list[Pair]:
    """Pair every image with those that were taken nearest to it.

    Args:
        positions: image name to position, two or three coordinates in metres. COLMAP leaves out
            heights, which are the least certain by GPS.
        num: largest number of partners of each image.
        max_distance: largest distance of a pair, in metres.

    Returns:
        By the natural order of the first image, nearest partners first.

    Raises:
        ValueError: ``num`` is below 1, or no two images are that near.
    """
    _check_num(num)
    names = sorted(positions, key=natural_key)
    places = np.array([positions[name] for name in names], float)

    def closeness(block: slice) -> np.ndarray:
        distances = cdist(places[block], places)
        return np.where(distances <= max_distance, -distances, -np.inf)

    pairs = best_pairs(names, names, closeness, num) if names else []
    if not pairs:
        raise ValueError(
            f"No two of {len(names)} positions are within {max_distance:g} m of each other; allow "
            "a larger distance, or choose pairs in another way."
        )
    return pairs


def covisible(model: "pycolmap.Reconstruction", num: int) -> list[Pair]:
    """Pair every registered image of a COLMAP model with those that share most 3-D points with it.

    As in hloc's ``pairs_from_covisibility``, except that a point which an image observes twice
    counts once. Each image gets ``num`` partners, or fewer where fewer share a point.

    Returns:
        By name of the first image, the partners with most shared points first, and those with
        equally many by name.

    Raises:
        ValueError: ``num`` is below 1, or no two images share a point.
    """
    _check_num(num)
    ids = sorted(model.reg_image_ids(), key=lambda image_id: model.images[image_id].name)
    names = [model.images[image_id].name for image_id in ids]
    rows = {image_id: row for row, image_id in enumerate(ids)}
    observed, ends = array("i"), array("q", [0])
    for point in model.points3D.values():
        observed.extend({rows[element.image_id] for element in point.track.elements})
        ends.append(len(observed))
    shape = (len(ends) - 1, len(ids))
    images_of_points = csr_array((np.ones(len(observed), np.int32), observed, ends), shape)
    points_of_images = images_of_points.T.tocsr()

    def num_shared(block: slice) -> np.ndarray:
        shared = (points_of_images[block] @ images_of_points).toarray().astype(np.float32)
        return np.where(shared > 0, shared, -np.inf)

    pairs = best_pairs(names, names, num_shared, num)
    if not pairs:
        remedy = "triangulate it first" if not model.points3D else "choose pairs in another way"
        raise ValueError(
            f"No two of the {len(names)} images of the model observe the same of its "
            f"{len(model.points3D)} points; {remedy}."
        )
    return pairs


def from_poses(poses: Mapping[str, np.ndarray], num: int, max_angle: float = 30.0) -> list[Pair]:
    """Pair every image with the nearest ones that look the same way, as ``pairs_from_poses``.

    Args:
        poses: image name to ``cam_from_world`` 3×4.
        num: number of partners of each image; fewer where fewer look the same way.
        max_angle: upper bound of the angle between the optical axes, in degrees. A turn about the
            axis does not count, since the image shows the same scene.

    Returns:
        By name of the first image, nearest partners first.

    Raises:
        ValueError: ``num`` is below 1, or there are no two poses.
    """
    _check_num(num)
    if len(poses) < 2:
        raise ValueError(f"Pairs by pose need two images or more, there are {len(poses)}.")
    names = sorted(poses)
    stacked = np.stack([np.asarray(poses[name], float)[:3] for name in names])
    centres, axes = camera_centres(stacked), stacked[:, 2, :3]

    def closeness(block: slice) -> np.ndarray:
        distances = cdist(centres[block], centres)
        angles = np.degrees(np.arccos(np.clip(axes[block] @ axes.T, -1, 1)))
        return np.where(angles < max_angle, -distances, -np.inf)

    return best_pairs(names, names, closeness, num)


def best_pairs(
    queries: Sequence[str],
    database: Sequence[str],
    scores: Callable[[slice], np.ndarray],
    num: int,
) -> list[Pair]:
    """Pair every query with the images of a database that score best, and never with itself.

    Args:
        queries: Q names.
        database: N names.
        scores: returns the scores of a slice of B queries, B×N; ``-inf`` makes no pair.
        num: largest number of images for each query.

    Returns:
        By query, the best first, and equally good ones in the order of the database.
    """
    column = {name: i for i, name in enumerate(database)}
    block = min(_BLOCK_QUERIES, max(1, _BLOCK_SCORES // max(1, len(database))))
    pairs = []
    for start in range(0, len(queries), block):
        for query, row in zip(
            queries[start : start + block], scores(slice(start, start + block)), strict=True
        ):
            if query in column:
                row[column[query]] = -np.inf
            pairs += [(query, database[i]) for i in _best(row, num)]
    return pairs


def _best(scores: np.ndarray, num: int) -> np.ndarray:
    """Return the indices of the highest scores, the highest first, without ``-inf``."""
    lowest = np.partition(scores, -num)[-num] if num < len(scores) else -np.inf
    candidates = np.flatnonzero((scores >= lowest) & (scores > -np.inf))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:num]


def _check_num(num: int) -> None:
    if num < 1:
        raise ValueError(f"The number of images to pair each with must be at least 1, not {num}.")
