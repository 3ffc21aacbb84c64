"""A share of the work on a store, such as one task of an array of Slurm's does."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

_TEXT = re.compile(r"(\d+)/(\d+)")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """Every N-th part from the I-th one on."""

    index: int = 0
    """I, from 0 to N − 1."""
    count: int = 1
    """N."""

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read ``I/N``.

        Raises:
            ValueError: it is something else.
        """
        match = _TEXT.fullmatch(text)
        share = None if match is None else cls(int(match[1]), int(match[2]))
        if share is None or share.index >= share.count:
            raise ValueError(
                f"--shard {text} must be I/N, with I from 0 to N − 1, such as 0/4 to 3/4; an array "
                "of Slurm's with N tasks has --array=0-(N−1)."
            )
        return share

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Return the items of this share."""
        return list(items[self.index :: self.count])
