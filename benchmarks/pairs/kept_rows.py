"""Rows of an earlier run, which are measured again only where something has changed."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

from benchmarks.pairs.pair_set import ImagePair, PairSet
from benchmarks.record import Problem, Row
from featplug.io.artifact import Artifact, files_hash, value_hash
from featplug.io.results import write_results
from featplug.io.typed_json import as_type, read_json

REVISION = 2
"""Revision of the measuring; raised when a figure changes."""


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
    pictures = [picture.path for row in kept["rows"] for picture in row.pictures]
    return kept if all((outputs / path).is_file() for path in pictures) else None


def write_rows(artifact: Artifact, rows: Sequence[Row], problems: Sequence[Problem]) -> None:
    """Keep the rows of one method by one protocol."""
    contents = {
        "rows": [asdict(row) for row in rows],
        "problems": [asdict(problem) for problem in problems],
    }
    artifact.make(lambda part: write_results(part, contents))
