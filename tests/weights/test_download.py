from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from featplug.weights.download import download
from tests.weights.file_server import FileServer

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file.bin"


def cut_short(server: FileServer, target: Path) -> int:
    """Let the connection break after 2 MB; return how much of it was kept."""
    server.stop_after = 2_000_000
    with pytest.raises(ValueError, match=r"not to the end|bytes arrived"):
        download(server.url("/file.bin"), target)
    server.stop_after = None
    server.answers.clear()
    assert not target.exists()
    (part,) = target.parent.glob("*.part")
    kept = part.stat().st_size
    assert 1_800_000 < kept <= 2_000_000
    assert part.read_bytes() == server.files["/file.bin"][:kept]
    return kept


def test_whole_file_arrives_and_no_part_is_left(target: Path) -> None:
    with FileServer({"/file.bin": CONTENT}) as server:
        assert download(server.url("/file.bin"), target, SHA256) == target
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_goes_on_where_it_stopped(target: Path) -> None:
    with FileServer({"/file.bin": CONTENT}) as server:
        kept = cut_short(server, target)
        download(server.url("/file.bin"), target, SHA256)
        assert server.answers[-1] == (206, len(CONTENT) - kept)
    assert target.read_bytes() == CONTENT


def test_starts_again_where_the_server_knows_no_ranges(target: Path) -> None:
    with FileServer({"/file.bin": CONTENT}, ranges=False) as server:
        cut_short(server, target)
        download(server.url("/file.bin"), target)
        assert {status for status, _ in server.answers} == {200}
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"2"', None])
def test_never_joins_two_versions_of_a_file(target: Path, etag: str | None) -> None:
    with FileServer({"/file.bin": bytes(len(CONTENT))}) as server:
        cut_short(server, target)
        server.files["/file.bin"], server.etag = CONTENT, etag
        download(server.url("/file.bin"), target)
    assert target.read_bytes() == CONTENT


def test_file_that_had_arrived_is_not_asked_for_again(target: Path) -> None:
    with FileServer({"/file.bin": CONTENT}) as server:
        cut_short(server, target)
        part = next(target.parent.glob("*.part"))
        part.write_bytes(CONTENT)
        download(server.url("/file.bin"), target, SHA256)
        assert len(server.answers) == 1
    assert target.read_bytes() == CONTENT


def test_other_hash_is_refused_and_leaves_nothing(target: Path) -> None:
    with (
        FileServer({"/file.bin": CONTENT}) as server,
        pytest.raises(ValueError, match=r"/file\.bin: SHA256 hash .*does not match"),
    ):
        download(server.url("/file.bin"), target, "0" * 64)
    assert list(target.parent.iterdir()) == []


def test_refusal_and_silence_are_one_sentence_with_the_url(target: Path) -> None:
    with FileServer({}) as server:
        url = server.url("/file.bin")
        with pytest.raises(ValueError, match=rf"^{url}: the server answers 404 Not Found\.$"):
            download(url, target)
    with pytest.raises(ValueError, match=rf"^{url} did not answer.*\(ConnectionError\)\.$"):
        download(url, target)


def test_progress_starts_at_what_is_there(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileServer({"/file.bin": CONTENT}) as server:
        download(server.url("/file.bin"), target)
        assert capsys.readouterr() == ("", "")
        target.unlink()
        cut_short(server, target)
        download(server.url("/file.bin"), target, progress=True)
    shown = capsys.readouterr().err
    assert "file.bin" in shown
    assert "3.00M/3.00M" in shown
