"""Pairs in parts: for each shard of queries, a Parquet table of two names and a score."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from featplug.io.artifact import Provenance
from featplug.io.hdf5_guard import guarded
from featplug.io.pair_lists import Pair
from featplug.io.parts.part_files import part_keys, write_parquet_part
from featplug.utils.extras import require

SUFFIX = ".parquet"


def write_pair_part(
    path: Path,
    pairs: Sequence[Pair],
    scores: np.ndarray,
    provenance: Provenance,
    report: str,
) -> None:
    """Write the pairs of a part.

    Args:
        path: the part's file.
        pairs: P pairs.
        scores: P scores.
        provenance: what makes the part.
        report: the report of its making (JSON).

    Raises:
        ValueError: the disk is full.
    """
    arrow = require("pyarrow", "shards")
    columns = {
        "name0": arrow.array([a for a, _ in pairs], arrow.string()).dictionary_encode(),
        "name1": arrow.array([b for _, b in pairs], arrow.string()).dictionary_encode(),
        "score": arrow.array(np.asarray(scores, np.float32)),
    }
    write_parquet_part(path, arrow.table(columns), provenance, report)


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
