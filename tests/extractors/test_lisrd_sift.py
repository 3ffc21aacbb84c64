"""LISRD-SIFT's extractor: descriptors against OpenCV's, tiles, odd inputs, matching."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from featplug.extractors.lisrd_sift import LISRDSIFTExtractor
from featplug.io.images import to_grey
from featplug.matchers.lisrd import LISRDMatcher, tile_weights
from featplug.methods import build_extractor, feature_conf
from featplug.networks.lisrd import LISRDSIFT
from tests.extractors.contract import ExtractorContract
from tests.networks.test_d2net import seeded_image
from tests.networks.test_lisrd import seeded_state


class TestLISRDSIFT(ExtractorContract):
    method = "lisrd_sift"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of seeded weights."""
    path = tmp_path_factory.mktemp("weights") / "seeded.safetensors"
    save_file(seeded_state(LISRDSIFT()), path)
    return str(path)


def frames(positions: list[list[float]]) -> dict[str, Tensor]:
    keypoints = torch.tensor(positions).reshape(-1, 2)
    num = len(keypoints)
    return {
        "keypoints": keypoints,
        "scores": torch.ones(num),
        "scales": torch.full((num,), 2.0),
        "oris": torch.full((num,), 30.0),
    }


def describe(
    extractor: LISRDSIFTExtractor, image: Tensor, keypoints: dict[str, Tensor]
) -> dict[str, Tensor]:
    with torch.no_grad():
        return extractor.describe(image, keypoints)


@pytest.mark.parametrize("official_reshape", [False, True])
def test_equals_opencv_and_the_network(weights: str, official_reshape: bool) -> None:
    extractor = LISRDSIFTExtractor({"weights": weights, "official_reshape": official_reshape})
    image = seeded_image(150, 200)
    result = {key: value[0] for key, value in extractor({"image": image[None]}).items()}
    grey = to_grey(image)
    sift = cv2.SIFT.create(contrastThreshold=0.01, edgeThreshold=13, enable_precise_upscale=True)
    points = sift.detect(grey, None)
    at = {}
    for index, point in enumerate(points):
        at[point.pt, point.size, point.angle] = index
    order = [
        at[(x, y), 2 * scale, angle]
        for (x, y), scale, angle in zip(
            result["keypoints"].tolist(),
            result["scales"].tolist(),
            result["oris"].tolist(),
            strict=True,
        )
    ]
    assert len(order) > 30
    points = [points[index] for index in order]
    turned = sift.compute(grey, points)[1]
    for point in points:
        point.angle = 0.0
    upright = sift.compute(grey, points)[1]
    descriptors = np.concatenate([turned, upright], axis=1).T
    np.testing.assert_array_equal(result["descriptors"].numpy(), descriptors)

    tiles = [
        sum(3 * y >= 150 * k for k in (1, 2)) * 3 + sum(3 * x >= 200 * k for k in (1, 2))
        for x, y in result["keypoints"].double().tolist()
    ]
    with torch.no_grad():
        metas = extractor.network(
            torch.from_numpy(np.stack([turned, upright]))[None], torch.tensor(tiles)[None]
        )[0]
    torch.testing.assert_close(result["meta_descriptors"], metas)
    # The matcher's interpolation gives exactly the tile that a keypoint lies in.
    expected = torch.nn.functional.one_hot(torch.tensor(tiles), 9).t().float()
    at_keypoints = tile_weights(result["meta_grid"], 3, 3)
    torch.testing.assert_close(at_keypoints, expected, rtol=0, atol=1e-6)


def test_the_conf_has_the_descriptors_of_sift(weights: str) -> None:
    image = seeded_image(150, 200)[None]
    conf = feature_conf("lisrd-sift")["model"]
    result = build_extractor({**conf, "weights": weights})({"image": image})
    sift = build_extractor(feature_conf("sift")["model"])({"image": image})
    assert torch.equal(result["descriptors"][0][:128], sift["descriptors"][0])
    lengths = result["descriptors"][0].unflatten(0, (2, 128)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_tiles_end_at_the_borders(weights: str) -> None:
    extractor = LISRDSIFTExtractor({"weights": weights})
    positions = [[-0.5, -0.5], [29.9, 0.0], [30.0, 20.0], [60.0, 19.9], [89.5, 59.5]]
    result = describe(extractor, seeded_image(60, 90), frames(positions))
    tiles = tile_weights(result["meta_grid"], 3, 3).argmax(0)
    assert tiles.tolist() == [0, 0, 4, 2, 8]
    empty = result["meta_descriptors"].flatten(2)[:, :, [1, 3, 5, 6, 7]]
    assert torch.equal(empty, torch.ones_like(empty))


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_keypoints(weights: str, num: int) -> None:
    extractor = LISRDSIFTExtractor({"weights": weights})
    keypoints = frames([[20.0, 30.0], [33.5, 17.0]][:num])
    result = describe(extractor, seeded_image(40, 48), keypoints)
    assert result["descriptors"].shape == (256, num)
    assert result["descriptors"].dtype == torch.float32
    assert result["meta_descriptors"].shape == (2, 1024, 3, 3)
    assert result["meta_grid"].shape == (2, num)
    matched = LISRDMatcher({"distance": "l2"}).match(result, result)
    assert matched["matches0"].tolist() == list(range(num))
    torch.testing.assert_close(matched["matching_scores0"], torch.ones(num))


@pytest.mark.parametrize("missing", ["scales", "oris"])
def test_keypoints_without_frames_are_refused(weights: str, missing: str) -> None:
    extractor = LISRDSIFTExtractor({"weights": weights})
    keypoints = frames([[20.0, 30.0]])
    del keypoints[missing]
    with pytest.raises(ValueError, match="use sift"):
        extractor.describe(seeded_image(40, 48), keypoints)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"vlad_sift.centroids": torch.zeros(8, 128)}, file)
    with pytest.raises(ValueError, match=r"other\.safetensors.*LISRDSIFT: missing"):
        LISRDSIFTExtractor({"weights": str(file)})
