"""Folders of photographs: what is passed over, names that cannot be used, and how to mend them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from featplug.io.image_folder import list_images, rename_images
from featplug.io.names import checked_name


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "names",
    [
        ["masks/a.jpg.png", "masks/sub/b.png"],
        [
            "sub/Mask/b.png",
            "Thumbnails/a.jpg",
            "thumbs/a.jpg",
            "@eaDir/a.jpg/THUMB_M.jpg",
        ],
        ["a.jpg.png", "sub/b.JPG.png"],
        ["a_mask.png", "sub/b-thumb.jpg", "sub/b.JPG.mask.png"],
    ],
)
def test_masks_and_thumbnails_are_passed_over_with_a_line(
    tmp_path: Path, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    photographs = ["a.jpg", "sub/b.JPG", "sub/c_masked.jpg", "d.png", "e_mask.png"]
    touch(tmp_path, *photographs, *names, ".thumbnails/a.jpg")
    with caplog.at_level(logging.WARNING):
        assert list_images(tmp_path) == sorted(photographs)
    (line,) = [record.getMessage() for record in caplog.records]
    assert str(tmp_path) in line
    assert f"{len(names)} images" in line
    assert "--image-list" in line


def test_a_folder_given_for_masks_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.jpg", "people/a.jpg.png", "people/sub/b.png")
    with caplog.at_level(logging.WARNING):
        assert list_images(tmp_path, tmp_path / "people") == ["a.jpg"]
    assert "2 images" in caplog.text
    assert list_images(tmp_path) == ["a.jpg", "people/a.jpg.png", "people/sub/b.png"]
    assert list_images(tmp_path, tmp_path) == list_images(tmp_path)  # masks next to the images
    assert list_images(tmp_path / "people") == ["a.jpg.png", "sub/b.png"]


def test_all_names_that_cannot_be_used_are_listed_with_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    touch(folder, "good.jpg", *(f"IMG {i:02}.jpg" for i in range(12)))
    with pytest.raises(ValueError, match="featplug rename") as error:
        list_images(folder)
    message = str(error.value)
    assert "12 of 13" in message
    assert "'IMG 00.jpg', 'IMG 01.jpg'" in message
    assert "'IMG 09.jpg', and 2 more" in message
    assert f"--images '{folder}'" in message
    assert "\n" not in message


def test_renamed_files_have_names_that_can_be_used(tmp_path: Path) -> None:
    names = [
        "IMG 1.jpg",
        "IMG 1.jpg.png",
        "my trip/day 1/a  b\tc.png",
        "my trip/masks/IMG 1.jpg.png",
        "#1.jpg",
        "back\\slash.jpg",
        "C:x.jpg",
        " .jpg",
        "good/fine.jpg",
        "line\nbreak.jpg",
    ]
    touch(tmp_path, *names, "my trip/day 1/note book.txt", "empty folder/x.txt")
    touch(tmp_path, os.fsdecode(b"latin\xe9.jpg"))
    shown = rename_images(tmp_path, dry_run=True)
    assert (tmp_path / "IMG 1.jpg").exists()
    assert rename_images(tmp_path) == shown
    found = list_images(tmp_path)
    assert found == [checked_name(name) for name in found]
    for name in ("IMG_1.jpg", "my_trip/day_1/a_b_c.png", "_1.jpg", "good/fine.jpg", "_.jpg"):
        assert name in found
    assert (tmp_path / "IMG_1.jpg.png").exists()
    assert (tmp_path / "my_trip/masks/IMG_1.jpg.png").exists()
    assert (tmp_path / "my_trip/day_1/note book.txt").exists()  # no image
    assert (tmp_path / "empty folder/x.txt").exists()
    assert rename_images(tmp_path) == []


@pytest.mark.parametrize("names", [("a b.jpg", "a_b.jpg"), ("a b.jpg", "a  b.jpg")])
def test_a_collision_renames_nothing(tmp_path: Path, names: tuple[str, str]) -> None:
    touch(tmp_path, *names, "sub/c d.jpg")
    with pytest.raises(ValueError, match=r"a +b.jpg would become a_b.jpg.*rename one"):
        rename_images(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*.jpg")) == sorted([*names, "c d.jpg"])


def test_only_unread_formats_and_masks_are_an_error_that_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "x.gif", "masks/y.png")
    with pytest.raises(ValueError, match=r"no images.*x.gif.*masks/y.png"):
        list_images(tmp_path)
