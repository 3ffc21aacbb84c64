"""A folder that one process uses at a time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import portalocker
import pytest

from featplug.io.folder_lock import LOCK, locked_folder

_HOLD = """
import sys
from pathlib import Path
from featplug.io.folder_lock import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""

_CHILD = """
    import os, time
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b".")
        time.sleep(60)
    os.read(read, 1)
"""
_FORK = _HOLD.replace("    sys.stdin", _CHILD + "    print(child, flush=True)\n    sys.stdin")


def _holder(folder: Path, script: str = _HOLD) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_process_is_rejected_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with _holder(folder) as holder:
        with pytest.raises(ValueError, match=r"run is in use by another process; .*another folder"):
            locked_folder(folder).__enter__()
        assert holder.poll() is None
        holder.communicate("")
    assert list(tmp_path.iterdir()) == []  # nothing came into the folder, so it is gone
    with locked_folder(folder):
        (folder / "result").touch()
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_a_killed_process_locks_nothing(tmp_path: Path) -> None:
    with _holder(tmp_path) as holder:
        holder.kill()
    assert (tmp_path / LOCK).exists()
    with locked_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_stages_of_a_run_may_lock_its_folder_again(tmp_path: Path) -> None:
    with locked_folder(tmp_path):
        with locked_folder(tmp_path / "." / "sub" / ".."), locked_folder(tmp_path / "sub"):
            pass
        assert (tmp_path / LOCK).exists()


def test_a_child_that_outlives_a_killed_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    with _holder(tmp_path, _FORK) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        holder.kill()
        holder.wait()
        try:
            with locked_folder(tmp_path):
                pass
        finally:
            os.kill(child, 9)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_disks_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise portalocker.LockException() from OSError(number, os.strerror(number))

    monkeypatch.setattr(portalocker, "lock", fail)
    with (
        pytest.raises(ValueError, match=f"{tmp_path}/new .*HDF5_USE_FILE_LOCKING=FALSE"),
        locked_folder(tmp_path / "new"),
    ):
        pass
    assert not (tmp_path / "new").exists()
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    with locked_folder(tmp_path):
        assert not (tmp_path / LOCK).exists()


def test_two_threads_do_not_share_a_folder(tmp_path: Path) -> None:
    """They would write over each other's results, as two processes would."""
    with locked_folder(tmp_path), ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: locked_folder(tmp_path).__enter__())
        with pytest.raises(ValueError, match=f"{tmp_path} is in use .*another folder"):
            other.result()
        assert (tmp_path / LOCK).exists()
