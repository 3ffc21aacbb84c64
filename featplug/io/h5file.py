"""HDF5 files that survive kills, record what made them, and fail with a sentence.

A file can be read at any time it is not being written, also after a kill: it has HDF5's default
``libver``, is flushed after each image or chunk of pairs through :mod:`featplug.io.journal`, and an
image's or a pair's group is linked into the file only when it is whole. The root attribute
``featplug`` (JSON) holds what made the file, and a run with another conf does not append.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from featplug.io.artifact import Provenance, current_fingerprint, file_hash
from featplug.io.journal import JournaledFile, journal_path, recover

FINGERPRINT = "image_fingerprint"
"""Attribute of an image's group: fingerprint of the photograph that it was made from."""
_ATTRIBUTE = "featplug"
_OLD_VERSION_WROTE = "featplug_0.1_wrote_ns"
_FREE_DISK_MARGIN = 64 * 2**20
_REMEDY = (
    "write elsewhere, or delete what was written before (as --overwrite does, if a command has it)."
)


class OtherContentsError(ValueError):
    """A file is whole, but holds something else than what is asked for."""

    def __init__(self, difference: str) -> None:
        super().__init__(f"{difference}; {_REMEDY}")
        self.difference = difference
        """Sentence on the file and the difference, without the remedy."""


def _open_for_writing(path: Path, provenance: Provenance) -> tuple[h5py.File, JournaledFile]:
    try:
        if path.exists() and path.stat().st_size == 0:
            path.unlink()
        if not path.exists():
            _create(path, provenance)
        journaled = JournaledFile(path)
        try:
            return h5py.File(journaled, "r+"), journaled
        except BaseException:
            journaled.close()
            raise
    except OSError as error:
        raise _explained(path, error) from error


def _create(path: Path, provenance: Provenance) -> None:
    """Make a file that holds nothing but what made it; it appears only when it is whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with h5py.File(part, "w") as file:
        file.attrs[_ATTRIBUTE] = provenance.to_json()
    try:
        os.link(part, path)  # fails, as a rename would not, where another process was faster
    except FileExistsError:
        pass
    except OSError:  # some file systems have no links
        part.rename(path)
    part.unlink(missing_ok=True)


def _explained(path: Path, error: OSError) -> OSError | ValueError:
    """Turn what HDF5 and the system say into what the user can do."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"There is no file {path}.")
    text = str(error).replace(str(path), "")
    if isinstance(error, BlockingIOError) or "unable to lock file" in text:
        return ValueError(f"{path} is in use by another process; wait for it, or use another file.")
    if error.errno in (errno.ENOLCK, errno.ENOTSUP):
        return ValueError(
            f"The disk of {path} has no file locks; set HDF5_USE_FILE_LOCKING=FALSE, and see to "
            "it yourself that only one process writes the file."
        )
    if "clear file consistency flags" in text:
        return ValueError(
            f"{path} was left locked by a program that was killed; "
            f"`h5clear -s {path}` (package hdf5-tools) clears that."
        )
    if "file signature not found" in text:
        return ValueError(f"{path} is not an HDF5 file.")
    if error.errno is not None:
        return ValueError(f"Cannot open {path}: {os.strerror(error.errno)}.")
    return ValueError(f"{path} is damaged ({text}); delete it and run again.")


def _remove(path: Path, kind: str) -> None:
    """Delete a file that is to be made again, unless it is in use or something else."""
    if path.stat().st_size and not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file, so it is not overwritten.")
    try:
        with JournaledFile(path) as raw, h5py.File(raw, "r+") as file:
            found = _provenance(file)
    except BlockingIOError as error:
        raise _explained(path, error) from error
    except OSError:
        found = None  # damaged or left locked: one more reason to make it again
    if found is not None and found.kind != kind:
        raise ValueError(f"{path} holds {found.kind}, so it is not overwritten with {kind}.")
    journal_path(path).unlink(missing_ok=True)
    path.unlink()


def _provenance(file: h5py.File) -> Provenance | None:
    text = file.attrs.get(_ATTRIBUTE)
    return None if text is None else Provenance.from_json(text)


def _written_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


class _H5File:
    """An open HDF5 file, closed with the ``with`` block."""

    def __init__(self, path: Path, file: h5py.File, written_ns: int) -> None:
        self.path = path
        self.file = file
        self._written_ns = int(file.attrs.get(_OLD_VERSION_WROTE, written_ns))
        """Time of the last change before it was opened, or of the last change by featplug 0.1."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        self.file.close()

    def is_made_from(self, name: str, path: Path, attribute: str = FINGERPRINT) -> bool:
        """Return whether a group's attribute has the fingerprint of the file ``path``."""
        attributes = self.file[name].attrs
        recorded = str(attributes.get(attribute, ""))
        current = current_fingerprint(path, recorded, self._written_ns)
        if current not in (None, recorded) and self.file.mode == "r+":
            attributes[attribute] = current  # spares the next run a look into the file
        return current is not None


class H5Reader(_H5File):
    """A file open for reading, after a commit that a kill interrupted was finished or undone."""

    def __init__(self, path: Path) -> None:
        path = Path(path)
        written_ns = _written_ns(path)
        try:
            recover(path)
            file = h5py.File(path, "r")
        except OSError as error:
            raise _explained(path, error) from error
        super().__init__(path, file, written_ns)
        self.provenance = _provenance(self.file)
        """Provenance of the file; None where it is not ours."""

    @property
    def file_id(self) -> str:
        """Identity of the file as an input: our own number, for files of others their hash."""
        return self.provenance.file_id if self.provenance else file_hash(self.path)


class H5Writer(_H5File):
    """A file open for appending, with its provenance checked."""

    def __init__(self, path: Path, provenance: Provenance, overwrite: bool = False) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if overwrite and path.exists():
            _remove(path, provenance.kind)
        written_ns = _written_ns(path)
        file, self._journaled = _open_for_writing(path, provenance)
        super().__init__(path, file, written_ns)
        try:
            self.provenance = self._checked(provenance)
            if self.provenance.version.startswith("0.1."):
                self._keep_time_of_old_version()
        except BaseException:
            self._close()
            raise

    def _keep_time_of_old_version(self) -> None:
        """Record when featplug 0.1 last wrote: its fingerprints hold until then."""
        if _OLD_VERSION_WROTE not in self.file.attrs:
            self.file.attrs[_OLD_VERSION_WROTE] = self._written_ns

    def _checked(self, provenance: Provenance) -> Provenance:
        found = _provenance(self.file)
        if found is None:
            raise ValueError(
                f"{self.path} was not written by featplug, which does not add to it; {_REMEDY}"
            )
        difference = found.difference(provenance)
        if difference:
            raise OtherContentsError(f"{self.path} {difference}")
        return found

    def _close(self) -> None:
        try:
            with self.explaining_failures():
                super()._close()
        finally:
            self._journaled.close()  # releases the lock

    @contextmanager
    def explaining_failures(self) -> Iterator[None]:
        """Turn the two errors that HDF5 raises for a failed write into one with a remedy."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"Cannot write {self.path}: {error}; what was written before is kept."
            ) from error

    def require_disk(self, num_bytes: int) -> None:
        """Stop before the disk is full.

        Raises:
            ValueError: too little is left for that many bytes.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < num_bytes + _FREE_DISK_MARGIN:
            raise ValueError(
                f"The disk of {self.path} has only {free / 2**20:.0f} MiB left; free some and run "
                "again: what is in the file is kept."
            )

    def link(
        self, name: str, datasets: Mapping[str, np.ndarray], attrs: Mapping[str, Any]
    ) -> h5py.Group:
        """Write a group, which gets its name only when it is whole."""
        group = self.file.create_group(None)
        for key, value in datasets.items():
            group.create_dataset(key, data=value)
        group.attrs.update(attrs)
        if name in self.file:
            del self.file[name]
        self.file[name] = group
        return group
