"""Work in threads: in order, bounded, and with its errors."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from featplug.utils.parallel import map_ahead


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_results_are_in_order_and_items_are_not_drawn_far_ahead(num_workers: int) -> None:
    drawn = []

    def items() -> Iterator[int]:
        for i in range(20):
            drawn.append(i)
            yield i

    def work(i: int) -> int:
        time.sleep(0.002 * ((i * 7) % 3))
        return i * i

    results = []
    for done, result in enumerate(map_ahead(work, items(), num_workers)):
        assert len(drawn) <= done + max(1, num_workers) + 1
        results.append(result)
    assert results == [i * i for i in range(20)]


def test_an_error_comes_where_its_result_would() -> None:
    def work(i: int) -> float:
        return 1 / (3 - i)

    results = map_ahead(work, range(10), 2)
    assert [next(results) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
