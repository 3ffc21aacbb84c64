"""HDF5 files that survive kills, record what made them, and fail with a sentence.

A file can be read at any time it is not being written, also after a kill: it has HDF5's default
``libver``, is flushed after each image or chunk of pairs through :mod:`featplug.io.journal`, and an
image's or a pair's group is linked into the file only when it is whole. The root attribute
``featplug`` (JSON) holds what made the file, and a run with another conf does not append. A file
that is overwritten keeps its place until the new one, next to it, is whole. Arrays and attributes
have checksums, which are verified when they are read.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from featplug.io.artifact import Provenance, current_fingerprint, file_hash
from featplug.io.checksums import Checksums, attribute_key
from featplug.io.files import flush, part_path, replace
from featplug.io.hdf5_arrays import (
    has_numbers,
    read_array,
    read_attribute,
    stored_attribute,
    unnamed_group,
    write_array,
)
from featplug.io.hdf5_guard import ArrayForGroupError, UnusableDataError, damaged, guarded, opening
from featplug.io.hdf5_links import check_links, has_link, leaf_groups
from featplug.io.journal import JournaledFile, journal_path, recover
from featplug.utils.interrupts import delayed_interrupts

FINGERPRINT = "image_fingerprint"
"""Attribute of an image's group: fingerprint of the photograph that it was made from."""
_ATTRIBUTE = "featplug"
_NUM_GROUPS = "featplug_groups"
"""Root attribute: number of groups, so that one that a damaged index hides is missed."""
REWRITTEN = "featplug_rewritten"
"""Root attribute: number of times that a group was written again. Attribute of such a group: that
number when it was."""
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
    with delayed_interrupts(also_second=True), opening(path):
        empty = _empty_file(provenance)
        if not path.exists():
            _create(path, empty)
        journaled = JournaledFile(path)
        try:
            if not journaled.size:  # left by another program, or made on a disk without links
                journaled.write(empty)
                journaled.flush()
            return h5py.File(journaled, "r+"), journaled
        except BaseException:
            journaled.close()
            raise


def _empty_file(provenance: Provenance) -> memoryview:
    """Return a file that holds nothing but what made it."""
    content = BytesIO()
    with h5py.File(content, "w") as file:
        write_provenance(file, provenance)
    return content.getbuffer()


def write_provenance(file: h5py.File, provenance: Provenance) -> None:
    """Write what makes a file, which has nothing else yet."""
    file.attrs[_ATTRIBUTE] = stored_attribute(provenance.to_json())
    file.attrs[_NUM_GROUPS] = 0


def count_groups(file: h5py.File, number: int) -> None:
    """Record how many groups a file has, so that one that damage hides is missed."""
    file.attrs[_NUM_GROUPS] = number


def _create(path: Path, content: memoryview) -> None:
    """Make a file that appears only when it is whole, unless another process makes one."""
    part = part_path(path)
    try:
        part.write_bytes(content)
        with suppress(OSError):  # another process was faster, or the file system has no links
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def replacement_path(path: Path) -> Path:
    """Return where the file that is to replace another is until it is whole."""
    return path.with_name(path.name + ".new")


def _is_newer(path: Path, other: Path) -> bool:
    return not other.exists() or path.stat().st_mtime_ns >= other.stat().st_mtime_ns


def _is_made_by(path: Path, provenance: Provenance) -> bool:
    """Return whether a run can resume a file; raise ValueError if that is in use."""
    try:
        with H5Reader(path) as reader:
            found = reader.provenance
            return found is not None and found.difference(provenance) is None
    except UnusableDataError:
        return False


def lock_replaceable(path: Path, kind: str) -> JournaledFile:
    """Lock a file that is to be replaced, unless it is in use or something else."""
    if path.stat().st_size and not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file, so it is not overwritten.")
    with opening(path):
        locked = JournaledFile(path)
    try:
        with delayed_interrupts(also_second=True), opening(path), h5py.File(locked, "r") as file:
            found = read_provenance(path, file)
    except UnusableDataError:
        found = None  # damaged or left locked: one more reason to make it again
    if found is not None and found.kind != kind:
        locked.close()
        raise ValueError(f"{path} holds {found.kind}, so it is not overwritten with {kind}.")
    return locked


def read_provenance(path: Path, file: h5py.File) -> Provenance | None:
    """Return what made a file; None where it is not ours.

    Raises:
        UnusableDataError: the record is damaged.
    """
    with guarded(path, f"the root attribute {_ATTRIBUTE!r}"):
        text = read_attribute(file, _ATTRIBUTE)
        return None if text is None else Provenance.from_json(text)


def _written_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


class H5File:
    """An open HDF5 file, closed with the ``with`` block."""

    def __init__(self, path: Path, file: h5py.File, written_ns: int) -> None:
        self.path = path
        self.file = file
        with self.reading():
            self._written_ns = int(file.attrs.get(_OLD_VERSION_WROTE, written_ns))
            """Time of the last change before it was opened, or of the last by featplug 0.1."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        self.file.close()

    def reading(self, what: str = "") -> AbstractContextManager[None]:
        """Return the guard of a block that reads, see :func:`featplug.io.hdf5_guard.guarded`."""
        return guarded(self.path, what)

    def arrays(self, name: str, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Read arrays of a group: those of ``keys`` that it has, or all that are of numbers.

        Raises:
            UnusableDataError: the group does not exist, an array is damaged or too large, or is
                not the one that was written.
        """
        with self.reading(repr(name)):
            group = self.group(name)
            checksums = Checksums.of(group)
            if keys is None:
                numbers = (key for key in group if has_numbers(group, key))
                keys = (*numbers, *checksums.arrays())
            keys = list(dict.fromkeys(keys))
            arrays = {
                key: read_array(self.path, group, key) for key in keys if has_link(group, key)
            }
            changed = [key for key in keys if not checksums.agree(key, arrays.get(key))]
        if changed:
            raise self._changed(name, changed[0])
        return arrays

    def attribute(self, name: str, key: str, array: str | None = None) -> Any:
        """Read an attribute of a group, or of an array in it; None if there is none.

        Raises:
            UnusableDataError: the group or the attribute is damaged, or is not the one that was
                written.
        """
        with self.reading(repr(name)):
            group = self.group(name)
            value = read_attribute(group if array is None else group[array], key)
            is_same = Checksums.of(group).agree(attribute_key(key, array), value)
        if not is_same:
            raise self._changed(name, key)
        return value

    def _changed(self, name: str, key: str) -> UnusableDataError:
        return damaged(self.path, f"the array {key} of {name!r}", "it differs from its checksum")

    def group(self, name: str) -> h5py.Group:
        """Open a group, within a block of :meth:`reading`."""
        check_links(self.path, self.file, name)
        group = self.file[name]
        if not isinstance(group, h5py.Group):
            raise ArrayForGroupError(
                f"{self.path}: {name!r} is an array, as in files for Kaggle, where a group of "
                "arrays is needed; write them as hloc does, or make them with featplug."
            )
        return group

    def leaf_groups(self) -> list[tuple[str, list[str]]]:
        """List every group that holds arrays, with the names of these.

        Raises:
            UnusableDataError: the file is damaged, or has fewer groups than were written.
        """
        with self.reading():
            found = list(leaf_groups(self.path, self.file))
            num = int(self.file.attrs.get(_NUM_GROUPS, 0))
        if len(found) < num:
            raise damaged(self.path, "", f"its index lists {len(found)} of {num} groups")
        return found

    def num_rewritten(self) -> int:
        """Return how often a group was written again."""
        with self.reading():
            return int(self.file.attrs.get(REWRITTEN, 0))

    def is_made_from(self, name: str, path: Path, attribute: str = FINGERPRINT) -> bool:
        """Return whether a group's attribute has the fingerprint of the file ``path``."""
        recorded = str(self.attribute(name, attribute) or "")
        current = current_fingerprint(path, recorded, self._written_ns)
        if current not in (None, recorded) and self.file.mode == "r+":
            # Spares the next run a look into the file.
            with self.reading(repr(name)):
                group = self.group(name)
                group.attrs[attribute] = stored_attribute(current)
                checksums = Checksums.of(group)
                checksums.add(attribute_key(attribute), current)
                checksums.write(group)
        return current is not None


class H5Reader(H5File):
    """A file open for reading, after a commit that a kill interrupted was finished or undone.

    Args:
        path: the file.
        locking: lock it, as HDF5 does; what never changes needs no lock, which some network disks
            do not have.
    """

    def __init__(self, path: Path, locking: bool = True) -> None:
        path = Path(path)
        written_ns = _written_ns(path)
        with opening(path):
            recover(path)
            file = h5py.File(path, "r", locking=None if locking else False)
        super().__init__(path, file, written_ns)
        self.provenance = read_provenance(path, self.file)
        """Provenance of the file; None where it is not ours."""

    @property
    def file_id(self) -> str:
        """Identity of the file as an input: our own number, for files of others their hash."""
        return self.provenance.file_id if self.provenance else file_hash(self.path)


class H5Writer(H5File):
    """A file open for appending, with its provenance checked.

    A file that is overwritten stays until the ``with`` block ends without an exception. What was
    written by then is kept next to it, and the next run resumes it, with ``overwrite`` or without.
    """

    def __init__(self, path: Path, provenance: Provenance, overwrite: bool = False) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written = path
        """File that is written: ``path``, or the one that will replace it."""
        self._locked: list[JournaledFile] = []
        try:
            self._choose_file(path, provenance, overwrite)
            written_ns = _written_ns(self.written)
            file, journaled = _open_for_writing(self.written, provenance)
            self._locked.append(journaled)
            with delayed_interrupts(also_second=True):
                self._read_attributes(path, file, provenance, written_ns)
        except BaseException:
            self._unlock()
            raise

    def _read_attributes(
        self, path: Path, file: h5py.File, provenance: Provenance, written_ns: int
    ) -> None:
        """Read what made the file; close it if that is damaged, or not what is to be written."""
        try:
            super().__init__(path, file, written_ns)
            with self.reading():
                self._num_groups = file.attrs.get(_NUM_GROUPS)
            self.provenance = self._checked(provenance)
            if self.provenance.version.startswith("0.1."):
                self._keep_time_of_old_version()
        except BaseException:
            file.close()
            raise

    def _choose_file(self, path: Path, provenance: Provenance, overwrite: bool) -> None:
        """Write another file than ``path`` if this run or an earlier one overwrites that."""
        part = replacement_path(path)
        is_resumed = part.exists() and _is_newer(part, path) and _is_made_by(part, provenance)
        if is_resumed or (overwrite and path.exists()):
            if path.exists():
                self._locked.append(lock_replaceable(path, provenance.kind))
            if not is_resumed:
                part.unlink(missing_ok=True)
                journal_path(part).unlink(missing_ok=True)
            self.written = part

    def _keep_time_of_old_version(self) -> None:
        """Record when featplug 0.1 last wrote: its fingerprints hold until then."""
        if _OLD_VERSION_WROTE not in self.file.attrs:
            self.file.attrs[_OLD_VERSION_WROTE] = self._written_ns

    def _checked(self, provenance: Provenance) -> Provenance:
        found = read_provenance(self.written, self.file)
        if found is None:
            raise ValueError(
                f"{self.path} was not written by featplug, which does not add to it; {_REMEDY}"
            )
        difference = found.difference(provenance)
        if difference:
            raise OtherContentsError(f"{self.path} {difference}")
        return found

    def __exit__(self, *exception: object) -> None:
        try:
            self._close()
            if exception[0] is None and self.written != self.path:
                with self.explaining_failures():
                    flush(self.written)
                    if os.name == "nt":  # where a file in use cannot be replaced
                        self._unlock()
                    replace(self.written, self.path)
        finally:
            self._unlock()

    def _close(self) -> None:
        """Close the file; ``__exit__`` unlocks it."""
        with self.explaining_failures():
            super()._close()

    def _unlock(self) -> None:
        while self._locked:
            self._locked.pop().close()

    @contextmanager
    def reading(self, what: str = "") -> Iterator[None]:
        """Guard a block that reads; HDF5 reads through Python here, too."""
        with delayed_interrupts(also_second=True), guarded(self.written, what):
            yield

    @contextmanager
    def explaining_failures(self) -> Iterator[None]:
        """Turn the errors that HDF5 raises for a failed write into one with a remedy.

        Ctrl-C and SIGTERM wait until the block ends.
        """
        with delayed_interrupts(also_second=True):
            try:
                yield
            except UnusableDataError:
                raise
            except Exception as error:
                reason = getattr(error, "strerror", None) or error
                raise ValueError(
                    f"Cannot write {self.written} ({reason}): where its disk is full, free some "
                    "space, and run again; what was written before is kept."
                ) from error

    def require_disk(self, num_bytes: int) -> None:
        """Stop before the disk is full.

        Raises:
            ValueError: too little is left for that many bytes.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < num_bytes + _FREE_DISK_MARGIN:
            raise ValueError(
                f"The disk of {self.path} has only {free / 2**20:.0f} MiB left, and "
                f"{(num_bytes + _FREE_DISK_MARGIN) / 2**20:.0f} are needed; free some and run "
                "again: what is in the file is kept."
            )

    def link(
        self,
        name: str,
        arrays: Mapping[str, np.ndarray],
        attributes: Mapping[str, Any],
        array_attributes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write a group, which gets its name only when it is whole, or replace one.

        It is in the file after the next :meth:`commit`.
        """
        if has_link(self.file, name):
            num = int(self.file.attrs.get(REWRITTEN, 0)) + 1
            self.file.attrs[REWRITTEN] = num
            attributes = {**attributes, REWRITTEN: num}
        checksums = Checksums(f"/{name}")
        group = unnamed_group(self.file)
        for key, array in arrays.items():
            write_array(group, key, array)
            checksums.add(key, array)
        for array_key, values in [(None, attributes), *(array_attributes or {}).items()]:
            for key, value in values.items():
                owner = group if array_key is None else group[array_key]
                owner.attrs[key] = stored_attribute(value)
                checksums.add(attribute_key(key, array_key), value)
        checksums.write(group)
        self.unlink(name)
        self.file[name] = group
        if self._num_groups is not None:  # files of older versions do not count
            self._num_groups += 1

    def unlink(self, name: str) -> bool:
        """Remove a group; return whether there was one."""
        if not has_link(self.file, name):
            return False
        del self.file[name]
        if self._num_groups is not None:
            self._num_groups -= 1
        return True

    def commit(self) -> None:
        """Make what was linked and unlinked appear in the file."""
        with self.explaining_failures():
            if self._num_groups is not None:
                self.file.attrs.modify(_NUM_GROUPS, self._num_groups)
            self.file.flush()
