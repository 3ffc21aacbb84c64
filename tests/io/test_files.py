"""Files and folders that are replaced only by whole ones."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from featplug.io import files
from featplug.io.files import recover, write_whole, write_whole_text

_KILLED_IN_A_SWAP = """
import os, pathlib, sys
from featplug.io.files import write_whole
calls, rename = 0, pathlib.Path.rename
def rename_or_die(self, target):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    return rename(self, target)
pathlib.Path.rename = rename_or_die
def write(part):
    part.mkdir()
    (part / "new").write_text("new")
write_whole(pathlib.Path(sys.argv[1]), write)
"""


def _folder(text: str) -> Callable[[Path], object]:
    def write(part: Path) -> None:
        part.mkdir()
        (part / text).write_text(text)

    return write


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_and_folders_are_replaced(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_whole_text(tmp_path / "in" / "a.txt", text)
        write_whole(tmp_path / "in" / "model", _folder(text))
    assert _names(tmp_path / "in") == ["a.txt", "model"]
    assert (tmp_path / "in" / "a.txt").read_text() == "new"
    assert _names(tmp_path / "in" / "model") == ["new"]


def test_the_old_one_stays_when_writing_or_reading_back_fails(tmp_path: Path) -> None:
    write_whole(tmp_path / "model", _folder("old"))

    def reject(part: Path) -> None:
        assert _names(part) == ["new"]
        raise ValueError("cut short")

    with pytest.raises(ValueError, match="cut short"):
        write_whole(tmp_path / "model", _folder("new"), reject)
    with pytest.raises(KeyError):
        write_whole(tmp_path / "model", lambda part: {}["no"])
    assert _names(tmp_path) == ["model"]
    assert _names(tmp_path / "model") == ["old"]


@pytest.mark.parametrize("rename", [1, 2])
def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path, rename: int) -> None:
    model = tmp_path / "model"
    write_whole(model, _folder("old"))
    command = [sys.executable, "-c", _KILLED_IN_A_SWAP, str(model), str(rename)]
    assert subprocess.run(command, check=False).returncode == -9
    assert model.exists() == (rename == 1)
    recover(model)
    assert _names(model) == ["old"]
    assert _names(tmp_path) == ["model"]  # what the killed process left is removed


def test_leftovers_of_processes_that_may_run_are_kept(tmp_path: Path) -> None:
    here = f".a.{files._host()}-{os.getppid()}.part"
    elsewhere = ".a.00000000-1.part"
    for name in (here, elsewhere, ".mine.part"):
        (tmp_path / name).touch()
    write_whole_text(tmp_path / "a", "a")
    assert _names(tmp_path) == sorted([here, elsewhere, ".mine.part", "a"])


def test_a_full_disk_is_an_error_that_names_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole_text(path, "old")

    def fill(part: Path) -> None:
        part.write_text("ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ValueError, match=f"^{path} could not be written .*free some space"):
        write_whole(path, fill)
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a.json"]


def test_what_cannot_be_removed_is_no_failure_and_goes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files that another program has open, on a network disk."""

    def fail(path: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    model = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", fail)
        for text in ("old", "new"):
            write_whole(model, _folder(text))
    assert _names(model) == ["new"]
    (leftover,) = tmp_path.glob(".*")
    monkeypatch.setattr(files, "_has_ended", lambda *_: True)
    recover(model)
    assert not leftover.exists()
    assert _names(model) == ["new"]
