from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import requests

from featplug.weights import download as downloads
from featplug.weights.download import SecureSession
from tests.weights.file_server import FileServer

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def download(url: str, target: Path, sha256: str | None = None, progress: bool = False) -> Path:
    return downloads.download(url, target, len(CONTENT), sha256, progress)


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


@pytest.mark.parametrize("length", [str(len(CONTENT) + 1), None, "many", "-1", "9" * 5000])
def test_more_than_the_file_may_have_is_not_kept(target: Path, length: str | None) -> None:
    files = {"/file.bin": CONTENT + b"more"}
    with (
        FileServer(files, headers={"Content-Length": length}) as server,
        pytest.raises(ValueError, match=r"/file\.bin: the server sends .* at most 3\.0 MB"),
    ):
        download(server.url("/file.bin"), target)
    assert list(target.parent.iterdir()) == []


def test_a_length_that_is_not_announced_is_not_needed(target: Path) -> None:
    with FileServer({"/file.bin": CONTENT}, headers={"Content-Length": None}) as server:
        download(server.url("/file.bin"), target)
    assert target.read_bytes() == CONTENT


def test_bytes_from_elsewhere_in_the_file_are_not_joined(target: Path) -> None:
    with FileServer({"/file.bin": CONTENT}) as server:
        cut_short(server, target)
        server.headers = {"Content-Range": "bytes 7-2999999/3000000"}
        download(server.url("/file.bin"), target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("head", [b"<!DOCTYPE html>", b"\xef\xbb\xbf\n<html>", b"<!-- a --><html>"])
def test_a_web_page_is_not_taken_for_the_file(target: Path, head: bytes) -> None:
    with (
        FileServer({"/file.bin": head + b"Quota exceeded"}) as server,
        pytest.raises(ValueError, match=r"/file\.bin: .*a web page.*`featplug weights import`"),
    ):
        download(server.url("/file.bin"), target)
    assert list(target.parent.iterdir()) == []


def test_a_full_disk_is_one_sentence(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(downloads.ResumingDownloader, "_receive", fail)
    with (
        FileServer({"/file.bin": CONTENT}) as server,
        pytest.raises(ValueError, match=rf"^{target.parent} .*No space left.*free some space"),
    ):
        download(server.url("/file.bin"), target)
    assert not target.exists()


def test_redirects_are_followed_but_not_from_https_to_http(target: Path) -> None:
    with FileServer({"/file.bin": CONTENT}) as server:
        server.redirects = {"/old": "/file.bin", "/loop": "/loop"}
        download(server.url("/old"), target)
        with pytest.raises(ValueError, match=r"/loop did not answer.*TooManyRedirects"):
            download(server.url("/loop"), target.with_name("other"))
    assert target.read_bytes() == CONTENT
    answer = requests.Response()
    answer.status_code, answer.url = 302, "https://example.org/a"
    for place in ("http://example.org/a", "ftp://example.org/a"):
        answer.headers["Location"] = place
        with pytest.raises(ValueError, match=f"redirects to {place}, which is not encrypted"):
            SecureSession().get_redirect_target(answer)
    for place in ("/b", "//example.org/b", "https://example.org/b"):
        answer.headers["Location"] = place
        assert SecureSession().get_redirect_target(answer) == place
