"""DOAP's extractor: golden descriptors at whole images' patches, binary ones, odd inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from featplug.base import Extractor
from featplug.extractors.doap import DOAPExtractor, binary_descriptors
from featplug.io.store import FeatureReader
from featplug.matchers.nearest_neighbor import NearestNeighbor
from featplug.stages.extract import extract_features
from tests.extractors.contract import ExtractorContract
from tests.networks.test_l2net import noise_patches, seeded_doap


class TestDOAP(ExtractorContract):
    method = "doap"

    def network(self, checkpoint: str) -> nn.Module:
        return seeded_doap(256 if "binary" in checkpoint else 128, transformer="st" in checkpoint)


class Prescribed(Extractor):
    """Detects what it is told."""

    default_conf = {"keypoints": [], "scales": None, "oris": None}  # noqa: RUF012

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        keypoints = torch.tensor(self.conf["keypoints"], dtype=torch.float32).reshape(-1, 2)
        found = {"keypoints": keypoints, "scores": torch.ones(len(keypoints))}
        for key in ("scales", "oris"):
            if self.conf[key] is not None:
                found[key] = torch.tensor(self.conf[key], dtype=torch.float32)
        return found


def prescribed(keypoints: Any, scales: Any = None, oris: Any = None) -> dict[str, Any]:
    name = f"{__name__}:Prescribed"
    return {"name": name, "keypoints": keypoints, "scales": scales, "oris": oris}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of drawn weights by checkpoint."""
    folder = tmp_path_factory.mktemp("weights")
    files = {}
    for name in ("doap", "doap-st", "doap-binary", "doap-st-binary"):
        files[name] = str(folder / f"{name}.safetensors")
        built = seeded_doap(256 if "binary" in name else 128, transformer="st" in name)
        save_file(built.state_dict(), files[name])
    return files


def extractor(weights: dict[str, str], checkpoint: str = "doap", **conf: Any) -> DOAPExtractor:
    conf = {"checkpoint": checkpoint, "weights": weights[checkpoint], **conf}
    return DOAPExtractor(conf).eval()


def extract(doap: DOAPExtractor, image: Tensor) -> dict[str, np.ndarray]:
    return {key: value[0].numpy() for key, value in doap({"image": image[None]}).items()}


def noise_image(size: int, seed: int = 0) -> Tensor:
    """Grey, of whole values out of 255, as :func:`to_grey` leaves them alone."""
    return torch.from_numpy(noise_patches(1, size, seed).round() / 255).float()


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(0)


@pytest.mark.parametrize("checkpoint", ["doap", "doap-st"])
def test_keypoint_whose_patch_is_the_image_itself(weights: dict[str, str], checkpoint: str) -> None:
    # A window as wide as the patch, centred between pixels: its samples are the pixels.
    size = 42 if checkpoint == "doap-st" else 32
    image = noise_image(60)
    centre = 9 + (size - 1) / 2
    detector = prescribed([[centre + 3, centre]], [size / 24], [0.0])
    doap = extractor(weights, checkpoint, detector=detector)
    patch = image[:, 9 : 9 + size, 12 : 12 + size] * 255
    with torch.no_grad():
        expected = F.normalize(doap.network(patch)).numpy().T
    np.testing.assert_allclose(extract(doap, image)["descriptors"], expected, rtol=0, atol=2e-5)


def test_descriptor_turns_and_grows_with_the_frame(weights: dict[str, str]) -> None:
    image = noise_image(240)[0].numpy()
    image = cv2.GaussianBlur(image, (0, 0), 3)
    centre, angle, zoom = (119.5, 119.5), 30.0, 1.5
    # OpenCV's angle is counter-clockwise to the eye, ours runs from x towards y.
    matrix = cv2.getRotationMatrix2D(centre, -angle, zoom)
    turned = cv2.warpAffine(image, matrix, image.shape[::-1], flags=cv2.INTER_LINEAR)
    first = extractor(weights, detector=prescribed([centre], [2.0], [10.0]))
    second = extractor(weights, detector=prescribed([centre], [2.0 * zoom], [10.0 + angle]))
    wrong = extractor(weights, detector=prescribed([centre], [2.0], [10.0]))
    original = extract(first, torch.from_numpy(image)[None])["descriptors"]
    image = torch.from_numpy(turned)[None]
    assert cosines(original, extract(second, image)["descriptors"]) > 0.98
    assert cosines(original, extract(wrong, image)["descriptors"]) < 0.5


def test_large_window_is_read_from_a_smoother_level(weights: dict[str, str]) -> None:
    # Noise of single pixels must not reach a patch whose pixels are 16 times as wide.
    generator = np.random.default_rng(0)
    smooth = cv2.resize(generator.random((16, 16)).astype(np.float32), (512, 512))
    noisy = np.clip(smooth + generator.normal(0, 0.1, smooth.shape), 0, 1).astype(np.float32)
    doap = extractor(weights, detector=prescribed([[255.5, 255.5]], [256 / 12], [0.0]))
    found = [extract(doap, torch.from_numpy(i)[None])["descriptors"] for i in (smooth, noisy)]
    assert cosines(*found) > 0.99


def test_detector_without_frames_gets_upright_patches_of_one_size(weights: dict[str, str]) -> None:
    image = noise_image(80)
    points = [[30.0, 40.0], [45.5, 33.25]]
    plain = extractor(weights, detector=prescribed(points), default_scale=1.5)
    framed = extractor(weights, detector=prescribed(points, [1.5, 1.5], [0.0, 0.0]))
    found = extract(plain, image)["descriptors"]
    np.testing.assert_array_equal(found, extract(framed, image)["descriptors"])
    wide = extractor(weights, detector=prescribed(points), default_scale=0.75, relative_radius=24.0)
    np.testing.assert_array_equal(found, extract(wide, image)["descriptors"])


@pytest.mark.parametrize("checkpoint", ["doap", "doap-st", "doap-binary", "doap-st-binary"])
@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_keypoints(weights: dict[str, str], checkpoint: str, num: int) -> None:
    detector = prescribed([[5.0, 7.0], [0.0, 0.0]][:num])
    result = extract(extractor(weights, checkpoint, detector=detector), noise_image(20))
    binary = "binary" in checkpoint
    assert result["descriptors"].shape == (256 if binary else 128, num)
    assert ("descriptors_packed" in result) == binary
    if binary:
        assert result["descriptors_packed"].shape == (32, num)
        assert result["descriptors_packed"].dtype == np.uint8
    np.testing.assert_allclose(np.linalg.norm(result["descriptors"], axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("checkpoint", ["doap", "doap-st-binary"])
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (16, 16)])
def test_images_without_contrast_and_tiny_ones(
    weights: dict[str, str], checkpoint: str, size: tuple[int, int]
) -> None:
    detector = prescribed([[0.0, 0.0]] * 3, [0.3, 5.0, 400.0], [0.0, 90.0, -33.0])
    doap = extractor(weights, checkpoint, detector=detector)
    result = extract(doap, torch.full((3, *size), 0.4))  # the extractor's check refuses NaN
    assert result["descriptors"].shape[1] == 3
    # Zeros in, whatever the layers make of them out.
    np.testing.assert_array_equal(result["descriptors"][:, 0], result["descriptors"][:, 1])


def test_sift_by_default_batches_and_limit(weights: dict[str, str]) -> None:
    image = noise_image(80).expand(3, -1, -1)
    whole = extract(extractor(weights), image)
    assert len(whole["scores"]) > 40
    small = extract(extractor(weights, batch_size=7), image)
    np.testing.assert_allclose(small["descriptors"], whole["descriptors"], rtol=0, atol=1e-5)
    limited = extract(extractor(weights, max_keypoints=10), image)
    assert limited["descriptors"].shape == (128, 10)
    assert limited["scores"].min() >= np.sort(whole["scores"])[-10]
    assert "batch_size" not in extractor(weights).settings
    assert extractor(weights).settings["relative_radius"] == 12.0


# ---------------------------------------------------------------- binary descriptors


def test_products_of_binary_descriptors_count_their_bits() -> None:
    outputs = torch.randn(2, 256, generator=torch.Generator().manual_seed(0))
    outputs[0, 3] = 0.0  # not positive: no bit
    result = binary_descriptors(outputs)
    bits = outputs.numpy() > 0
    np.testing.assert_array_equal(np.unpackbits(result["descriptors_packed"], axis=0).T, bits)
    different = int((bits[0] != bits[1]).sum())
    left, right = result["descriptors"].unbind(1)
    assert float(left @ right) == 1 - 2 * different / 256
    assert set(left.tolist()) == {1 / 16, -1 / 16}
    assert torch.equal(left.half().float(), left)


def test_binary_descriptors_match_alike_by_bits_and_by_products(
    weights: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    image = noise_patches(1, 120)[0]
    noise = np.random.default_rng(2).normal(0, 12, image.shape)
    for name, values in (("a.png", image), ("b.png", image + noise)):
        cv2.imwrite(str(tmp_path / "images" / name), values.clip(0, 255).astype(np.uint8))
    conf = {"output": "feats-featplug-test", "model": {"name": "doap", "checkpoint": "doap-binary"}}
    summary = extract_features(conf, tmp_path / "images", tmp_path, weights=weights["doap-binary"])
    with FeatureReader(summary.feature_path) as reader:
        stored = [reader.read(name) for name in ("a.png", "b.png")]
    assert stored[0]["descriptors"].dtype == np.float16
    assert stored[0]["descriptors_packed"].dtype == np.uint8
    features = [
        {key: torch.from_numpy(one[key]) for key in ("descriptors", "descriptors_packed")}
        for one in stored
    ]
    plain = [{"descriptors": one["descriptors"]} for one in features]
    by_bits = NearestNeighbor({"metric": "hamming"}).match(*features)["matches0"]
    by_signs = NearestNeighbor({"metric": "hamming"}).match(*plain)["matches0"]
    by_products = NearestNeighbor({"metric": "dot"}).match(*plain)["matches0"]
    assert (by_bits >= 0).sum() > 20
    assert torch.equal(by_bits, by_signs)
    assert torch.equal(by_bits, by_products)


# ---------------------------------------------------------------- bad input


def test_weights_of_the_other_kind_are_refused(weights: dict[str, str]) -> None:
    with pytest.raises(
        ValueError,
        match=r"doap\.safetensors.*doap-binary: num_outputs.*128.*256",
    ):
        DOAPExtractor({"checkpoint": "doap-binary", "weights": weights["doap"]})
    with pytest.raises(ValueError, match=r"doap-st: num_outputs.*256.*128"):
        DOAPExtractor({"checkpoint": "doap-st", "weights": weights["doap-st-binary"]})


@pytest.mark.parametrize("option", ["relative_radius", "default_scale", "batch_size"])
def test_options_must_be_positive(weights: dict[str, str], option: str) -> None:
    with pytest.raises(ValueError, match=rf"{option}.*positive"):
        extractor(weights, **{option: 0})
