"""A COLMAP database of some of the images of another: what a cluster of images is mapped from."""

import hashlib
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from featplug.colmap.database_rows import open_database, remove_database
from featplug.io.files import not_written

_PAIR_BASE = 2**31 - 1
"""COLMAP's number of a pair is that of the first image times this, plus that of the second."""
_ROWS = {
    "cameras": "SELECT * FROM {0}cameras ORDER BY camera_id",
    "rigs": "SELECT * FROM {0}rigs ORDER BY rig_id",
    "rig_sensors": "SELECT * FROM {0}rig_sensors ORDER BY rig_id, sensor_id",
    "frames": (
        "SELECT * FROM {0}frames WHERE frame_id IN "
        "(SELECT frame_id FROM {0}frame_data WHERE data_id IN subset) ORDER BY frame_id"
    ),
    "frame_data": "SELECT * FROM {0}frame_data WHERE data_id IN subset ORDER BY data_id",
    "images": "SELECT * FROM {0}images WHERE image_id IN subset ORDER BY image_id",
    "keypoints": "SELECT * FROM {0}keypoints WHERE image_id IN subset ORDER BY image_id",
    # By ranges of the key, so that only the pairs of these images are looked at.
    "two_view_geometries": (
        "SELECT pairs.* FROM subset CROSS JOIN {0}two_view_geometries AS pairs ON pairs.pair_id "
        "BETWEEN subset.image_id * {1} AND subset.image_id * {1} + {1} - 1 "
        "WHERE pairs.pair_id - subset.image_id * {1} IN subset "
        "AND pairs.rows > 0 ORDER BY pairs.pair_id"
    ),
}
"""Rows of each table that images need, in the order of the tables' references."""


def subset_hash(database_path: Path, image_ids: Collection[int]) -> str:
    """Return a hash of everything that a mapper reads of some images of a database."""
    digest = hashlib.sha256()
    with _connection(database_path, image_ids) as connection:
        for table, query in _ROWS.items():
            digest.update(table.encode())
            for row in connection.execute(query.format("", _PAIR_BASE)):
                for value in row:
                    content = value if isinstance(value, bytes) else str(value).encode()
                    digest.update(b"%d " % len(content))
                    digest.update(content)
    return digest.hexdigest()


def write_subset(database_path: Path, image_ids: Collection[int], subset_path: Path) -> None:
    """Write a database of some images, with their keypoints and verified pairs, under the same IDs.

    Raises:
        ValueError: the disk is full.
    """
    remove_database(subset_path)
    with open_database(subset_path):
        pass  # COLMAP makes the tables
    try:
        with _connection(subset_path, image_ids) as connection:
            connection.execute("ATTACH DATABASE ? AS source", (str(database_path),))
            for table, query in _ROWS.items():
                rows = query.format("source.", _PAIR_BASE)
                connection.execute(f"INSERT INTO main.{table} {rows}")
            connection.commit()
    except sqlite3.Error as error:
        raise not_written(subset_path, str(error)) from error


@contextmanager
def _connection(path: Path, image_ids: Collection[int]) -> Iterator[sqlite3.Connection]:
    """Open a database with a table ``subset`` of image numbers."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TEMP TABLE subset (image_id INTEGER PRIMARY KEY)")
        rows = ((image_id,) for image_id in sorted(image_ids))
        connection.executemany("INSERT INTO subset VALUES (?)", rows)
        connection.commit()
        yield connection
