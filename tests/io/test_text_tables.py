"""Tests of reading tables of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featplug.io.text_tables import read_integers, read_matrix


def test_a_matrix_has_its_rows_and_columns_and_finite_numbers(tmp_path: Path) -> None:
    path = tmp_path / "H.txt"
    path.write_bytes("# H\r\n1 0 5e1\r\n0 1 -2\r\n0 0 1\r\n".encode("utf-16"))
    np.testing.assert_array_equal(read_matrix(path, 3, 3), [[1, 0, 50], [0, 1, -2], [0, 0, 1]])
    for text, message in [
        ("1 2 3\n4 5\n6 7 8\n", "line 2: expected 3 numbers, got 2"),
        ("1 2 3\n4 5 x\n6 7 8\n", "line 2: expected a number, got 'x'"),
        ("1 2 3\n4 5 6\n6 7 inf\n", "line 3: .*finite .* got inf"),
        ("1 2 3\n4 5 6\n", "3×3 numbers, got 2 rows"),
        ("", "got 0 rows"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=f"^{path}.*{message}"):
            read_matrix(path, 3, 3)


@pytest.mark.parametrize(
    "word", ["1.5", "nan", "x", "1e300", "", "0 0"]
)  # fmt: skip
def test_lines_that_are_no_whole_numbers_are_named(tmp_path: Path, word: str) -> None:
    path = tmp_path / "info.txt"
    path.write_bytes(b"\xef\xbb\xbf1 2\n3 4\n")
    np.testing.assert_array_equal(read_integers(path, "list"), [[1, 2], [3, 4]])
    path.write_text(f"1 2\n\n3 4\n5 {word}\n6 7\n")
    for columns in (None, 2):
        with pytest.raises(ValueError, match=f"^{path}, line 4: .*get the list again"):
            read_integers(path, "list", columns)


def test_a_header_and_names_among_numbers(tmp_path: Path) -> None:
    path, known = tmp_path / "list.csv", {"a": 0, "b": 1}
    path.write_text("s,idx\nb,3\na,4\n")
    options = {"header": "s,idx", "delimiter": ",", "converters": {0: known.__getitem__}}
    assert read_integers(path, "list", 2, **options).tolist() == [[1, 3], [0, 4]]
    path.write_text("t,idx\nb,3\n")
    with pytest.raises(ValueError, match=f"^{path}: expected the first line 's,idx'"):
        read_integers(path, "list", 2, **options)
    path.write_text("s,idx\n")
    with pytest.raises(ValueError, match=f"list {path} is empty"):
        read_integers(path, "list", 2, **options)
