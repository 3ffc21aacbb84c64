"""Items in batches of one kind, which become smaller where they do not fit memory."""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "insufficient memory")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an exception of Python, torch or OpenCV says that memory is exhausted."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


def grouped(
    items: Iterable[Item], kind: Callable[[Item], Hashable], size: int
) -> Iterator[list[Item]]:
    """Yield groups of up to ``size`` items of one kind, and hold at most twice as many items."""
    waiting: dict[Hashable, list[Item]] = {}
    for item in items:
        group = waiting.setdefault(kind(item), [])
        group.append(item)
        if len(group) == size:
            yield waiting.pop(kind(item))
        elif sum(map(len, waiting.values())) >= 2 * size:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()


class Batches(Generic[Item, Result]):
    """Computes batches; one that does not fit memory is divided, and so are all after it.

    Args:
        compute: the results of some items of one kind, in their order.
        size: largest number of items of a batch.
        unit: what the items are, in the plural, for the log.

    Raises:
        ValueError: the size is not positive.
    """

    def __init__(
        self, compute: Callable[[Sequence[Item]], Sequence[Result]], size: int, unit: str
    ) -> None:
        if size < 1:
            raise ValueError(f"The batch size must be 1 or more, not {size}.")
        self.size = size
        self._compute, self._unit = compute, unit

    def results(self, items: Sequence[Item]) -> Iterator[tuple[Item, Result | Exception]]:
        """Yield items of one kind with their result, or with what was raised for them alone."""
        done, too_many = 0, 0
        while done < len(items):
            batch = items[done : done + self.size]
            try:
                results: Sequence[Result | Exception] = self._compute(batch)
            except Exception as error:
                if len(batch) == 1:
                    results = [error]
                elif is_out_of_memory(error):
                    too_many = too_many or len(batch)
                    self.size = len(batch) // 2
                    continue
                else:  # one item never costs the others
                    results = [self._alone(item) for item in batch]
            if too_many:
                logger.warning(
                    "%d %s at a time do not fit memory; %d from now on.",
                    too_many,
                    self._unit,
                    self.size,
                )
                too_many = 0
            yield from zip(batch, results, strict=True)
            done += len(batch)

    def _alone(self, item: Item) -> Result | Exception:
        try:
            return self._compute([item])[0]
        except Exception as error:
            return error
