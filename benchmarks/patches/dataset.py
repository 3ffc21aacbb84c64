"""The interface of the data sets of patches."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.record import Problem

Parts = dict[str, dict[str, dict[str, Any]]]
"""Map of parts to metrics, each with its unit."""


class PatchSet(ABC):
    """One data set on disk, checked as far as its lists of files and pairs go."""

    name: str
    """Name of the data set in the rows of a run."""
    protocol: str
    source: ClassVar[str]
    """Where the data set is to be had."""
    folder: Path
    not_comparable: str | None
    """Reason why no published number holds; None where they do."""
    problems: list[Problem]
    """Damaged or missing parts, found when the set was opened."""

    @abstractmethod
    def files(self) -> list[str]:
        """Return the files that the results depend on, relative to the folder."""

    @abstractmethod
    def patches(self) -> Iterator[np.ndarray]:
        """Yield all patches to describe, in pieces N×H×W uint8.

        Raises:
            ValueError: a file of patches is damaged.
        """

    @abstractmethod
    def num_patches(self) -> int:
        """Count the patches of :meth:`patches`."""

    @abstractmethod
    def measure(self, descriptors: np.ndarray) -> Parts:
        """Measure descriptors, N×D in the order of :meth:`patches`."""
