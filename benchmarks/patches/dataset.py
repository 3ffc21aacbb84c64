"""What the three data sets of patches have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Problem

Parts = dict[str, dict[str, dict[str, Any]]]
"""Part to its metrics, each with its unit."""
Describe = Callable[[np.ndarray], np.ndarray]
"""Patches N×H×W uint8 to descriptors N×D."""


class PatchSet(ABC):
    """One data set on disk, checked as far as its lists of files and pairs go."""

    name: str
    """As in a run's rows."""
    protocol: str
    folder: Path
    not_comparable: str | None
    """Why no published number holds for it."""
    problems: list[Problem]
    """What of it cannot be measured, found when it was opened."""

    @abstractmethod
    def files(self) -> list[str]:
        """Give the files that decide over the results, relative to the folder."""

    @abstractmethod
    def patches(self) -> Iterator[np.ndarray]:
        """Give all patches that are needed, in pieces N×H×W uint8.

        Raises:
            ValueError: a file of patches is damaged.
        """

    @abstractmethod
    def num_patches(self) -> int:
        """Count the patches of :meth:`patches`."""

    @abstractmethod
    def measure(self, descriptors: np.ndarray) -> Parts:
        """Measure descriptors.

        Args:
            descriptors: N×D of the patches, in the order of :meth:`patches`.
        """
