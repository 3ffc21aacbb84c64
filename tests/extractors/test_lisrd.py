"""LISRD's extractor: golden descriptors, a literal reference of the sampling, odd inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from featplug.extractors.lisrd import LISRDExtractor
from featplug.matchers.lisrd import tile_weights
from featplug.networks.lisrd import LISRD
from tests.extractors.contract import ExtractorContract
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.networks.test_d2net import seeded_image
from tests.networks.test_lisrd import DENSE, seeded_state


class TestLISRD(ExtractorContract):
    method = "lisrd"


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> LISRDExtractor:
    """One of seeded weights."""
    path = tmp_path_factory.mktemp("weights") / "seeded.safetensors"
    save_file(seeded_state(LISRD()), path)
    return LISRDExtractor({"weights": str(path)}).eval()


def describe(extractor: LISRDExtractor, image: Tensor, keypoints: np.ndarray) -> dict[str, Tensor]:
    """Describe N×2 (x, y)."""
    with torch.no_grad():
        return extractor.describe(image, {"keypoints": torch.from_numpy(keypoints).float()})


def sample(features: np.ndarray, x: float, y: float) -> np.ndarray:
    """Bilinear sample of C×h×w at a cell, with zeros beyond the border; then of unit length."""
    total = np.zeros(len(features))
    for row, column in np.ndindex(features.shape[1:]):
        weight = max(0.0, 1 - abs(x - column)) * max(0.0, 1 - abs(y - row))
        total += weight * features[:, row, column]
    return total / np.linalg.norm(total)


def test_samples_as_released(extractor: LISRDExtractor) -> None:
    # Neither side is a multiple of 8; the map is 5×7.
    image = seeded_image(45, 61)
    keypoints = np.array([[0, 0], [60, 44], [-0.5, 44.5], [60.5, -0.5], [30, 22], [17.3, 9.8]])
    result = describe(extractor, image, keypoints)
    with torch.no_grad():
        maps, metas = extractor.network(image[None])
    assert maps[0].shape[-2:] == (5, 7)
    torch.testing.assert_close(result["meta_descriptors"], metas[0])
    assert result["descriptors"].shape == (512, len(keypoints))
    for index, (x, y) in enumerate(keypoints):
        descriptor = result["descriptors"][:, index].unflatten(0, (4, 128)).numpy()
        grid_x, grid_y = result["meta_grid"][:, index].tolist()
        for head in range(4):
            features = maps[head][0].double().numpy()
            expected = sample(features, x * 7 / 61 - 0.5, y * 5 / 45 - 0.5)
            np.testing.assert_allclose(descriptor[head], expected, rtol=0, atol=1e-5)
        # The place on any map follows from meta_grid: −1 and 1 are its borders.
        np.testing.assert_allclose((grid_x + 1) / 2 * 7 - 0.5, x * 7 / 61 - 0.5, atol=1e-5)
        np.testing.assert_allclose((grid_y + 1) / 2 * 5 - 0.5, y * 5 / 45 - 0.5, atol=1e-5)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_keypoints(extractor: LISRDExtractor, num: int) -> None:
    keypoints = np.array([[20.0, 30.0], [3.5, 7.0]])[:num]
    result = describe(extractor, seeded_image(40, 48), keypoints)
    assert result["descriptors"].shape == (512, num)
    assert result["meta_descriptors"].shape == (4, 1024, 3, 3)
    assert result["meta_grid"].shape == (2, num)
    lengths = result["descriptors"].unflatten(0, (4, 128)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(4, num))


def test_describes_the_detectors_keypoints(extractor: LISRDExtractor) -> None:
    image = seeded_image(120, 160)
    features = {key: value[0] for key, value in extractor({"image": image[None]}).items()}
    detected = extractor.detector.detect(image)
    assert len(detected["keypoints"]) > 10
    for key, value in detected.items():
        assert torch.equal(features[key], value)
    described = describe(extractor, image, detected["keypoints"].numpy())
    assert torch.equal(features["descriptors"], described["descriptors"])
    none = extractor({"image": torch.full((1, 3, 40, 40), 0.5)})
    assert none["keypoints"][0].shape == (0, 2)
    assert none["descriptors"][0].shape == (512, 0)


def test_too_small_image_is_refused(extractor: LISRDExtractor) -> None:
    with pytest.raises(ValueError, match="24×24"):
        extractor({"image": torch.rand(1, 3, 20, 100)})


# ---------------------------------------------------------------- golden files


def rule_extractor(golden_set: GoldenSet, folder: Path) -> LISRDExtractor:
    """An extractor of the golden files' weights."""
    save_file(golden_set.torch_state("lisrd"), folder / "rule.safetensors")
    return LISRDExtractor({"weights": str(folder / "rule.safetensors")}).eval()


@pytest.mark.parametrize("name", DENSE)
def test_golden_descriptors(
    golden_set: GoldenSet, parity: Parity, tmp_path: Path, name: str
) -> None:
    golden = golden_set.arrays(f"lisrd/{name}")
    image = torch.from_numpy(golden["image"]).permute(2, 0, 1).float() / 255
    extractor = rule_extractor(golden_set, tmp_path)
    result = describe(extractor, image, golden["keypoints_rc"][:, ::-1].copy())
    descriptors = result["descriptors"].unflatten(0, (4, 128)).permute(2, 0, 1)
    parity.compare("lisrd", "descriptors", descriptors.numpy(), golden["descriptors"], 2e-5)
    # The golden file has every fourth keypoint's interpolated meta descriptors.
    weights = tile_weights(result["meta_grid"][:, ::4], 3, 3)
    metas = torch.nn.functional.normalize(result["meta_descriptors"].flatten(2) @ weights, dim=1)
    parity.compare(
        "lisrd",
        "meta descriptors at keypoints",
        metas.permute(2, 0, 1).numpy(),
        golden["meta_descriptors"],
        2e-5,
    )
