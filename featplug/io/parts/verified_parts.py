"""Verified pairs in parts: Parquet tables of the geometries and inlier matches of COLMAP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featplug.io.artifact import Provenance
from featplug.io.hdf5_guard import guarded
from featplug.io.pair_lists import Pair
from featplug.io.parts.part_files import part_keys, write_parquet_part
from featplug.utils.extras import require

SUFFIX = ".parquet"
MATRICES = "E", "F", "H"


@dataclass(frozen=True)
class VerifiedPair:
    """A pair that shows one scene."""

    names: Pair
    """Names, in their order."""
    config: str
    """Name of COLMAP's kind of geometry, such as CALIBRATED."""
    inliers: np.ndarray
    """K×2 uint32: keypoint in the first image, keypoint in the second one."""
    num_matches: int
    """Number of matches that were verified."""
    matrices: dict[str, np.ndarray]
    """3×3 matrices that were estimated, in COLMAP's pixels: E, F, H."""
    cam1_from_cam0: np.ndarray | None
    """Pose 3×4, if COLMAP has one."""


def write_verified_part(
    path: Path, pairs: Sequence[VerifiedPair], provenance: Provenance, report: str
) -> None:
    """Write the verified pairs of a part.

    Raises:
        ValueError: the disk is full.
    """
    arrow = require("pyarrow", "shards")
    numbers = arrow.list_(arrow.float64())
    columns = {
        "name0": arrow.array([p.names[0] for p in pairs], arrow.string()).dictionary_encode(),
        "name1": arrow.array([p.names[1] for p in pairs], arrow.string()).dictionary_encode(),
        "config": arrow.array([p.config for p in pairs], arrow.string()),
        "num_matches": arrow.array([p.num_matches for p in pairs], arrow.int32()),
        "inliers": arrow.array(
            [np.asarray(p.inliers, np.uint32).ravel() for p in pairs], arrow.list_(arrow.uint32())
        ),
        **{
            name: arrow.array([_flat(p.matrices.get(name)) for p in pairs], numbers)
            for name in MATRICES
        },
        "cam1_from_cam0": arrow.array([_flat(p.cam1_from_cam0) for p in pairs], numbers),
    }
    write_parquet_part(path, arrow.table(columns), provenance, report)


def read_verified_part(path: Path) -> list[VerifiedPair]:
    """Read the verified pairs of a part.

    Raises:
        UnusableDataError: the part is damaged.
    """
    parquet = require("pyarrow.parquet", "shards")
    with guarded(path):
        return [_pair(row) for row in parquet.read_table(path).to_pylist()]


def read_verified_parts(folder: Path) -> Iterator[VerifiedPair]:
    """Yield the verified pairs of a folder, a part at a time in memory.

    Raises:
        FileNotFoundError: the folder has no parts.
        UnusableDataError: a part is damaged.
    """
    paths = part_keys(folder, SUFFIX)
    if not paths:
        raise FileNotFoundError(f"{folder} has no part-*{SUFFIX}; verify the matches first.")
    for path in paths.values():
        yield from read_verified_part(path)


def _flat(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.asarray(array, np.float64).ravel()


def _pair(row: dict[str, Any]) -> VerifiedPair:
    matrices = {
        name: np.array(row[name]).reshape(3, 3) for name in MATRICES if row[name] is not None
    }
    pose = row["cam1_from_cam0"]
    return VerifiedPair(
        (row["name0"], row["name1"]),
        row["config"],
        np.array(row["inliers"], np.uint32).reshape(-1, 2),
        row["num_matches"],
        matrices,
        None if pose is None else np.array(pose).reshape(3, 4),
    )
