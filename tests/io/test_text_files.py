"""Tests of reading text files that people and other tools wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from featplug.io import text_files
from featplug.io.text_files import (
    iterate_lines,
    number,
    numbers,
    read_lines,
    read_text,
    whole_number,
)

TEXT = "# names\né0.jpg b.jpg\n\n  c.jpg  \n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("chunk_bytes", [3, 4, 2**20])
def test_byte_order_marks_and_ends_of_lines_change_nothing(
    tmp_path: Path, encoding: str, newline: str, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "_CHUNK_BYTES", chunk_bytes)
    path = tmp_path / "list.txt"
    path.write_bytes(TEXT.replace("\n", newline).encode(encoding))
    assert read_text(path) == TEXT
    assert read_lines(path) == [(2, "é0.jpg b.jpg"), (4, "c.jpg")]
    assert list(iterate_lines(path)) == list(enumerate(TEXT.split("\n"), start=1))


def test_a_byte_order_mark_of_an_appended_file_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(2 * "a.jpg\n".encode("utf-8-sig"))
    assert read_lines(path) == [(1, "a.jpg"), (2, "a.jpg")]


@pytest.mark.parametrize(
    ("content", "line", "word"),
    [
        ("a\nb\n".encode("utf-16-le"), 1, "UTF-16"),
        ("a\nb\n".encode("utf-16-be"), 1, "UTF-16"),
        ("a\nb\n".encode("utf-32"), 1, "UTF-16"),
        ("a\nbé\n".encode("latin-1"), 2, "UTF-8"),
        (b"a\nb\nc\xc3", 3, "UTF-8"),
        (b"a\nb\0c\n", 2, "binary"),
        (b"a\n\x1b[0m\n", 2, "control"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 1, "UTF-8"),
        (b"PK\x03\x04" + bytes(200), 1, "control"),
    ],
)
def test_other_encodings_and_binary_files_are_rejected_with_file_line_and_remedy(
    tmp_path: Path, content: bytes, line: int, word: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="UTF-8") as caught:
        read_lines(path, "pair list")
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    for part in (word, "save it as plain text"):
        assert part in str(caught.value)


def test_folders_pipes_and_missing_files_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match=f"{path} is a .*, not a pair list"):
            read_text(path, "pair list")
    with pytest.raises(FileNotFoundError, match=r"There is no pair list .*missing"):
        read_text(tmp_path / "missing", "pair list")


def test_large_files_and_endless_lines_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list.txt"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=f"{path} has 1048576 MiB"):
        read_text(path)
    with pytest.raises(ValueError, match=f"{path}, line 1"):
        next(iterate_lines(path))
    path.write_text("a\n" + "b" * 100)
    monkeypatch.setattr(text_files, "MAX_LINE_LENGTH", 10)
    with pytest.raises(ValueError, match="line 2: the line has no end"):
        list(iterate_lines(path))


@pytest.mark.parametrize("word", ["x", "", "1_0", "\u0661", "nan", "inf", "1e999", "-1", "11"])
def test_words_that_are_no_such_number_are_named_with_their_place(word: str) -> None:
    with pytest.raises(ValueError, match=r"^list\.txt, line 3: expected a focal length.*got"):
        number(word, "list.txt, line 3", "a focal length", minimum=0, maximum=10)


@pytest.mark.parametrize("word", ["1.5", "1e3", "-1", "9" * 40, "nan", ""])
def test_words_that_are_no_whole_number_are_named_with_their_place(word: str) -> None:
    with pytest.raises(ValueError, match=r"^list\.txt, line 3: expected a width"):
        whole_number(word, "list.txt, line 3", "a width", minimum=0)


def test_numbers() -> None:
    assert numbers(["1", "-2.5e1"], "x", count=2) == [1.0, -25.0]
    assert whole_number("-12", "x") == -12
    with pytest.raises(ValueError, match=r"list\.txt, line 3: expected 3 numbers, got 2"):
        numbers(["1", "2"], "list.txt, line 3", count=3)
    assert number("inf", "x", finite=False) == float("inf")
