"""Features and matches in hloc's HDF5 form: the only place that opens those files.

A file can be read at any time it is not being written, also after a kill: it has HDF5's default
``libver``, is flushed after each image or chunk of pairs through :mod:`featplug.journal`, and an
image's or a pair's group is linked into the file only when it is whole. The root attribute
``featplug`` (JSON) holds what made the file, and a run with another conf refuses to append.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from featplug import __version__
from featplug.journal import JournaledFile, recover

_ATTRIBUTE = "featplug"
_FREE_DISK_MARGIN = 64 * 2**20
CHUNK_SECONDS = 2.0
CHUNK_BYTES = 32 * 2**20
"""Matches are written together when they are this old or this large: a kill costs no more."""


@dataclass(frozen=True)
class Provenance:
    """What made a feature or match file."""

    kind: str
    """``features`` or ``matches``."""
    conf: dict[str, Any]
    """The conf's ``model``, ``preprocessing`` and whatever else changes the contents."""
    weights: dict[str, str] | None = None
    """Name, origin and sha256 of the weights, where the method has any."""
    inputs: dict[str, str | None] = field(default_factory=dict)
    """For matches: the :attr:`file_id` of the two feature files; None for a file of hloc's."""
    version: str = __version__
    file_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Made anew with each file, so that matches know which features they are of."""

    def difference(self, other: Provenance) -> str | None:
        """Say in a few words how another file's contents would differ, or None."""
        mine, theirs = _flatten(self._identity()), _flatten(other._identity())
        changed = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        if not changed:
            return None
        return ", ".join(f"{k} = {mine.get(k)} there, {theirs.get(k)} here" for k in changed[:3])

    def _identity(self) -> dict[str, Any]:
        identity = {k: v for k, v in asdict(self).items() if k not in ("version", "file_id")}
        return json.loads(json.dumps(identity))


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _open_for_reading(path: Path) -> h5py.File:
    try:
        if os.name == "posix":
            recover(path)
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except OSError as error:
        raise ValueError(_explain(path, error)) from error


def _open_for_writing(path: Path) -> tuple[h5py.File, JournaledFile | None]:
    try:
        if os.name != "posix":
            return h5py.File(path, "a"), None
        journaled = JournaledFile(path)
        try:
            return h5py.File(journaled, "r+" if journaled.size else "w"), journaled
        except BaseException:
            journaled.close()
            raise
    except OSError as error:
        raise ValueError(_explain(path, error)) from error


def _explain(path: Path, error: OSError) -> str:
    text = str(error)
    if "unable to lock file" in text or isinstance(error, BlockingIOError):
        return f"{path} is being written by another process; wait for it, or use another file."
    if error.errno in (errno.ENOLCK, errno.ENOTSUP):
        return (
            f"The disk of {path} has no file locks; set HDF5_USE_FILE_LOCKING=FALSE, and see to "
            "it yourself that only one process writes the file."
        )
    if "clear file consistency flags" in text or "already open for" in text:
        return (
            f"{path} was left locked by a program that was killed; "
            f"`h5clear -s {path}` (package hdf5-tools) clears that."
        )
    if "file signature not found" in text:
        return f"{path} is not an HDF5 file."
    if "truncated file" in text or "bad" in text or "wrong" in text:
        return f"{path} is damaged and cannot be opened; delete it and run again."
    return f"Cannot open {path}: {text}."


def _remove(path: Path) -> None:
    """Delete a file that is to be made anew, unless somebody is writing it."""
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file, so it is not overwritten.")
    try:
        h5py.File(path, "r+").close()
    except BlockingIOError as error:
        raise ValueError(_explain(path, error)) from error
    except OSError:
        pass  # damaged or left locked: a reason more to make it anew
    path.unlink()


def _provenance(file: h5py.File) -> Provenance | None:
    text = file.attrs.get(_ATTRIBUTE)
    return None if text is None else Provenance(**json.loads(text))


class _H5File:
    """An open HDF5 file, closed with the ``with`` block."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._file.close()


class _Reader(_H5File):
    def __init__(self, path: Path) -> None:
        super().__init__(Path(path), _open_for_reading(Path(path)))
        self.provenance = _provenance(self._file)
        """What made the file; None where it is not ours."""


class _Writer(_H5File):
    """A file open for appending, with its provenance checked."""

    def __init__(self, path: Path, provenance: Provenance, overwrite: bool = False) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if overwrite and path.exists():
            _remove(path)
        file, self._journaled = _open_for_writing(path)
        super().__init__(path, file)
        try:
            self.provenance = self._check(provenance)
        except BaseException:
            self._close()
            raise

    def _check(self, wanted: Provenance) -> Provenance:
        found = _provenance(self._file)
        if found is None:
            if len(self._file):
                raise ValueError(
                    f"{self.path} was not written by featplug, which does not add to it; "
                    "give another file name, or --overwrite to replace it."
                )
            self._file.attrs[_ATTRIBUTE] = json.dumps(asdict(wanted))
            self._file.flush()
            return wanted
        difference = found.difference(wanted)
        if difference:
            raise ValueError(
                f"{self.path} was made with other settings ({difference}); "
                "give another file name, or --overwrite to replace it."
            )
        return found

    def _close(self) -> None:
        super()._close()
        if self._journaled is not None:
            self._journaled.close()  # gives the lock back

    def _require_disk(self, num_bytes: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < num_bytes + _FREE_DISK_MARGIN:
            raise ValueError(
                f"The disk of {self.path} has only {free / 2**20:.0f} MiB left; free some and run "
                "again: what is in the file is kept."
            )

    def _link(
        self, name: str, datasets: Mapping[str, np.ndarray], attrs: Mapping[str, Any]
    ) -> h5py.Group:
        """Write a group, and give it its name only when it is whole."""
        group = self._file.create_group(None)
        for key, value in datasets.items():
            group.create_dataset(key, data=value)
        group.attrs.update(attrs)
        if name in self._file:
            del self._file[name]
        self._file[name] = group
        return group


class FeatureWriter(_Writer):
    """Appends images to a feature file."""

    def file_size(self, name: str) -> int | None:
        """Bytes of the image file an image's features were made from, or None if not there."""
        group = self._file.get(name)
        if not isinstance(group, h5py.Group) or "image_size" not in group:
            return None
        return int(group.attrs.get("file_size", -1))

    def write(
        self,
        name: str,
        features: Mapping[str, np.ndarray],
        image_size: tuple[int, int],
        uncertainty: float,
        file_size: int,
    ) -> None:
        """Write one image and flush.

        Args:
            name: the image's name.
            features: ``keypoints`` N×2 float32 in pixels of the original image (integer = pixel
                centre), ``scores`` N, ``descriptors`` D×N and others, as they are to be stored.
            image_size: (width, height) of the original image.
            uncertainty: standard deviation of a keypoint in pixels.
            file_size: bytes of the image file.

        Raises:
            ValueError: the disk is nearly full.
        """
        self._require_disk(sum(v.nbytes for v in features.values()))
        datasets = {**features, "image_size": np.array(image_size)}
        group = self._link(name, datasets, {"file_size": file_size})
        group["keypoints"].attrs["uncertainty"] = uncertainty
        self._file.flush()


class FeatureReader(_Reader):
    """Reads feature files, ours and hloc's."""

    def __contains__(self, name: str) -> bool:
        return name in self._file and "keypoints" in self._file[name]

    def names(self) -> list[str]:
        """All image names in the file, sorted."""
        return sorted(name for name, keys in _leaf_groups(self._file) if "keypoints" in keys)

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Shape of each dataset of an image, without reading it."""
        return {key: dataset.shape for key, dataset in self._group(name).items()}

    def read(self, name: str, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Read an image's datasets: all, or those of ``keys`` that are there."""
        group = self._group(name)
        wanted = group.keys() if keys is None else [key for key in keys if key in group]
        return {key: group[key][()] for key in wanted}

    def keypoints(self, name: str) -> np.ndarray:
        """Read keypoints, N×2 float32 (x, y; integer = pixel centre), in original pixels."""
        return self._group(name)["keypoints"][()].astype(np.float32)

    def image_size(self, name: str) -> tuple[int, int]:
        """(width, height) of the original image."""
        width, height = self._group(name)["image_size"][()]
        return int(width), int(height)

    def _group(self, name: str) -> h5py.Group:
        if name not in self:
            raise ValueError(f"{self.path} has no features of the image {name!r}; extract it.")
        return self._file[name]


def _leaf_groups(group: h5py.Group, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Give every group that holds datasets, with their names; one look per group."""
    keys = list(group)
    if keys and group.get(keys[0], getclass=True) is h5py.Dataset:
        yield prefix.rstrip("/"), keys
        return
    for key in keys:
        yield from _leaf_groups(group[key], f"{prefix}{key}/")


def pair_key(name0: str, name1: str) -> str:
    """Name of a pair's group in a match file, as hloc writes it."""
    return f"{name0.replace('/', '-')}/{name1.replace('/', '-')}"


def _pair_keys(name0: str, name1: str) -> list[tuple[str, bool]]:
    """Every name a pair may have (hloc's old style joins with '_'), and whether reversed."""
    key, reverse = pair_key(name0, name1), pair_key(name1, name0)
    # Only the slash between the two names is left in a key.
    return [
        (key, False),
        (reverse, True),
        (key.replace("/", "_"), False),
        (reverse.replace("/", "_"), True),
    ]


def check_pair_names(names: Iterable[str]) -> None:
    """Refuse names that a match file cannot tell apart.

    Raises:
        ValueError: two names differ only by '/' against '-'.
    """
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = seen.setdefault(name.replace("/", "-"), name)
        if other != name:
            raise ValueError(
                f"The image names {other!r} and {name!r} have the same name in hloc's match "
                "files, which write '/' as '-'; rename one of them."
            )


class MatchWriter(_Writer):
    """Appends pairs to a match file, a chunk at a time."""

    def __init__(self, path: Path, provenance: Provenance, overwrite: bool = False) -> None:
        super().__init__(path, provenance, overwrite)
        self._pending: dict[str, dict[str, np.ndarray]] = {}
        self._pending_bytes = 0
        self._last_flush = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.flush()
        finally:
            super().__exit__(kind, error, traceback)

    def missing(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Give the pairs that are not in the file, in either order."""
        present = {key for key, keys in _leaf_groups(self._file) if "matches0" in keys}
        return [pair for pair in pairs if not any(k in present for k, _ in _pair_keys(*pair))]

    def write(
        self, name0: str, name1: str, matches0: np.ndarray, scores0: np.ndarray, num1: int
    ) -> None:
        """Add one pair; it is in the file with the next :meth:`flush`, at most seconds later.

        Args:
            name0: first image.
            name1: second image.
            matches0: N0 int, the index in image 1 or -1.
            scores0: N0 float.
            num1: number of keypoints in image 1; decides between int16, as hloc writes, and int32.
        """
        dtype = np.int16 if num1 <= np.iinfo(np.int16).max else np.int32
        datasets = {
            "matches0": matches0.astype(dtype),
            "matching_scores0": scores0.astype(np.float16),
        }
        self._pending[pair_key(name0, name1)] = datasets
        self._pending_bytes += sum(v.nbytes for v in datasets.values())
        waited = time.monotonic() - self._last_flush
        if self._pending_bytes > CHUNK_BYTES or waited > CHUNK_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the pending pairs to the file.

        Raises:
            ValueError: the disk is nearly full.
        """
        self._require_disk(self._pending_bytes)
        for key, datasets in self._pending.items():
            self._link(key, datasets, {})
        self._file.flush()
        self._pending.clear()
        self._pending_bytes = 0
        self._last_flush = time.monotonic()


class MatchReader(_Reader):
    """Reads match files, ours and hloc's, new and old style, pairs in either order."""

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return any(key in self._file for key, _ in _pair_keys(*pair))

    def read(self, name0: str, name1: str) -> tuple[np.ndarray, np.ndarray]:
        """Read one pair.

        Returns:
            Matches K×2 int64 (index in image 0, index in image 1) and their scores K float32.

        Raises:
            ValueError: the pair is not in the file.
        """
        for key, reverse in _pair_keys(name0, name1):
            if key in self._file:
                group = self._file[key]
                matches0 = group["matches0"][()].astype(np.int64)
                scores0 = group["matching_scores0"][()].astype(np.float32)
                index0 = np.flatnonzero(matches0 >= 0)
                matches = np.stack([index0, matches0[index0]], axis=-1)
                return matches[:, ::-1] if reverse else matches, scores0[index0]
        raise ValueError(f"{self.path} has no matches of {name0!r} and {name1!r}; match them.")
