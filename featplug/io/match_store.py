"""Matches in hloc's HDF5 form, ours and hloc's own, and in deep-image-matching's.

A pair's group holds ``matches0`` and ``matching_scores0``; see :mod:`featplug.io.store`.
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from featplug.io.artifact import Provenance
from featplug.io.feature_arrays import checked_matches, shown_array
from featplug.io.h5file import H5Reader, H5Writer
from featplug.io.hdf5_guard import ArrayForGroupError, UnusableDataError, stating
from featplug.io.hdf5_links import has_link
from featplug.io.image_origin import forget_rewritten
from featplug.io.names import check_names_distinct

CHUNK_SECONDS = 2.0
CHUNK_BYTES = 32 * 2**20
CHUNK_PAIRS = 1000
"""Matches are written together when they are this old, large or many: a kill costs no more, and
writing takes about half a second."""
LARGEST_SCORE = float(np.finfo(np.float16).max)
_NAMES = "names"
"""Attribute of a pair's group: the two names, where the key, with '-' for '/', leaves doubt."""


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


class PairWriter(H5Writer):
    """Appends pairs to a file with a group for each, a chunk at a time."""

    def __init__(self, path: Path, provenance: Provenance, overwrite: bool = False) -> None:
        self._pending: dict[str, tuple[Mapping[str, np.ndarray], Mapping[str, str | int]]] = {}
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
        with self.reading():
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
            recorded = str(self.attribute(key, _NAMES) or "").split()
            names = [unchecked.pop(name.replace("/", "-"), name) for name in recorded]
            _check_recorded(self.path, recorded, names)

    def _add(
        self,
        name0: str,
        name1: str,
        arrays: Mapping[str, np.ndarray],
        attributes: Mapping[str, str | int] | None = None,
    ) -> None:
        """Add one pair; it is in the file with the next :meth:`flush`, at most seconds later.

        Raises:
            ValueError: the disk is nearly full.
        """
        own = {**_names_attribute(name0, name1), **(attributes or {})}
        self._pending[pair_key(name0, name1)] = arrays, own
        self._pending_bytes += sum(v.nbytes for v in arrays.values())
        waited = time.monotonic() - self._last_flush
        is_large = self._pending_bytes > CHUNK_BYTES or len(self._pending) >= CHUNK_PAIRS
        if is_large or waited > CHUNK_SECONDS:
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
            self.commit()
        self._pending.clear()
        self._pending_bytes = 0
        self._last_flush = time.monotonic()


class MatchWriter(PairWriter):
    """Appends pairs to a match file, a chunk at a time."""

    def write(
        self, name0: str, name1: str, matches0: np.ndarray, scores0: np.ndarray, num1: int
    ) -> None:
        """Add one pair; it is in the file with the next :meth:`flush`, at most seconds later.

        Args:
            name0: first image.
            name1: second image.
            matches0: N0 int, the index in image 1 or -1.
            scores0: N0 float; stored as float16, as hloc does, huge ones as its largest number.
            num1: number of keypoints in image 1; decides between int16, as hloc writes, and int32.

        Raises:
            UnusableDataError: they are not such arrays.
            ValueError: the disk is nearly full.
        """
        with stating(self.path, pair_key(name0, name1)):
            checked_matches(matches0, scores0, num1)
        dtype = np.int16 if num1 <= np.iinfo(np.int16).max else np.int32
        datasets = {
            "matches0": matches0.astype(dtype),
            "matching_scores0": np.clip(scores0, -LARGEST_SCORE, LARGEST_SCORE).astype(np.float16),
        }
        self._add(name0, name1, datasets)

    def forget_rewritten(self, features: H5Reader, features_ref: H5Reader) -> None:
        """Remove the pairs of images whose features were extracted again since they were matched.

        Args:
            features: the feature file of the first images.
            features_ref: that of the second ones, which may be the same.
        """
        for key, source in (("features", features), ("features_ref", features_ref)):
            forget_rewritten(self, key, source, self._pairs_of)

    def _pairs_of(self, name: str) -> list[str]:
        """Return the keys of all pairs with an image."""
        part = name.replace("/", "-")
        with self.reading():
            keys = [f"{first}/{second}" for first in self.file for second in self.file[first]]
        return [key for key in keys if part in key.split("/")]


class MatchReader(H5Reader):
    """Reads match files: ours, hloc's of both styles, and deep-image-matching's."""

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return any(has_link(self.file, key) for key, _ in _pair_keys(*pair))

    @property
    def feature_ids(self) -> set[str]:
        """The ``file_id`` of each feature file that was matched; none where it is not recorded."""
        inputs = self.provenance.inputs if self.provenance else {}
        return {inputs[key] or "" for key in ("features", "features_ref") if key in inputs} - {""}

    def check_features(self, features: H5Reader) -> None:
        """Check that the matches are of the features of a file, where both files record it.

        Raises:
            ValueError: they are of another file's.
        """
        recorded = self.feature_ids
        if features.provenance and recorded and features.file_id not in recorded:
            raise ValueError(
                f"{self.path} has matches of other features than {features.path}; give the feature "
                "file that was matched, or match these features."
            )

    def pairs(self, names: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
        """List the pairs of some images; the file has no names but only what they become in keys.

        Returns:
            The pairs of these images, in the order in which they were matched, and the keys of the
            pairs that have another image.

        Raises:
            UnusableDataError: the file is damaged.
            ValueError: two names are the same in keys.
        """
        names = list(names)
        check_names_distinct(names)
        known = {name.replace("/", "-"): name for name in names}
        found, others = [], []
        for key in self._keys():
            first, slash, second = key.partition("/")
            if slash:
                pair = (first, second)
            else:  # hloc's old style, where '_' may also be within a name
                cuts = [i for i, letter in enumerate(key) if letter == "_"]
                parts = [(key[:i], key[i + 1 :]) for i in cuts]
                pair = next((p for p in parts if p[0] in known and p[1] in known), ("", ""))
            if pair[0] in known and pair[1] in known:
                found.append((known[pair[0]], known[pair[1]]))
            else:
                others.append(key)
        return found, others

    def _keys(self) -> list[str]:
        """List the keys of all pairs."""
        keys = []
        for group, arrays in self.leaf_groups():
            is_pair = "/" in group or "matches0" in arrays
            # deep-image-matching has an array for each second image.
            keys += [group] if is_pair else [f"{group}/{second}" for second in arrays]
        return keys

    def read(
        self, name0: str, name1: str, num_keypoints: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read one pair.

        Args:
            name0: first image.
            name1: second image.
            num_keypoints: numbers of keypoints in both, to check that the matches are of these.

        Returns:
            Matches K×2 int64 (index in image 0, index in image 1) and their scores K float32, 1
            where the file has none.

        Raises:
            UnusableDataError: the pair is not in the file, is damaged, or is no such array.
            ValueError: it is of other images with the same key, or of other features.
        """
        for key, reverse in _pair_keys(name0, name1):
            if has_link(self.file, key):
                names = (name1, name0) if reverse else (name0, name1)
                try:
                    matches, scores, num0 = self._read(key, *names)
                except ArrayForGroupError:
                    matches, scores, num0 = self._read_list(key)
                if num_keypoints is not None:
                    expected = num_keypoints[::-1] if reverse else num_keypoints
                    if num0 not in (None, expected[0]) or (matches >= expected).any():
                        raise ValueError(
                            f"{self.path}: the matches of {name0!r} and {name1!r} are of other "
                            f"features than theirs, {num_keypoints[0]} and {num_keypoints[1]} "
                            "keypoints; match again with --overwrite."
                        )
                return matches[:, ::-1] if reverse else matches, scores
        raise UnusableDataError(
            f"{self.path} has no matches of {name0!r} and {name1!r}; match them."
        )

    def _read(self, key: str, name0: str, name1: str) -> tuple[np.ndarray, np.ndarray, int | None]:
        """Read the matches of a pair, their scores, and the number of keypoints in image 0."""
        if _names_attribute(name0, name1):
            recorded = str(self.attribute(key, _NAMES) or "").split()
            _check_recorded(self.path, recorded, (name0, name1))
        arrays = self.arrays(key, ("matches0", "matching_scores0"))
        matches0, scores0 = arrays.get("matches0"), arrays.get("matching_scores0")
        with stating(self.path, key):
            if matches0 is None:
                raise ValueError("matches0 is missing")
            checked_matches(matches0, scores0)
        index0 = np.flatnonzero(matches0 >= 0)
        matches = np.stack([index0, matches0[index0].astype(np.int64)], axis=-1)
        if scores0 is None:
            return matches, np.ones(len(matches), np.float32), len(matches0)
        return matches, scores0[index0].astype(np.float32), len(matches0)

    def _read_list(self, key: str) -> tuple[np.ndarray, np.ndarray, None]:
        """Read the matches of a pair that are a list, as deep-image-matching writes them."""
        folder, _, name = key.rpartition("/")
        matches = self.arrays(folder or "/", [name])[name]
        with stating(self.path, key):
            if matches.ndim != 2 or matches.shape[1] != 2 or matches.dtype.kind not in "iu":
                raise ValueError(f"matches must be K×2 integers, not {shown_array(matches)}")
            for indices in matches.T:
                checked_matches(indices, None)
            if matches.size and int(matches.min()) < 0:
                raise ValueError("indices must not be negative")
        return matches.astype(np.int64), np.ones(len(matches), np.float32), None
