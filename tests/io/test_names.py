"""Tests of the one check of image names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featplug.io.names import (
    check_names_distinct,
    checked_name,
    path_below,
    similar_name_hints,
)

REJECTED = [
    "", ".", "./", "a/", "a/.", "/a.jpg", "//a.jpg", "..", "../a.jpg", "a/../../b.jpg", "a/..",
    "C:/a.jpg", "c:a.jpg", "a\\b.jpg", "..\\a.jpg", "\\\\host\\a.jpg",
    "img 1.jpg", "a\u00a0b.jpg", "a\u2028b.jpg", "a\tb.jpg", "a\nb.jpg",
    "img1.jpg\0", "\0", "a\x1bb.jpg", "a\x7f.jpg", "a\x85b.jpg", "\ufeffa.jpg",
    "#a.jpg", "./#a.jpg", "a\udce9.jpg", f"{'a' * 256}.jpg", "é" * 200, "a/" * 600 + "b.jpg",
]  # fmt: skip


@pytest.mark.parametrize("name", REJECTED)
def test_names_that_files_cannot_carry_are_rejected_with_the_name(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ValueError, match="The image name"):
        checked_name(name)
    with pytest.raises(ValueError, match="The image name"):
        path_below(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["a.jpg", "a/b-1_(2).jpg", "a..jpg", "…/ü.jpg", "-a.jpg", "a#.png"]
)
def test_good_names_stay_as_they_are(name: str) -> None:
    assert checked_name(name) == name


def test_several_ways_to_write_a_path_have_one_normal_form() -> None:
    for name in ("a/b.jpg", "./a/b.jpg", "a//b.jpg", "a/./b.jpg", "././a///b.jpg"):
        assert checked_name(name) == "a/b.jpg"


@given(st.text(max_size=300))
def test_the_normal_form_is_stable_and_stays_below_the_folder(name: str) -> None:
    try:
        checked = checked_name(name)
    except ValueError:
        return
    assert checked_name(checked) == checked
    assert checked.split() == [checked]
    assert not {"", ".", ".."} & set(checked.split("/"))


def test_unicode_forms_are_two_names_and_a_hint_shows_the_other() -> None:
    composed, decomposed = (unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD"))
    assert [checked_name(name) for name in (composed, decomposed)] == [composed, decomposed]
    hints = similar_name_hints([composed, "IMG.JPG", "c.jpg"], ["a.jpg", decomposed, "img.jpg"])
    assert hints.keys() == {composed, "IMG.JPG"}
    assert ascii(decomposed) in hints[composed]
    assert "'img.jpg'? Letter case counts" in hints["IMG.JPG"]


def test_names_that_differ_by_slash_and_dash_are_rejected_with_both() -> None:
    with pytest.raises(ValueError, match=r"'a/b\.jpg' and 'a-b\.jpg'.*rename"):
        check_names_distinct(["a/b.jpg", "c.jpg", "a-b.jpg"])
    check_names_distinct(["a/b.jpg", "c.jpg", "a/b.jpg"])


def test_paths_of_names_do_not_leave_their_folder_by_a_link(tmp_path: Path) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (folder / "linked").symlink_to(other)
    (folder / "file.jpg.bin").symlink_to(other / "file")
    assert path_below(folder, "./new/a.jpg", ".bin") == folder / "new/a.jpg.bin"
    for name in ("linked/a.jpg", "file.jpg"):
        with pytest.raises(ValueError, match="symbolic link; remove"):
            path_below(folder, name, ".bin")
    with pytest.raises(ValueError, match="too long"):
        path_below(folder, "a" * 250, ".matches")
