"""The journaled file: whatever instant a process dies at, the HDF5 file is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import portalocker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featplug.io.journal import JournaledFile, journal_path, recover

Disk = dict[str, bytes]


@pytest.fixture
def recorded_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Disk]:
    """Copies of the folder's files after every change that the journaled file makes to the disk."""
    states: list[Disk] = []

    def record(function: Callable[..., Any]) -> Callable[..., Any]:
        def recording(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            states.append({p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()})
            return result

        return recording

    def pwrite_in_halves(fd: int, data: memoryview, offset: int) -> int:
        # A write may be cut short by the kill as well.
        return original_pwrite(fd, data[: max(1, len(data) // 2)], offset)

    original_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", record(pwrite_in_halves))
    monkeypatch.setattr(os, "ftruncate", record(os.ftruncate))
    monkeypatch.setattr(Path, "unlink", record(Path.unlink))
    return states


def contents(path: Path) -> dict[str, list[float]]:
    """Every dataset of an HDF5 file, read by plain h5py."""
    found: dict[str, list[float]] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()].tolist()

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def write_groups(path: Path) -> Iterator[dict[str, list[float]]]:
    """Append and replace groups in an HDF5 file, and give what it should hold after each flush."""
    with JournaledFile(path) as raw, h5py.File(raw, "r+") as file:
        expected: dict[str, list[float]] = {}
        rng = np.random.default_rng(0)
        for i in range(8):
            name = f"db/{rng.integers(10**9)}.jpg" if i % 5 else f"{i}.jpg"
            for key, size in (("keypoints", 30), ("scores", 700)):
                file[f"{name}/{key}"] = values = rng.random(size)
                expected[f"{name}/{key}"] = values.tolist()
            if i == 6:
                del file["5.jpg"]
                del expected["5.jpg/keypoints"], expected["5.jpg/scores"]
            file.flush()
            yield dict(expected)


@pytest.mark.slow
def test_every_instant_of_a_run_leaves_the_file_of_one_flush_or_the_next(
    tmp_path: Path, recorded_disk: list[Disk]
) -> None:
    path = tmp_path / "x.h5"
    h5py.File(path, "w").close()
    committed_at: list[tuple[int, dict[str, list[float]]]] = [(0, {})]
    recorded_disk.clear()
    for expected in write_groups(path):
        committed_at.append((len(recorded_disk), expected))
    states = list(recorded_disk)
    replay = tmp_path / "replay"
    replay.mkdir()
    assert len(states) > 60
    flush = 0
    for step, state in enumerate(states, start=1):
        while flush + 1 < len(committed_at) and committed_at[flush + 1][0] <= step:
            flush += 1
        for old in replay.iterdir():
            old.unlink()
        for name, data in state.items():
            (replay / name).write_bytes(data)
        recover(replay / "x.h5")
        assert not journal_path(replay / "x.h5").exists()
        after = committed_at[min(flush + 1, len(committed_at) - 1)][1]
        assert contents(replay / "x.h5") in (committed_at[flush][1], after)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_was_flushed_is_there_after_an_unflushed_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    raw = JournaledFile(path)
    file = h5py.File(raw, "w")
    file["kept"] = [1.0, 2.0]
    file.flush()
    file["lost"] = np.zeros(100_000)
    raw.close()  # as a kill would, without HDF5's own closing
    assert contents(path) == {"kept": [1.0, 2.0]}


def test_a_second_writer_and_an_hdf5_reader_are_refused_while_open(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with JournaledFile(path) as raw, h5py.File(raw, "w") as file:
        file["a"] = 1
        file.flush()
        with pytest.raises(BlockingIOError):
            JournaledFile(path)
        with pytest.raises(OSError, match="lock"):
            h5py.File(path, "r")
    with h5py.File(path, "r") as file:
        assert file["a"][()] == 1


def test_a_broken_journal_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"as it was")
    journal_path(path).write_bytes(b"featplug-journal-1" + b"\1" * 40)
    recover(path)
    assert path.read_bytes() == b"as it was"
    assert not journal_path(path).exists()


@pytest.mark.parametrize("is_carried_out", [False, True])
@pytest.mark.parametrize("other", [b"new", b"c" * 5000, b"c" * 9000, b"a" * 9000, b"a" * 5000])
def test_a_journal_is_not_carried_out_on_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: bytes, is_carried_out: bool
) -> None:
    """Neither on one made after the file was deleted, nor on one copied over it."""
    path = tmp_path / "x"
    path.write_bytes(b"a" * 5000)
    with JournaledFile(path) as file, monkeypatch.context() as patch:
        file.write(b"b" * 100)
        file.seek(5000)
        file.write(b"b" * 100)
        patch.setattr(Path, "unlink", lambda self: None)  # killed before the journal is removed
        if not is_carried_out:
            patch.setattr(JournaledFile, "_carry_out", lambda *_: None)
        file.flush()
    assert journal_path(path).exists()
    half_made = path.read_bytes()
    path.write_bytes(other)
    recover(path)
    assert path.read_bytes() == other
    assert not journal_path(path).exists()
    assert half_made[:100] == (b"b" if is_carried_out else b"a") * 100


def test_a_file_that_is_replaced_before_it_is_locked_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"the new one")
    lock = portalocker.lock

    def replace_and_lock(*args: Any) -> None:
        if (tmp_path / "new").exists():
            (tmp_path / "new").replace(path)
        lock(*args)

    monkeypatch.setattr(portalocker, "lock", replace_and_lock)
    with JournaledFile(path) as file:
        assert file.read() == b"the new one"
        file.write(b", longer")
        file.flush()
    assert path.read_bytes() == b"the new one, longer"


def test_it_needs_nothing_that_only_posix_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread")
    monkeypatch.delattr(os, "pwrite")
    path = tmp_path / "x.h5"
    h5py.File(path, "w").close()
    expected = list(write_groups(path))
    assert contents(path) == expected[-1]


_operation = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 20_000), st.binary(max_size=9_000)),
    st.tuples(st.just("truncate"), st.integers(0, 25_000), st.just(b"")),
    st.tuples(st.just("flush"), st.just(0), st.just(b"")),
)


@settings(max_examples=60, deadline=None)
@given(operations=st.lists(_operation, max_size=12))
def test_reads_like_an_ordinary_file(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, bytes]]
) -> None:
    """Property: every read sees all writes, and a reopened file is as of the last flush."""
    path = tmp_path_factory.mktemp("journal") / "x"
    model, flushed = bytearray(), b""
    with JournaledFile(path) as file:
        for kind, where, data in operations:
            if kind == "write":
                # HDF5 never reads what it did not write: no holes, as an extension would leave.
                where = min(where, len(model))
                file.seek(where)
                file.write(data)
                model[where : where + len(data)] = data
            elif kind == "truncate":
                where = min(where, len(model))
                file.truncate(where)
                del model[where:]
            else:
                file.flush()
                flushed = bytes(model)
            file.seek(0)
            assert file.read(30_000) == bytes(model)
    assert path.read_bytes()[: len(flushed)] == flushed


def test_a_closed_file_writes_nothing_where_others_have_its_descriptor(tmp_path: Path) -> None:
    """HDF5 flushes what a stop left open only when Python removes it; no error can be caught."""
    file = JournaledFile(tmp_path / "a.h5")
    file.write(memoryview(b"abc"))
    file.flush()
    file.close()
    with (tmp_path / "other").open("w+b") as other:
        assert other.fileno() == file._fd
        other.write(b"kept")
        other.flush()
        file.seek(1)
        assert file.write(memoryview(b"long text")) == 9
        assert file.truncate(100) == 100
        assert file.readinto(memoryview(bytearray(4))) == 4
        file.flush()
    assert (tmp_path / "other").read_bytes() == b"kept"
    assert (tmp_path / "a.h5").read_bytes() == b"abc"
