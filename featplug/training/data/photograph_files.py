"""HDF5 files with a group per photograph, made and read in several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from torch.utils.data import Dataset

from featplug.io.artifact import Provenance, file_fingerprint
from featplug.io.h5file import H5Reader, H5Writer
from featplug.training.data.batches import load_ahead
from featplug.training.data.photographs import Photographs

Compute = Callable[[Photographs, int], Mapping[str, np.ndarray]]
"""Computes the datasets of a photograph, given by its index."""


class _Making(Dataset[Any]):
    """The datasets of photographs by index, or the error that says why there are none."""

    def __init__(self, images: Photographs, compute: Compute) -> None:
        self.images, self.compute = images, compute

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray] | Exception:
        try:
            return self.compute(self.images, index)
        except (FileNotFoundError, ValueError) as error:
            return error


def is_whole(path: Path, provenance: Provenance, has_all: Callable[[H5Reader], bool]) -> bool:
    """Tell whether a file needs no more; it is only read, so that several trainings can use it.

    Args:
        path: the file, if there is one.
        provenance: what it should be.
        has_all: whether it lacks nothing, asked of a file of that provenance.
    """
    if not path.is_file():
        return False
    with H5Reader(path) as reader:
        made_by = reader.provenance
        return made_by is not None and not made_by.difference(provenance) and has_all(reader)


def make_photograph_file(
    images: Photographs,
    path: Path,
    provenance: Provenance,
    compute: Compute,
    num_workers: int = 2,
) -> Iterator[str]:
    """Make the group of every photograph that has none yet.

    Can be stopped at any time; called again with the same provenance, it goes on.

    Args:
        images: the photographs.
        path: the file, made or continued.
        provenance: what the file is.
        compute: see there; what it gives must follow from the photograph alone.
        num_workers: processes; 0 works in this one.

    Yields:
        The name of each photograph that the file now has.

    Raises:
        FileNotFoundError: a photograph is gone.
        ValueError: a photograph cannot be read, or the file is of another provenance.
    """
    folder, names = images.folder, images.names
    if is_whole(path, provenance, lambda reader: len(_done(reader, images)) == len(names)):
        yield from names
        return
    with H5Writer(path, provenance) as writer:
        done = _done(writer, images)
        yield from done
        missing = [name for name in names if name not in set(done)]
        rest = Photographs(folder, missing, images.max_side, cache_bytes=0)
        made = load_ahead(_Making(rest, compute), range(len(missing)), num_workers)
        for name, datasets in zip(missing, made, strict=True):
            if isinstance(datasets, Exception):
                try:
                    raise datasets
                finally:
                    # The cycle through its traceback would keep the processes until it is found.
                    del datasets
            arrays = {key: np.asarray(value) for key, value in datasets.items()}
            writer.require_disk(sum(array.nbytes for array in arrays.values()))
            attributes = {"image_fingerprint": file_fingerprint(folder / name)}
            with writer.explaining_failures():
                writer.link(name, arrays, attributes)
                writer.file.flush()
            yield name


def _done(file: H5Reader | H5Writer, images: Photographs) -> list[str]:
    """List the photographs that a file has, after a look whether they are still the same."""
    done = [name for name in images.names if name in file.file]
    for name in done:
        photograph = images.folder / name
        if not file.is_made_from(name, photograph):
            raise ValueError(
                f"{photograph} is another photograph than the one {file.path} was made from; "
                "delete that file to make it anew."
            )
    return done


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
