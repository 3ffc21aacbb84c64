"""Feature and match files: hloc's form, both ways, and the guards."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from featplug.io.artifact import Provenance
from featplug.io.hdf5_guard import opening
from featplug.io.journal import JournaledFile
from featplug.io.match_store import MatchReader, MatchWriter, pair_key
from featplug.io.store import FeatureReader, FeatureWriter
from tests.conftest import REPOSITORY

FEATURES = Provenance("features", {"model": {"name": "sift", "max_keypoints": -1}})
MATCHES = Provenance("matches", {"model": {"name": "nearest_neighbor"}})


def some_features(num: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "keypoints": rng.random((num, 2), dtype=np.float32) * 3000,
        "scores": rng.random(num, dtype=np.float32),
        "descriptors": rng.random((128, num)).astype(np.float16),
    }


def write_features(path: Path, names: list[str], num: int = 5, **kwargs: object) -> None:
    with FeatureWriter(path, FEATURES) as writer:
        for name in names:
            writer.write(name, some_features(num), (3072, 2048), 1.5, "1000-0")


def hloc_list_h5_names(path: Path) -> list[str]:
    """Names of an HDF5 file's images as hloc finds them: every parent of a dataset."""
    names = set()
    with h5py.File(path, "r", libver="latest") as file:
        file.visititems(
            lambda _, item: (
                names.add(item.parent.name.strip("/")) if isinstance(item, h5py.Dataset) else None
            )
        )
    return sorted(names)


def hloc_get_matches(path: Path, name0: str, name1: str) -> np.ndarray:
    """One pair's matches as hloc reads them: either order, -1 is none."""
    with h5py.File(path, "r", libver="latest") as file:
        for first, second, reverse in ((name0, name1, False), (name1, name0, True)):
            key = "/".join((first.replace("/", "-"), second.replace("/", "-")))
            if key in file:
                matches0 = file[key]["matches0"][()]
                assert "matching_scores0" in file[key]
                index0 = np.where(matches0 != -1)[0]
                pairs = np.stack([index0, matches0[index0]], -1)
                return np.flip(pairs, -1) if reverse else pairs
    raise KeyError((name0, name1))


@pytest.mark.parametrize("num", [0, 1, 5])
def test_features_are_what_hloc_reads(tmp_path: Path, num: int) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["db/a.jpg", "query/night/b.jpg", "c.jpg"], num)
    assert hloc_list_h5_names(path) == ["c.jpg", "db/a.jpg", "query/night/b.jpg"]
    with h5py.File(path, "r") as file:
        group = file["query/night/b.jpg"]
        assert group["keypoints"].dtype == np.float32
        assert group["keypoints"].shape == (num, 2)
        assert group["keypoints"].attrs["uncertainty"] == 1.5
        assert group["descriptors"].shape == (128, num)
        assert group["image_size"][()].tolist() == [3072, 2048]
    with FeatureReader(path) as reader:
        assert reader.names() == ["c.jpg", "db/a.jpg", "query/night/b.jpg"]
        np.testing.assert_array_equal(reader.keypoints("c.jpg"), some_features(num)["keypoints"])
        assert reader.image_size("c.jpg") == (3072, 2048)
        assert "d.jpg" not in reader
        with pytest.raises(ValueError, match=r"feats.h5 has no features of the image 'd.jpg'"):
            reader.keypoints("d.jpg")


def test_hlocs_own_files_are_read(shared: Path) -> None:
    folder = shared / "golden" / "hloc"
    with FeatureReader(folder / "feats-sift.h5") as features:
        assert features.provenance is None
        assert len(features.names()) == 11
        keypoints = {name: features.keypoints(name) for name in features.names()}
    match_file = folder / "feats-sift_matches-NN-mutual-ratio.8_pairs-db.h5"
    pairs = [line.split() for line in (folder / "pairs-db.txt").read_text().splitlines()]
    with MatchReader(match_file) as matches:
        for name0, name1 in pairs:
            found, scores = matches.read(name0, name1)
            np.testing.assert_array_equal(found, hloc_get_matches(match_file, name0, name1))
            assert len(scores) == len(found)
            assert (found < [len(keypoints[name0]), len(keypoints[name1])]).all()
            turned, _ = matches.read(name1, name0)
            np.testing.assert_array_equal(turned, found[:, ::-1])


def test_matches_are_what_hloc_reads(tmp_path: Path) -> None:
    path = tmp_path / "matches.h5"
    matches0 = np.array([2, -1, 0, -1])
    with MatchWriter(path, MATCHES) as writer:
        writer.write("db/a.jpg", "query/b.jpg", matches0, np.array([0.5, 0, 1, 0]), num1=3)
    assert hloc_get_matches(path, "db/a.jpg", "query/b.jpg").tolist() == [[0, 2], [2, 0]]
    assert hloc_get_matches(path, "query/b.jpg", "db/a.jpg").tolist() == [[2, 0], [0, 2]]
    with h5py.File(path, "r") as file:
        assert file["db-a.jpg/query-b.jpg/matches0"].dtype == np.int16
    with MatchReader(path) as reader:
        assert ("query/b.jpg", "db/a.jpg") in reader
        with pytest.raises(ValueError, match=r"no matches of 'db/a.jpg' and 'c.jpg'"):
            reader.read("db/a.jpg", "c.jpg")


def test_old_style_pairs_of_hloc_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file["db-a.jpg_q-b.jpg/matches0"] = np.array([1, -1], np.int16)
        file["db-a.jpg_q-b.jpg/matching_scores0"] = np.array([1, 0], np.float16)
    with MatchReader(path) as reader:
        assert reader.read("q/b.jpg", "db/a.jpg")[0].tolist() == [[1, 0]]


def test_indices_beyond_int16_survive(tmp_path: Path) -> None:
    path = tmp_path / "matches.h5"
    with MatchWriter(path, MATCHES) as writer:
        writer.write("a.jpg", "b.jpg", np.array([40_000, -1]), np.ones(2), num1=40_001)
    assert hloc_get_matches(path, "a.jpg", "b.jpg").tolist() == [[0, 40_000]]


def test_only_missing_pairs_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "matches.h5"
    pairs = [("a.jpg", "b.jpg"), ("db/a.jpg", "b.jpg"), ("b.jpg", "c.jpg")]
    with MatchWriter(path, MATCHES) as writer:
        assert writer.missing(pairs) == pairs
        writer.write("b.jpg", "a.jpg", np.array([-1]), np.zeros(1), num1=1)
        writer.flush()
        assert writer.missing(pairs) == pairs[1:]
        assert writer.missing(pairs, directed=True) == pairs


def test_another_conf_is_refused_and_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    other = Provenance("features", {"model": {"name": "sift", "max_keypoints": 2048}})
    with pytest.raises(ValueError, match=r"feats\.h5 .*max_keypoints = -1, .* 2048; .*--overwrite"):
        FeatureWriter(path, other)
    reweighted = Provenance("features", FEATURES.conf, weights=[{"sha256": "abc"}])
    with pytest.raises(ValueError, match=r"weights"):
        FeatureWriter(path, reweighted)
    with FeatureReader(path) as reader:
        assert reader.names() == ["a.jpg"]
        assert reader.provenance is not None
        assert reader.provenance.conf == FEATURES.conf


def test_overwriting_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    other = Provenance("features", {"model": {"name": "d2net"}})
    with FeatureWriter(path, other, overwrite=True) as writer:
        assert writer.fingerprint("a.jpg") is None
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 a photograph")
    with pytest.raises(ValueError, match=r"photo.jpg is not an HDF5 file"):
        FeatureWriter(tmp_path / "photo.jpg", other, overwrite=True)
    assert (tmp_path / "photo.jpg").read_bytes() == b"\xff\xd8 a photograph"


def test_the_same_weights_by_another_way_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    for origin in ("official", "file"):
        weights = [{"name": origin, "origin": origin, "sha256": "abc"}]
        with FeatureWriter(path, Provenance("features", {}, weights=weights)) as writer:
            assert writer.path == path


def test_overwriting_spares_files_of_another_kind_and_files_in_use(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    with pytest.raises(ValueError, match=r"feats.h5 holds features, so it is not overwritten"):
        MatchWriter(path, MATCHES, overwrite=True)
    with FeatureReader(path), pytest.raises(ValueError, match=r"feats.h5 is in use"):
        FeatureWriter(path, FEATURES, overwrite=True)
    with FeatureReader(path) as reader:
        assert reader.names() == ["a.jpg"]


def test_a_new_file_appears_only_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any instant of its making, it is not there, or it can be opened."""
    seen = []

    def stop(self: JournaledFile, path: Path) -> None:
        seen.append([p.name for p in tmp_path.iterdir()])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("featplug.io.h5file.JournaledFile.__init__", stop)
        with pytest.raises(KeyboardInterrupt):
            FeatureWriter(tmp_path / "feats.h5", FEATURES)
    assert seen == [["feats.h5"]]
    with FeatureReader(tmp_path / "feats.h5") as reader:
        assert reader.names() == []
    (tmp_path / "empty.h5").touch()
    write_features(tmp_path / "empty.h5", ["a.jpg"])
    with FeatureReader(tmp_path / "empty.h5") as reader:
        assert reader.names() == ["a.jpg"]


def test_a_failed_write_is_one_sentence_and_gives_the_lock_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write_onto_the_full_disk() -> None:
        with monkeypatch.context() as patch, FeatureWriter(path, FEATURES) as writer:
            patch.setattr(os, "pwrite", full)
            writer.write("b.jpg", some_features(5000), (10, 10), 1.0, "")

    with pytest.raises(ValueError, match=r"Cannot write .*feats.h5.*; what was written before"):
        write_onto_the_full_disk()
    with FeatureWriter(path, FEATURES) as writer:
        assert writer.fingerprint("a.jpg") == "1000-0"
        assert writer.fingerprint("b.jpg") is None


def test_hlocs_files_are_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "feats-sift.h5"
    with h5py.File(path, "w") as file:
        file["a.jpg/keypoints"] = np.zeros((1, 2))
    with pytest.raises(ValueError, match=r"feats-sift.h5 was not written by featplug"):
        FeatureWriter(path, FEATURES)


def test_a_writer_in_another_process_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    script = (
        "import sys; from featplug.io.journal import JournaledFile; from pathlib import Path;"
        "f = JournaledFile(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(ValueError, match=r"feats.h5 is in use by another process"):
            FeatureWriter(path, FEATURES)
        process.kill()
    write_features(path, ["b.jpg"])  # the lock died with its owner


def test_a_second_writer_and_a_reader_get_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    with FeatureWriter(path, FEATURES):
        with pytest.raises(ValueError, match=r"feats.h5 is in use by another process"):
            FeatureWriter(path, FEATURES)
        with pytest.raises(ValueError, match=r"feats.h5 is in use by another process"):
            FeatureReader(path)
        with pytest.raises(ValueError, match=r"feats.h5 is in use by another process"):
            FeatureWriter(path, FEATURES, overwrite=True)
    with FeatureReader(path) as reader:
        assert reader.names() == ["a.jpg"]


def test_a_disk_without_locks_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("portalocker.portalocker.LOCKER", flock)
    with pytest.raises(ValueError, match="has no file locks; set HDF5_USE_FILE_LOCKING=FALSE"):
        FeatureWriter(tmp_path / "feats.h5", FEATURES)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    with FeatureWriter(tmp_path / "feats.h5", FEATURES) as writer:
        assert writer.fingerprint("a.jpg") is None


def test_files_that_cannot_be_opened_say_why(tmp_path: Path) -> None:
    (tmp_path / "bad_wrong.h5").mkdir()
    with pytest.raises(ValueError, match=r"Cannot open .*bad_wrong.h5: Is a directory"):
        FeatureReader(tmp_path / "bad_wrong.h5")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        FeatureReader(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("no HDF5 file at all")
    with pytest.raises(ValueError, match=r"text.h5 is not an HDF5 file"):
        FeatureReader(tmp_path / "text.h5")
    write_features(tmp_path / "cut.h5", ["a.jpg"])
    os_bytes = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(os_bytes[: len(os_bytes) // 2])
    with pytest.raises(ValueError, match=r"cut.h5 is damaged"):
        FeatureReader(tmp_path / "cut.h5")


def test_a_file_that_hloc_left_locked_names_the_command_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "locked.h5"
    script = (
        "import h5py, os, sys; f = h5py.File(sys.argv[1], 'a', libver='latest');"
        "f['a.jpg/keypoints'] = [1.0]; f.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    with pytest.raises(ValueError, match=r"h5clear -s .*locked.h5"):
        FeatureReader(path)


def test_a_full_disk_is_noticed_before_it_harms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "feats.h5"
    write_features(path, ["a.jpg"])
    with FeatureWriter(path, FEATURES) as writer:
        usage = type("Usage", (), {"free": 1 << 20})
        monkeypatch.setattr("featplug.io.h5file.shutil.disk_usage", lambda _: usage)
        with pytest.raises(ValueError, match=r"disk of .*feats.h5 has only 1 MiB left"):
            writer.write("b.jpg", some_features(5), (10, 10), 1.0, "")
    with FeatureReader(path) as reader:
        assert reader.names() == ["a.jpg"]


def test_match_files_write_a_slash_as_a_dash() -> None:
    assert pair_key("db/a.jpg", "q/b.jpg") == "db-a.jpg/q-b.jpg"


def test_pairs_of_other_images_with_the_same_key_are_noticed_in_a_later_run(tmp_path: Path) -> None:
    path, none = tmp_path / "matches.h5", np.full(3, -1)
    with MatchWriter(path, MATCHES) as writer:
        writer.write("a/b.jpg", "c.jpg", none, none, 3)
    for pair in [("a-b.jpg", "c.jpg"), ("c.jpg", "a-b.jpg"), ("d.jpg", "a-b.jpg")]:
        with (
            MatchWriter(path, MATCHES) as writer,
            pytest.raises(ValueError, match=r"matches.h5 has matches of 'a/b.jpg'.*rename"),
        ):
            writer.missing([pair])
    with MatchWriter(path, MATCHES) as writer:
        assert writer.missing([("c.jpg", "a/b.jpg"), ("e.jpg", "a/b.jpg")]) == [
            ("e.jpg", "a/b.jpg")
        ]
    with MatchReader(path) as reader:
        assert len(reader.read("c.jpg", "a/b.jpg")[0]) == 0
        for pair in [("a-b.jpg", "c.jpg"), ("c.jpg", "a-b.jpg")]:
            with pytest.raises(ValueError, match=r"matches.h5 has matches of 'a/b.jpg'.*rename"):
                reader.read(*pair)


def test_a_full_disk_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    with pytest.raises(ValueError, match=f"{path} could not be .*free some space"), opening(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with (
        FeatureWriter(path, Provenance("features", {})) as writer,
        pytest.raises(ValueError, match=rf"Cannot write {path} \(No space .*free some space"),
        writer.explaining_failures(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
