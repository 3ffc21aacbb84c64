"""The matrix of pairs: how many verified inliers each two images have, small enough for a page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from featplug.colmap.geometric_verification import HISTOGRAM
from featplug.io.pair_lists import Pair
from featplug.io.typed_json import printable

MAX_ROWS = 1000
"""Largest number of rows; of more images, several that follow each other share one."""
MAX_PAIRS = 100_000
"""Largest number of pairs of rows, those with most inliers."""
_MOST = 65535


@dataclass(frozen=True)
class PairMatrix:
    """Inliers between images, each pair once."""

    names: list[str]
    """Name of the first image of each row, in the order that was given."""
    is_registered: list[bool]
    """Whether the model has an image of the row."""
    by_connection: list[int]
    """Rows in an order that puts images with many inliers next to each other."""
    pairs: np.ndarray
    """P×3 uint16: first row, second row, and inliers of the best pair, 65,535 or fewer."""
    images_of_row: int
    """Number of images that share a row."""
    num_images: int
    num_pairs: int
    """Number of pairs with inliers, including those that are not shown."""

    @property
    def is_whole(self) -> bool:
        """Whether each pair of images has a place of its own."""
        return self.images_of_row == 1 and len(self.pairs) == self.num_pairs

    @property
    def classes(self) -> list[str]:
        """Ranges of inliers that have colours of their own."""
        ends = [f"{low}–{high - 1}" for low, high in pairwise(HISTOGRAM)]
        return [*ends, f"{HISTOGRAM[-1]} or more"]

    def payload(self) -> dict[str, Any]:
        """Return the matrix as JSON stores it."""
        return {
            "names": [printable(name) for name in self.names],
            "registered": [int(value) for value in self.is_registered],
            "order": self.by_connection,
            "pairs": base64.b64encode(self.pairs.astype("<u2").tobytes()).decode("ascii"),
            "steps": list(HISTOGRAM),
            "shared": self.images_of_row,
        }


def pair_matrix(
    names: Sequence[str], inliers: Mapping[Pair, int], registered: Sequence[str]
) -> PairMatrix:
    """Return the matrix of the pairs of images.

    Args:
        names: images in the order of the rows.
        inliers: pair to the number of its verified inliers; pairs of other images are left out.
        registered: images that the model has.
    """
    step = max(1, -(-len(names) // MAX_ROWS))
    row_of = {name: number // step for number, name in enumerate(names)}
    best: dict[tuple[int, int], int] = {}
    num_pairs = 0
    for (name0, name1), count in inliers.items():
        if count > 0 and name0 in row_of and name1 in row_of:
            num_pairs += 1
            first, second = sorted((row_of[name0], row_of[name1]))
            if first != second or step > 1:
                best[first, second] = max(best.get((first, second), 0), count)
    strongest = sorted(best, key=lambda rows: (-best[rows], rows))[:MAX_PAIRS]
    pairs = np.array(
        [(*rows, min(best[rows], _MOST)) for rows in sorted(strongest)], np.uint16
    ).reshape(-1, 3)
    rows = range(-(-len(names) // step))
    known = {row_of[name] for name in registered if name in row_of}
    return PairMatrix(
        [names[row * step] for row in rows],
        [row in known for row in rows],
        _by_connection(len(rows), pairs),
        pairs,
        step,
        len(names),
        num_pairs,
    )


def _by_connection(num_rows: int, pairs: np.ndarray) -> list[int]:
    """Order rows as the leaves of a tree that joins those with most inliers first."""
    if num_rows < 3:
        return list(range(num_rows))
    distances = np.ones((num_rows, num_rows))
    first, second, inliers = pairs.astype(np.int64).T
    distances[first, second] = distances[second, first] = 1 / (1 + inliers)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average")
    return [int(row) for row in leaves_list(tree)]
