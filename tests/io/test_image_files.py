"""Image files at the door: formats, headers, damaged EXIF data, things that are no files."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from featplug.colmap.exif_cameras import exif_focal_length
from featplug.io.exif import EXIF_IFD, MAKE
from featplug.io.image_files import IMAGE_FORMATS, ImageFormat, read_image_header
from featplug.io.image_folder import list_images
from featplug.io.images import read_image


@pytest.fixture
def picture() -> Image.Image:
    """A smooth RGB image, 64×48."""
    y, x = np.mgrid[:48, :64]
    return Image.fromarray(np.stack([4 * x, 5 * y, x + y], axis=-1).astype(np.uint8))


def photograph(path: Path, picture: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[MAKE] = "Maker"
    exif[EXIF_IFD] = {0xA405: 28}
    picture.save(path, exif=exif.tobytes())
    return path.read_bytes()


@pytest.mark.parametrize("kind", IMAGE_FORMATS, ids=lambda kind: kind.name)
def test_the_header_has_size_format_and_focal_length(
    tmp_path: Path, picture: Image.Image, kind: ImageFormat
) -> None:
    if kind.name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    if kind.name == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / f"x{kind.suffixes[0]}"
    photograph(path, picture)
    header = read_image_header(path)
    assert (header.size, header.format) == ((64, 48), kind.name)
    if kind.name not in ("BMP", "PPM"):
        assert header.camera.make == "Maker"
        assert header.camera.focal_length_35mm == 28


def test_the_contents_decide_over_the_format_and_others_are_not_opened(
    tmp_path: Path, picture: Image.Image
) -> None:
    picture.save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "photo.jpg")
    assert read_image_header(tmp_path / "photo.jpg").format == "PNG"
    for suffix in ("eps", "gif", "dds", "pcx", "tga", "ico"):
        picture.save(tmp_path / f"x.{suffix}")
        (tmp_path / f"x.{suffix}").rename(tmp_path / "photo.jpg")
        with pytest.raises(ValueError, match=r"photo.jpg.*convert it to JPEG"):
            read_image_header(tmp_path / "photo.jpg")


def test_damaged_exif_data_are_no_reason_to_reject_an_image(
    tmp_path: Path, picture: Image.Image
) -> None:
    content = photograph(tmp_path / "whole.jpg", picture)
    start = content.index(b"Exif\0\0") + 6
    end = content.index(b"\xff\xdb")
    rng = np.random.default_rng(0)
    for trial in range(200):
        damaged = bytearray(content)
        for place in rng.integers(start, end, 1 + trial % 8):
            damaged[place] = rng.integers(256)
        (tmp_path / "damaged.jpg").write_bytes(damaged)
        header = read_image_header(tmp_path / "damaged.jpg")
        assert header.size == (64, 48)
        assert (exif_focal_length(header) or 1) > 0


def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
        for name in ("pipe.jpg", "folder.jpg", "device.jpg", "socket.jpg"):
            with pytest.raises(ValueError, match=rf"{name}.*remove it"):
                read_image_header(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"link.jpg.*remove it"):
        read_image_header(tmp_path / "link.jpg")
    with pytest.raises(FileNotFoundError, match=r"gone.jpg"):
        read_image_header(tmp_path / "gone.jpg")


def test_heic_without_its_decoder_says_what_to_install(
    tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    picture.save(tmp_path / "x.heic")
    assert list_images(tmp_path) == ["x.heic"]
    assert np.abs(read_image(tmp_path / "x.heic").astype(int) - np.asarray(picture)).mean() < 8
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"x.heic.*pip install 'featplug\[heif\]'"):
        read_image_header(tmp_path / "x.heic")


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe0\0\x04", b"P6 #", b"P6 "])
def test_a_header_without_an_end_is_not_searched_for_ever(tmp_path: Path, start: bytes) -> None:
    # A download that was cut short: the length of the file was set before.
    filler = {b"P6 ": b" "}.get(start, b"\0")
    path = tmp_path / "x.jpg"
    path.write_bytes(start + filler * 600_000)
    with pytest.raises(ValueError, match=r"x.jpg.*copy it again"):
        read_image_header(path)
    with path.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"x.jpg.*reduce the photograph"):
        read_image_header(path)
