"""HDF5 files with a group per photograph, made once and read by several processes."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from featplug.io.artifact import Provenance, file_fingerprint
from featplug.io.h5file import FINGERPRINT, H5Reader, H5Writer
from featplug.io.hdf5_links import has_link
from featplug.training.data.batches import load_ahead
from featplug.training.data.photographs import MAX_SIDE, Photographs

Datasets = Mapping[str, np.ndarray]


class PhotographFile:
    """A file with a group per photograph.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file holds something else.
    """

    kind: ClassVar[str]
    """Contents of the file in words, recorded in its provenance."""
    revision: ClassVar[int] = 1
    """Number to raise whenever the contents change."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._reader: H5Reader | None = None
        self._process = os.getpid()
        self.provenance = self._checked_provenance()

    def _checked_provenance(self) -> Provenance:
        provenance = self._open().provenance
        if provenance is None or provenance.kind != self.kind:
            raise ValueError(f"{self.path} holds no {self.kind}; make them first.")
        return provenance

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    def names(self) -> list[str]:
        """List the names of all photographs, sorted."""
        return sorted(name for name, _ in self._open().leaf_groups())

    def require(self, names: Sequence[str]) -> None:
        """Check that the file has all these photographs.

        Raises:
            ValueError: a photograph is missing.
        """
        missing = [name for name in names if not has_link(self._open().file, name)]
        if missing:
            raise ValueError(
                f"{self.path} has no {self.kind} of {len(missing)} of {len(names)} photographs, "
                f"for example {missing[0]!r}; make them too, or leave those photographs out."
            )

    def read(self, name: str, *keys: str) -> list[np.ndarray]:
        """Read datasets of a photograph."""
        arrays = self._open().arrays(name, keys)
        missing = [key for key in keys if key not in arrays]
        if missing:
            raise ValueError(f"{self.path} has no {missing[0]} of {name!r}; make the file again.")
        return [arrays[key] for key in keys]

    def _open(self) -> H5Reader:
        # An HDF5 file that was opened before a fork must not be read after it.
        if self._reader is None or self._process != os.getpid():
            self._reader, self._process = H5Reader(self.path), os.getpid()
        return self._reader

    @classmethod
    def make_missing(
        cls,
        path: Path,
        names: Sequence[str],
        compute: Callable[[str], Datasets],
        conf: Mapping[str, Any],
        sources: Path | Mapping[str, str],
        num_workers: int = 0,
    ) -> Iterator[str]:
        """Make the group of every photograph that has none yet.

        Making can be stopped at any time, and the same call resumes it. A complete file is only
        read, so that several trainings can use it at once.

        Args:
            path: the file to make or to continue.
            names: names of the photographs.
            compute: computes the datasets of a photograph from its name and contents only.
            conf: options that decide over the contents.
            sources: folder of the photographs, or the identities of the files to make groups from.
            num_workers: number of processes; 0 computes in this one.

        Yields:
            The name of each photograph that the file has by then.

        Raises:
            FileNotFoundError: a photograph does not exist.
            ValueError: a photograph cannot be read, or the file was made from something else.
        """
        folder, inputs = (sources, {}) if isinstance(sources, Path) else (None, sources)
        revisions = {cls.kind: cls.revision}
        provenance = Provenance(cls.kind, dict(conf), inputs=dict(inputs), revisions=revisions)
        if path.is_file():
            with H5Reader(path) as reader:
                made_by = reader.provenance
                is_same = made_by is not None and not made_by.difference(provenance)
                if is_same and len(_finished(reader, names, folder)) == len(names):
                    yield from names
                    return
        with H5Writer(path, provenance) as writer:
            finished = _finished(writer, names, folder)
            yield from finished
            missing = [name for name in names if name not in finished]
            made = load_ahead(_Computing(missing, compute), range(len(missing)), num_workers)
            for name, datasets in zip(missing, made, strict=True):
                if isinstance(datasets, Exception):
                    try:
                        raise datasets
                    finally:
                        # The cycle through its traceback would keep the processes alive.
                        del datasets
                arrays = {key: np.asarray(value) for key, value in datasets.items()}
                writer.require_disk(sum(array.nbytes for array in arrays.values()))
                attributes = {FINGERPRINT: file_fingerprint(folder / name)} if folder else {}
                with writer.explaining_failures():
                    writer.link(name, arrays, attributes)
                writer.commit()
                yield name


OptionsT = TypeVar("OptionsT")


class MadeOnce(PhotographFile, Generic[OptionsT]):
    """A file that is made once from photographs by the options of its type."""

    options_type: type[OptionsT]

    @classmethod
    def make(
        cls,
        folder: Path,
        path: Path,
        names: Sequence[str],
        options: OptionsT | None = None,
        num_workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> Iterator[str]:
        """Make the groups of the photographs in a folder, by :meth:`make_missing`."""
        options = cls.options_type() if options is None else options
        max_side = getattr(options, "max_side", MAX_SIDE)
        images = Photographs(folder, names, max_side, cache_bytes=0)
        compute = partial(cls.compute, images, options, torch.device(device))
        return cls.make_missing(path, names, compute, cls.conf(options), folder, num_workers)

    @classmethod
    def conf(cls, options: OptionsT) -> dict[str, Any]:
        """List what decides over the contents."""
        return asdict(options)  # type: ignore[call-overload]

    @staticmethod
    @abstractmethod
    def compute(images: Photographs, options: Any, device: torch.device, name: str) -> Datasets:
        """Compute the datasets of a photograph."""


class _Computing(Dataset[Any]):
    """The datasets of photographs by index, or the error where they cannot be computed."""

    def __init__(self, names: Sequence[str], compute: Callable[[str], Datasets]) -> None:
        self.names, self.compute = names, compute

    def __getitem__(self, index: int) -> Datasets | Exception:
        try:
            return self.compute(self.names[index])
        except (FileNotFoundError, ValueError) as error:
            return error


def _finished(
    file: H5Reader | H5Writer, names: Sequence[str], folder: Path | None
) -> dict[str, None]:
    """List the photographs that a file has, in order, and check that they have not changed."""
    finished = [name for name in names if has_link(file.file, name)]
    for name in finished:
        if folder is not None and not file.is_made_from(name, folder / name):
            raise ValueError(
                f"{folder / name} is another photograph than the one {file.path} was made from; "
                "delete that file to make it again."
            )
    return dict.fromkeys(finished)
