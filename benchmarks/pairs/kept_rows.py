"""Rows that are measured again only where something has changed, and the values of their pairs."""

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from benchmarks.pair_values import PairValues, write_pair_values
from benchmarks.pairs.pair_protocol import PairProtocol
from benchmarks.pairs.pair_set import ImagePair, PairSet
from benchmarks.record import Problem, Row
from featplug.io.artifact import Artifact, files_hash, value_hash
from featplug.io.metric_table import with_units
from featplug.io.results import write_results
from featplug.io.typed_json import as_type, read_json

REVISION = 6
"""Revision of the measuring; raised when a figure changes."""
MEASURING = "measure"
"""Name of that revision in the provenance of rows."""


class Rows(TypedDict):
    """Rows of one method by one protocol, and their problems."""

    rows: list[Row]
    problems: list[Problem]


def pairs_hash(pair_set: PairSet, pairs: Sequence[ImagePair]) -> str:
    """Return a hash of images and of what is known of their geometry."""
    truth = [
        [
            *(pair.name0, pair.name1, pair.part, pair.sequence),
            *(
                None if known is None else known.tolist()
                for known in (pair.homography, pair.fundamental, pair.correspondences)
            ),
            *(matrix.tolist() for matrix in pair.intrinsics or ()),
            *([] if pair.cam1_from_cam0 is None else [pair.cam1_from_cam0.tolist(), pair.unit]),
        ]
        for pair in pairs
    ]
    return value_hash([files_hash(pair_set.folder, pair_set.names), truth])


def read_rows(artifact: Artifact, outputs: Path) -> Rows | None:
    """Return what an earlier run measured of the same inputs, or None."""
    if artifact.reason_to_make() is not None:
        return None
    try:
        kept = as_type(read_json(artifact.path), Rows, artifact.path)
    except (OSError, ValueError):
        return None
    files = [picture.path for row in kept["rows"] for picture in row.pictures]
    files += [row.pair_values for row in kept["rows"] if row.pair_values is not None]
    return kept if all((outputs / path).is_file() for path in files) else None


def write_rows(artifact: Artifact, rows: Sequence[Row], problems: Sequence[Problem]) -> None:
    """Keep the rows of one method by one protocol."""
    contents = {
        "rows": [asdict(row) for row in rows],
        "problems": [asdict(problem) for problem in problems],
    }
    artifact.make(lambda part: write_results(part, contents))


def with_pair_values(
    protocol: PairProtocol,
    rows: Sequence[Row],
    pairs: Sequence[ImagePair],
    measures: Sequence[Any],
    failed: Collection[int],
    stem: Path,
) -> list[Row]:
    """Write the values of pairs behind the rows of a method, and return the rows with their files.

    A file is of one protocol, estimator and seed, and has the pairs of all parts.

    Args:
        protocol: rules of measuring.
        rows: rows of the method.
        pairs: the measured pairs.
        measures: what was measured of them.
        failed: indices of pairs that count as failures.
        stem: beginning of the files, in a folder of the run's.
    """
    files: dict[tuple[object, ...], tuple[str, PairValues]] = {}
    failures = np.isin(np.arange(len(pairs)), list(failed)).astype(float)
    for row in rows:
        if row.part != "all":
            continue
        values = PairValues(
            [(pair.name0, pair.name1) for pair in pairs],
            [pair.part or "" for pair in pairs],
            [pair.sequence for pair in pairs],
            {**protocol.pair_values(row, pairs, measures), "failed": failures},
        )
        words = [row.protocol.removeprefix(protocol.name), row.estimator, row.seed]
        texts = [re.sub(r"[^\w.]+", "-", str(word)) for word in words if word not in (None, "")]
        path = stem.with_name("-".join([stem.name, *(text.strip("-") for text in texts)]) + ".csv")
        write_pair_values(path, values)
        files[_series(row)] = f"{path.parent.name}/{path.name}", values
    with_files = []
    for row in rows:
        if _series(row) in files:
            name, values = files[_series(row)]
            number = float(values.of_part(row.part).values["failed"].sum())
            metrics = {**row.metrics, **with_units({"failed_pairs": number})}
            row = replace(row, pair_values=name, metrics=metrics)
        with_files.append(row)
    return with_files


def _series(row: Row) -> tuple[object, ...]:
    return row.protocol, row.estimator, row.seed
