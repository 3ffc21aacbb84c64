"""Listing and reading photographs: every odd file a folder of photographs can hold."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from featplug.io import images
from featplug.io.artifact import file_fingerprint
from featplug.io.image_folder import list_images
from featplug.io.images import (
    DEFAULT_PREPROCESSING,
    LoadedImage,
    UnreadableImage,
    load_image,
    prefetch_images,
    preprocess,
    read_and_preprocess,
    read_image,
    read_image_size,
    target_size,
)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth RGB image, 48 rows by 64 columns, whose channels differ."""
    y, x = np.mgrid[:48, :64]
    channels = [4 * x, 5 * y, 255 - 2 * (x + y)]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def test_lists_nested_images_sorted_and_passes_over_the_rest(tmp_path: Path) -> None:
    for name in (
        "b/2.JPG",
        "a.png",
        "b/1.jpeg",
        "c.jfif",
        "d.jpe",
        "e.dib",
        ".hidden/x.jpg",
        "notes.txt",
        "b/.y.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ["a.png", "b/1.jpeg", "b/2.JPG", "c.jfif", "d.jpe", "e.dib"]


def test_a_link_to_the_parent_folder_does_not_make_listing_endless(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    (tmp_path / "photos" / "again").symlink_to(tmp_path)
    assert "photos/1.jpg" in list_images(tmp_path)


def test_unicode_names_are_fine_and_spaces_are_refused_with_a_new_name(tmp_path: Path) -> None:
    (tmp_path / "Zürich_橋.jpg").touch()
    assert list_images(tmp_path) == ["Zürich_橋.jpg"]
    (tmp_path / "my photo.jpg").touch()
    with pytest.raises(ValueError, match=r"'my photo.jpg' has white space.*'my_photo.jpg'"):
        list_images(tmp_path)


def test_empty_and_missing_folders_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images in"):
        list_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="no image folder"):
        list_images(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "ppm"])
def test_colour_and_luma_are_those_of_opencv(
    tmp_path: Path, picture: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    assert cv2.imwrite(str(path), picture[..., ::-1])
    colour, grey = read_image(path), read_image(path, grayscale=True)
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert np.abs(colour.astype(int) - expected).max() <= (1 if suffix == "webp" else 0)
    expected_grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(int)
    assert np.abs(grey.astype(int) - expected_grey).max() <= 1


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("suffix", ["jpg", "png", "ppm"])
def test_a_truncated_file_is_refused_and_named(
    tmp_path: Path, picture: np.ndarray, suffix: str, keep: float
) -> None:
    buffer = io.BytesIO()
    large = Image.fromarray(picture).resize((640, 480), Image.Resampling.BICUBIC)
    large.save(buffer, {"jpg": "JPEG", "png": "PNG", "ppm": "PPM"}[suffix])
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(buffer.getvalue()[: int(keep * len(buffer.getvalue()))])
    with pytest.raises(ValueError, match=rf"cut.{suffix}.*is damaged or incomplete"):
        read_image(path)


def test_text_and_empty_files_with_an_image_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("<html>")
    (tmp_path / "empty.png").touch()
    for name in ("text.jpg", "empty.png"):
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    assert cv2.imwrite(str(path), values)
    assert read_image(path, grayscale=True).tolist() == [[0, 1, 128, 255]]
    assert read_image(path)[0, :, 1].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_colour_is_scaled(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "deep.png"
    assert cv2.imwrite(str(path), picture[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(path), picture)


def test_floating_point_pixels_are_refused_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "depth.tif"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with pytest.raises(ValueError, match=r"depth.tif.*convert it to 8 bits"):
        read_image(path)


def test_alpha_is_dropped_and_cmyk_converted(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.dstack([picture, np.full(picture.shape[:2], 7, np.uint8)])
    Image.fromarray(alpha, "RGBA").save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), picture)
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "print.tif")
    difference = read_image(tmp_path / "print.tif").astype(int) - picture
    assert np.abs(difference).max() <= 2
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert read_image(tmp_path / "print.jpg", grayscale=True).shape == picture.shape[:2]


def test_grey_becomes_three_equal_channels(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    colour = read_image(tmp_path / "grey.png")
    np.testing.assert_array_equal(colour, np.repeat(picture[..., :1], 3, axis=-1))


def test_exif_orientation_is_ignored(tmp_path: Path, picture: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.fromarray(picture).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert read_image(tmp_path / "turned.jpg").shape == picture.shape


def test_one_pixel_can_be_read_and_reduced(tmp_path: Path) -> None:
    Image.fromarray(np.full((1, 1, 3), 255, np.uint8)).save(tmp_path / "dot.png")
    loaded = load_image(tmp_path, "dot.png", {"resize_max": 1600})
    assert loaded.image.tolist() == [[[1.0]], [[1.0]], [[1.0]]]
    assert loaded.original_size == (1, 1)


def test_preprocessing_has_hlocs_form(picture: np.ndarray) -> None:
    planes = preprocess(picture, {"resize_max": 32})
    assert planes.shape == (3, 24, 32)
    assert planes.dtype == np.float32
    # Area averaging of 2x2 pixels, scaled to [0, 1].
    expected = picture.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(planes, expected, atol=1e-6)
    with pytest.raises(ValueError, match="no option 'resize_maximum'"):
        preprocess(picture, {"resize_maximum": 32})


def test_target_sizes() -> None:
    def size(width: int, height: int, **conf: object) -> tuple[int, int]:
        return target_size((width, height), {**DEFAULT_PREPROCESSING, **conf})

    assert size(3072, 2048, resize_max=1600) == (1600, 1067)
    assert size(640, 480, resize_max=1600) == (640, 480)
    assert size(640, 480, resize_max=1600, resize_force=True) == (1600, 1200)
    assert size(2000, 2000, resize_max=1600, resize_max_sum=2800) == (1400, 1400)
    assert size(3000, 2000, resize_max=1024, dfactor=8) == (1024, 680)
    assert size(1000, 5, dfactor=8) == (1000, 8)
    assert size(1600, 1, resize_max=16) == (16, 1)


def test_prefetching_keeps_the_order_and_goes_on_after_a_bad_file(
    tmp_path: Path, picture: np.ndarray
) -> None:
    names = [f"{i:02}.png" for i in range(12)]
    for i, name in enumerate(names):
        Image.fromarray(picture // (i + 1)).save(tmp_path / name)
    (tmp_path / "05.png").write_bytes(b"no image")
    loaded = list(prefetch_images(tmp_path, [*names, "gone.png"], {}, num_workers=3))
    assert [image.name for image in loaded] == [*names, "gone.png"]
    bad = [image for image in loaded if isinstance(image, UnreadableImage)]
    assert [image.name for image in bad] == ["05.png", "gone.png"]
    assert "no image" in bad[1].reason
    assert isinstance(loaded[11], LoadedImage)
    assert loaded[11].fingerprint == file_fingerprint(tmp_path / "11.png")
    np.testing.assert_allclose(
        loaded[11].image * 255, (picture // 12).transpose(2, 0, 1), atol=1e-4
    )


def test_photographs_of_other_formats_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("1.jpg", "2.CR2", "3.dng"):
        (tmp_path / name).touch()
    for _ in range(2):
        assert list_images(tmp_path) == ["1.jpg"]
    assert [r.message for r in caplog.records if "2.CR2" in r.message and "convert" in r.message]
    assert len(caplog.records) == 1
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(ValueError, match=r"no images.*2.CR2; convert them to JPEG"):
        list_images(tmp_path)


def textured(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3)).astype(np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("grayscale", [False, True])
@pytest.mark.parametrize("size", [(1607, 1203), (1201, 1615), (1600, 1200)])
def test_a_jpeg_above_the_limit_is_reduced_while_it_is_decoded(
    tmp_path: Path, size: tuple[int, int], grayscale: bool
) -> None:
    textured(*size).save(tmp_path / "x.jpg", quality=95)
    conf = {"resize_max": 190, "grayscale": grayscale}
    whole = load_image(tmp_path, "x.jpg", conf)
    reduced = load_image(tmp_path, "x.jpg", conf, max_megapixels=0.5)
    assert reduced.original_size == whole.original_size == size
    assert reduced.image.shape == whole.image.shape
    difference = 255 * np.abs(reduced.image - whole.image)
    # A shift of the grid by 7 of 1607 pixels would make 20 at the far edges.
    assert difference.max() < 4
    assert difference[..., -4:].mean() < 1
    assert difference[:, -4:].mean() < 1


def test_images_above_the_limit_name_the_option_and_the_rest_goes_on(tmp_path: Path) -> None:
    picture = textured(640, 480)
    picture.save(tmp_path / "fine.jpg")
    large = picture.resize((1600, 1200))
    large.save(tmp_path / "not_reduced.png")
    large.save(tmp_path / "progressive.jpg", progressive=True)
    large.resize((800, 600)).save(tmp_path / "costly.webp")
    names = ["not_reduced.png", "progressive.jpg", "costly.webp", "fine.jpg"]
    loaded = list(prefetch_images(tmp_path, names, {"resize_max": 200}, max_megapixels=0.5))
    assert [type(image) for image in loaded] == 3 * [UnreadableImage] + [LoadedImage]
    for name, image in zip(names, loaded[:3], strict=False):
        assert name in image.reason
        assert "--max-megapixels" in image.reason
    with pytest.raises(ValueError, match=r"not_reduced.png.*--max-megapixels"):
        read_image(tmp_path / "not_reduced.png", max_megapixels=0.5)


def test_a_jpeg_whose_channels_come_one_by_one_counts_as_progressive(tmp_path: Path) -> None:
    # A decoder keeps all of its coefficients, 6 bytes for each of the pixels that are announced.
    textured(64, 64).save(tmp_path / "x.jpg", subsampling=0)
    content = bytearray((tmp_path / "x.jpg").read_bytes())
    start = content.index(b"\xff\xda\x00\x0c\x03")
    content[start + 2 : start + 12] = b"\x00\x08\x01\x01\x00\x00\x3f\x00"
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"  # 65500 x 65500
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.jpg.*--max-megapixels"):
        load_image(tmp_path, "x.jpg", {"resize_max": 1600})


@pytest.mark.parametrize(
    "error",
    [
        struct.error("short"),
        ZeroDivisionError(),
        KeyError(3),
        MemoryError(),
        RecursionError("deep"),
        AssertionError(),
        zlib.error("Error -3"),
        Image.DecompressionBombError("large"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_only_that_image_is_skipped(
    tmp_path: Path, picture: np.ndarray, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(picture).save(tmp_path / "bad.png")
    Image.fromarray(picture).save(tmp_path / "good.bmp")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(PngImageFile, "load", fail)
    bad, good = prefetch_images(tmp_path, ["bad.png", "good.bmp"], {})
    assert isinstance(bad, UnreadableImage)
    assert "bad.png" in bad.reason
    assert isinstance(good, LoadedImage)
    monkeypatch.setattr(PngImageFile, "_open", fail)
    with pytest.raises(ValueError, match=r"bad.png"):
        read_image_size(tmp_path / "bad.png")


def test_a_large_file_that_changes_while_it_is_read_is_not_recorded(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(picture).save(path)
    monkeypatch.setattr(images, "_LARGE_FILE_BYTES", 100)
    assert load_image(tmp_path, "x.png", {}).fingerprint == file_fingerprint(path)

    def read_and_change(*args: Any) -> object:
        result = read_and_preprocess(*args)
        path.write_bytes(path.read_bytes() + b"0")
        return result

    monkeypatch.setattr(images, "read_and_preprocess", read_and_change)
    with pytest.raises(ValueError, match=r"x.png.*run again"):
        load_image(tmp_path, "x.png", {})
