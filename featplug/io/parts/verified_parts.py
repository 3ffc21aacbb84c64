"""Verified pairs in parts: their two-view geometries and inlier matches, in Parquet.

A row has a pair, the number of its matches, COLMAP's name of its geometry (``config``), the inlier
matches as two lists of keypoints, and the matrices ``E``, ``F`` and ``H``, row by row, as far as
they were estimated. A pair without a geometry has a row without inliers.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from featplug.io.artifact import Provenance, value_hash
from featplug.io.files import write_whole
from featplug.io.h5file import H5Reader
from featplug.io.hdf5_guard import UnusableDataError, damaged, guarded
from featplug.io.match_store import MatchReader, pair_key
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import FeatureParts
from featplug.io.parts.match_parts import check_features_of_part, open_matches
from featplug.io.parts.part_files import parquet_head, part_keys, read_part_record
from featplug.utils.extras import require

SUFFIX = ".parquet"
MATRICES = "E", "F", "H"
_CHUNK_ROWS = 1024
"""Pairs that are written together: about 3 MB."""
_MAX_GROUPS = 4
"""Groups of so many pairs in memory."""


class VerifiedPair(NamedTuple):
    """A pair of images and its two-view geometry."""

    names: Pair
    num_matches: int
    """Number of matches that were verified."""
    config: str
    """Name of COLMAP's configuration, such as ``CALIBRATED``."""
    inliers: np.ndarray
    """K×2: keypoint in the first image, keypoint in the second one; none without a geometry."""
    matrices: Mapping[str, np.ndarray]
    """``E``, ``F`` and ``H``, 3×3, those that were estimated."""
    is_chance: bool = False
    """Whether a geometry had enough inliers for COLMAP, but no more than chance explains."""


def write_verified_part(
    path: Path, pairs: Iterable[VerifiedPair], provenance: Provenance, report: Callable[[], str]
) -> None:
    """Write the verified pairs of a part, some at a time in memory.

    Args:
        path: the part's file.
        pairs: the pairs.
        provenance: what makes the part.
        report: returns the report of its making (JSON), when all pairs are written.

    Raises:
        ValueError: the disk is full.
    """
    parquet = require("pyarrow.parquet", "shards")
    schema = _schema()

    def write(part: Path) -> None:
        with parquet.ParquetWriter(part, schema, write_page_checksum=True) as writer:
            chunk: list[VerifiedPair] = []
            for pair in pairs:
                chunk.append(pair)
                if len(chunk) == _CHUNK_ROWS:
                    writer.write_table(_table(chunk, schema))
                    chunk = []
            writer.write_table(_table(chunk, schema))
            writer.add_key_value_metadata(parquet_head(provenance, report()))

    write_whole(path, write)


def _schema() -> Any:
    arrow = require("pyarrow", "shards")
    return arrow.schema(
        [
            ("name0", arrow.string()),
            ("name1", arrow.string()),
            ("num_matches", arrow.int32()),
            ("config", arrow.string()),
            ("is_chance", arrow.bool_()),
            ("inliers0", arrow.list_(arrow.uint32())),
            ("inliers1", arrow.list_(arrow.uint32())),
            *((name, arrow.list_(arrow.float64())) for name in MATRICES),
        ]
    )


def _table(pairs: list[VerifiedPair], schema: Any) -> Any:
    arrow = require("pyarrow", "shards")
    columns: dict[str, list[Any]] = {
        "name0": [pair.names[0] for pair in pairs],
        "name1": [pair.names[1] for pair in pairs],
        "num_matches": [pair.num_matches for pair in pairs],
        "config": [pair.config for pair in pairs],
        "is_chance": [pair.is_chance for pair in pairs],
        "inliers0": [pair.inliers[:, 0] for pair in pairs],
        "inliers1": [pair.inliers[:, 1] for pair in pairs],
    }
    for name in MATRICES:
        columns[name] = [
            pair.matrices[name].ravel() if name in pair.matrices else None for pair in pairs
        ]
    return arrow.table(columns, schema)


def read_verified_part(path: Path) -> Iterator[VerifiedPair]:
    """Yield the pairs of a part, some at a time in memory.

    Raises:
        FileNotFoundError: it does not exist.
        UnusableDataError: the part is damaged.
    """
    for group in range(_num_groups(path)):
        yield from _read_group(path, group)


def _num_groups(path: Path) -> int:
    parquet = require("pyarrow.parquet", "shards")
    with guarded(path):
        return int(parquet.read_metadata(path).num_row_groups)


def _read_group(path: Path, group: int) -> list[VerifiedPair]:
    parquet = require("pyarrow.parquet", "shards")
    with guarded(path), parquet.ParquetFile(path, page_checksum_verification=True) as file:
        return _pairs(path, file.read_row_group(group))


def _pairs(path: Path, table: Any) -> list[VerifiedPair]:
    if table.schema.names != _schema().names:
        raise damaged(path, "", "it has no verified pairs")
    flat = {name: table[name].to_pylist() for name in ("name0", "name1", "num_matches", "config")}
    is_chance = table["is_chance"].to_pylist()
    lists = {name: table[name].combine_chunks() for name in ("inliers0", "inliers1", *MATRICES)}
    values = {name: column.values.to_numpy(zero_copy_only=False) for name, column in lists.items()}
    ends = {name: column.offsets.to_numpy() for name, column in lists.items()}

    def entry(name: str, row: int) -> np.ndarray:
        return np.asarray(values[name][ends[name][row] : ends[name][row + 1]])

    pairs = []
    for row in range(len(table)):
        inliers = entry("inliers0", row), entry("inliers1", row)
        matrices = {name: entry(name, row) for name in MATRICES}
        lengths = {len(matrix) for matrix in matrices.values()}
        if len(inliers[0]) != len(inliers[1]) or not lengths <= {0, 9}:
            names = flat["name0"][row], flat["name1"][row]
            raise damaged(path, pair_key(*names), "its lists do not fit together")
        pairs.append(
            VerifiedPair(
                (flat["name0"][row], flat["name1"][row]),
                flat["num_matches"][row],
                flat["config"][row],
                np.stack(inliers, axis=1),
                {name: m.reshape(3, 3) for name, m in matrices.items() if len(m)},
                is_chance[row],
            )
        )
    return pairs


class VerifiedParts(MatchReader):
    """Reads a folder of verified pairs; as a match file, it has their inliers."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder)
        self._paths = part_keys(self.path, SUFFIX)
        if not self._paths:
            raise FileNotFoundError(f"{folder} has no part-*{SUFFIX}; make them first.")
        self.provenance = read_part_record(next(iter(self._paths.values())))[0]
        self._loaded: OrderedDict[tuple[Path, int], list[VerifiedPair]] = OrderedDict()

    @property
    def file_id(self) -> str:
        """Identity of all parts together."""
        return value_hash([read_part_record(path)[0].file_id for path in self._paths.values()])

    def read_all(self) -> Iterator[VerifiedPair]:
        """Yield all pairs, also those without a geometry, some at a time in memory."""
        return chain.from_iterable(map(read_verified_part, self._paths.values()))

    def check_features(self, features: H5Reader) -> None:
        """Check that the pairs are of the features of a store; those of a file are not recorded.

        Raises:
            FileNotFoundError: a part of the features is missing.
            ValueError: the pairs are of other features.
        """
        if isinstance(features, FeatureParts):
            for key, path in self._paths.items():
                check_features_of_part(path, key, features)

    @cached_property
    def _places(self) -> dict[Pair, tuple[Path, int, int]]:
        """Each pair to its part, row group and row: about 400 bytes a pair."""
        return {
            pair.names: (path, group, row)
            for path in self._paths.values()
            for group in range(_num_groups(path))
            for row, pair in enumerate(_read_group(path, group))
        }

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return pair in self._places or pair[::-1] in self._places

    def pairs(self, names: Iterable[str]) -> tuple[list[Pair], list[str]]:
        """List the pairs of some images, and the keys of those of other images."""
        known = set(names)
        found = [pair for pair in self._places if known.issuperset(pair)]
        others = [pair_key(*pair) for pair in self._places if not known.issuperset(pair)]
        return found, others

    def read(
        self, name0: str, name1: str, num_keypoints: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the inliers of one pair; see :meth:`featplug.io.match_store.MatchReader.read`."""
        is_reversed = (name0, name1) not in self._places
        names = (name1, name0) if is_reversed else (name0, name1)
        if names not in self._places:
            raise UnusableDataError(
                f"{self.path} has no geometry of {name0!r} and {name1!r}; verify the pair."
            )
        path, group, row = self._places[names]
        inliers = self._group(path, group)[row].inliers.astype(np.int64)
        inliers = inliers[:, ::-1] if is_reversed else inliers
        if num_keypoints is not None and (inliers >= num_keypoints).any():
            raise ValueError(
                f"{path}: the inliers of {name0!r} and {name1!r} are of other features than "
                f"theirs, {num_keypoints[0]} and {num_keypoints[1]} keypoints; verify again with "
                "--overwrite."
            )
        return inliers, np.ones(len(inliers), np.float32)

    def _group(self, path: Path, group: int) -> list[VerifiedPair]:
        if (path, group) not in self._loaded:
            while len(self._loaded) >= _MAX_GROUPS:
                self._loaded.popitem(last=False)
            self._loaded[path, group] = _read_group(path, group)
        self._loaded.move_to_end((path, group))
        return self._loaded[path, group]

    def group(self, name: str) -> h5py.Group:
        """Raise an error: a folder has no groups."""
        raise UnusableDataError(f"{self.path} is a folder of verified pairs, without {name!r}.")

    def _close(self) -> None:
        self._loaded.clear()


def open_matches_or_inliers(path: Path) -> MatchReader:
    """Open a match file, or a folder of packed matches or of verified pairs, with their inliers.

    Raises:
        FileNotFoundError: it does not exist, or the folder has no parts.
        UnusableDataError: it is damaged.
    """
    if Path(path).is_dir() and part_keys(path, SUFFIX):
        return VerifiedParts(path)
    return open_matches(path)
