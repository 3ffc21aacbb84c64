"""Pair lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from featplug.pairs import exhaustive, read_pairs, sequential, unique_pairs, write_pairs


def test_exhaustive_has_each_pair_once() -> None:
    assert exhaustive(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_sequential_links_neighbours_and_powers_of_two() -> None:
    names = [f"{i}" for i in range(20)]
    pairs = sequential(names, overlap=4)
    assert [b for a, b in pairs if a == "3"] == ["4", "5", "6", "7", "11"]
    assert [b for a, b in pairs if a == "18"] == ["19"]
    assert [b for a, b in sequential(names, 2, quadratic=False) if a == "0"] == ["1", "2"]
    with pytest.raises(ValueError, match="overlap of sequential pairs must be at least 1"):
        sequential(names, 0)


def test_unique_pairs_ignores_order_and_self() -> None:
    assert unique_pairs([("a", "b"), ("b", "a"), ("c", "c"), ("b", "c")]) == [
        ("a", "b"),
        ("b", "c"),
    ]


def test_round_trip_and_hlocs_list(tmp_path: Path) -> None:
    pairs = [("db/a.jpg", "q/Zürich.jpg"), ("b.jpg", "c.jpg")]
    write_pairs(tmp_path / "pairs.txt", pairs)
    assert read_pairs(tmp_path / "pairs.txt") == pairs
    assert (tmp_path / "pairs.txt").read_text("utf-8").splitlines()[1] == "b.jpg c.jpg"
    (tmp_path / "hloc.txt").write_text("a.jpg b.jpg\n\nc.jpg d.jpg")  # no newline at the end
    assert read_pairs(tmp_path / "hloc.txt") == [("a.jpg", "b.jpg"), ("c.jpg", "d.jpg")]


def test_bad_lists_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("a.jpg b.jpg\nmy photo.jpg b.jpg\n")
    with pytest.raises(ValueError, match=r"Line 2 of .*pairs.txt must be two image names"):
        read_pairs(tmp_path / "pairs.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match=r"empty.txt is empty"):
        read_pairs(tmp_path / "empty.txt")
    with pytest.raises(FileNotFoundError, match="no pair list"):
        read_pairs(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="white space"):
        write_pairs(tmp_path / "out.txt", [("my photo.jpg", "b.jpg")])
