"""Names that lead out of the folder, and inputs that fail in the middle of an export or import."""

from __future__ import annotations

import errno
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from featplug.colmap.database_files import DatabaseReader, check_database
from featplug.io.exchange.colmap import DatabaseOptions, export_database, import_database
from featplug.io.exchange.d2net import export_archives, import_archives
from featplug.io.exchange.file_sets import FileSet
from featplug.io.exchange.kapture import KaptureOptions, export_kapture, import_kapture
from featplug.io.exchange.schoenberger import export_dataset, import_dataset
from featplug.io.exchange.transfer import ImportFiles, Transfer
from featplug.io.store import FeatureReader
from tests.io.exchange.conftest import SIZE, random_features
from tests.scenes.synthetic import MatchedImages

EXPORTS: dict[str, Callable[..., Transfer]] = {
    "schoenberger": export_dataset,
    "d2net": export_archives,
    "kapture": export_kapture,
}


def hloc_features(path: Path, names: list[str], without: str = "") -> Path:
    """A feature file as hloc writes it, which checks no name; ``without`` descriptors of one."""
    with h5py.File(path, "w") as file:
        for i, name in enumerate(names):
            group = file.create_group(name)
            for key, values in random_features(4, i).items():
                if name != without or key != "descriptors":
                    group[key] = values
            group["image_size"] = np.array(SIZE)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, export: Callable[..., Transfer]) -> None:
    outside, target = tmp_path / "outside", tmp_path / "very" / "deep" / "target"
    outside.mkdir()
    for place in (target, *(target / kind for kind in ("keypoints", "descriptors"))):
        place.mkdir(parents=True)
        (place / "link").symlink_to(outside)
    for kind in ("keypoints", "descriptors"):
        place = target / "reconstruction" / kind / "featplug"
        place.mkdir(parents=True)
        (place / "link").symlink_to(outside)
    names = ["a.png", "../../../x.png", "sub/../../../../y.png", "link/z.png", "b\\c.png"]
    features = hloc_features(tmp_path / "feats.h5", names)
    before = contents(tmp_path)
    transfer = export(target, features)
    assert list(transfer.counts) == ["a.png"]
    assert sorted(transfer.skipped) == sorted(names[1:])
    made = contents(tmp_path).keys() - before.keys()
    assert made
    assert all(name.startswith("very/deep/target/") for name in made)
    assert not list(outside.iterdir())
    hloc_features(features, names[1:3])
    with pytest.raises(ValueError, match=r"feats.h5.*y\.png.*plain path"):
        export(tmp_path / "other", features)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_an_export_that_fails_keeps_the_earlier_one(
    tmp_path: Path, export: Callable[..., Transfer]
) -> None:
    features, target = tmp_path / "feats.h5", tmp_path / "target"
    export(target, hloc_features(features, ["a.png", "b.png"]))
    before = contents(target)
    hloc_features(features, ["a.png", "c.png"], without="c.png")
    with pytest.raises(FileExistsError, match="overwrite"):
        export(target, features)
    options: dict[str, Any] = {"overwrite": True}
    if export is export_kapture:
        options = {"options": KaptureOptions(overwrite=True)}
    with pytest.raises(ValueError, match=r"'c\.png'"):
        export(target, features, **options)
    assert contents(target) == before
    assert sum(path.is_dir() for path in target.rglob(".*")) == 0


def test_an_interrupt_leaves_no_mixture_of_two_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, target, wanted = (tmp_path / name for name in ("feats.h5", "target", "wanted"))
    export_dataset(target, hloc_features(features, ["a.png", "b.png"]))
    export_dataset(wanted, hloc_features(features, ["b.png", "c.png"]))
    replace = FileSet.replace

    def replace_and_interrupt(files: FileSet) -> None:
        replace(files)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(FileSet, "replace", replace_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_dataset(target, features, overwrite=True)
    assert contents(target) == contents(wanted)


@pytest.fixture
def database(photographs: MatchedImages, tmp_path: Path) -> Path:
    path = tmp_path / "database.db"
    export_database(
        path,
        photographs.features,
        photographs.folder / "images",
        photographs.matches,
        options=DatabaseOptions(descriptors="sift", verify=False),
    )
    return path


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_database_is_read_as_it_is(database: Path, tmp_path: Path) -> None:
    """COLMAP would upgrade it; here its folder may be one that nobody can write to."""
    execute(database, "DROP TABLE pose_priors", "PRAGMA user_version = 0")
    before = database.read_bytes()
    import_database(database, ImportFiles(tmp_path / "feats.h5", tmp_path / "matches.h5"))
    assert database.read_bytes() == before
    assert not list(tmp_path.glob("database.db-*"))


def test_names_of_a_database_that_cannot_be_used_are_skipped(
    database: Path, tmp_path: Path
) -> None:
    execute(database, "UPDATE images SET name = '../../x.png' WHERE name = 'db/a.png'")
    files = ImportFiles(tmp_path / "feats.h5", tmp_path / "matches.h5")
    transfer = import_database(database, files)
    assert sorted(transfer.counts) == ["b.png", "query/night/c.png"]
    assert "plain path" in transfer.skipped["../../x.png"]
    assert transfer.num_pairs == 0
    execute(database, "UPDATE images SET name = name || char(0, 10) || image_id")
    with pytest.raises(ValueError, match=r"database.db.*control character"):
        import_database(database, ImportFiles(tmp_path / "other.h5"))
    assert not (tmp_path / "other.h5").exists()


CRAFTED = {
    "keypoints": "UPDATE keypoints SET rows = 2000000000",
    "keypoints, row": "UPDATE keypoints SET rows = -1",
    "keypoints, cols": "UPDATE keypoints SET rows = rows * 4, cols = 1",
    "keypoints, type": "UPDATE keypoints SET rows = 'many'",
    "keypoints, text": "UPDATE keypoints SET data = 'text'",
    "descriptors": "UPDATE descriptors SET cols = 9223372036854775807",
    "matches": "UPDATE matches SET data = zeroblob(7)",
    "matches, pair": "UPDATE matches SET pair_id = -5",
    "cameras": "UPDATE cameras SET model = 999",
    "cameras, size": "UPDATE cameras SET width = 0",
    "cameras, params": "UPDATE cameras SET params = zeroblob(9)",
    "cameras, NaN": "UPDATE cameras SET params = X'000000000000F87F' || substr(params, 9)",
    "images": "UPDATE images SET camera_id = 77",
    "images, id": "UPDATE images SET image_id = 0 WHERE image_id = 1",
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_row_is_named(database: Path, what: str) -> None:
    execute(
        database, "PRAGMA ignore_check_constraints = ON", "PRAGMA foreign_keys = OFF", CRAFTED[what]
    )
    table = what.split(",")[0]
    with pytest.raises(ValueError, match=rf"database.db, table {table}, row .*again") as error:
        check_database(database)
    assert "\n" not in str(error.value)


def test_crafted_tables_are_rejected(database: Path) -> None:
    columns = "image_id INTEGER, rows INTEGER, cols INTEGER, data BLOB"
    for statements in (
        ["DROP TABLE matches"],
        ["ALTER TABLE keypoints RENAME TO k", "CREATE VIEW keypoints AS SELECT * FROM k"],
        [
            "DROP VIEW keypoints",
            f"CREATE TABLE keypoints ({columns.replace('BLOB', 'BLOB AS (zeroblob(2000000000))')})",
        ],
    ):
        execute(database, *statements)
        with pytest.raises(ValueError, match=r"database.db is no COLMAP database"):
            check_database(database)


def test_a_keypoint_that_is_not_finite_is_named(database: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(database)
    values = np.full((40, 4), np.nan, np.float32).tobytes()
    connection.execute("UPDATE keypoints SET data = ? WHERE rows = 40", (values,))
    connection.commit()
    connection.close()
    with pytest.raises(ValueError, match=r"database\.db: .*'b\.png'.*keypoints.*again"):
        import_database(database, ImportFiles(tmp_path / "feats.h5"))


def test_a_camera_that_no_image_has_may_have_any_values(database: Path, tmp_path: Path) -> None:
    execute(database, "INSERT INTO cameras VALUES (99, 999, 0, -1, X'00', 0)")
    assert import_database(database, ImportFiles(tmp_path / "feats.h5")).num_images == 3


@pytest.mark.parametrize(
    "statement", ["DROP TABLE descriptors", "UPDATE descriptors SET data = zeroblob(7)"]
)
def test_tables_that_are_not_read_may_be_missing_or_damaged(
    database: Path, tmp_path: Path, statement: str
) -> None:
    execute(database, statement, "DROP TABLE matches")
    files = ImportFiles(tmp_path / "feats.h5")
    assert import_database(database, files, descriptors=False).num_keypoints == 70
    with pytest.raises(ValueError, match=r"database\.db is no COLMAP database.* matches "):
        import_database(database, ImportFiles(tmp_path / "a.h5", tmp_path / "matches.h5"))


@pytest.fixture
def with_log(database: Path, tmp_path: Path) -> Path:
    """A database as a killed process leaves it, whose last row is in the log next to it."""
    copy = tmp_path / "killed" / "database.db"
    copy.parent.mkdir()
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    connection.execute("UPDATE images SET name = 'renamed.png' WHERE name = 'b.png'")
    connection.commit()
    for path in tmp_path.glob("database.db*"):
        shutil.copy(path, copy.parent)
    connection.close()
    assert b"renamed.png" not in copy.read_bytes()
    return copy


def test_an_export_that_fails_keeps_the_log_of_the_earlier_database(
    photographs: MatchedImages, with_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = photographs.folder / "images"

    def fail(*_: object) -> None:
        raise ValueError("the disk fails")

    with monkeypatch.context() as patched:
        patched.setattr("featplug.io.files.replace", fail)
        with pytest.raises(ValueError, match="disk fails"):
            export_database(with_log, photographs.features, images, overwrite=True)
    with DatabaseReader(with_log) as reader:
        assert "renamed.png" in [image.name for image in reader.images()]
    export_database(with_log, photographs.features, images, overwrite=True)
    with DatabaseReader(with_log) as reader:
        assert "b.png" in [image.name for image in reader.images()]
    assert list(with_log.parent.iterdir()) == [with_log]


def test_a_database_in_use_is_not_replaced(photographs: MatchedImages, with_log: Path) -> None:
    connection = sqlite3.connect(with_log)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(ValueError, match=r"database\.db is in use"):
        export_database(
            with_log, photographs.features, photographs.folder / "images", overwrite=True
        )
    connection.close()
    with DatabaseReader(with_log) as reader:
        assert "renamed.png" in [image.name for image in reader.images()]


def test_a_disk_too_full_for_the_log_of_a_database_is_named(
    photographs: MatchedImages, with_log: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"database\.db .*disk is full"):
            export_database(
                with_log, photographs.features, photographs.folder / "images", overwrite=True
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with DatabaseReader(with_log) as reader:
        assert "renamed.png" in [image.name for image in reader.images()]


def sources(photographs: MatchedImages, folder: Path) -> Iterator[tuple[Path, Callable[..., Any]]]:
    """A file of each format to damage, and the import of its folder."""
    images = photographs.folder / "images"
    shutil.copytree(images, folder / "images")
    export_dataset(folder, photographs.features)
    yield folder / "keypoints/db/a.png.bin", lambda files: import_dataset(folder, files)
    export_archives(folder / "d2", photographs.features)

    def import_d2(files: ImportFiles) -> Transfer:
        return import_archives(images, files.features, folder / "d2", overwrite=files.overwrite)

    yield folder / "d2/db/a.png.d2-net", import_d2
    export_kapture(folder / "kapture", photographs.features)
    yield (
        folder / "kapture/reconstruction/keypoints/featplug/db/a.png.kpt",
        lambda files: import_kapture(folder / "kapture", files),
    )


def test_an_import_that_fails_keeps_the_earlier_file(
    photographs: MatchedImages, tmp_path: Path
) -> None:
    for path, import_again in sources(photographs, tmp_path):
        features = tmp_path / f"{path.suffix}.h5"
        import_again(ImportFiles(features))
        before = features.read_bytes()
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(ValueError, match=rf"{path.name}.*again"):
            import_again(ImportFiles(features, overwrite=True))
        assert features.read_bytes() == before
        assert list(tmp_path.glob(f"*{features.name}*")) == [features]
        with FeatureReader(features) as reader:
            assert len(reader.names()) == 3


def test_wrong_matches_leave_both_earlier_files(database: Path, tmp_path: Path) -> None:
    files = ImportFiles(tmp_path / "feats.h5", tmp_path / "matches.h5", overwrite=True)
    import_database(database, files)
    before = [path.read_bytes() for path in (files.features, tmp_path / "matches.h5")]
    execute(database, "UPDATE matches SET data = CAST(x'FFFFFF7F' AS BLOB), rows = 0, cols = 2")
    with pytest.raises(ValueError, match=r"table matches, row .*again"):
        import_database(database, files)
    values = np.full((15, 2), 2**30, np.uint32).tobytes()
    connection = sqlite3.connect(database)
    connection.execute("UPDATE matches SET rows = 15, data = ?", (values,))
    connection.commit()
    connection.close()
    with pytest.raises(ValueError, match=r"database.db matches keypoint 1073741824"):
        import_database(database, files)
    assert [path.read_bytes() for path in (files.features, tmp_path / "matches.h5")] == before


def test_a_full_disk_leaves_both_earlier_files(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feature file is found to be incomplete only when it is flushed."""
    files = ImportFiles(tmp_path / "feats.h5", tmp_path / "matches.h5", overwrite=True)
    import_database(database, files)
    before = [path.read_bytes() for path in (files.features, tmp_path / "matches.h5")]

    def flush(path: Path) -> None:
        if "feats.h5" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("featplug.io.files.flush", flush)
    with pytest.raises(ValueError, match=r"feats\.h5 could not be written .* free some space"):
        import_database(database, files)
    assert [path.read_bytes() for path in (files.features, tmp_path / "matches.h5")] == before


def test_an_unreadable_photograph_is_skipped(photographs: MatchedImages, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(photographs.folder / "images", folder / "images")
    export_dataset(folder, photographs.features)
    (folder / "images" / "b.png").write_bytes(b"no image")
    transfer = import_dataset(folder, ImportFiles(tmp_path / "back.h5"))
    assert sorted(transfer.counts) == ["db/a.png", "query/night/c.png"]
    assert "b.png" in transfer.skipped["b.png"]
