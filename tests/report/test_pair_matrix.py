"""The matrix of pairs: every pair in its place, and small for a thousand images."""

from __future__ import annotations

import base64
import json
from itertools import combinations, pairwise

import numpy as np

from featplug.report.pair_matrix import MAX_PAIRS, MAX_ROWS, pair_matrix


def test_pairs_have_their_inliers_in_the_order_of_the_names() -> None:
    names = ["b.jpg", "a.jpg", "c.jpg", "alone.jpg"]
    inliers = {("a.jpg", "b.jpg"): 120, ("c.jpg", "a.jpg"): 70_000, ("a.jpg", "gone.jpg"): 9}
    matrix = pair_matrix(names, inliers, ["a.jpg", "b.jpg", "c.jpg"])
    payload = json.loads(json.dumps(matrix.payload()))
    pairs = np.frombuffer(base64.b64decode(payload["pairs"]), "<u2").reshape(-1, 3)
    assert pairs.tolist() == [[0, 1, 120], [1, 2, 65535]]
    assert payload["names"] == names
    assert payload["registered"] == [1, 1, 1, 0]
    assert matrix.num_pairs == 2
    assert matrix.is_whole


def test_images_of_one_place_are_next_to_each_other_by_connection() -> None:
    """Two places, photographed in turn."""
    names = [f"{number}.jpg" for number in range(12)]
    pairs = combinations(range(12), 2)
    inliers = {(names[a], names[b]): 200 for a, b in pairs if a % 2 == b % 2}
    order = pair_matrix(names, inliers, names).by_connection
    assert sorted(order) == list(range(12))
    places = [row % 2 for row in order]
    assert sum(a != b for a, b in pairwise(places)) == 1


def test_few_images_and_no_pairs_are_a_matrix_too() -> None:
    for num in range(4):
        names = [f"{number}.jpg" for number in range(num)]
        matrix = pair_matrix(names, {}, [])
        assert (matrix.num_images, len(matrix.pairs)) == (num, 0)
        assert sorted(matrix.by_connection) == list(range(num))


def test_the_matrix_of_a_thousand_images_is_small_and_of_more_is_no_larger() -> None:
    def size(num: int, num_following: int) -> int:
        names = [f"photographs/{number:05}.jpg" for number in range(num)]
        inliers = {
            (names[a], names[b]): 1 + (a * b) % 900
            for a in range(num)
            for b in range(a + 1, min(a + 1 + num_following, num))
        }
        matrix = pair_matrix(names, inliers, names)
        assert len(matrix.names) <= MAX_ROWS
        assert len(matrix.pairs) <= MAX_PAIRS
        return len(json.dumps(matrix.payload()))

    assert size(1000, 20) < 250_000
    assert size(1000, 150) < 900_000
    assert size(2500, 20) < 250_000


def test_rows_that_images_share_have_the_best_pair() -> None:
    names = [f"{number:04}.jpg" for number in range(2000)]
    inliers = {(names[0], names[2]): 20, (names[1], names[3]): 500, (names[4], names[5]): 30}
    matrix = pair_matrix(names, inliers, names[:2])
    assert matrix.images_of_row == 2
    assert matrix.pairs.tolist() == [[0, 1, 500], [2, 2, 30]]
    assert matrix.is_registered[:2] == [True, False]
    assert not matrix.is_whole
