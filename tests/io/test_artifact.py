"""Reuse of files and folders, with the reason where one is made again."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from featplug.io import artifact
from featplug.io.artifact import (
    Artifact,
    Provenance,
    current_fingerprint,
    file_fingerprint,
    file_hash,
    files_hash,
    read_fingerprinted,
)

MADE = Provenance(
    "features",
    {"model": {"name": "sift", "max_keypoints": 2048}, "as_half": True},
    weights=[{"name": "a", "origin": "official", "sha256": "ab" * 32}],
    inputs={"feature_file": "1"},
    revisions={"sift": 2},
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "matches"}, "holds features, not matches"),
        (
            {"conf": {**MADE.conf, "model": {"name": "sift", "max_keypoints": 4096}}},
            "was made with max_keypoints = 2048, this run has 4096",
        ),
        (
            {"conf": {**MADE.conf, "precision": "fp16"}},
            "was made with precision = None, this run has fp16",
        ),
        (
            {"revisions": {"sift": 3}},
            "was made by revision 2 of sift, this run has 3",
        ),
        (
            {"revisions": {"sift": 2, "extract": 2}},
            "was made by revision 1 of extract, this run has 2",
        ),
        ({"weights": []}, "was made with the weights a abababab, this run has none"),
        ({"inputs": {"feature_file": "2"}}, "was made from other feature file"),
    ],
)
def test_a_difference_is_a_sentence(changes: dict[str, Any], reason: str) -> None:
    assert MADE.difference(replace(MADE, **changes)) == reason


def test_package_commit_and_origin_of_the_weights_make_no_difference() -> None:
    weights = [{"name": "b", "origin": "featplug", "sha256": "ab" * 32}]
    upgraded = replace(MADE, version="9.9", commit="f" * 40, file_id="other", weights=weights)
    assert MADE.difference(upgraded) is None
    assert MADE.difference(replace(MADE, revisions={"sift": 2, "new stage": 1})) is None


def test_options_compare_as_they_are_written() -> None:
    assert replace(MADE, conf={"scales": (1.0, 2.0)}).difference(
        Provenance.from_json(replace(MADE, conf={"scales": [1.0, 2.0]}).to_json())
    ) is None  # fmt: skip


def test_a_provenance_of_0_1_is_read_as_revision_1() -> None:
    text = json.dumps(
        {
            "kind": "features",
            "conf": MADE.conf,
            "weights": MADE.weights,
            "inputs": MADE.inputs,
            "version": "0.1.0",
            "file_id": "1234",
        }
    )
    old = Provenance.from_json(text)
    assert (old.file_id, old.commit) == ("1234", None)
    assert old.difference(replace(MADE, revisions={"sift": 1})) is None
    assert old.difference(MADE) == "was made by revision 1 of sift, this run has 2"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "features"}'])
def test_something_else_is_no_provenance(text: str) -> None:
    with pytest.raises(ValueError, match="provenance"):
        Provenance.from_json(text)


def _write_model(part: Path) -> dict[str, Any]:
    (part / "images").mkdir(parents=True)
    (part / "points.bin").write_bytes(b"points")
    (part / "images" / "a.png").write_bytes(b"a")
    return {"num_points": 6}


def test_a_folder_is_reused_until_something_changes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model"
    model = Artifact(path, MADE)
    assert str(path) in str(model.reason_to_make())
    assert model.make(_write_model) == {"num_points": 6}

    again = Artifact(path, replace(MADE, file_id="another run"))
    assert again.reason_to_make() is None
    assert again.facts == {"num_points": 6}
    assert again.provenance.file_id == MADE.file_id

    reason = Artifact(path, replace(MADE, revisions={"sift": 3})).reason_to_make()
    assert reason == f"{path} was made by revision 2 of sift, this run has 3."

    (path / "points.bin").write_bytes(b"cut")
    assert str(path) in str(Artifact(path, MADE).reason_to_make())


def test_a_file_is_reused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    Artifact(path, MADE).make(lambda part: part.write_text("a b") and None)
    assert Artifact(path, MADE).reason_to_make() is None
    assert path.read_text() == "a b"


def test_a_failed_run_keeps_the_old_artifact_with_its_record(tmp_path: Path) -> None:
    path = tmp_path / "model"
    Artifact(path, MADE).make(_write_model)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(part: Path) -> None:
        part.mkdir()
        (part / "half").touch()
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        Artifact(path, replace(MADE, conf={"other": 1})).make(fail)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert Artifact(path, MADE).reason_to_make() is None


def test_a_kill_before_the_record_is_written_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what the killed run made would pass for what the record of the old one says."""
    path = tmp_path / "model"
    Artifact(path, MADE).make(_write_model)
    other = Artifact(path, replace(MADE, conf={"other": 1}))
    monkeypatch.setattr(artifact, "write_whole_text", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        other.make(_write_model)
    assert path.is_dir()
    assert Artifact(path, MADE).reason_to_make() is not None


def test_what_a_check_rejects_does_not_appear(tmp_path: Path) -> None:
    def check(part: Path) -> None:
        if len(part.read_bytes()) < 10:
            raise ValueError("too short")

    with pytest.raises(ValueError, match="too short"):
        Artifact(tmp_path / "a", MADE).make(lambda part: part.write_text("abc") and None, check)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("record", ["", "{}", '{"inputs": {"features": "1"}, "check": {}}'])
def test_a_record_of_another_form_is_no_reason_to_reuse(tmp_path: Path, record: str) -> None:
    """featplug 0.1 wrote the last of them."""
    path, record_path = tmp_path / "model", tmp_path / "triangulation.json"
    model = Artifact(path, MADE, record_path)
    model.make(_write_model)
    record_path.write_text(record)
    assert str(path) in str(model.reason_to_make())


def _set_old_time(path: Path) -> None:
    """Set the modification time back, as copying programs do; that itself changes another time."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 60 * 10**9))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that are read whole to be hashed, where times are as fine as on the disk."""
    read: list[str] = []
    original = hashlib.file_digest

    def counting(file: Any, name: str) -> Any:
        read.append(Path(file.name).name)
        return original(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    monkeypatch.setattr(artifact, "_RACY_SECONDS", 0.0)
    return read


def test_the_whole_file_is_hashed(tmp_path: Path) -> None:
    """Knowing the size and the middle of a photograph was not enough."""
    path = tmp_path / "a.jpg"
    content = bytearray(20_000)
    path.write_bytes(content)
    before = file_fingerprint(path)
    content[17] = 1
    path.write_bytes(content)
    assert file_hash(path) == hashlib.sha256(content).hexdigest()
    assert current_fingerprint(path, before, time.time_ns()) is None


def test_a_file_is_hashed_again_only_after_it_changed(tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    one = file_fingerprint(path)
    assert current_fingerprint(path, one, 0) == file_fingerprint(path) == one
    assert reads == ["a.jpg"]
    path.write_bytes(b"two")
    _set_old_time(path)
    assert current_fingerprint(path, one, 0) is None
    path.write_bytes(b"one")
    again = current_fingerprint(path, one, 0)
    assert again is not None
    assert again != one  # the same contents at another time
    assert reads == 3 * ["a.jpg"]


def test_times_of_a_file_that_changed_just_now_are_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    assert file_fingerprint(path) == file_hash(path)


def test_contents_that_are_read_are_not_read_again(tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    content, fingerprint = read_fingerprinted(path)
    assert (content, fingerprint) == (b"one", file_fingerprint(path))
    assert reads == []


def test_what_0_1_recorded_of_a_photograph_counts_while_it_is_untouched(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    content = bytearray(20_000)
    path.write_bytes(content)
    recorded = f"20000-{zlib.crc32(bytes(4096)):08x}"
    now = time.time_ns()
    assert current_fingerprint(path, recorded, now + 10**9) == file_fingerprint(path)
    assert current_fingerprint(path, recorded, now - 10**9) is None
    path.write_bytes(content[:-1])
    assert current_fingerprint(path, recorded, now + 10**9) is None


def test_a_pipe_is_rejected_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    for read in (file_fingerprint, read_fingerprinted):
        with pytest.raises(ValueError, match=r"a\.jpg is not a file"):
            read(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg is not a file"):
        current_fingerprint(tmp_path / "a.jpg", "20-00000000", 0)


def test_a_set_of_files_is_known_by_names_and_contents_but_not_by_its_place(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "other"):
        folder.mkdir(exist_ok=True)
        for name in ("a", "b"):
            (folder / name).write_text(name)
    both = files_hash(tmp_path, ["a", "b"])
    assert files_hash(tmp_path / "other", ["b", "a"]) == both
    assert files_hash(tmp_path, ["b", "a"]) == both
    assert files_hash(tmp_path, ["a"]) != both
    (tmp_path / "b").write_text("c")
    assert files_hash(tmp_path, ["a", "b"]) != both
