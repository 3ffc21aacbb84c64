"""Work in threads, a few items ahead of their use, with the results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import TypeVar

NUM_READERS = 4
"""Number of threads that read files: more than a disk serves at once gain nothing."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of CPU cores that this process may use: a job has few of a machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int
) -> Iterator[Result]:
    """Apply a function to items in threads; for work that releases Python's lock.

    Items are drawn from the caller's thread, and no more of them than the workers can start on, so
    that memory does not grow with their number.

    Yields:
        The results, in the items' order.
    """
    num_workers = max(1, num_workers)
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > num_workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


class WeightedSemaphore:
    """An amount that threads share, such as memory; who finds too little left waits."""

    def __init__(self) -> None:
        self._held: list[float] = []
        self._changed = Condition()

    @contextmanager
    def hold(self, amount: float, total: float) -> Iterator[None]:
        """Hold an amount while no more than ``total`` is held, or alone if it is more than that."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or sum(self._held) + amount <= total)
            self._held.append(amount)
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(amount)  # a sum that is added to and subtracted from never is 0
                self._changed.notify_all()
