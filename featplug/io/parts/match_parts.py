"""Matches in packed parts: a tenth of the time to write hloc's layout, and a third of its bytes.

A part has the pairs of two blocks of shards, in chunks. A chunk is a group with ``pairs`` P×2,
which are places in the part's list of names, ``offsets`` P + 1, ``indices`` K×2 (keypoint in the
first image, keypoint in the second one) and ``scores`` K: pair p has the rows ``offsets[p]`` to
``offsets[p + 1]``. The names are a group of their own, with the number of keypoints of each image.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from featplug.io.artifact import Provenance, value_hash
from featplug.io.feature_arrays import checked_matches
from featplug.io.h5file import H5Reader
from featplug.io.hdf5_guard import UnusableDataError, damaged, stating
from featplug.io.match_store import LARGEST_SCORE, MatchReader, pair_key
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import FeatureParts
from featplug.io.parts.part_files import H5PartWriter, Key, part_keys, read_part_record

_CHUNK_BYTES = 32 * 2**20
_NAMES = "names"
_SUFFIX = ".h5"
_MAX_OPEN = 16
_MAX_CHUNKS = 4
"""Chunks in memory, 32 MiB each."""


class PairMatches(NamedTuple):
    """The matches of a pair."""

    names: Pair
    indices: np.ndarray
    """K×2 int64: keypoint in the first image, keypoint in the second one."""
    scores: np.ndarray
    """K float32."""
    num_keypoints: tuple[int, int]


class MatchPartWriter(H5PartWriter):
    """Writes the matches of a part's pairs."""

    def __init__(self, path: Path, provenance: Provenance) -> None:
        super().__init__(path, provenance)
        self._places: dict[str, int] = {}
        self._num_keypoints: list[int] = []
        self._pairs: list[tuple[int, int]] = []
        self._indices: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._bytes = 0
        self._num_chunks = 0

    def write(
        self, name0: str, name1: str, matches0: np.ndarray, scores0: np.ndarray, num1: int
    ) -> None:
        """Add one pair; see :meth:`featplug.io.match_store.MatchWriter.write`.

        Raises:
            UnusableDataError: the arrays are no matches.
        """
        with stating(self.path, pair_key(name0, name1)):
            checked_matches(matches0, scores0, num1)
        index0 = np.flatnonzero(matches0 >= 0)
        indices = np.empty((len(index0), 2), np.uint32)
        indices[:, 0], indices[:, 1] = index0, matches0[index0]
        scores = np.clip(scores0[index0], -LARGEST_SCORE, LARGEST_SCORE).astype(np.float16)
        self._pairs.append((self._place(name0, len(matches0)), self._place(name1, num1)))
        self._indices.append(indices)
        self._scores.append(scores)
        self._bytes += indices.nbytes + scores.nbytes + 16
        if self._bytes > _CHUNK_BYTES:
            self._flush()

    def _place(self, name: str, num_keypoints: int) -> int:
        place = self._places.setdefault(name, len(self._places))
        if place == len(self._num_keypoints):
            self._num_keypoints.append(num_keypoints)
        return place

    def _flush(self) -> None:
        if not self._pairs:
            return
        indices = np.concatenate(self._indices)
        is_small = not len(indices) or int(indices.max()) <= np.iinfo(np.uint16).max
        arrays: dict[str, np.ndarray] = {
            "pairs": np.array(self._pairs, np.int32),
            "offsets": np.cumsum([0, *map(len, self._indices)], dtype=np.int64),
            "indices": indices.astype(np.uint16) if is_small else indices,
            "scores": np.concatenate(self._scores),
        }
        self.require_disk(sum(array.nbytes for array in arrays.values()))
        with self.explaining_failures():
            self.link(f"chunk-{self._num_chunks:05d}", arrays, {})
        self._num_chunks += 1
        self._pairs, self._indices, self._scores, self._bytes = [], [], [], 0

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            try:
                self._flush()
                text = np.frombuffer("\n".join(self._places).encode(), np.uint8)
                arrays: dict[str, np.ndarray] = {
                    "text": text,
                    "num_keypoints": np.array(self._num_keypoints, np.int64),
                }
                with self.explaining_failures():
                    self.link(_NAMES, arrays, {})
            except BaseException as error:
                super().__exit__(type(error), error, error.__traceback__)
                raise
        super().__exit__(*exception)


class MatchPart(H5Reader):
    """A part with packed matches, open for reading."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, locking=False)
        with self.reading():
            self._chunks = sorted(key for key in self.file if key != _NAMES)
        self._loaded: OrderedDict[str, dict[str, np.ndarray]] = OrderedDict()

    @cached_property
    def names(self) -> list[str]:
        """Names of the images of its pairs."""
        return self._header[0]

    @cached_property
    def _header(self) -> tuple[list[str], np.ndarray]:
        arrays = self.arrays(_NAMES, ("text", "num_keypoints"))
        text = arrays["text"].tobytes().decode()
        names = text.split("\n") if text else []
        if len(names) != len(arrays["num_keypoints"]):
            raise damaged(self.path, "", f"it names {len(names)} images and counts others")
        return names, arrays["num_keypoints"]

    @cached_property
    def _rows(self) -> dict[tuple[int, int], tuple[str, int]]:
        """Places of the names of each pair to its chunk and its row there."""
        rows = {}
        for chunk in self._chunks:
            pairs = self.arrays(chunk, ("pairs",))["pairs"]
            rows.update({(int(a), int(b)): (chunk, row) for row, (a, b) in enumerate(pairs)})
        return rows

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def pairs(self) -> list[Pair]:
        """List the pairs, in the order in which they were matched."""
        return [(self.names[a], self.names[b]) for a, b in self._rows]

    def find(self, name0: str, name1: str) -> tuple[str, int, bool] | None:
        """Return the chunk and the row of a pair, and whether it has the other order there."""
        places = self._places.get(name0), self._places.get(name1)
        if None in places:
            return None
        a, b = (int(place) for place in places if place is not None)
        if (a, b) in self._rows:
            return *self._rows[a, b], False
        return (*self._rows[b, a], True) if (b, a) in self._rows else None

    def read_row(self, chunk: str, row: int) -> PairMatches:
        """Read the pair in a row of a chunk.

        Raises:
            UnusableDataError: the part is damaged.
        """
        arrays = self._chunk(chunk)
        a, b = arrays["pairs"][row]
        start, end = arrays["offsets"][row : row + 2]
        names, numbers = self._header
        return PairMatches(
            (names[a], names[b]),
            arrays["indices"][start:end].astype(np.int64),
            arrays["scores"][start:end].astype(np.float32),
            (int(numbers[a]), int(numbers[b])),
        )

    def read_all(self) -> Iterator[PairMatches]:
        """Yield all pairs, a chunk at a time in memory."""
        for chunk in self._chunks:
            for row in range(len(self._chunk(chunk)["pairs"])):
                yield self.read_row(chunk, row)

    def _chunk(self, chunk: str) -> dict[str, np.ndarray]:
        if chunk not in self._loaded:
            arrays = self.arrays(chunk, ("pairs", "offsets", "indices", "scores"))
            if len(arrays) < 4 or not _is_chunk(arrays, len(self.names)):
                raise damaged(self.path, chunk, "its arrays do not fit together")
            while len(self._loaded) >= _MAX_CHUNKS:
                self._loaded.popitem(last=False)
            self._loaded[chunk] = arrays
        self._loaded.move_to_end(chunk)
        return self._loaded[chunk]


def _is_chunk(arrays: dict[str, np.ndarray], num_names: int) -> bool:
    """Return whether the arrays of a chunk fit together."""
    pairs, offsets, indices = arrays["pairs"], arrays["offsets"], arrays["indices"]
    is_shaped = pairs.shape[1:] == (2,) and indices.shape[1:] == (2,)
    return bool(
        is_shaped
        and offsets.shape == (len(pairs) + 1,)
        and arrays["scores"].shape == (len(indices),)
        and (not len(pairs) or (pairs.min() >= 0 and pairs.max() < num_names))
        and offsets[0] == 0
        and offsets[-1] == len(indices)
        and (np.diff(offsets) >= 0).all()
    )


class MatchParts(MatchReader):
    """Reads a folder of packed parts like one match file."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder)
        self._paths = part_keys(self.path, _SUFFIX)
        if not self._paths:
            raise FileNotFoundError(f"{folder} has no part-*{_SUFFIX}; make them first.")
        self._open: OrderedDict[Path, MatchPart] = OrderedDict()
        self.provenance = self._part(next(iter(self._paths.values()))).provenance

    @property
    def file_id(self) -> str:
        """Identity of all parts together."""
        return value_hash([self._part(path).file_id for path in self._paths.values()])

    @cached_property
    def _part_of(self) -> dict[Pair, Path]:
        """Each pair to its part: about 300 bytes a pair."""
        return {pair: path for path in self._paths.values() for pair in self._part(path).pairs()}

    def _part(self, path: Path) -> MatchPart:
        if path not in self._open:
            while len(self._open) >= _MAX_OPEN:
                self._open.popitem(last=False)[1]._close()
            self._open[path] = MatchPart(path)
        self._open.move_to_end(path)
        return self._open[path]

    def check_features(self, features: H5Reader) -> None:
        """Check that the matches are of the features of a store; of a file nothing is recorded.

        Raises:
            FileNotFoundError: a part of the features is missing.
            ValueError: the matches are of other features.
        """
        if isinstance(features, FeatureParts):
            for key, path in self._paths.items():
                check_features_of_part(path, key, features)

    def parts(self) -> Iterator[tuple[Key, MatchPart]]:
        """Yield each part, open until the next one."""
        for key, path in self._paths.items():
            with MatchPart(path) as part:
                yield key, part

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return pair in self._part_of or pair[::-1] in self._part_of

    def all_pairs(self) -> list[Pair]:
        """List all pairs, part by part."""
        return list(self._part_of)

    def pairs(self, names: Iterable[str]) -> tuple[list[Pair], list[str]]:
        """List the pairs of some images, and the keys of those of other images."""
        known = set(names)
        found, others = [], []
        for pair in self._part_of:
            if known.issuperset(pair):
                found.append(pair)
            else:
                others.append(pair_key(*pair))
        return found, others

    def read(
        self, name0: str, name1: str, num_keypoints: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read one pair; see :meth:`featplug.io.match_store.MatchReader.read`."""
        path = self._part_of.get((name0, name1)) or self._part_of.get((name1, name0))
        place = None if path is None else self._part(path).find(name0, name1)
        if path is None or place is None:
            raise UnusableDataError(
                f"{self.path} has no matches of {name0!r} and {name1!r}; match them."
            )
        chunk, row, is_reversed = place
        matches = self._part(path).read_row(chunk, row)
        indices = matches.indices[:, ::-1] if is_reversed else matches.indices
        numbers = matches.num_keypoints[::-1] if is_reversed else matches.num_keypoints
        if num_keypoints is not None and num_keypoints != numbers:
            raise ValueError(
                f"{path}: the matches of {name0!r} and {name1!r} are of other features than "
                f"theirs, {num_keypoints[0]} and {num_keypoints[1]} keypoints; match again with "
                "--overwrite."
            )
        return indices, matches.scores

    def group(self, name: str) -> h5py.Group:
        """Raise an error: a folder has no groups."""
        raise UnusableDataError(f"{self.path} is a folder of packed parts, without {name!r}.")

    def _close(self) -> None:
        while self._open:
            self._open.popitem()[1]._close()


def check_features_of_part(path: Path, key: Key, features: FeatureParts) -> Provenance:
    """Check that a part is of these features, and return what it was made from.

    Args:
        path: the part.
        key: numbers of its two blocks of shards.
        features: the features.

    Raises:
        FileNotFoundError: a part of the features is missing.
        UnusableDataError: the part is damaged.
        ValueError: it is of other features.
    """
    made_from, _ = read_part_record(path)
    recorded = made_from.inputs.get("features")
    if recorded and recorded != features.blocks_id(key, int(made_from.conf.get("block", 1))):
        raise ValueError(
            f"{path} is of other features than those in {features.path}; match these, or give the "
            "features that were matched."
        )
    return made_from


def open_matches(path: Path) -> MatchReader:
    """Open a match file, or a folder of packed parts.

    Raises:
        FileNotFoundError: it does not exist, or the folder has no parts.
        UnusableDataError: it is damaged.
    """
    return MatchParts(path) if Path(path).is_dir() else MatchReader(path)
