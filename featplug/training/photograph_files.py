"""HDF5 files with a group per photograph, read in several processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featplug.h5file import H5Reader


class PhotographFile:
    """A file with a group per photograph, open in each process that reads it.

    Args:
        path: the file.
        kind: of its provenance, such as ``patch groups``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = Path(path), kind
        self._reader: H5Reader | None = None
        self._process = os.getpid()
        found = self._open().provenance
        if found is None or found.kind != kind:
            raise ValueError(f"{self.path} holds no {kind}; make them first.")
        self.provenance = found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    def names(self) -> list[str]:
        """All photographs' names, sorted."""
        found: list[str] = []

        def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                found.append(name.rpartition("/")[0])

        self._open().file.visititems(add)
        return sorted(set(found))

    def require(self, names: Sequence[str]) -> None:
        """Check that the file has all these photographs.

        Raises:
            ValueError: names one that it lacks.
        """
        missing = [name for name in names if name not in self._open().file]
        if missing:
            raise ValueError(
                f"{self.path} has no {self.kind} of {len(missing)} of {len(names)} photographs, "
                f"such as {missing[0]!r}; make them too, or leave those photographs out."
            )

    def read(self, name: str, *keys: str) -> list[np.ndarray]:
        """Read datasets of a photograph."""
        group = self._open().file[name]
        return [group[key][()] for key in keys]

    def _open(self) -> H5Reader:
        # An HDF5 file that was opened before a fork must not be read after it.
        if self._reader is None or self._process != os.getpid():
            self._reader, self._process = H5Reader(self.path), os.getpid()
        return self._reader
