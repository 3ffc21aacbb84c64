"""Clusters of view graphs: connected, small enough, cut where little is, and overlapping."""

from __future__ import annotations

import numpy as np
import pytest

from featplug.colmap.view_graph import Cluster, cluster_images


def _street(num: int, reach: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Images in a row, each of which sees what the next ones see, the less the further."""
    edges = [(i, j, 500 // (j - i)) for i in range(num) for j in range(i + 1, i + 1 + reach)]
    kept = np.array([edge for edge in edges if edge[1] < num])
    return kept[:, :2], kept[:, 2]


def _owner(clusters: list[Cluster], num: int) -> np.ndarray:
    owner = np.full(num, -1)
    for number, cluster in enumerate(clusters):
        assert (owner[cluster.own] == -1).all(), "an image is the own of two clusters"
        assert not set(cluster.own) & set(cluster.shared)
        owner[cluster.own] = number
    return owner


def test_weak_links_are_cut() -> None:
    """Four groups in a ring, numbered so that neighbours in a group are far apart in the list."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 15)[rng.permutation(60)]
    pairs = np.array([(i, j) for i in range(60) for j in range(i)])
    step = abs(group[pairs[:, 0]] - group[pairs[:, 1]])
    inliers = np.select([step == 0, (step == 1) | (step == 3)], [200, 2], 0)
    clusters = cluster_images(pairs, inliers, np.ones(60, int), 20, 4)
    owner = _owner(clusters, 60)
    assert len(clusters) == 4
    for number in range(4):
        assert len(np.unique(owner[group == number])) == 1


@pytest.mark.parametrize("num", [40, 3000])
def test_a_long_street_becomes_stretches_that_overlap(num: int) -> None:
    """3000 images are more than a dense eigenvector is computed for."""
    pairs, inliers = _street(num)
    size = num // 4
    clusters = cluster_images(pairs, inliers, np.ones(num, int), size, 8)
    owner = _owner(clusters, num)
    assert (owner >= 0).all()
    assert 4 <= len(clusters) <= 8
    assert max(len(cluster.own) for cluster in clusters) <= size
    assert np.count_nonzero(np.diff(owner)) == len(clusters) - 1, "a cluster is in two places"
    for place in np.flatnonzero(np.diff(owner)):
        before, after = clusters[owner[place]], clusters[owner[place + 1]]
        assert len(np.intersect1d(before.nodes, after.nodes)) == 8
        assert set(range(place - 3, place + 5)) <= set(before.nodes) & set(after.nodes)


def test_components_frames_and_images_without_matches() -> None:
    pairs, inliers = _street(10)
    more = np.concatenate([pairs, pairs + 10])
    sizes = np.full(24, 3)  # frames of three images
    clusters = cluster_images(more, np.concatenate([inliers, inliers]), sizes, 15, 6)
    owner = _owner(clusters, 24)
    assert (owner[20:] == -1).all()
    for cluster in clusters:
        assert sizes[cluster.own].sum() <= 15
        assert len(set(cluster.nodes // 10)) == 1, "clusters share images that nothing connects"
        assert len(cluster.shared) >= 1
    assert cluster_images(np.zeros((0, 2), int), np.zeros(0), np.ones(5, int), 3, 2) == []
    (whole,) = cluster_images(pairs, inliers, np.ones(10, int), 10, 4)
    assert whole.own.tolist() == list(range(10))
    assert not len(whole.shared)


def test_a_hub_that_all_images_match_is_in_one_cluster() -> None:
    """Heavy-edge matching cannot coarsen a star; nothing else must depend on it."""
    pairs = np.array([(0, i) for i in range(1, 400)])
    clusters = cluster_images(pairs, np.full(399, 50), np.ones(400, int), 100, 4)
    owner = _owner(clusters, 400)
    assert (owner >= 0).all()
    assert max(len(cluster.own) for cluster in clusters) <= 100
    assert all(0 in cluster.nodes for cluster in clusters)


@pytest.mark.parametrize("num", range(2, 40))
def test_images_that_all_match_each_other_alike_are_split(num: int) -> None:
    """All eigenvalues but one are equal."""
    pairs = np.array([(i, j) for i in range(num) for j in range(i)])
    clusters = cluster_images(pairs, np.full(len(pairs), 300), np.ones(num, int), 5, 4)
    owner = _owner(clusters, num)
    assert (owner >= 0).all()
    assert max(len(cluster.own) for cluster in clusters) <= 5
