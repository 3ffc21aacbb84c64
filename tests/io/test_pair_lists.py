"""Tests of image lists and pair lists."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from featplug.io.pair_lists import read_image_list, read_pairs, unique_pairs, write_pairs


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
    with pytest.raises(ValueError, match=r"pairs.txt, line 2: expected two image names.*got 3"):
        read_pairs(tmp_path / "pairs.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match=r"empty.txt is empty"):
        read_pairs(tmp_path / "empty.txt")
    with pytest.raises(FileNotFoundError, match="no pair list"):
        read_pairs(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="white space"):
        write_pairs(tmp_path / "out.txt", [("my photo.jpg", "b.jpg")])


def test_image_lists_with_comments_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "day_queries.txt").write_text("# day\nq/1.jpg PINHOLE 4 3 1 1 2 1\n\nq/2.jpg\n")
    (tmp_path / "night_queries.txt").write_text("q/3.jpg\n")
    assert read_image_list(tmp_path / "day_queries.txt") == ["q/1.jpg", "q/2.jpg"]
    assert read_image_list(tmp_path / "*_queries.txt") == ["q/1.jpg", "q/2.jpg", "q/3.jpg"]
    path = tmp_path / "poses.txt"
    path.write_text("1.jpg 1 0 0 0 1.5 -2 3e1\n")
    assert read_image_list(path) == ["1.jpg"]
    lines = ("my photo.jpg", "MY PHOTO.JPG", "1.jpg 2.jpg", "IMG 0001", "IMG 1 2 3", "My IMG 1 2")
    for line in lines:
        path.write_text(f"0.jpg\n{line}\n")
        with pytest.raises(ValueError, match=f"^{path}, line 2: .*no white space.*rename"):
            read_image_list(path)
    with pytest.raises(FileNotFoundError, match="no image list"):
        read_image_list(tmp_path / "dusk.txt")
    (tmp_path / "night_queries.txt").write_text("q/3.jpg\n\n../4.jpg\n")
    with pytest.raises(ValueError, match=r"night_queries.txt, line 3: the image name '../4.jpg'"):
        read_image_list(tmp_path / "*_queries.txt")


def test_names_have_their_normal_form_whatever_the_bytes_around_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes("./0.jpg a//é.jpg\r\na/./é.jpg ././1.jpg\r\n".encode(encoding))
        assert read_pairs(path) == [("0.jpg", "a/é.jpg"), ("a/é.jpg", "1.jpg")]
        path.write_bytes("./0.jpg\r\na/.//é.jpg\r\n0.jpg".encode(encoding))
        assert read_image_list(path) == ["0.jpg", "a/é.jpg"]


@pytest.mark.parametrize("name", ["img1.jpg\0", "..", "/a.jpg", "a\\b.jpg", "C:/a.jpg", "a" * 300])
def test_a_name_that_cannot_be_used_is_reported_with_its_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(f"# pairs\na.jpg b.jpg\na.jpg {name}\n")
    for read in (read_pairs, read_image_list):
        if read is read_image_list:
            path.write_text(f"# images\na.jpg\n{name}\n")
        with pytest.raises(ValueError, match=f"^{path}, line 3: "):
            read(path)


def test_pairs_of_an_image_with_itself_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("a.jpg ./a.jpg\na.jpg b.jpg\n")
    with caplog.at_level(logging.WARNING):
        assert read_pairs(path) == [("a.jpg", "b.jpg")]
    assert f"{path}: left out pairs of an image with itself: 1" in caplog.text
    assert len(read_pairs(path, with_itself=True)) == 2
    path.write_text("a.jpg a.jpg\nb.jpg b.jpg\n")
    with pytest.raises(ValueError, match=r"pairs.txt has only pairs of an image with itself; pair"):
        read_pairs(path)
