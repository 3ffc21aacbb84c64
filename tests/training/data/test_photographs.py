"""The split of photographs, their cache, and where views are cut."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from featplug.io.images import read_image
from featplug.training.data.photographs import (
    Photographs,
    _decoding_problem,
    keep_decoded,
    list_photographs,
    split_photographs,
)
from featplug.training.data.placed_views import place_view
from tests.scenes.pictures import write_photographs


def test_split_does_not_depend_on_the_others() -> None:
    names = [f"{i:04}.jpg" for i in range(2000)]
    training, held_out = split_photographs(names)
    assert sorted(training + held_out) == names
    assert 60 < len(held_out) < 140
    some = [f"folder/{name}" for name in names[500:]]
    kept = {name.removeprefix("folder/") for name in split_photographs(some)[1]}
    assert kept == set(held_out) & set(names[500:])


def test_split_of_few_has_two_parts() -> None:
    for held_out in (0.0, 0.05, 1.0):
        training, kept = split_photographs(["a.jpg", "b.jpg", "c.jpg"], held_out)
        assert training
        assert kept
    with pytest.raises(ValueError, match="at least two"):
        split_photographs(["a.jpg"])


def test_photographs_that_cannot_be_decoded_are_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = write_photographs(tmp_path, [(64, 48), (64, 48), (64, 48)])
    content = (tmp_path / names[1]).read_bytes()
    (tmp_path / names[1]).write_bytes(content[: len(content) // 2])
    os.mkfifo(tmp_path / "pipe.jpg")
    assert list_photographs(tmp_path) == [names[0], names[2]]
    assert "2 photographs are left out" in caplog.text
    assert names[1] in caplog.text
    for name in (names[0], names[2]):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"None of the 4 images.*copy it again"):
        list_photographs(tmp_path)


def test_photographs_are_decoded_again_only_after_they_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, outputs = tmp_path / "images", tmp_path / "run"
    names = write_photographs(images, [(64, 48), (64, 48), (64, 48)])
    outputs.mkdir()
    decoded: list[str] = []

    def decode(path: Path) -> np.ndarray:
        decoded.append(path.name)
        return read_image(path)

    monkeypatch.setattr("featplug.training.data.photographs.read_image", decode)

    def list_decoded() -> list[str]:
        decoded.clear()
        _decoding_problem.cache_clear()  # as in another process
        usable = list_photographs(images, outputs)
        keep_decoded(images, usable, outputs)
        assert usable == names[num_damaged:]
        return sorted(decoded)

    num_damaged = 0
    assert list_decoded() == names
    assert list_decoded() == []
    (images / names[0]).write_bytes((images / names[0]).read_bytes()[:200])
    num_damaged = 1
    assert list_decoded() == [names[0]]
    (outputs / "decoded_photographs.json").write_text("{[")
    assert list_decoded() == names


def test_reading_reduces_and_caches_within_its_bound(tmp_path: Path) -> None:
    names = write_photographs(tmp_path, [(200, 100), (64, 48), (60, 48)])
    photographs = Photographs(tmp_path, names, max_side=64, cache_bytes=64 * 48 * 3)
    image, size = photographs.read(0)
    assert (image.shape, size) == ((32, 64, 3), (200, 100))
    for index in (1, 2):
        photographs.read(index)
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).unlink()
    np.testing.assert_array_equal(photographs.read(0)[0], image)
    with pytest.raises(FileNotFoundError, match="photo1"):
        photographs.read(1)  # came when the cache was full
    copy = pickle.loads(pickle.dumps(photographs))
    with pytest.raises(FileNotFoundError, match="photo0"):
        copy.read(0)


@pytest.mark.parametrize("photo_size", [(90, 60), (300, 260), (500, 90)])
def test_points_of_the_photograph_lie_on_their_pixels_in_the_view(
    photo_size: tuple[int, int],
) -> None:
    """A bright spot of the photograph is found where its point maps to."""
    rng = np.random.default_rng(0)
    width, height = photo_size
    for trial in range(8):
        place = rng.uniform(20, np.array(photo_size) - 20)
        y, x = np.mgrid[:height, :width]
        spot = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / 40)
        photo = np.repeat(spot.round().astype(np.uint8)[..., None], 3, axis=2)
        reduced = trial % 2 == 1
        image = photo
        if reduced:
            image = cv2.resize(
                photo, (width * 4 // 5, height * 4 // 5), interpolation=cv2.INTER_AREA
            )
        view = place_view(image, photo_size, (80, 100), (1.0, 1.5), rng)
        canvas = view.canvas[: view.extent[1], : view.extent[0], 0].astype(float)
        expected = view.from_photograph(place[None])[0] + view.offset
        if (expected < 15).any() or (expected > view.extent - 15).any():
            continue
        rows, columns = np.mgrid[: view.extent[1], : view.extent[0]]
        found = np.array([(columns * canvas).sum(), (rows * canvas).sum()]) / canvas.sum()
        np.testing.assert_allclose(found, expected, atol=0.1)


def test_a_view_lies_within_its_photograph() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        width, height = rng.integers(30, 400, 2)
        image = np.zeros((height, width, 3), dtype=np.uint8)
        view = place_view(image, (int(width), int(height)), (80, 100), (1.0, 2.0), rng)
        assert view.canvas.shape == (120, 150, 3)
        assert (view.offset >= 0).all()
        assert (view.offset + np.array([100, 80]) <= view.extent).all()
        assert (view.scale <= max(1.05, 105 / width, 85 / height)).all()  # enlarged only to fit
