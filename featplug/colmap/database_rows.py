"""Opening COLMAP's database for writing, and counting afterwards what the disk has of it.

COLMAP ignores errors of SQLite when it closes a database, and its ``DatabaseTransaction`` ends the
process when the disk is full; so each row is written on its own.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pycolmap

from featplug.colmap.database_files import ITEM_BYTES, JOURNALS
from featplug.io.files import flush, not_written

CACHED_IMAGES = 512
"""Number of images whose keypoints are kept in memory while pairs are read."""
_COUNTS = {"images": "SELECT COUNT(*), 0, 0, 0 FROM images"} | {
    table: (
        f"SELECT COUNT(*), TOTAL(rows), TOTAL({size} * rows * cols), "  # noqa: S608
        f"TOTAL(COALESCE(LENGTH(data), 0)) FROM {table}"
    )
    for table, size in ITEM_BYTES.items()
}
"""Queries for a table's numbers of rows, of entries, and of the bytes that these need and have."""


@contextmanager
def open_database(path: Path) -> Iterator[pycolmap.Database]:
    """Open a database, also to read it: SQLite then writes next to it.

    Raises:
        ValueError: the disk is full, or the file is no database.
    """
    try:
        with pycolmap.Database.open(str(path)) as database:
            yield database
    except RuntimeError as error:
        reason = sqlite_reason(error)
        if reason is None:
            raise
        raise not_written(path, reason) from error


def remove_database(path: Path) -> None:
    """Remove a database and the logs that a killed run left, which a new one would take for its."""
    for name in (path.name, *(path.name + ending for ending in JOURNALS)):
        path.with_name(name).unlink(missing_ok=True)


def check_rows(path: Path, table: str, num_rows: int, num_entries: int = 0) -> None:
    """Check that the disk has all rows of a table.

    Args:
        path: a database that nothing has open.
        table: ``images``, ``keypoints``, ``descriptors``, ``matches`` or ``two_view_geometries``.
        num_rows: number of rows that were written.
        num_entries: number of keypoints, descriptors, matches or inlier matches of all rows.

    Raises:
        ValueError: it does not.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            found = connection.execute(_COUNTS[table]).fetchone()
        flush(path)
    except (sqlite3.Error, OSError) as error:
        raise not_written(path, str(error)) from error
    if found[:2] != (num_rows, num_entries) or found[2] != found[3]:
        raise not_written(path, f"its table {table} is not what was written")


def pairs_with_geometry(path: Path) -> list[int]:
    """Return COLMAP's numbers of the pairs that were verified, also of those without inliers.

    pycolmap lists only those that have some.

    Raises:
        ValueError: the database cannot be read.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            return [row[0] for row in connection.execute("SELECT pair_id FROM two_view_geometries")]
    except sqlite3.Error as error:
        raise ValueError(f"{path} cannot be read ({error}); map the images again.") from error


def sqlite_reason(error: Exception) -> str | None:
    """Return what went wrong with SQLite, without COLMAP's line of source; None if not SQLite."""
    _, found, reason = str(error).partition("SQLite error: ")
    if found:
        return reason
    return "COLMAP cannot open it" if "database factory" in str(error) else None
