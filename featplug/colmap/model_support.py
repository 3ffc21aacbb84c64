"""What holds a model together: points of several images, and the weakest links between images.

A point that only two images see is not confirmed by a third one, and a wrong match along an
epipolar line is such a point. Where an image or a group of images hangs on few points that are
confirmed, its place may be wrong although every camera is registered.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from featplug.io.pair_lists import Pair

MOST_TWO_VIEW_POINTS = 0.3
"""Fraction of points seen by two images above which these hold a model together."""
FEWEST_CONFIRMED = 50
"""Number of points of three or more images that a link should have: COLMAP registers an image from
30 on, wrong ones among them."""
_NUM_LINKS = 10
"""Number of links to examine, the weakest ones."""


@dataclass(frozen=True)
class Link:
    """Images that few points connect with the others of a model."""

    images: list[str]
    """The smaller of the two groups of images."""
    num_points: int
    """Points seen in both groups."""
    num_confirmed: int
    """Those of them that three images or more see."""
    num_pairs: int
    """Verified pairs of an image of either group."""
    most_inliers: int
    """Largest number of inliers of these pairs."""


@dataclass(frozen=True)
class ModelSupport:
    """What holds a model together."""

    num_points: int
    num_two_view_points: int
    weak_links: list[Link]
    """Links of fewer than :data:`FEWEST_CONFIRMED` confirmed points, the weakest first."""

    @property
    def two_view_fraction(self) -> float:
        """Fraction of points that only two images see."""
        return self.num_two_view_points / max(1, self.num_points)


def model_support(
    model: pycolmap.Reconstruction, inliers_by_pair: Mapping[Pair, int]
) -> ModelSupport:
    """Examine a model.

    Links are those of the maximum spanning tree of the images, whose edges are weighted by the
    numbers of confirmed points that two images share: where one of its edges is weak, every path
    between the two sides is.

    Args:
        model: the model.
        inliers_by_pair: numbers of inlier matches of its verified pairs.
    """
    names = sorted(image.name for image in model.images.values() if image.has_pose)
    seen = _incidence(model, {name: column for column, name in enumerate(names)})
    num_views = np.asarray(seen.sum(1)).ravel()
    weak_links = sorted(
        (
            link
            for is_inside in _splits(seen[num_views >= 3], len(names))
            if (link := _link(seen, num_views, is_inside, names, inliers_by_pair)).num_confirmed
            < FEWEST_CONFIRMED
        ),
        key=lambda link: link.num_confirmed,
    )
    return ModelSupport(len(num_views), int(np.count_nonzero(num_views == 2)), weak_links)


def _incidence(model: pycolmap.Reconstruction, columns: Mapping[str, int]) -> csr_array:
    """Return which image sees which point: points×images of 0 and 1."""
    rows, images = [], []
    column_of = {image_id: columns.get(image.name) for image_id, image in model.images.items()}
    for row, point in enumerate(model.points3D.values()):
        of_point = {element.image_id for element in point.track.elements}
        rows += [row] * len(of_point)
        images += [column_of[image_id] for image_id in of_point]
    shape = model.num_points3D(), len(columns)
    return csr_array((np.ones(len(rows), np.int32), (rows, images)), shape=shape)


def _splits(confirmed: csr_array, num_images: int) -> Iterator[np.ndarray]:
    """Split the images at the weakest edges of the spanning tree: N bool, one of two sides."""
    shared = (confirmed.T @ confirmed).toarray()
    np.fill_diagonal(shared, 0)
    # Edges that do not exist have the largest cost, so that the tree spans all images.
    costs = 1.0 / (shared + 1e-3)
    tree = minimum_spanning_tree(np.triu(costs, 1)).tocoo()
    order = np.argsort(-tree.data, kind="stable")
    for edge in order[:_NUM_LINKS]:
        rest = np.arange(tree.nnz) != edge
        graph = (tree.data[rest], (tree.row[rest], tree.col[rest]))
        _, labels = connected_components(
            csr_array(graph, shape=(num_images, num_images)), directed=False
        )
        yield labels == labels[tree.row[edge]]


def _link(
    seen: csr_array,
    num_views: np.ndarray,
    is_inside: np.ndarray,
    names: Sequence[str],
    inliers_by_pair: Mapping[Pair, int],
) -> Link:
    if 2 * np.count_nonzero(is_inside) > len(names):
        is_inside = ~is_inside
    num_inside = seen @ is_inside.astype(np.int32)
    crosses = (num_inside > 0) & (num_inside < num_views)
    inside = {name for name, inside in zip(names, is_inside, strict=True) if inside}
    others = set(names) - inside
    inliers = [
        num
        for (name0, name1), num in inliers_by_pair.items()
        if {name0, name1} & inside and {name0, name1} & others
    ]
    return Link(
        sorted(inside),
        int(np.count_nonzero(crosses)),
        int(np.count_nonzero(crosses & (num_views >= 3))),
        len(inliers),
        max(inliers, default=0),
    )
