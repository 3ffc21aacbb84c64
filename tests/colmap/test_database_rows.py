"""Databases on a full disk, of which COLMAP says nothing or ends the process."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from featplug.colmap.cameras import CameraOptions
from featplug.colmap.database import create_database, image_ids, import_features
from featplug.colmap.database_rows import check_rows, open_database, remove_database
from featplug.io.store import FeatureReader
from tests.scenes.synthetic import SyntheticScene

_FULL_DISK = """
import resource, sys
from pathlib import Path
from featplug.stages.verify import VerifyOptions, verify_pairs
from featplug.stages.pairs import exhaustive

scene, database = Path(sys.argv[1]), Path(sys.argv[2])
names = sorted(path.name for path in (scene / "images").iterdir())
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        verify_pairs(
            database, scene / "images", names, scene / "feats.h5", scene / "matches.h5",
            exhaustive(names), VerifyOptions(),
        )
    except ValueError as error:
        print(error)
    else:
        print("whole")
"""


@pytest.fixture
def database(synthetic_scene: SyntheticScene, tmp_path: Path) -> Path:
    path = tmp_path / "database.db"
    create_database(path, synthetic_scene.images, synthetic_scene.names, CameraOptions())
    with FeatureReader(synthetic_scene.features) as features:
        import_features(path, features)
    return path


@pytest.fixture
def num_keypoints(synthetic_scene: SyntheticScene) -> int:
    with FeatureReader(synthetic_scene.features) as features:
        return sum(len(features.keypoints(name)) for name in synthetic_scene.names)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot limit the size of a file")
def test_a_full_disk_is_one_sentence_at_any_instant(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    scene = tmp_path / "flat"
    shutil.copytree(synthetic_scene.folder, scene, copy_function=shutil.copy)
    limits = [5_000, 40_000, 100_000, 150_000, 200_000, 10_000_000]
    command = [sys.executable, "-c", _FULL_DISK, str(scene), str(tmp_path / "x.db")]
    run = subprocess.run([*command, *map(str, limits)], capture_output=True, text=True, check=False)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    assert lines[-1] == "whole"
    assert len(lines) == len(limits)
    for line in lines[:-1]:
        assert line.startswith(f"{tmp_path / 'x.db'} could not be written")
        assert "free some space" in line


def test_rows_that_the_disk_does_not_have_are_an_error(database: Path, num_keypoints: int) -> None:
    check_rows(database, "images", 6)
    check_rows(database, "keypoints", 6, num_keypoints)
    for table, num_rows, num_entries in (
        ("images", 7, 0),
        ("keypoints", 7, num_keypoints),
        ("keypoints", 6, num_keypoints + 1),
        ("matches", 1, 0),
    ):
        with pytest.raises(ValueError, match=f"{database} .* table {table} .* free some space"):
            check_rows(database, table, num_rows, num_entries)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE keypoints SET data = SUBSTR(data, 1, 99) WHERE image_id = 3")
    with pytest.raises(ValueError, match="table keypoints"):
        check_rows(database, "keypoints", 6, num_keypoints)


def test_rows_are_in_the_file_itself_after_the_check(database: Path, num_keypoints: int) -> None:
    """A log next to the file would be lost when the file is moved."""
    check_rows(database, "keypoints", 6, num_keypoints)
    assert [path.name for path in database.parent.iterdir()] == [database.name]
    moved = database.rename(database.with_name("moved.db"))
    check_rows(moved, "keypoints", 6, num_keypoints)


def test_a_log_of_a_killed_run_is_not_read_into_a_new_database(
    synthetic_scene: SyntheticScene, database: Path
) -> None:
    for ending in ("-wal", "-shm", "-journal"):
        database.with_name(database.name + ending).write_bytes(b"old")
    create_database(database, synthetic_scene.images, synthetic_scene.names[:2], CameraOptions())
    assert sorted(image_ids(database)) == synthetic_scene.names[:2]
    remove_database(database)
    assert not any(database.parent.iterdir())
    remove_database(database)


def test_errors_of_others_pass_through(database: Path) -> None:
    with pytest.raises(RuntimeError, match="not of SQLite"), open_database(database):
        raise RuntimeError("not of SQLite")


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x.db"
    with pytest.raises(ValueError, match=f"{path} could not be written"), open_database(path):
        pass
