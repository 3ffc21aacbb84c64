"""LoFTR with seeded weights: the authors' are not part of the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from featplug.api.image_matcher import ImageMatcher
from featplug.matchers.loftr import LoFTRMatcher
from featplug.methods import pair_matcher_conf
from featplug.networks.loftr import LoFTR
from tests.scenes.pictures import textured_image

SHIFT = (24, 16)


class Normalized(nn.Module):
    """Features of zero mean and unit length, times a factor."""

    def __init__(self, axis: int, factor: float) -> None:
        super().__init__()
        self.axis, self.factor = axis, factor

    def forward(self, *features: Tensor) -> Tensor | tuple[Tensor, ...]:
        others = (2, 3) if features[0].ndim == 4 else (0, 1)  # B×C×H×W, or M×W²×C
        found = []
        for value in features[:2]:
            centred = value - value.mean(others, keepdim=True)
            found.append(self.factor * nn.functional.normalize(centred, dim=self.axis))
        return found[0] if len(found) == 1 else tuple(found)


class Unchanged(nn.Module):
    def forward(self, features0: Tensor, features1: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        return features0, features1


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "drawn.safetensors"
    save_file(LoFTR().state_dict(), path)
    return path


@pytest.fixture
def similar(weights: Path) -> LoFTRMatcher:
    """Without transformers: what looks alike matches, whatever the weights."""
    matcher = LoFTRMatcher({"weights": str(weights)}).eval()
    matcher.network.pos_encoding = Normalized(1, 100.0)
    matcher.network.loftr_coarse = Unchanged()
    matcher.network.loftr_fine = Normalized(2, 30.0)
    return matcher


def translated() -> tuple[Tensor, Tensor]:
    """Return an image, and what is ``SHIFT`` pixels to the right and below in it."""
    picture = torch.tensor(textured_image(3, 232, 200))[None].float() / 255
    x, y = SHIFT
    return picture[:, : 200 - y, : 232 - x], picture[:, y:, x:]


def test_points_of_a_translated_image_are_translated(similar: LoFTRMatcher) -> None:
    found = similar.match_pair(*translated())
    assert len(found["scores"]) > 200
    moved = found["keypoints0"] - found["keypoints1"] - torch.tensor(SHIFT)
    np.testing.assert_allclose(moved.median(0).values, 0, atol=0.1)
    assert (moved.abs().max(1).values < 0.5).float().mean() > 0.95


def test_the_origin_is_the_centre_of_the_first_pixel(similar: LoFTRMatcher) -> None:
    """kornia: cell (x, y) is at 8·(x, y), and the corner of the first pixel at the origin."""
    image0, image1 = translated()
    raw = similar.network({"image0": image0[None], "image1": image1[None]})
    found = similar.match_pair(image0, image1)
    assert (raw["keypoints0"] % 8 == 0).all()
    np.testing.assert_allclose(found["keypoints0"], raw["keypoints0"] - 0.5)
    np.testing.assert_allclose(found["keypoints1"], raw["keypoints1"] - 0.5, atol=1e-3)


def test_features_of_an_image_are_computed_once_for_pairs_in_a_row(
    similar: LoFTRMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    image0, image1 = translated()
    extract, calls = similar.network.extract_features, []

    def counted(image: Tensor) -> dict[str, Tensor]:
        calls.append(image)
        return extract(image)

    monkeypatch.setattr(similar.network, "extract_features", counted)
    expected = similar.match_pair(image0, image1)
    other = image1.flip(2)
    similar.match_pair(image0, other)
    assert len(calls) == 3
    found = similar.match_pair(image0.clone(), image1.clone())
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


def test_images_of_any_size_and_colour_have_matches_in_original_pixels(
    weights: Path, tmp_path: Path
) -> None:
    picture = textured_image(5, 203, 150)
    Image.fromarray(np.repeat(picture[..., None], 3, 2)).save(tmp_path / "a.png")
    Image.fromarray(picture[:101]).save(tmp_path / "b.png")
    conf = pair_matcher_conf("loftr")
    conf["preprocessing"]["resize_max"] = 160
    matcher = ImageMatcher(conf, weights=str(weights), match_threshold=0.0)
    found = matcher.match(tmp_path / "a.png", tmp_path / "b.png")
    assert len(found)
    assert found.points0.max(0).tolist() < [203, 150]
    # 203×150 becomes 160×112: the grid's step of 8 is 10.15 and 10.71 pixels.
    steps = (found.points0 + 0.5) * [160 / 203, 112 / 150] + 0.0
    np.testing.assert_allclose((steps / 8).round() * 8, steps, atol=1e-3)
    (record,) = matcher.matcher.weights_records
    assert record.path == weights


def test_black_images_have_no_matches(weights: Path) -> None:
    found = LoFTRMatcher({"weights": str(weights)}).eval().match_pair(*[torch.zeros(1, 64, 80)] * 2)
    assert found["keypoints0"].shape == (0, 2)


def test_the_authors_file_is_used_where_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path))
    torch.manual_seed(1)
    state = {f"matcher.{key}": value for key, value in LoFTR().state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "loftr_outdoor.ckpt")
    matcher = LoFTRMatcher()
    (record,) = matcher.weights_records
    assert (record.name, record.origin) == ("loftr-outdoor", "official")
    key = "fine_preprocess.down_proj.bias"
    torch.testing.assert_close(matcher.network.state_dict()[key], state[f"matcher.{key}"])


@pytest.mark.parametrize("name", ["loftr", "loftr-indoor"])
def test_missing_weights_are_named_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match=r"loftr.*`featplug weights fetch loftr-"):
        ImageMatcher(name)
