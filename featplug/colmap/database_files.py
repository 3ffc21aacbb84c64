"""COLMAP's databases of other people and programs, checked and read without COLMAP.

pycolmap changes a database when it opens it (it adds missing tables, columns and a journal), and
takes the sizes in it on trust. Here SQLite opens it read-only, and every row that is read is
checked first. The tables: ``src/colmap/scene/database_sqlite.cc``.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from featplug.colmap.model_tables import check_camera_values
from featplug.io.files import not_written

JOURNALS = ("-wal", "-shm", "-journal")
"""Ends of the names of SQLite's files next to a database."""
_HEADER = b"SQLite format 3\0"
_COLUMNS = {
    "cameras": ("camera_id", "model", "width", "height", "params"),
    "images": ("image_id", "name", "camera_id"),
    "keypoints": ("image_id", "rows", "cols", "data"),
    "descriptors": ("image_id", "rows", "cols", "data"),
    "matches": ("pair_id", "rows", "cols", "data"),
}
INLIERS = "two_view_geometries"
"""Table of the verified matches, which a database can lack."""
ITEM_BYTES = {"keypoints": 4, "descriptors": 1, "matches": 4, INLIERS: 4}
"""Bytes of a number of each table's arrays."""
_WIDTHS = {"keypoints": "2, 4, 6", "matches": "2", INLIERS: "2"}
_TABLES = ("cameras", "images", "keypoints")
_OPTIONAL = ("descriptors", INLIERS)
_BUSY_SECONDS = 1.0
"""Time for which another process may hold a database that is to be replaced."""
_MAX_ROWS = 2 * 10**9
_MAX_COLUMNS = 2**20
_MAX_IMAGES = 2**31 - 1
"""Number of images that the number of a pair has room for."""


class DatabaseImage(NamedTuple):
    """An image of a database."""

    image_id: int
    name: str
    size: tuple[int, int]


def check_database(path: Path) -> None:
    """Check that a file is a COLMAP database whose rows have the sizes that they announce.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is something else, or damaged; the message names the table and the row.
    """
    with DatabaseReader(path):
        pass


def settle_database(path: Path) -> None:
    """Let a COLMAP database, whole or not, have everything in its own file and not in a journal.

    A journal would be applied to the database that takes its place.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is something else, or in use, or its disk is full.
    """
    path = Path(path)
    _check_header(path)
    try:
        address = f"{path.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, _BUSY_SECONDS, uri=True)) as connection:
            # Reading carries out the journal of a process that was killed.
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            ((is_busy, *_),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        # SQLite writes files of its own next to the database.
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            raise not_written(path, str(error)) from error
        raise _unreadable(path, error) from error
    if is_busy:
        raise _in_use(path)
    with closing(_open(path)) as connection:
        _check_tables(path, connection, _TABLES)


class DatabaseReader:
    """A COLMAP database, checked and open for reading; closed with the ``with`` block.

    Args:
        path: the database.
        tables: tables to read besides cameras, images and keypoints; others may be damaged.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no COLMAP database, or damaged.
    """

    def __init__(
        self, path: Path, tables: Collection[str] = ("descriptors", "matches", INLIERS)
    ) -> None:
        self.path = Path(path)
        self._connection = _open(self.path)
        try:
            self._columns = _check_tables(self.path, self._connection, (*_TABLES, *tables))
            self._check_pages()
            self._sizes = self._check_cameras()
            self._check_ids()
            for table in ITEM_BYTES:
                if table in self._columns:
                    self._check_arrays(table)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def images(self) -> list[DatabaseImage]:
        """Return all images, sorted by name; a name that is not UTF-8 has surrogates."""
        return sorted(
            (
                DatabaseImage(
                    image_id, name.decode("utf-8", "surrogateescape"), self._sizes[camera]
                )
                for image_id, name, camera in self._rows(
                    "SELECT image_id, name, camera_id FROM images"
                )
            ),
            key=lambda image: image.name,
        )

    def num_keypoints(self) -> int:
        """Return the number of keypoints of all images."""
        ((number,),) = self._rows("SELECT coalesce(sum(rows), 0) FROM keypoints")
        return number

    def keypoints(self, image_id: int) -> np.ndarray | None:
        """Read the keypoints of an image, N×2, N×4 or N×6 float32, or None."""
        return self._array("keypoints", image_id)

    def descriptors(self, image_id: int) -> tuple[np.ndarray, int | None] | None:
        """Read the descriptors of an image, N×D uint8, and their type (None before 4.0)."""
        if "descriptors" not in self._columns:
            return None
        descriptors = self._array("descriptors", image_id)
        if descriptors is None:
            return None
        if "type" not in self._columns["descriptors"]:
            return descriptors, None
        ((kind,),) = self._rows("SELECT type FROM descriptors WHERE image_id = ?", (image_id,))
        if not isinstance(kind, int):
            raise self._damaged("descriptors", image_id, "has no type of descriptors")
        return descriptors, kind

    def matches(self, *, inliers: bool = False) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield the numbers of two images and their matches K×2 uint32, where there are some.

        Args:
            inliers: only those that COLMAP has verified.

        Raises:
            ValueError: the database has no table of verified matches.
        """
        table = INLIERS if inliers else "matches"
        if table not in self._columns:
            raise ValueError(
                f"{self.path} has no table {table}: no matches were verified, or its COLMAP is too "
                "old; verify them with COLMAP, or leave out --inliers."
            )
        # Row by row, as the numbers of all pairs may be many.
        query = f"SELECT pair_id, rows, cols, data FROM {table} WHERE rows > 0 ORDER BY pair_id"  # noqa: S608
        for pair_id, rows, cols, data in self._rows(query):
            first, second = divmod(pair_id, _MAX_IMAGES)
            yield first, second, np.frombuffer(data, "<u4").reshape(rows, cols)

    def _array(self, table: str, image_id: int) -> np.ndarray | None:
        query = f"SELECT rows, cols, data FROM {table} WHERE image_id = ?"  # noqa: S608
        for rows, cols, data in self._rows(query, (image_id,)):
            dtype = "<f4" if table == "keypoints" else np.uint8
            return np.frombuffer(data or b"", dtype).reshape(rows, cols)
        return None

    def _check_pages(self) -> None:
        ((answer,),) = self._rows("PRAGMA quick_check(1)")
        if answer != b"ok":
            reason = " ".join(answer.decode("utf-8", "replace").split())[:100]
            raise ValueError(f"{self.path} is damaged ({reason}); copy or make it again.")

    def _check_cameras(self) -> dict[int, tuple[int, int]]:
        sizes: dict[int, tuple[int, int]] = {}
        query = """
            SELECT camera_id, model, width, height, params FROM cameras
            WHERE camera_id IN (SELECT camera_id FROM images)"""
        for camera_id, model, width, height, params in self._rows(query):
            is_whole = all(isinstance(value, int) for value in (camera_id, model, width, height))
            if not is_whole or not isinstance(params, bytes | None):
                raise self._damaged("cameras", camera_id, "has values of other types")
            if camera_id in sizes or len(params or b"") % 8:
                raise self._damaged("cameras", camera_id, "is listed twice, or is cut off")
            values = np.frombuffer(params or b"", "<f8")
            if (problem := check_camera_values(model, (width, height), values)) is not None:
                raise self._damaged("cameras", camera_id, problem)
            sizes[camera_id] = width, height
        return sizes

    def _check_ids(self) -> None:
        ids, names = set(), set()
        for image_id, name, camera_id in self._rows("SELECT image_id, name, camera_id FROM images"):
            is_valid = isinstance(image_id, int) and 0 < image_id < _MAX_IMAGES
            if not is_valid or image_id in ids:
                raise self._damaged("images", image_id, "has no number of its own")
            if not isinstance(name, bytes) or name in names:
                raise self._damaged("images", image_id, "has no name of its own")
            if camera_id not in self._sizes:
                raise self._damaged("images", image_id, f"has the missing camera {camera_id}")
            ids.add(image_id)
            names.add(name)

    def _check_arrays(self, table: str) -> None:
        key, widths = _COLUMNS.get(table, ("pair_id",))[0], _WIDTHS.get(table)
        # SQLite knows the length of a blob without reading it.
        query = f"""
            SELECT {key}, rows, cols, length(data) FROM {table} WHERE NOT (
                typeof({key}) = 'integer' AND {key} > 0
                AND typeof(rows) = 'integer' AND rows BETWEEN 0 AND {_MAX_ROWS}
                AND typeof(cols) = 'integer' AND cols BETWEEN 0 AND {_MAX_COLUMNS}
                AND typeof(data) IN ('blob', 'null')
                AND coalesce(length(data), 0) = rows * cols * {ITEM_BYTES[table]}
                AND (rows = 0 OR {f"cols IN ({widths})" if widths else "cols > 0"})
            ) LIMIT 1"""  # noqa: S608
        for number, rows, cols, size in self._rows(query):
            raise self._damaged(
                table, number, f"announces {_shown(rows)}×{_shown(cols)} values in {size} bytes"
            )
        query = f"SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"  # noqa: S608
        for (number,) in self._rows(query):
            raise self._damaged(table, number, "is listed twice")

    def _rows(self, query: str, values: Sequence[int] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            for row in self._connection.execute(query, values):  # noqa: UP028, `yield from` closes it
                yield row
        except (sqlite3.Error, MemoryError) as error:
            raise _unreadable(self.path, error) from error

    def _damaged(self, table: str, number: Any, what: str) -> ValueError:
        return ValueError(
            f"{self.path}, table {table}, row {_shown(number)}: {what}; the database is damaged, "
            "copy or make it again."
        )


def _check_header(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"There is no COLMAP database {path}.")
    try:
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
    except OSError as error:
        raise _unreadable(path, error) from error
    if header != _HEADER:
        raise ValueError(f"{path} is no COLMAP database; it is no database of SQLite.")


def _open(path: Path) -> sqlite3.Connection:
    _check_header(path)
    try:
        journals = (path.with_name(f"{path.name}{end}") for end in JOURNALS)
        is_settled = not any(journal.exists() and journal.stat().st_size for journal in journals)
        # Otherwise SQLite writes next to it, which a folder of others may not allow.
        options = "mode=ro&immutable=1" if is_settled else "mode=ro"
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{options}", uri=True)
    except (sqlite3.Error, OSError) as error:
        raise _unreadable(path, error) from error
    connection.text_factory = bytes
    # No expression of the database's own can make anything larger than the file.
    limit = min(2**31 - 1, max(2**20, path.stat().st_size))
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "ignore_check_constraints = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _check_tables(
    path: Path, connection: sqlite3.Connection, tables: Collection[str]
) -> dict[str, set[str]]:
    """Return the columns of each of the tables."""
    columns: dict[str, set[str]] = {}
    try:
        for table in tables:
            kinds = connection.execute(
                "SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)
            ).fetchall()
            if table in _OPTIONAL and not kinds:
                continue
            described = connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
            found = {name.decode("utf-8", "replace"): hidden for _, name, *_, hidden in described}
            needed = _COLUMNS.get(table, _COLUMNS["matches"])
            is_plain = [kind for kind, _ in kinds] == [b"table"] and not any(found.values())
            if not is_plain or b"VIRTUAL" in kinds[0][1].upper() or not found.keys() >= {*needed}:
                raise ValueError(
                    f"{path} is no COLMAP database: it has no table {table} with the columns "
                    f"{', '.join(needed)}."
                )
            columns[table] = set(found)
    except (sqlite3.Error, MemoryError) as error:
        raise _unreadable(path, error) from error
    return columns


def _unreadable(path: Path, error: Exception) -> ValueError:
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return _in_use(path)
    return ValueError(
        f"{path} is no COLMAP database, or damaged ({error or type(error).__name__}); copy or make "
        "it again."
    )


def _in_use(path: Path) -> ValueError:
    return ValueError(f"{path} is in use by another process; wait for it, or copy it.")


def _shown(value: Any) -> str:
    return repr(value)[:40]
