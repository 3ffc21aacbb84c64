"""Stores whose writing fails or is stopped: nothing is lost, and a stop is reported as a stop."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from featplug.io import match_store
from featplug.io.artifact import Provenance
from featplug.io.h5file import OtherContentsError, replacement_path
from featplug.io.journal import JournaledFile
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.store import FeatureReader, FeatureWriter
from tests.io.test_store import FEATURES, MATCHES, some_features, write_features

OTHER = Provenance("features", {"model": {"name": "d2net"}})


def names(path: Path) -> list[str]:
    with FeatureReader(path) as reader:
        return reader.names()


def overwrite(path: Path, *images: str, fail: bool, again: bool = True) -> None:
    """Overwrite a feature file by one of another conf, in a run that fails or not."""
    with FeatureWriter(path, OTHER, overwrite=again) as writer:
        for name in images:
            if writer.fingerprint(name) is None:
                writer.write(name, some_features(3), (10, 10), 1.0, "")
        if fail:
            raise RuntimeError("as a network may")


def failing_overwrite(path: Path, *images: str) -> None:
    with pytest.raises(RuntimeError, match="as a network may"):
        overwrite(path, *images, fail=True)


def test_a_file_that_is_overwritten_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    before = path.read_bytes()
    failing_overwrite(path, "b.jpg")
    assert path.read_bytes() == before
    overwrite(path, "c.jpg", fail=False)
    assert names(path) == ["b.jpg", "c.jpg"]  # the failed run was resumed
    assert [p.name for p in tmp_path.iterdir()] == ["feats.h5"]


def test_an_interrupted_overwrite_is_resumed_without_the_option(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    failing_overwrite(path, "b.jpg")
    overwrite(path, "c.jpg", fail=False, again=False)
    assert names(path) == ["b.jpg", "c.jpg"]


def test_an_interrupted_overwrite_does_not_hinder_other_runs(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    failing_overwrite(path, "b.jpg")
    write_features(path, ["d.jpg"])  # as the file was made before
    assert names(path) == ["a.jpg", "d.jpg"]
    future = path.stat().st_mtime_ns + 10**10
    os.utime(path, ns=(future, future))
    with pytest.raises(OtherContentsError, match=r"feats\.h5 was made with .*--overwrite"):
        overwrite(path, "c.jpg", fail=False, again=False)  # what was begun is older than the file
    replacement_path(path).write_bytes(b"damaged")
    overwrite(path, "c.jpg", fail=False)
    assert names(path) == ["c.jpg"]


def test_a_file_is_not_overwritten_twice_at_once(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    with FeatureWriter(path, OTHER, overwrite=True):
        for access in (
            lambda: FeatureWriter(path, OTHER, overwrite=True),
            lambda: FeatureWriter(path, FEATURES),
            lambda: FeatureReader(path),
        ):
            with pytest.raises(ValueError, match=r"feats\.h5.* is in use by another process"):
                access()


def test_a_failed_constructor_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    for _ in range(2):
        with pytest.raises(ValueError, match="so it is not overwritten"):
            MatchWriter(path, MATCHES, overwrite=True)
        with pytest.raises(OtherContentsError):
            FeatureWriter(path, OTHER)
    assert names(path) == ["a.jpg"]


@pytest.mark.parametrize("method", ["write", "readinto", "flush", "truncate"])
def test_ctrl_c_within_a_write_is_a_stop_and_not_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Wherever HDF5 calls back into Python while it writes."""
    path = tmp_path / "matches.h5"
    with MatchWriter(path, MATCHES) as writer:
        writer.write("a.jpg", "b.jpg", np.zeros(3, int), np.ones(3), 3)
    original: Callable[..., object] = getattr(JournaledFile, method)
    called = []

    def interrupted(self: JournaledFile, *args: object) -> object:
        if len(called) == 0:
            signal.raise_signal(signal.SIGINT)
        called.append(method)
        return original(self, *args)

    def match() -> None:
        with MatchWriter(path, MATCHES) as writer:
            monkeypatch.setattr(JournaledFile, method, interrupted)
            writer.write("a.jpg", "c.jpg", np.arange(3), np.ones(3), 3)
            writer.flush()
            raise AssertionError("the interrupt was lost")

    with pytest.raises(KeyboardInterrupt):
        match()
    assert called
    monkeypatch.setattr(JournaledFile, method, original)
    with MatchReader(path) as reader:
        for other in ("b.jpg", "c.jpg"):
            assert len(reader.read("a.jpg", other)[0]) == 3


def test_a_new_file_is_on_the_disk_before_it_takes_the_old_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    new = replacement_path(path)
    synced = []

    def fsync(descriptor: int) -> None:
        if new.exists() and os.path.samestat(os.fstat(descriptor), new.stat()):
            synced.append(names(path))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setenv(
        "HDF5_USE_FILE_LOCKING", "FALSE"
    )  # to look into the old one, which is locked
    overwrite(path, "b.jpg", fail=False)
    assert synced == [["a.jpg"]]
    assert names(path) == ["b.jpg"]


def test_a_file_is_made_on_a_disk_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: Path) -> None:
        raise OSError(errno.ENOTSUP, "no links")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    assert names(path) == ["a.jpg"]
    assert [p.name for p in tmp_path.iterdir()] == ["feats.h5"]


def test_a_file_that_another_process_makes_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "feats.h5"

    def be_late(*paths: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", link)
            write_features(path, ["a.jpg"])
        link(*paths)

    link = os.link
    monkeypatch.setattr(os, "link", be_late)
    write_features(path, ["b.jpg"])
    assert names(path) == ["a.jpg", "b.jpg"]


def test_a_flush_holds_a_bounded_number_of_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(match_store, "CHUNK_SECONDS", 1e9)
    committed = []

    def commit(self: MatchWriter) -> None:
        committed.append(sum(len(group) for group in self.file.values()))
        h5py.File.flush(self.file)

    monkeypatch.setattr(MatchWriter, "commit", commit)
    with MatchWriter(tmp_path / "matches.h5", MATCHES) as writer:
        for i in range(2 * match_store.CHUNK_PAIRS + 1):
            writer.write("a.jpg", f"{i}.jpg", np.zeros(0, int), np.zeros(0), 3)
    assert committed == [match_store.CHUNK_PAIRS * n for n in (1, 2)] + [committed[1] + 1]
