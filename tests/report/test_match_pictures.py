"""Pictures of verified matches: of which pairs, and which way up."""

from __future__ import annotations

import base64
import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featplug.report.match_pictures import match_picture, quartile_pairs
from featplug.stages.verify import VerifyOptions, verify_pairs
from tests.scenes.synthetic import SyntheticScene


def test_an_easy_and_a_hard_pair_are_selected() -> None:
    inliers = {("a", str(number)): 10 * number for number in range(1, 6)}
    assert quartile_pairs(inliers) == [("a", "4"), ("a", "2")]
    assert quartile_pairs({("a", "b"): 20}) == [("a", "b")]
    assert quartile_pairs({}) == []


@pytest.fixture(scope="module")
def database(synthetic_scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, scene = tmp_path_factory.mktemp("pairs") / "database.db", synthetic_scene
    pairs = list(combinations(scene.names[:3], 2))
    verify_pairs(
        path, scene.images, scene.names, scene.features, scene.matches, pairs, VerifyOptions()
    )
    return path


@pytest.mark.parametrize("is_upright", [True, False])
def test_turned_photographs_are_drawn_upright_with_their_keypoints(
    synthetic_scene: SyntheticScene, database: Path, tmp_path: Path, is_upright: bool
) -> None:
    """Two photographs side by side are wider than high, but not if they are lying on their side."""
    pair = (synthetic_scene.names[0], synthetic_scene.names[1])
    for name in pair:
        image = Image.open(synthetic_scene.images / name)
        exif = Image.Exif()
        exif[0x0112] = 6
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / name, exif=exif)
    picture = match_picture(database, tmp_path, pair, is_upright)
    assert f"{pair[0]} and {pair[1]}: " in picture.title
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.data))).convert("RGB"))
    assert pixels.shape[:2] == (picture.height, picture.width)
    width, height = image.size
    expected = 2 * height / width if is_upright else 2 * width / height
    assert picture.width / picture.height == pytest.approx(expected, rel=0.1)
    green = pixels.astype(int) @ [-1, 2, -1] > 150
    assert green.mean() > 0.01, "no lines of matches"


def test_an_image_that_has_gone_is_named(
    synthetic_scene: SyntheticScene, database: Path, tmp_path: Path
) -> None:
    name0, name1, *_ = synthetic_scene.names
    with pytest.raises(FileNotFoundError, match=name0):
        match_picture(database, tmp_path, (name0, name1))
