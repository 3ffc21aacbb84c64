"""The results of a run, which replace those of an earlier one together or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from featplug.io.run_folder import UNFINISHED, complete, replace_results, run_folder

_RESULTS = ("model", "points.ply", "results.json", "submission-night.txt")
_KILLED = """
import os, pathlib, sys
from featplug.io import files, run_folder
folder, number = pathlib.Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def dying(original):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), 9)
        return original(*arguments, **options)
    return call
with run_folder.run_folder(folder) as working:
    (working / "model").mkdir()
    for name in ("model/images.bin", "points.ply", "results.json"):
        (working / name).write_text("new")
    for name in ("frames", "images"):
        (working / name).symlink_to("new", target_is_directory=True)
    for name in ("rename", "replace", "mkdir", "unlink", "rmdir"):
        setattr(pathlib.Path, name, dying(getattr(pathlib.Path, name)))
    os.unlink = dying(os.unlink)
    run_folder.replace_results(folder, ["submission-night.txt", "results.json"])
print(calls)
"""


def _write_old(folder: Path) -> None:
    (folder / "model").mkdir()
    for name in ("model/images.bin", *_RESULTS[1:], "my notes.txt"):
        (folder / name).write_text("old")


def _write_old_links(folder: Path) -> None:
    """Write a link, and a folder whose place a link takes."""
    (folder / "frames").mkdir()
    (folder / "frames" / "1.jpg").write_text("old")
    (folder / "images").symlink_to("old", target_is_directory=True)


def _contents(folder: Path) -> dict[str, str]:
    def text(path: Path) -> str:
        return f"link to {path.readlink()}" if path.is_symlink() else path.read_text()

    files = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return {path.relative_to(folder).as_posix(): text(path) for path in files}


OLD = {"model/images.bin": "old", **dict.fromkeys([*_RESULTS[1:], "my notes.txt"], "old")}
OLD_LINKS = {"frames/1.jpg": "old", "images": "link to old"}
NEW_LINKS = dict.fromkeys(["frames", "images"], "link to new")
NEW = {
    **dict.fromkeys(["model/images.bin", "points.ply", "results.json"], "new"),
    "my notes.txt": "old",
}


def test_all_results_change_at_once(tmp_path: Path) -> None:
    _write_old(tmp_path)
    with run_folder(tmp_path) as working:
        (working / "model").mkdir()
        for name in ("model/images.bin", "points.ply", "results.json"):
            (working / name).write_text("new")
        assert {**OLD, ".lock": ""}.items() <= _contents(tmp_path).items()
        replace_results(tmp_path, ["submission-night.txt", "results.json"])
        assert _contents(tmp_path) == {**NEW, ".lock": ""}
    assert _contents(tmp_path) == NEW
    assert not (tmp_path / UNFINISHED).exists()


def test_a_failed_run_leaves_the_old_results_and_its_log(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with run_folder(folder, kept=["sfm"]) as working:
            assert not (working / "colmap.log").exists()
            (working / "colmap.log").write_text("why")
            (working / "sfm").mkdir(exist_ok=True)
            (working / "sfm" / "images.bin").write_text("resumes")
            (working / "results.json").write_text("new")
            raise ValueError("no points")

    _write_old(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match="no points"):
            fail(tmp_path)
        left = {"colmap.log": "why", "sfm/images.bin": "resumes"}
        assert _contents(tmp_path / UNFINISHED) == left
        assert _contents(tmp_path).items() >= OLD.items()
    with run_folder(tmp_path, kept=["sfm"]) as working:
        assert _contents(working) == {"sfm/images.bin": "resumes"}
        replace_results(tmp_path)
    assert (tmp_path / "sfm" / "images.bin").exists()
    assert not (tmp_path / UNFINISHED).exists()


def test_a_rejected_first_run_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no weights"), run_folder(tmp_path / "a" / "b"):
        raise ValueError("no weights")
    assert list(tmp_path.iterdir()) == []


def test_old_results_that_cannot_be_removed_are_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files that another program has open, on a network disk."""

    def fail(path: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    monkeypatch.setattr(shutil, "rmtree", fail)
    _write_old(tmp_path)
    for text in ("newer", "new"):
        with run_folder(tmp_path) as working:
            (working / "model").mkdir()
            for name in ("model/images.bin", "points.ply", "results.json"):
                (working / name).write_text(text)
            replace_results(tmp_path, ["submission-night.txt"])
        results = {n: t for n, t in _contents(tmp_path).items() if not n.startswith(".")}
        assert results == {name: old.replace("new", text) for name, old in NEW.items()}


def _run_and_kill(folder: Path, number: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _KILLED, str(folder), str(number)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_kill_at_any_step_leaves_all_old_or_all_new(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    _write_old(whole)
    _write_old_links(whole)
    num_steps = int(_run_and_kill(whole, 0).stdout)
    assert _contents(whole) == NEW | NEW_LINKS
    ends = []
    for number in range(1, num_steps + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        _write_old(folder)
        _write_old_links(folder)
        assert _run_and_kill(folder, number).returncode == -9
        if number % 2:
            complete(folder)  # as readers do
        else:
            with run_folder(folder):  # as the next run does
                pass
        results = {n: t for n, t in _contents(folder).items() if not n.startswith(UNFINISHED)}
        results.pop(".lock", None)
        ends.append("old" if results == OLD | OLD_LINKS else "new")
        assert results == (OLD | OLD_LINKS if ends[-1] == "old" else NEW | NEW_LINKS)
    assert set(ends) == {"old", "new"}
    assert ends == sorted(ends, reverse=True)


@pytest.mark.parametrize("kind", ["names", "finished", "replaced"])
def test_a_folder_of_others_cannot_have_files_elsewhere_moved(tmp_path: Path, kind: str) -> None:
    """A report completes what a killed run had finished, in folders that come from anywhere."""
    folder, private = tmp_path / "run", tmp_path / "private"
    (folder / ".finished").mkdir(parents=True)
    private.mkdir()
    (private / "letters.txt").write_text("mine")
    (folder / ".finished" / "letters.txt").write_text("new")
    if kind == "names":
        names = ["../private", str(private), "..", ".", "", 3, ["a"], "a/../../private"]
        (folder / ".finished" / ".obsolete.json").write_text(json.dumps(names))
    elif kind == "finished":
        shutil.rmtree(folder / ".finished")
        (folder / ".finished").symlink_to(private)
    else:
        (folder / ".replaced").symlink_to(private)
        (folder / ".finished" / "model").mkdir()
        (folder / "model").mkdir()
        (private / "model").mkdir()
    complete(folder)
    assert (private / "letters.txt").read_text() == "mine"
    assert (private / "model").exists() == (kind == "replaced")
    assert (folder / "letters.txt").exists() == (kind != "finished")
