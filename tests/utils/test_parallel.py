"""Work in threads: in order, bounded, and with its errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Lock, Thread

import pytest

from featplug.utils.parallel import WeightedSemaphore, map_ahead


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


def test_a_budget_is_never_exceeded_but_by_one_alone() -> None:
    budget, lock = WeightedSemaphore(), Lock()
    held: list[float] = []
    most: list[tuple[float, int]] = []

    def work(amount: float) -> None:
        with budget.hold(amount, 10.0):
            with lock:
                held.append(amount)
                most.append((sum(held), len(held)))
            time.sleep(0.001)
            with lock:
                held.remove(amount)

    for _ in map_ahead(work, [3.0, 9.0, 2.0, 25.0, 4.0, 4.0, 2.0, 10.0] * 5, 8):
        pass
    assert all(total <= 10 or number == 1 for total, number in most)
    assert max(number for _, number in most) > 1
    assert not held


def test_a_budget_that_was_used_in_fractions_is_whole_again() -> None:
    budget = WeightedSemaphore()
    for number in range(1, 1000):
        with budget.hold(0.1 * number, 1000), budget.hold(1 / number, 1000):
            pass

    def hold_all() -> None:
        with budget.hold(12.0, 12.0):
            pass

    thread = Thread(target=hold_all, daemon=True)  # in a thread, as a failure would wait for ever
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
