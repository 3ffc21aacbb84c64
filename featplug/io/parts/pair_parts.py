"""Pairs in parts: for each shard of queries, a Parquet table of two names and a score."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from featplug.io.artifact import Provenance
from featplug.io.hdf5_guard import guarded
from featplug.io.pair_lists import Pair
from featplug.io.parts.part_files import part_keys, write_parquet_part
from featplug.utils.extras import require

SUFFIX = ".parquet"
_SHARDS = "featplug_shards"


def write_pair_part(
    path: Path,
    pairs: Sequence[Pair],
    scores: np.ndarray,
    shards: Iterable[int],
    made: tuple[Provenance, str],
) -> None:
    """Write the pairs of a part.

    Args:
        path: the part's file.
        pairs: P pairs.
        scores: P scores.
        shards: shards of the second images.
        made: what makes the part, and the report of its making (JSON).

    Raises:
        ValueError: the disk is full.
    """
    arrow = require("pyarrow", "shards")
    columns = {
        "name0": arrow.array([a for a, _ in pairs], arrow.string()).dictionary_encode(),
        "name1": arrow.array([b for _, b in pairs], arrow.string()).dictionary_encode(),
        "score": arrow.array(np.asarray(scores, np.float32)),
    }
    extra = {_SHARDS: json.dumps(sorted(set(shards)))}
    write_parquet_part(path, arrow.table(columns), *made, extra)


def read_partner_shards(path: Path) -> list[int]:
    """Read the shards of the second images of a part, without its pairs.

    Raises:
        UnusableDataError: the part is damaged.
    """
    parquet = require("pyarrow.parquet", "shards")
    with guarded(path):
        return [int(n) for n in json.loads(parquet.read_metadata(path).metadata[_SHARDS.encode()])]


def read_pair_part(path: Path) -> tuple[list[Pair], np.ndarray]:
    """Read the pairs of a part, and their scores.

    Raises:
        UnusableDataError: the part is damaged.
    """
    parquet = require("pyarrow.parquet", "shards")
    with guarded(path):
        table = parquet.read_table(path, columns=["name0", "name1", "score"])
        names0, names1 = (table[name].to_pylist() for name in ("name0", "name1"))
        scores = np.asarray(table["score"].to_numpy(), np.float32)
    return list(zip(names0, names1, strict=True)), scores


def read_pair_parts(folder: Path) -> Iterator[tuple[int, list[Pair]]]:
    """Yield the number of each shard of queries and its pairs.

    Raises:
        FileNotFoundError: the folder has no parts.
        UnusableDataError: a part is damaged.
    """
    paths = part_keys(folder, SUFFIX)
    if not paths:
        raise FileNotFoundError(f"{folder} has no part-*{SUFFIX}; make them first.")
    for (shard,), path in paths.items():
        yield shard, read_pair_part(path)[0]
