"""Which earlier runs an output folder may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.output_folder import SceneImages, output_folder


def start(folder: Path, images: Path, contents: dict[str, str]) -> None:
    """Fill a folder with images, and start a run of them."""
    images.mkdir(exist_ok=True)
    for path in images.iterdir():
        path.unlink()
    for name, text in contents.items():
        (images / name).write_text(text)
    with output_folder(folder, "sfm", SceneImages(images, images, list(contents))):
        pass


FIRST = {"0.jpg": "a", "1.jpg": "b", "2.jpg": "c", "3.jpg": "d"}


@pytest.mark.parametrize(
    "contents",
    [
        FIRST,
        FIRST | {"4.jpg": "e"},
        FIRST | {"3.jpg": "changed"},
        {"2.jpg": "c", "3.jpg": "d"},
        FIRST | {f"{number}.jpg": str(number) for number in range(10, 20)},
    ],
    ids=["the same", "more", "changed", "fewer", "many more"],
)
@pytest.mark.parametrize("place", ["images", "moved"])
def test_a_run_of_most_of_the_same_images_is_accepted(
    tmp_path: Path, contents: dict[str, str], place: str
) -> None:
    start(tmp_path / "out", tmp_path / "images", FIRST)
    start(tmp_path / "out", tmp_path / place, contents)


@pytest.mark.parametrize(
    ("place", "contents"),
    [
        ("images", {"5.jpg": "v", "6.jpg": "w"}),
        ("images", {"0.jpg": "v", "1.jpg": "w"}),
        ("others", {"0.jpg": "a", "5.jpg": "v", "6.jpg": "w"}),
        ("others", {"0.jpg": "a", "1.jpg": "v", "2.jpg": "w", "3.jpg": "x"}),
        ("others", {"5.jpg": "a"}),
    ],
    ids=["refilled", "all changed", "one shared", "same names", "another name"],
)
def test_a_run_of_other_images_is_rejected(
    tmp_path: Path, place: str, contents: dict[str, str]
) -> None:
    start(tmp_path / "out", tmp_path / "images", FIRST)
    record = (tmp_path / "out" / "run.json").read_bytes()
    with pytest.raises(ValueError, match=f"{tmp_path / 'images'}\\b.*--outputs"):
        start(tmp_path / "out", tmp_path / place, contents)
    assert (tmp_path / "out" / "run.json").read_bytes() == record


def test_what_is_no_file_has_no_hash(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "a.jpg").write_text("a")
    names = ["pipe.jpg", "folder.jpg", "gone.jpg", "a.jpg"]
    assert SceneImages(tmp_path, tmp_path, names).hashes().keys() == {"a.jpg"}
