"""Colours of 3D points, against COLMAP's."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.colmap.colours import colour_points
from tests.scenes.pictures import textured_image
from tests.scenes.synthetic import SyntheticScene


def colours(model: pycolmap.Reconstruction) -> np.ndarray:
    return np.array([point.color for _, point in sorted(model.points3D.items())])


@pytest.fixture
def pictures(synthetic_scene: SyntheticScene, tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (camera,) = synthetic_scene.truth.cameras.values()
    for i, name in enumerate(synthetic_scene.names):
        picture = textured_image(i, camera.width, camera.height)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).convert("RGB").save(folder / name)
    return folder


def test_colours_are_those_of_colmap(synthetic_scene: SyntheticScene, pictures: Path) -> None:
    ours, theirs = (pycolmap.Reconstruction(synthetic_scene.truth) for _ in range(2))
    colour_points(ours, pictures)
    theirs.extract_colors_for_all_images(str(pictures))
    assert len(np.unique(colours(theirs), axis=0)) > 50
    np.testing.assert_array_equal(colours(ours), colours(theirs))


@pytest.mark.parametrize("form", ["WEBP", "AVIF"])
def test_formats_that_colmap_cannot_read_have_colours(
    synthetic_scene: SyntheticScene, pictures: Path, form: str
) -> None:
    as_png, as_other = (pycolmap.Reconstruction(synthetic_scene.truth) for _ in range(2))
    colour_points(as_png, pictures)
    for name in synthetic_scene.names:
        Image.open(pictures / name).save(pictures / name, form, quality=100)
    colour_points(as_other, pictures)
    assert np.abs(colours(as_png).astype(int) - colours(as_other)).mean() < 5


def test_images_that_are_gone_are_named_and_passed_over(
    synthetic_scene: SyntheticScene, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, expected = (pycolmap.Reconstruction(synthetic_scene.truth) for _ in range(2))
    first = synthetic_scene.names[0]
    (pictures / first).unlink()
    expected.extract_colors_for_all_images(str(pictures))
    with caplog.at_level(logging.WARNING):
        colour_points(model, pictures)
    assert f"1 images in {pictures} could not be read" in caplog.text
    assert first in caplog.text
    np.testing.assert_array_equal(colours(model), colours(expected))
    shutil.rmtree(pictures)
    colour_points(model, pictures)
    np.testing.assert_array_equal(colours(model), colours(expected))


def test_photographs_above_the_limit_are_reduced(
    synthetic_scene: SyntheticScene, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in synthetic_scene.names:
        Image.open(pictures / name).save(pictures / name, "JPEG", quality=98)
    whole, reduced, limited = (pycolmap.Reconstruction(synthetic_scene.truth) for _ in range(3))
    colour_points(whole, pictures)
    (camera,) = synthetic_scene.truth.cameras.values()
    monkeypatch.setattr("featplug.colmap.colours._MAX_SIDE", camera.width // 2)
    colour_points(reduced, pictures, max_megapixels=0.5e-6 * camera.width * camera.height)
    assert np.abs(colours(whole).astype(int) - colours(reduced)).mean() < 10
    assert colours(reduced).any(axis=1).mean() > 0.9
    limit = 1e-9  # of images that no reduction brings below it
    colour_points(limited, pictures, limit)
    np.testing.assert_array_equal(colours(limited), colours(synthetic_scene.truth))
