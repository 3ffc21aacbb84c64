"""Masks of photographs: COLMAP's names, forms, sizes, and which pixel a keypoint belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featplug.io.masks import Masks, is_visible
from featplug.io.orientation import Turn

SIZE = (8, 6)


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def half() -> np.ndarray:
    mask = np.zeros((6, 8), np.uint8)
    mask[:, 4:] = 255
    return mask


@pytest.mark.parametrize("file", ["a/x.jpg.png", "a/x.png"])
def test_masks_have_the_names_of_their_images(tmp_path: Path, file: str) -> None:
    write_mask(tmp_path / file, half())
    masks = Masks(tmp_path, ["a/x.jpg", "b/x.jpg"])
    assert masks.path("a/x.jpg") == tmp_path / file
    assert masks.path("b/x.jpg") is None
    read = masks.read("a/x.jpg", Turn(SIZE))
    np.testing.assert_array_equal(read, half() > 0)
    assert masks.read("b/x.jpg", Turn(SIZE)) is None


def test_an_image_of_a_short_name_is_no_mask(tmp_path: Path) -> None:
    write_mask(tmp_path / "x.jpg.png", half())
    write_mask(tmp_path / "y.png", half())
    masks = Masks(tmp_path, ["x.jpg", "y.jpg", "y.png"])  # masks and images in one folder
    assert masks.path("x.jpg") == tmp_path / "x.jpg.png"
    assert masks.path("y.jpg") is None


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "RGBA", "labels"])
def test_all_that_is_not_black_is_kept(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(half() // 255 if mode == "labels" else half())
    (image if mode == "labels" else image.convert(mode)).save(tmp_path / "x.jpg.png")
    read = Masks(tmp_path, ["x.jpg"]).read("x.jpg", Turn(SIZE))
    np.testing.assert_array_equal(read, half() > 0)


def test_a_folder_without_any_of_the_masks_says_which_name_is_expected(tmp_path: Path) -> None:
    write_mask(tmp_path / "other.png", half())
    with pytest.raises(ValueError, match=r"a/x.jpg.png"):
        Masks(tmp_path, ["a/x.jpg", "a/y.jpg"])
    with pytest.raises(FileNotFoundError, match="none"):
        Masks(tmp_path / "none", ["a/x.jpg"])


def test_a_mask_of_another_size_is_an_error_with_both(tmp_path: Path) -> None:
    write_mask(tmp_path / "x.jpg.png", half())
    masks = Masks(tmp_path, ["x.jpg"])
    with pytest.raises(ValueError, match=r"x.jpg.png.*8×6.*16×12"):
        masks.read("x.jpg", Turn((16, 12)))
    with pytest.raises(ValueError, match=r"x.jpg.png.*8×6.*6×8.*as stored"):
        masks.read("x.jpg", Turn((6, 8), 6))
    (tmp_path / "x.jpg.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"x.jpg.png"):
        masks.read("x.jpg", Turn(SIZE))


def test_a_point_belongs_to_the_pixel_that_it_lies_in() -> None:
    mask = half() > 0
    points = np.array([[3.49, 2], [3.5, 2], [4, 5.49], [7.49, -0.4], [-0.5, 0], [7.6, 5.7]])
    assert is_visible(mask, points).tolist() == [False, True, True, True, False, True]
    assert is_visible(mask, np.zeros((0, 2))).shape == (0,)


def test_labels_of_16_bits_and_transparent_pixels(tmp_path: Path) -> None:
    """The first label is not black, and what is cut out by transparency is."""
    labels = np.zeros((4, 6), np.uint16)
    labels[:, 3:] = 1
    Image.fromarray(labels).save(tmp_path / "a.jpg.png")
    cut = np.full((4, 6, 4), 255, np.uint8)
    cut[:, :3, 3] = 0
    Image.fromarray(cut).save(tmp_path / "b.jpg.png")
    masks = Masks(tmp_path, ["a.jpg", "b.jpg"])
    for name in ("a.jpg", "b.jpg"):
        mask = masks.read(name, Turn((6, 4)))
        assert mask is not None
        np.testing.assert_array_equal(mask, labels > 0)


def test_images_without_a_mask_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("L", (6, 4), 255).save(tmp_path / "a.jpg.png")
    Masks(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    assert "2 of 3 images have no mask" in caplog.text
    assert "b.jpg" in caplog.text
