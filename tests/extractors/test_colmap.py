"""Tests of COLMAP's own features."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pycolmap
import pytest
import torch

from featplug.colmap import own_features
from featplug.extractors import colmap
from featplug.extractors.colmap import ColmapExtractor
from featplug.extractors.sift import SIFT
from featplug.methods import feature_conf, features, matcher_conf
from tests.extractors.contract import ExtractorContract, image
from tests.scenes.pictures import textured_image

with_types = pytest.mark.skipif(
    not hasattr(pycolmap, "FeatureExtractorType"), reason="pycolmap 3.13 has SIFT alone"
)


class TestColmap(ExtractorContract):
    method = "colmap"

    @classmethod
    def names(cls) -> list[str]:
        return ["colmap/sift"]

    def test_the_conf_is_complete(self, name: str) -> None:
        conf = feature_conf(name)
        assert conf["paper"]
        assert conf["dimensions"] == "128"
        assert matcher_conf(conf["matcher"])
        assert conf["output"] == "feats-featplug-colmap~sift"
        assert conf["preprocessing"] == {"grayscale": False, "resize_max": 3200}


def blob(x: float, y: float, radius: float = 6) -> torch.Tensor:
    """A picture with a round blob, 1×80×120."""
    rows, columns = np.mgrid[:80, :120]
    distance = np.hypot(columns - x, rows - y)
    return torch.from_numpy(0.3 + 0.5 * np.exp(-(distance**2) / radius**2)).float()[None]


@pytest.mark.parametrize("place", [(60.0, 40.0), (45.25, 33.5)])
def test_an_integer_is_the_centre_of_a_pixel(place: tuple[float, float]) -> None:
    keypoints = ColmapExtractor().extract(blob(*place))["keypoints"].numpy()
    assert np.abs(keypoints - place).max(1).min() < 0.1


def test_a_mirrored_image_has_mirrored_keypoints() -> None:
    picture = torch.from_numpy(textured_image(3, width=160, height=120) / np.float32(255))[None]
    given = ColmapExtractor().extract(picture)["keypoints"]
    mirrored = ColmapExtractor().extract(picture.flip(2))["keypoints"]
    mirrored[:, 0] = 159 - mirrored[:, 0]
    nearest = torch.cdist(given, mirrored).argmin(1)
    offsets = (given - mirrored[nearest])[(given - mirrored[nearest]).norm(dim=1) < 1]
    assert len(offsets) > 0.7 * len(given)
    assert offsets.median(0).values.abs().max() < 0.02


def test_scales_and_orientations_are_those_of_sift() -> None:
    picture = torch.from_numpy(textured_image(3, width=320, height=240) / np.float32(255))[None]
    ours = SIFT({"max_detections": 0}).extract(picture)
    theirs = ColmapExtractor().extract(picture)
    distance, nearest = torch.cdist(theirs["keypoints"], ours["keypoints"]).min(1)
    ratio = theirs["scales"] / ours["scales"][nearest]
    same = (distance < 0.3) & ((ratio - 1).abs() < 0.1)
    assert int(same.sum()) > 50
    assert (ratio[same].median() - 1).abs() < 0.03
    turn = (theirs["oris"] - ours["oris"][nearest] + 180) % 360 - 180
    assert (turn[same].abs() < 10).float().mean() > 0.6
    similarity = (theirs["descriptors"] * ours["descriptors"][:, nearest]).sum(0)
    assert similarity[same & (turn.abs() < 10)].median() > 0.75


def test_features_are_those_that_pycolmap_extracts() -> None:
    picture = textured_image(3, width=160, height=120)
    result = ColmapExtractor({"max_keypoints": -1}).extract(torch.from_numpy(picture / 255)[None])
    if hasattr(pycolmap, "FeatureExtractor"):
        frames, descriptors = pycolmap.FeatureExtractor.create(
            pycolmap.FeatureExtractionOptions(), pycolmap.Device.cpu
        ).extract_from_uint8_array(picture)
        frames, descriptors = pycolmap.keypoints_to_matrix(frames), descriptors.data
    else:
        sift = pycolmap.Sift(pycolmap.FeatureExtractionOptions(), pycolmap.Device.cpu)
        frames, descriptors = sift.extract(picture)
        descriptors = np.round(descriptors * 512).astype(np.uint8)
    np.testing.assert_allclose(result["keypoints"] + 0.5, frames[:, :2], atol=1e-4)
    np.testing.assert_allclose(result["scales"], frames[:, 2], rtol=1e-6)
    np.testing.assert_array_equal(result["descriptors"].T * 512, descriptors)


def test_affine_shapes_become_scales_and_orientations() -> None:
    picture = image(320, 240)
    disks, ellipses = (
        ColmapExtractor({"options": {"estimate_affine_shape": affine}}).extract(picture)
        for affine in (False, True)
    )
    assert disks["keypoints"].shape != ellipses["keypoints"].shape
    assert ellipses.keys() == disks.keys()
    assert (ellipses["scales"] > 0).all()


def test_a_budget_keeps_the_largest() -> None:
    picture = image(320, 240)
    everything = ColmapExtractor({"max_keypoints": -1}).extract(picture)["scales"]
    few = ColmapExtractor({"max_keypoints": 20}).extract(picture)["scales"]
    assert len(everything) > 100
    torch.testing.assert_close(few.sort()[0], everything.sort()[0][-20:])


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"type": "SURF"}, r"'SURF'.*SIFT"),
        ({"options": {"peak": 1}}, r"colmap/sift.*'peak'.*peak_threshold"),
        ({"options": {"peak_threshold": "low"}}, r"colmap/sift.*peak_threshold.*'low'"),
    ],
)
def test_what_pycolmap_does_not_have_is_rejected(conf: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ColmapExtractor(conf)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"'surf'.*sift"):
        feature_conf("colmap/surf")


@with_types
def test_names_are_those_of_pycolmap(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"sift", "aliked-n16rot", "aliked-n32"} <= set(features.families["colmap"].names())
    new = SimpleNamespace(__members__={"UNDEFINED": -1, "SIFT": 0, "NEW_X1": 9})
    monkeypatch.setattr(pycolmap, "FeatureExtractorType", new)
    assert features.families["colmap"].names() == ["sift", "new-x1"]


def _without_onnx() -> str:
    if hasattr(pycolmap.FeatureExtractionOptions(), "aliked"):
        pytest.skip("this pycolmap has ONNX")
    return "colmap/aliked-n16rot"


@with_types
def test_without_onnx_the_remedy_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"colmap/aliked-n16rot.*-DONNX_ENABLED=ON.*use aliked-n16rot"
    ) as caught:
        ColmapExtractor(feature_conf(_without_onnx())["model"])
    assert "\n" not in str(caught.value)


class _Aliked:
    """What pycolmap's extractor of ALIKED returns, as COLMAP's source has it."""

    def __init__(self, num: int = 5) -> None:
        self.num = num
        self.pixels: np.ndarray | None = None

    def extract_from_uint8_array(self, pixels: np.ndarray) -> tuple[Any, Any]:
        self.pixels = pixels
        rng = np.random.default_rng(0)
        frames = np.zeros((self.num, 4), np.float32)
        frames[:, :2] = 0.5 + np.arange(self.num)[:, None]
        frames[:, 2] = 1
        floats = rng.standard_normal((self.num, 128)).astype(np.float32)
        kind = pycolmap.FeatureExtractorType.ALIKED_N32
        typed = pycolmap.FeatureDescriptors(kind, floats.view(np.uint8))
        return pycolmap.keypoints_from_matrix(frames), typed


@with_types
@pytest.mark.parametrize("num", [0, 5])
def test_aliked_where_pycolmap_has_onnx(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Aliked(num)
    options = SimpleNamespace(
        aliked=SimpleNamespace(max_num_features=2048, todict=lambda: {"max_num_features": 2048}),
        requires_rgb=lambda: True,
    )
    monkeypatch.setattr(colmap, "_options", lambda kind: options)
    creator = SimpleNamespace(create=lambda options, device: fake)
    monkeypatch.setattr(own_features.pycolmap, "FeatureExtractor", creator)
    extractor = ColmapExtractor({"type": "ALIKED_N32"})
    result = {key: value[0] for key, value in extractor({"image": image()[None]}).items()}
    assert fake.pixels is not None
    assert fake.pixels.shape == (80, 96, 3)
    assert extractor.conf["max_keypoints"] == options.aliked.max_num_features == 2048
    assert result.keys() == {"keypoints", "scores", "descriptors"}
    expected = torch.arange(num).float()[:, None].expand(-1, 2)
    assert torch.equal(result["keypoints"], expected)
    drawn = np.random.default_rng(0).standard_normal((num, 128)).astype(np.float32)
    np.testing.assert_array_equal(result["descriptors"].T, drawn)


def test_nothing_of_colmap_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    ColmapExtractor().extract(image())
    assert capfd.readouterr().err == ""
