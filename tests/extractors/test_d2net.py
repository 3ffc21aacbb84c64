"""D2-Net's extractor: golden keypoints, a literal float64 reference, coordinates, odd inputs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from featplug.extractors.d2net import D2NetExtractor, detect, near_detections
from featplug.networks.d2net import D2Net, normalize_caffe
from tests.extractors.contract import ExtractorContract
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.networks.test_d2net import seeded_image, seeded_state


class TestD2Net(ExtractorContract):
    method = "d2net"


PYRAMID = [0.5, 1.0, 2.0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of seeded weights."""
    path = tmp_path_factory.mktemp("weights") / "seeded.safetensors"
    save_file(seeded_state(D2Net()), path)
    return str(path)


def extract(extractor: D2NetExtractor, image: Tensor) -> dict[str, np.ndarray]:
    return {key: value[0].numpy() for key, value in extractor({"image": image[None]}).items()}


# ---------------------------------------------------------------- a literal float64 reference


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resize of C×H×W in which the first and the last pixels stay where they are."""
    for axis, length in ((1, size[0]), (2, size[1])):
        at = np.linspace(0, image.shape[axis] - 1, length)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        weight = (at - low).reshape((-1, 1) if axis == 1 else (1, -1))
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
    return image


def reference_detections(features: np.ndarray) -> list[tuple[int, int, int, float, float]]:
    """Hard detections and steps by their definition, over all channels."""
    height, width = features.shape[1:]
    zeros = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    lowest = np.pad(features, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)

    def near(padded: np.ndarray, down: int, right: int) -> np.ndarray:
        return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    around = [near(lowest, i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    d_ii = near(zeros, 1, 0) - 2 * features + near(zeros, -1, 0)
    d_jj = near(zeros, 0, 1) - 2 * features + near(zeros, 0, -1)
    d_ij = (near(zeros, -1, -1) - near(zeros, -1, 1) - near(zeros, 1, -1) + near(zeros, 1, 1)) / 4
    d_i = (near(zeros, 1, 0) - near(zeros, -1, 0)) / 2
    d_j = (near(zeros, 0, 1) - near(zeros, 0, -1)) / 2
    found = []
    strongest = (features == features.max(0)) & (features == np.max(around, axis=0))
    for k, i, j in np.argwhere(strongest):
        hessian = np.array([[d_ii[k, i, j], d_ij[k, i, j]], [d_ij[k, i, j], d_jj[k, i, j]]])
        determinant = hessian[0, 0] * hessian[1, 1] - hessian[0, 1] ** 2
        if determinant > 0 and np.trace(hessian) ** 2 / determinant <= 7.2:
            step = -np.linalg.solve(hessian, [d_i[k, i, j], d_j[k, i, j]])
            found.append((k, i, j, step[0], step[1]))
    return found


def reference(
    maps: list[np.ndarray], scales: list[float], size: tuple[int, int], official: bool
) -> dict[str, np.ndarray]:
    """Pyramid, gating, interpolation and coordinates, from the network's map of each level."""
    rows, descriptors = [], []
    previous = blocked = None
    for rank, (features, scale) in enumerate(zip(maps, scales, strict=True), start=1):
        height, width = features.shape[1:]
        if previous is not None:
            features = features + resize(previous, (height, width))
        mask = np.zeros((height, width), bool)
        if blocked is not None:
            row = np.arange(height) * blocked.shape[0] // height
            column = np.arange(width) * blocked.shape[1] // width
            mask = blocked[row][:, column]
        detections = [found for found in reference_detections(features) if not mask[found[1:3]]]
        count = len(rows)
        for k, i, j, step_i, step_j in detections:
            mask[i, j] = True
            y, x = i + step_i, j + step_j
            inside = 0 <= y <= height - 1 and 0 <= x <= width - 1
            if abs(step_i) >= 0.5 or abs(step_j) >= 0.5 or not inside:
                continue
            top, left = int(y), int(x)
            descriptor = 0.0
            for corner_i, corner_j in np.ndindex(2, 2):
                weight = (y - top if corner_i else top + 1 - y) * (
                    x - left if corner_j else left + 1 - x
                )
                if weight:
                    descriptor = descriptor + weight * features[:, top + corner_i, left + corner_j]
            descriptors.append(descriptor / np.linalg.norm(descriptor))
            level = (int(size[0] * scale), int(size[1] * scale))
            if official:
                y, x = (4 * y + 1.5) * size[0] / level[0], (4 * x + 1.5) * size[1] / level[1]
            else:
                y = (4 * y + 3.5) * (size[0] - 1) / (level[0] - 1)
                x = (4 * x + 3.5) * (size[1] - 1) / (level[1] - 1)
            rows.append((x, y, features[k, i, j] / rank, 1 / scale))
        blocked = mask
        if len(rows) > count:
            previous = features
    table = np.array(rows).reshape(-1, 4)
    return {
        "keypoints": table[:, :2],
        "scores": table[:, 2],
        "scales": table[:, 3],
        "descriptors": np.array(descriptors).T,
    }


def check(result: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Same keypoints in the same order, within float32's error of the network."""
    assert result["keypoints"].shape == expected["keypoints"].shape
    np.testing.assert_allclose(result["keypoints"], expected["keypoints"], rtol=0, atol=2e-3)
    np.testing.assert_allclose(result["scores"], expected["scores"], rtol=1e-4)
    np.testing.assert_allclose(result["scales"], expected["scales"], rtol=1e-6)
    np.testing.assert_allclose(result["descriptors"], expected["descriptors"], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("size", "conf"),
    [
        ((41, 53), {}),
        ((52, 39), {"use_relu": False, "official_coordinates": True}),
        ((31, 46), {"scales": PYRAMID}),
        ((45, 27), {"scales": PYRAMID, "use_relu": False}),
        ((33, 38), {"scales": PYRAMID, "official_coordinates": True}),
    ],
)
def test_equals_literal_reference(
    weights: str, size: tuple[int, int], conf: dict[str, Any]
) -> None:
    extractor = D2NetExtractor({"weights": weights, **conf})
    image = seeded_image(*size)
    result = extract(extractor, image)

    scales = extractor.conf["scales"]
    network = copy.deepcopy(extractor.network).double()
    normalized = normalize_caffe(image.double()).numpy()
    maps = []
    for scale in scales:
        level = resize(normalized, (int(size[0] * scale), int(size[1] * scale)))
        with torch.no_grad():
            maps.append(network(torch.from_numpy(level)[None])[0].numpy())
    expected = reference(maps, scales, size, extractor.conf["official_coordinates"])
    assert len(expected["scores"]) > 10
    check(result, expected)


class _Prescribed(nn.Module):
    """Stands in for the network: returns given maps, one per level."""

    def __init__(self, maps: list[np.ndarray]) -> None:
        super().__init__()
        self.maps = [torch.from_numpy(m).float() for m in maps]

    def forward(self, images: Tensor) -> Tensor:
        return self.maps.pop(0)[None].clone(memory_format=torch.channels_last)


def prescribed(weights: str, maps: list[np.ndarray]) -> dict[str, np.ndarray]:
    extractor = D2NetExtractor({"weights": weights, "scales": PYRAMID})
    extractor.network = _Prescribed(maps)
    return extract(extractor, torch.zeros(3, 64, 80))


def random_maps(num_channels: int) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    sizes = [(7, 9), (15, 19), (31, 39)]
    return [generator.normal(size=(num_channels, *s)).astype(np.float32) for s in sizes]


def test_gating_and_pyramid_on_random_maps(weights: str) -> None:
    maps = random_maps(6)
    expected = reference([m.astype(float) for m in maps], PYRAMID, (64, 80), official=False)
    # The case of interest must occur: a detection without keypoint, which still blocks.
    steps = np.array([found[3:] for found in reference_detections(maps[0].astype(float))])
    assert (np.abs(steps) >= 0.5).any()
    assert set(expected["scales"]) == {2.0, 1.0, 0.5}
    check(prescribed(weights, maps), expected)


@pytest.mark.parametrize("empty", [0, 1])
def test_level_without_keypoints_is_not_added(weights: str, empty: int) -> None:
    # The released code runs into an undefined variable when the second level is such a one.
    maps = random_maps(6)
    height, width = maps[empty].shape[1:]
    # Falls off from a corner so that no curvature passes the edge test; hugely negative.
    ramp = -1000.0 * (1 + np.arange(height)[:, None] + np.arange(width))
    maps[empty] = np.stack([ramp] + [ramp - 1e6] * 5).astype(np.float32)
    expected = reference([m.astype(float) for m in maps], PYRAMID, (64, 80), official=False)
    assert set(expected["scales"]) == {2.0, 1.0, 0.5} - {1 / PYRAMID[empty]}
    check(prescribed(weights, maps), expected)


# ---------------------------------------------------------------- detection


def test_channels_that_tie_are_all_detected() -> None:
    features = torch.zeros(4, 5, 6)
    features[1, 2, 2] = features[3, 2, 2] = 7.0
    features[2, 2, 2] = 6.0
    features[0, 0, 5] = -0.0
    detections, steps = detect(features)
    assert detections.tolist() == [[1, 2, 2], [3, 2, 2]]
    assert steps.abs().max() == 0


def test_zero_can_be_a_peak_of_a_map_that_is_not_rectified() -> None:
    features = torch.full((3, 5, 6), -1.0)
    features[1, 2, 3] = 0.0
    assert [1, 2, 3] in detect(features)[0].tolist()


def test_detection_is_the_same_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.from_numpy(random_maps(6)[2])
    whole = detect(features)
    monkeypatch.setattr("featplug.extractors.d2net._STRIP_ELEMENTS", 6 * 39 * 4)
    strips = detect(features)
    assert len(whole[0]) > 20
    assert torch.equal(whole[0], strips[0])
    assert torch.equal(whole[1], strips[1])


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_flat_map_has_corners_only(value: float) -> None:
    # Differences take the map as 0 outside, so that a flat map bends at its four corners.
    detections, _ = detect(torch.full((2, 4, 5), value))
    expected = {(k, i, j) for k in (0, 1) for i in (0, 3) for j in (0, 4)} if value else set()
    assert set(map(tuple, detections.tolist())) == expected


def test_autocast_leaves_detection_in_float32(weights: str) -> None:
    extractor = D2NetExtractor({"weights": weights})
    image = seeded_image(48, 48)
    with torch.autocast("cpu", torch.bfloat16):
        result = extract(extractor, image)
        with torch.no_grad():
            features = extractor.network(normalize_caffe(image)[None])[0]
    assert features.dtype == torch.bfloat16
    expected = reference([features.double().numpy()], [1.0], (48, 48), official=False)
    assert len(expected["scores"]) > 10
    check(result, expected)


# ---------------------------------------------------------------- coordinates and options


@pytest.mark.parametrize("scale", PYRAMID)
def test_mirrored_image_gives_mirrored_keypoints(tmp_path: Path, scale: float) -> None:
    file = tmp_path / "symmetric.safetensors"
    save_file(seeded_state(D2Net(), symmetric=True), file)
    extractor = D2NetExtractor({"weights": str(file), "scales": [scale]})
    image = seeded_image(48, 80)
    result, mirrored = extract(extractor, image), extract(extractor, image.flip(-1))
    assert len(result["scores"]) == len(mirrored["scores"]) > 5
    back = np.array([79, 0]) + np.array([-1, 1]) * mirrored["keypoints"]
    distances = np.linalg.norm(result["keypoints"][:, None] - back[None], axis=2)
    partner = distances.argmin(1)
    assert distances.min(1).max() < 5e-3
    np.testing.assert_allclose(
        mirrored["descriptors"][:, partner], result["descriptors"], rtol=0, atol=5e-5
    )


def test_official_coordinates_differ_by_two_pixels_at_scale_one(weights: str) -> None:
    image = seeded_image(43, 57)
    ours = extract(D2NetExtractor({"weights": weights}), image)
    official = extract(D2NetExtractor({"weights": weights, "official_coordinates": True}), image)
    np.testing.assert_allclose(ours["keypoints"], official["keypoints"] + 2, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours["descriptors"], official["descriptors"])


def test_max_keypoints_keeps_the_strongest(weights: str) -> None:
    image = seeded_image(40, 40)
    everything = extract(D2NetExtractor({"weights": weights, "scales": PYRAMID}), image)
    conf = {"weights": weights, "scales": PYRAMID, "max_keypoints": 12}
    some = extract(D2NetExtractor(conf), image)
    assert len(everything["scores"]) > 24
    kept = np.sort(np.argsort(-everything["scores"], kind="stable")[:12])
    for key, value in some.items():
        expected = everything[key].take(kept, axis=1 if key == "descriptors" else 0)
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)
    none = extract(D2NetExtractor({**conf, "max_keypoints": 0}), image)
    assert none["keypoints"].shape == (0, 2)
    assert none["descriptors"].shape == (512, 0)


@pytest.mark.parametrize("scales", [[1.0], PYRAMID])
def test_cells_nearest_to_detections_fill_up_a_budget(weights: str, scales: list[float]) -> None:
    image, conf = seeded_image(40, 40), {"weights": weights, "scales": scales}
    released = extract(D2NetExtractor(conf), image)
    num = len(released["scores"])
    filled = extract(D2NetExtractor({**conf, "max_keypoints": num + 9}), image)
    assert len(filled["scores"]) == num + 9
    for key, value in filled.items():
        own = value[:, :num] if key == "descriptors" else value[:num]
        np.testing.assert_array_equal(own, released[key])
    assert filled["scores"][num:].max() < released["scores"].min()
    for options in ({"fill": False}, {"edge_threshold": 5.0}, {"max_step": 0.5}):
        limited = extract(D2NetExtractor({**conf, "max_keypoints": num + 9, **options}), image)
        np.testing.assert_array_equal(limited["keypoints"], released["keypoints"])


def test_thresholds_of_detection_are_options(weights: str) -> None:
    image = seeded_image(40, 40)
    released, loose, strict = (
        len(extract(D2NetExtractor({"weights": weights, **options}), image)["scores"])
        for options in ({}, {"edge_threshold": 50.0, "max_step": 0.9}, {"edge_threshold": 1.5})
    )
    assert strict < released < loose


def test_nearness_is_the_largest_ratio_to_the_strongest_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = torch.from_numpy(random_maps(6)[2])
    monkeypatch.setattr("featplug.extractors.d2net._STRIP_ELEMENTS", 6 * 39 * 4)
    cells, nearness = near_detections(features)
    _, height, width = features.shape
    expected = {}
    for i, j in np.ndindex(height, width):
        around = features[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].amax((1, 2))
        at = features[:, i, j]
        if bool(((at == around) & (at > 0)).any()):
            expected[i, j] = float(at[at == around].max() / at.max())
    assert list(map(tuple, cells.tolist())) == sorted(expected)
    np.testing.assert_allclose(nearness, [expected[i, j] for i, j in sorted(expected)], rtol=1e-6)
    assert min(expected.values()) < 1


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (7, 7), (8, 8), (15, 90)])
@pytest.mark.parametrize("scales", [[0.05], [0.5], PYRAMID])
def test_tiny_images(weights: str, size: tuple[int, int], scales: list[float]) -> None:
    result = extract(D2NetExtractor({"weights": weights, "scales": scales}), torch.rand(3, *size))
    num = len(result["scores"])
    assert result["keypoints"].shape == (num, 2)
    assert result["descriptors"].shape == (512, num)
    assert result["scales"].shape == (num,)
    if min(size) * scales[-1] < 8:
        assert num == 0


def test_bad_options_are_refused(weights: str) -> None:
    for scales in ([], [0.0, 1.0], [1.0, 0.5]):
        with pytest.raises(ValueError, match="positive and ascending"):
            D2NetExtractor({"weights": weights, "scales": scales})


# ---------------------------------------------------------------- golden files


@pytest.fixture(scope="module")
def rule_weights(golden_set: GoldenSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "rule.safetensors"
    save_file(golden_set.torch_state("d2net"), path)
    return path


def golden_conf(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    """Return the conf of a golden file: of the rule's weights, or of the authors' container."""
    if name == "rule_relu":
        return {"checkpoint": "d2net", "weights": str(request.getfixturevalue("rule_weights"))}
    file = request.getfixturevalue("shared") / "weights" / "vgg16_imagenet_d2net_fp16.pth"
    return {"checkpoint": "d2net-ots", "weights": str(file), "use_relu": False}


@pytest.mark.parametrize(
    "scales",
    [pytest.param([1.0], id="ss"), pytest.param(PYRAMID, id="ms", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("image", ["img0", "img1"])
@pytest.mark.parametrize("name", ["ots_norelu", "rule_relu"])
def test_golden_keypoints(
    golden_set: GoldenSet,
    request: pytest.FixtureRequest,
    parity: Parity,
    name: str,
    image: str,
    scales: list[float],
) -> None:
    golden = golden_set.arrays(f"d2net/{name}_{image}")
    extractor = D2NetExtractor(
        {
            **golden_conf(request, name),
            "scales": scales,
            "official_coordinates": True,
        }
    )
    pixels = torch.from_numpy(golden["image"]).permute(2, 0, 1).float() / 255
    result = extract(extractor, pixels)
    level = "ss" if scales == [1.0] else "ms"
    expected = {
        "keypoints": golden[f"{level}_keypoints_xy"],
        "scores": golden[f"{level}_scores"],
        "scales": golden[f"{level}_keypoints_ijs"][:, 2],
        "descriptors": golden[f"{level}_descriptors"].T,
    }
    # Other hardware may decide differently on one keypoint in a hundred.
    ours, theirs = (
        np.column_stack([r["keypoints"], 1000 * r["scales"]]) for r in (result, expected)
    )
    distances = np.abs(ours[:, None] - theirs[None]).max(2)
    mine, their = np.nonzero(distances < 2e-3)
    assert len(mine) >= 0.99 * max(len(ours), len(theirs))
    assert (np.diff(mine) > 0).all()
    assert (np.diff(their) > 0).all()
    for values, rows in ((result, mine), (expected, their)):
        values["keypoints"] = values["keypoints"][rows]
        for key in ("scores", "scales", "descriptors"):
            values[key] = values[key][..., rows]
    np.testing.assert_allclose(result["scores"], expected["scores"], rtol=1e-4)
    np.testing.assert_allclose(result["scales"], expected["scales"], rtol=1e-6)
    parity.compare("d2net", "keypoints (px)", result["keypoints"], expected["keypoints"], 2e-3)
    relative = 1e-4 * expected["scores"].max()
    parity.compare("d2net", f"scores, {name}", result["scores"], expected["scores"], relative)
    parity.compare("d2net", "descriptors", result["descriptors"].T, expected["descriptors"].T, 2e-5)


@pytest.mark.parametrize("name", ["ots_norelu", "rule_relu"])
def test_golden_detections(
    golden_set: GoldenSet, request: pytest.FixtureRequest, name: str
) -> None:
    golden = golden_set.arrays(f"d2net/dense_{name}")
    extractor = D2NetExtractor(golden_conf(request, name))
    pixels = torch.from_numpy(golden["image"]).permute(2, 0, 1).float() / 255
    with torch.no_grad():
        features = extractor.network(normalize_caffe(pixels)[None])
    detections, steps = detect(features[0])
    np.testing.assert_array_equal(detections, golden["detections_cij"])
    np.testing.assert_allclose(steps, golden["displacements"], rtol=0, atol=5e-4)
