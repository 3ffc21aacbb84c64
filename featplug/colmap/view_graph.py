"""Clusters of a view graph: images that see the same, each cluster small enough to be mapped alone.

The graph, whose edges are weighted by the inliers of two images, is bisected by normalized cuts
(Shi and Malik, PAMI 2000), found on a graph that was coarsened by heavy-edge matching (Karypis and
Kumar 1998). Neighbouring clusters then share images, as in COLMAP's scene clustering, which
pycolmap 4.2 offers only within its hierarchical mapper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.sparse.linalg import eigsh

_COARSE, _DENSE = 300, 1500
"""Number of nodes at which coarsening stops, and up to which eigenvectors come from a dense matrix,
which takes a second."""
_LEAST_SIDE = 1 / 3
"""Fraction of the images that the smaller side of a cut has at least."""
_COARSE_SIZE = 1 / 40
"""Fraction of the images that a node of a coarse graph has at most."""
_NEIGHBOURS = 2
"""Number of neighbours that a cluster shares images with at least, if it has them: with one more
than is needed, a cluster whose link to one neighbour fails is still connected."""
_PASSES = 4
"""Number of times that single nodes are moved across a cut to improve it."""


@dataclass(frozen=True)
class Cluster:
    """Images to map together, as nodes of a view graph."""

    own: np.ndarray
    """Nodes that no other cluster has as its own, sorted."""
    shared: np.ndarray
    """Nodes of neighbouring clusters, sorted."""

    @property
    def nodes(self) -> np.ndarray:
        """All nodes, sorted."""
        return np.sort(np.concatenate([self.own, self.shared]))


def cluster_images(
    pairs: np.ndarray,
    inliers: np.ndarray,
    sizes: np.ndarray,
    max_images: int,
    overlap: int,
) -> list[Cluster]:
    """Split the images of a view graph into clusters that overlap.

    Args:
        pairs: K×2, the nodes of each pair.
        inliers: K, numbers of inlier matches of the pairs.
        sizes: N, number of images of each node; nodes are images, or frames of a rig, which stay
            together.
        max_images: largest number of images that are a cluster's own, unless one frame has more.
        overlap: number of images that two neighbouring clusters share, half of them of each.

    Returns:
        Clusters, the largest first. Nodes without an edge are in none; clusters share no node
        across connected components of the graph.
    """
    graph = _graph(pairs, inliers, len(sizes))
    connected = np.flatnonzero(np.diff(graph.indptr))
    parts = _split(graph, sizes, connected, max_images)
    label = np.full(len(sizes), -1)
    for number, nodes in enumerate(parts):
        label[nodes] = number
    label = _join_small(graph, sizes, label, max_images)
    own = [np.flatnonzero(label == number) for number in np.unique(label[label >= 0])]
    own.sort(key=lambda nodes: (-int(sizes[nodes].sum()), int(nodes[0])))
    for number, nodes in enumerate(own):
        label[nodes] = number
    shared = _shared_nodes(graph, sizes, label, len(own), overlap)
    return [Cluster(nodes, more) for nodes, more in zip(own, shared, strict=True)]


def _graph(pairs: np.ndarray, weights: np.ndarray, num_nodes: int) -> csr_array:
    """Return the symmetric matrix of weights, without a diagonal."""
    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    is_edge = (pairs[:, 0] != pairs[:, 1]) & (np.asarray(weights) > 0)
    (rows, columns), values = pairs[is_edge].T, np.asarray(weights, float)[is_edge]
    both = np.concatenate([rows, columns]), np.concatenate([columns, rows])
    matrix = coo_array((np.concatenate([values, values]), both), (num_nodes, num_nodes)).tocsr()
    matrix.sum_duplicates()
    return matrix


def _split(
    graph: csr_array, sizes: np.ndarray, nodes: np.ndarray, max_images: int
) -> list[np.ndarray]:
    """Split nodes into connected parts of no more than a number of images."""
    parts, waiting = [], [nodes] if len(nodes) else []
    while waiting:
        nodes = waiting.pop()
        inner = graph[nodes][:, nodes]
        num, component = connected_components(inner, directed=False)
        if num > 1:
            order = np.argsort(component, kind="stable")
            ends = np.cumsum(np.bincount(component))[:-1]
            waiting += [np.sort(part) for part in np.split(nodes[order], ends)]
        elif len(nodes) == 1 or sizes[nodes].sum() <= max_images:
            parts.append(nodes)
        else:
            is_left = _bisect(inner, sizes[nodes])
            waiting += [nodes[is_left], nodes[~is_left]]
    return parts


def _bisect(graph: csr_array, sizes: np.ndarray) -> np.ndarray:
    """Return one side of a normalized cut of a connected graph, N bool."""
    levels, coarse, coarse_sizes = [], graph, sizes
    while len(coarse_sizes) > _COARSE:
        parent = _heavy_edges(coarse, coarse_sizes, sizes.sum() * _COARSE_SIZE)
        if parent.max() + 1 > 0.9 * len(parent):
            break
        levels.append(parent)
        coarse, coarse_sizes = _contracted(coarse, parent), np.bincount(parent, coarse_sizes)
    side = _best_sweep(coarse, coarse_sizes, _fiedler_vector(coarse))
    for parent in reversed(levels):
        side = side[parent]
    return _refined(graph, sizes, side)


def _heavy_edges(graph: csr_array, sizes: np.ndarray, max_size: float) -> np.ndarray:
    """Pair each node with the free neighbour of its heaviest edge; return numbers of pairs."""
    parent = np.full(len(sizes), -1)
    num = 0
    for node in np.argsort(np.diff(graph.indptr), kind="stable"):
        if parent[node] >= 0:
            continue
        row = slice(graph.indptr[node], graph.indptr[node + 1])
        neighbours = graph.indices[row]
        is_free = (parent[neighbours] < 0) & (sizes[neighbours] + sizes[node] <= max_size)
        parent[node] = num
        if is_free.any():
            heaviest = np.argmax(np.where(is_free, graph.data[row], -1))
            parent[neighbours[heaviest]] = num
        num += 1
    return parent


def _contracted(graph: csr_array, label: np.ndarray) -> csr_array:
    """Return the graph of groups of nodes; those of the label -1 are left out."""
    edges = graph.tocoo()
    rows, columns = label[edges.row], label[edges.col]
    is_between = (rows != columns) & (rows >= 0) & (columns >= 0)
    places = rows[is_between], columns[is_between]
    num = int(label.max(initial=-1)) + 1
    return coo_array((edges.data[is_between], places), (num, num)).tocsr()


def _fiedler_vector(graph: csr_array) -> np.ndarray:
    """Return the second generalized eigenvector of the graph's Laplacian, N."""
    scale = 1 / np.sqrt(graph.sum(0))
    edges = graph.tocoo()
    values = edges.data * scale[edges.row] * scale[edges.col]
    normalized = coo_array((values, (edges.row, edges.col)), graph.shape).tocsr()
    num = len(scale)
    if num <= _DENSE:
        # All of them: LAPACK's solvers for some miss those of equal eigenvalues.
        _, vectors = np.linalg.eigh(normalized.toarray())
        return np.asarray(vectors[:, -2] * scale)
    start = np.random.default_rng(0).standard_normal(num)
    values, vectors = eigsh(normalized, 2, which="LA", v0=start, tol=1e-3)
    return np.asarray(vectors[:, np.argmin(values)] * scale)


def _best_sweep(graph: csr_array, sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the side of the best cut between nodes in the order of their values, N bool."""
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    edges = graph.tocoo()
    is_once = edges.row < edges.col
    ends = np.sort([rank[edges.row[is_once]], rank[edges.col[is_once]]], axis=0)
    change = np.zeros(len(order) + 1)
    np.add.at(change, ends[0], edges.data[is_once])
    np.subtract.at(change, ends[1], edges.data[is_once])
    cut = np.cumsum(change)[: len(order) - 1]  # after each node but the last
    volume = np.cumsum(graph.sum(0)[order])
    costs = cut / volume[:-1] + cut / (volume[-1] - volume[:-1])
    fraction = np.cumsum(sizes[order])[:-1] / sizes.sum()
    smaller = np.minimum(fraction, 1 - fraction)
    is_balanced = smaller >= min(_LEAST_SIDE, smaller.max())
    return np.asarray(rank <= np.argmin(np.where(is_balanced, costs, np.inf)))


def _refined(graph: csr_array, sizes: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Move nodes across a cut where that makes it smaller and leaves both sides large enough."""
    side = side.copy()
    total = sizes.sum()
    left = sizes[side].sum()
    least = min(_LEAST_SIDE * total, left, total - left)
    for _ in range(_PASSES):
        gains = -(graph @ np.where(side, 1.0, -1.0)) * np.where(side, 1.0, -1.0)
        num_moved = 0
        for node in np.argsort(-gains, kind="stable")[: np.count_nonzero(gains > 0)]:
            row = slice(graph.indptr[node], graph.indptr[node + 1])
            is_same = side[graph.indices[row]] == side[node]
            after = left - sizes[node] if side[node] else left + sizes[node]
            gain = graph.data[row][~is_same].sum() - graph.data[row][is_same].sum()
            if gain > 0 and least <= after <= total - least:
                side[node], left = not side[node], after
                num_moved += 1
        if not num_moved:
            break
    return side


def _join_small(
    graph: csr_array, sizes: np.ndarray, label: np.ndarray, max_images: int
) -> np.ndarray:
    """Join clusters, the smallest first, with the neighbour that most inliers lead to."""
    label = label.copy()
    num_images = dict(enumerate(np.bincount(label[label >= 0], sizes[label >= 0]).tolist()))
    between = _contracted(graph, label).todok()
    neighbours: dict[int, dict[int, float]] = {number: {} for number in num_images}
    for (a, b), weight in between.items():
        neighbours[int(a)][int(b)] = float(weight)
    waiting = sorted(num_images, key=lambda number: (num_images[number], number))
    while waiting:
        small = waiting.pop(0)
        fitting = {
            other: weight
            for other, weight in neighbours[small].items()
            if num_images[other] + num_images[small] <= max_images
        }
        if not fitting:
            continue
        into = max(fitting, key=lambda other: (fitting[other], -other))
        label[label == small] = into
        num_images[into] += num_images.pop(small)
        for other, weight in neighbours.pop(small).items():
            del neighbours[other][small]
            if other != into:
                for a, b in ((into, other), (other, into)):
                    neighbours[a][b] = neighbours[a].get(b, 0.0) + weight
        waiting = sorted({*waiting, into}, key=lambda number: (num_images[number], number))
    return label


def _shared_nodes(
    graph: csr_array, sizes: np.ndarray, label: np.ndarray, num: int, overlap: int
) -> list[np.ndarray]:
    """Return the nodes that each cluster gets from its neighbours.

    Neighbours are those of the maximum spanning tree of the clusters, which connects all that are
    connected, and the strongest ones of each cluster.
    """
    between = _contracted(graph, label) if num else csr_array((0, 0))
    costs = between.copy()
    costs.data = 1 / costs.data
    tree = minimum_spanning_tree(costs).tocoo()
    links = {(int(min(a, b)), int(max(a, b))) for a, b in zip(tree.row, tree.col, strict=True)}
    for cluster in range(num):
        row = slice(between.indptr[cluster], between.indptr[cluster + 1])
        strongest = np.argsort(-between.data[row], kind="stable")[:_NEIGHBOURS]
        for other in between.indices[row][strongest].tolist():
            links.add((min(cluster, other), max(cluster, other)))
    shared: list[set[int]] = [set() for _ in range(num)]
    members = [np.flatnonzero(label == number) for number in range(num)]
    for a, b in sorted(links):
        for giving, getting in ((a, b), (b, a)):
            strengths = np.asarray(graph[members[giving]][:, members[getting]].sum(1))
            shared[getting].update(_strongest(members[giving], strengths, sizes, overlap))
    return [np.array(sorted(nodes), np.int64) for nodes in shared]


def _strongest(
    nodes: np.ndarray, strengths: np.ndarray, sizes: np.ndarray, overlap: int
) -> Sequence[int]:
    """Return the nodes of the greatest strength, which have half of the overlap's images."""
    order = np.argsort(-strengths, kind="stable")
    order = order[strengths[order] > 0]
    before = np.cumsum(sizes[nodes[order]]) - sizes[nodes[order]]
    return [int(node) for node in nodes[order][before < overlap / 2]]
