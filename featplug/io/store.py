"""Features and matches in hloc's HDF5 form, ours and hloc's own.

A file can be read at any time it is not being written, also after a kill: see
:mod:`featplug.io.h5file`. The layout is hloc's: an image's group holds ``keypoints``,
``descriptors`` (D×N) and others, or ``global_descriptor``; a pair's group ``matches0`` and
``matching_scores0``.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from featplug.io.artifact import Provenance
from featplug.io.h5file import FINGERPRINT, H5Reader, H5Writer
from featplug.io.names import check_names_distinct

CHUNK_SECONDS = 2.0
CHUNK_BYTES = 32 * 2**20
"""Matches are written together when they are this old or this large: a kill costs no more."""
_NAMES = "names"
"""Attribute of a pair's group: the two names, where the key, with '-' for '/', leaves doubt."""


class _ImageWriter(H5Writer):
    """Appends images, each with the fingerprint of its file."""

    def fingerprint(self, name: str) -> str | None:
        """Return the fingerprint of the photograph of an image in the file, or None."""
        group = self.file.get(name)
        if not isinstance(group, h5py.Group) or "image_size" not in group:
            return None
        return str(group.attrs[FINGERPRINT])

    def _write_image(
        self,
        name: str,
        datasets: Mapping[str, np.ndarray],
        image_size: tuple[int, int],
        fingerprint: str,
        keypoint_attributes: Mapping[str, float],
    ) -> None:
        self.require_disk(sum(v.nbytes for v in datasets.values()))
        datasets = {**datasets, "image_size": np.array(image_size)}
        with self.explaining_failures():
            group = self.link(name, datasets, {FINGERPRINT: fingerprint})
            if keypoint_attributes:
                group["keypoints"].attrs.update(keypoint_attributes)
            self.file.flush()


class FeatureWriter(_ImageWriter):
    """Appends images to a feature file."""

    def write(
        self,
        name: str,
        features: Mapping[str, np.ndarray],
        image_size: tuple[int, int],
        uncertainty: float,
        fingerprint: str,
    ) -> None:
        """Write one image and flush.

        Args:
            name: the image's name.
            features: ``keypoints`` N×2 float32 in pixels of the original image (integer = pixel
                centre), ``scores`` N, ``descriptors`` D×N and others, as they are to be stored.
            image_size: (width, height) of the original image.
            uncertainty: standard deviation of a keypoint in pixels.
            fingerprint: the image file's :func:`featplug.io.artifact.file_fingerprint`.

        Raises:
            ValueError: the disk is nearly full.
        """
        attributes = {"uncertainty": uncertainty}
        self._write_image(name, features, image_size, fingerprint, attributes)


class FeatureReader(H5Reader):
    """Reads feature files, ours and hloc's."""

    def __contains__(self, name: str) -> bool:
        return name in self.file and "keypoints" in self.file[name]

    def names(self) -> list[str]:
        """All image names in the file, sorted."""
        return sorted(name for name, keys in _leaf_groups(self.file) if "keypoints" in keys)

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Shape of each dataset of an image, without reading it."""
        return {key: dataset.shape for key, dataset in self._group(name).items()}

    def read(self, name: str, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Read an image's datasets: all, or those of ``keys`` that exist."""
        group = self._group(name)
        present = group.keys() if keys is None else [key for key in keys if key in group]
        return {key: group[key][()] for key in present}

    def keypoints(self, name: str) -> np.ndarray:
        """Read keypoints, N×2 float32 (x, y; integer = pixel centre), in original pixels."""
        return self._group(name)["keypoints"][()].astype(np.float32)

    def uncertainty(self, name: str) -> float:
        """Standard deviation of a keypoint in original pixels; 1 where the file does not say."""
        return float(self._group(name)["keypoints"].attrs.get("uncertainty", 1.0))

    def image_size(self, name: str) -> tuple[int, int]:
        """(width, height) of the original image."""
        width, height = self._group(name)["image_size"][()]
        return int(width), int(height)

    def fingerprint(self, name: str) -> str:
        """Fingerprint of the image file; empty in hloc's files, which have none."""
        return str(self._group(name).attrs.get(FINGERPRINT, ""))

    def _group(self, name: str) -> h5py.Group:
        if name not in self:
            raise ValueError(f"{self.path} has no features of the image {name!r}; extract it.")
        return self.file[name]


def _leaf_groups(group: h5py.Group, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield every group that holds datasets, with their names."""
    keys = list(group)
    if keys and group.get(keys[0], getclass=True) is h5py.Dataset:
        yield prefix.rstrip("/"), keys
        return
    for key in keys:
        yield from _leaf_groups(group[key], f"{prefix}{key}/")


class GlobalDescriptorWriter(_ImageWriter):
    """Appends images to a file of global descriptors."""

    def write(
        self, name: str, descriptor: np.ndarray, image_size: tuple[int, int], fingerprint: str
    ) -> None:
        """Write one image's descriptor, D float32, and flush; see :meth:`FeatureWriter.write`."""
        datasets = {"global_descriptor": descriptor}
        self._write_image(name, datasets, image_size, fingerprint, {})


class GlobalDescriptorReader(H5Reader):
    """Reads files of global descriptors, ours and hloc's."""

    def names(self) -> list[str]:
        """All image names in the file, sorted."""
        return sorted(name for name, keys in _leaf_groups(self.file) if "global_descriptor" in keys)

    def read(self, names: Iterable[str]) -> np.ndarray:
        """Read the descriptors of images that are in the file, N×D float32.

        Raises:
            ValueError: they are not of one length.
        """
        rows = [self.file[name]["global_descriptor"][()].astype(np.float32) for name in names]
        if len({row.shape for row in rows}) > 1:
            raise ValueError(f"{self.path} has global descriptors of different lengths.")
        return np.stack(rows)


def pair_key(name0: str, name1: str) -> str:
    """Return the name of a pair's group in a match file, as hloc writes it."""
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


def _names_attribute(name0: str, name1: str) -> dict[str, str]:
    both = f"{name0} {name1}"  # no name has a space
    return {_NAMES: both} if "/" in both or "-" in both else {}


def _recorded_names(group: h5py.Group) -> list[str]:
    """Return the names of a pair, or an empty list: hloc does not record them."""
    return str(group.attrs.get(_NAMES, "")).split()


def _check_recorded(path: Path, recorded: Iterable[str], names: Iterable[str]) -> None:
    """Check that the recorded names of a pair, if there are any, are these names.

    Raises:
        ValueError: they are other names with the same key.
    """
    for other, name in zip(recorded, names, strict=False):
        if other != name:
            raise ValueError(
                f"{path} has matches of {other!r}, which match files cannot distinguish from "
                f"{name!r}; write the matches to another file, or rename one of the images."
            )


class MatchWriter(H5Writer):
    """Appends pairs to a match file, a chunk at a time."""

    def __init__(self, path: Path, provenance: Provenance, overwrite: bool = False) -> None:
        self._pending: dict[str, tuple[dict[str, np.ndarray], dict[str, str]]] = {}
        self._pending_bytes = 0
        self._last_flush = time.monotonic()
        super().__init__(path, provenance, overwrite)

    def _close(self) -> None:
        try:
            self.flush()
        finally:
            super()._close()

    def missing(
        self, pairs: Iterable[tuple[str, str]], directed: bool = False
    ) -> list[tuple[str, str]]:
        """Return the pairs that the file lacks, in either order or, if directed, in this one."""
        # A group of ours exists only when it is whole, so its contents need no look.
        present = {f"{first}/{second}" for first in self.file for second in self.file[first]}
        pairs = list(pairs)
        self._check_names({name for pair in pairs for name in pair}, present)
        return [
            (name0, name1)
            for name0, name1 in pairs
            if pair_key(name0, name1) not in present
            and (directed or pair_key(name1, name0) not in present)
        ]

    def _check_names(self, names: Iterable[str], present: Iterable[str]) -> None:
        """Check that the pairs in the file are not of other images with the same keys.

        Raises:
            ValueError: they are.
        """
        unchecked = {name.replace("/", "-"): name for name in names if "/" in name or "-" in name}
        for key in present if unchecked else ():
            parts = key.split("/")
            if unchecked.keys().isdisjoint(parts):
                continue
            recorded = _recorded_names(self.file[key])
            names = [unchecked.pop(name.replace("/", "-"), name) for name in recorded]
            _check_recorded(self.path, recorded, names)

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
        self._pending[pair_key(name0, name1)] = datasets, _names_attribute(name0, name1)
        self._pending_bytes += sum(v.nbytes for v in datasets.values())
        waited = time.monotonic() - self._last_flush
        if self._pending_bytes > CHUNK_BYTES or waited > CHUNK_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the pending pairs to the file.

        Raises:
            ValueError: the disk is nearly full.
        """
        if not self._pending:
            return
        self.require_disk(self._pending_bytes)
        with self.explaining_failures():
            for key, (datasets, attributes) in self._pending.items():
                self.link(key, datasets, attributes)
            self.file.flush()
        self._pending.clear()
        self._pending_bytes = 0
        self._last_flush = time.monotonic()


class MatchReader(H5Reader):
    """Reads match files, ours and hloc's, new and old style, pairs in either order."""

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return any(key in self.file for key, _ in _pair_keys(*pair))

    def pairs(self, names: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
        """List the pairs of some images; the file has no names but only what they become in keys.

        Returns:
            The pairs of these images, in the order in which they were matched, and the keys of the
            pairs that have another image.

        Raises:
            ValueError: two names are the same in keys.
        """
        names = list(names)
        check_names_distinct(names)
        known = {name.replace("/", "-"): name for name in names}
        found, others = [], []
        for first, group in self.file.items():
            if "matches0" in group:  # hloc's old style, where '_' may also be within a name
                cuts = [i for i, letter in enumerate(first) if letter == "_"]
                parts = [(first[:i], first[i + 1 :]) for i in cuts]
                pair = next((p for p in parts if p[0] in known and p[1] in known), None)
                candidates = [(first, pair)]
            else:
                candidates = [(f"{first}/{second}", (first, second)) for second in group]
            for key, pair in candidates:
                if pair is not None and pair[0] in known and pair[1] in known:
                    found.append((known[pair[0]], known[pair[1]]))
                else:
                    others.append(key)
        return found, others

    def read(self, name0: str, name1: str) -> tuple[np.ndarray, np.ndarray]:
        """Read one pair.

        Returns:
            Matches K×2 int64 (index in image 0, index in image 1) and their scores K float32.

        Raises:
            ValueError: the pair is not in the file, or that of other images has its key.
        """
        for key, reverse in _pair_keys(name0, name1):
            if key in self.file:
                group = self.file[key]
                recorded = _recorded_names(group) if _names_attribute(name0, name1) else []
                _check_recorded(self.path, recorded, (name1, name0) if reverse else (name0, name1))
                matches0 = group["matches0"][()].astype(np.int64)
                scores0 = group["matching_scores0"][()].astype(np.float32)
                index0 = np.flatnonzero(matches0 >= 0)
                matches = np.stack([index0, matches0[index0]], axis=-1)
                return matches[:, ::-1] if reverse else matches, scores0[index0]
        raise ValueError(f"{self.path} has no matches of {name0!r} and {name1!r}; match them.")
