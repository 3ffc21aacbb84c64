"""MTLDesc's extractor: golden features, a literal float64 reference, coordinates, odd inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from featplug.extractors.mtldesc import MTLDescExtractor
from featplug.methods import build_extractor, build_matcher, feature_conf, matcher_conf
from featplug.networks.mtldesc import Maps, MTLDesc, normalize
from tests.extractors.contract import ExtractorContract
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.keypoints.test_detection import literal_suppression
from tests.networks.test_d2net import seeded_image
from tests.networks.test_mtldesc import seeded_state


class TestMTLDesc(ExtractorContract):
    method = "mtldesc"
    options: ClassVar[dict[str, Any]] = {"detection_threshold": 0.0}


OFFICIAL_PYRAMID = feature_conf("mtldesc-ms")["model"]["scales"]

DEFAULTS = MTLDescExtractor.default_conf
LOW = {"detection_threshold": 0.5, "max_keypoints": -1}
"""For weights whose logits lie about 0."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of seeded weights."""
    path = tmp_path_factory.mktemp("weights") / "seeded.safetensors"
    save_file(seeded_state(MTLDesc()), path)
    return str(path)


def extract(extractor: MTLDescExtractor, image: Tensor) -> dict[str, np.ndarray]:
    return {key: value[0].numpy() for key, value in extractor({"image": image[None]}).items()}


def check_same(result: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Same keypoints in the same order, within float32's error of sampling."""
    for key, value in expected.items():
        assert result[key].shape == value.shape, key
        np.testing.assert_allclose(result[key], value, rtol=0, atol=2e-5, err_msg=key)


# ---------------------------------------------------------------- a literal float64 reference


def reference(
    maps: list[np.ndarray], size: tuple[int, int], **options: Any
) -> dict[str, np.ndarray]:
    """Features of an image of size (width, height) from the network's three maps."""
    conf = {**DEFAULTS, **options}
    logits, descriptors, attention = maps
    probability = torch.from_numpy(logits).sigmoid().numpy()
    shape = np.array(probability.shape)
    found = literal_suppression(probability, conf["detection_threshold"], conf["nms_radius"])
    rows = []
    for y, x in found:
        if not all(
            conf["border"] <= v < s - conf["border"] for v, s in ((y, shape[0]), (x, shape[1]))
        ):
            continue
        at = 2 * np.array([y, x]) / (shape - 1) - 1
        cells = np.array(attention.shape)
        aligned = conf["align_corners"]
        at = (at + 1) / 2 * (cells - 1) if aligned else ((at + 1) * cells - 1) / 2
        low = np.floor(at + 1e-9).astype(int)
        weight, direction = 0.0, np.zeros(len(descriptors))
        for step in np.ndindex(2, 2):
            corner = low + step
            part = np.prod(np.maximum(0, 1 - np.abs(at - corner)))
            inside = ((corner >= 0) & (corner < cells)).all()
            weight += part * attention[tuple(corner.clip(0, cells - 1))]  # border padding
            if inside:  # padded with zeros
                direction += part * descriptors[:, corner[0], corner[1]]
        direction /= np.linalg.norm(direction) or 1
        ratio = np.array(size) / shape[::-1]
        if conf["official_coordinates"]:
            pixel = np.array([x, y]) * ratio
        else:
            pixel = (np.array([x, y]) + 0.5) * ratio - 0.5
        rows.append((probability[y, x], pixel, weight * direction, weight))
    if conf["max_keypoints"] >= 0:
        rows = rows[: conf["max_keypoints"]]
    rows.sort(key=lambda row: row[0])
    scores, pixels, weighted, lengths = zip(*rows, strict=True)
    return {
        "keypoints": np.array(pixels),
        "scores": np.array(scores),
        "descriptors": np.array(weighted).T,
        "attention": np.array(lengths),
        "scales": np.ones(len(scores)),
    }


class _Prescribed(nn.Module):
    """Stands in for the network: returns given maps."""

    def __init__(self, maps: list[np.ndarray]) -> None:
        super().__init__()
        self.maps = [torch.from_numpy(m) for m in maps]

    def forward(self, images: Tensor) -> Maps:
        assert images.shape[-2:] == self.maps[0].shape
        logits, descriptors, attention = self.maps
        return Maps(logits[None, None], descriptors[None], attention[None, None])


def prescribed(weights: str, maps: list[np.ndarray], size: tuple[int, int], **conf: Any) -> Any:
    extractor = MTLDescExtractor({"weights": weights, **conf})
    extractor.network = _Prescribed(maps)
    return extract(extractor, torch.zeros(3, size[1], size[0]))


def random_maps(height: int = 48, width: int = 64) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    cells = (height // 4, width // 4)
    logits = generator.normal(1.5, 1, (height, width)).astype(np.float32)
    descriptors = generator.normal(size=(128, *cells)).astype(np.float32)
    return [logits, descriptors, generator.uniform(0.3, 1, cells).astype(np.float32)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"align_corners": False, "official_coordinates": True},
        {"border": 0, "nms_radius": 2, "align_corners": False},
        {"border": 0, "nms_radius": 0, "detection_threshold": 0.97},
        {"max_keypoints": 7, "border": 9, "official_coordinates": True},
    ],
)
def test_equals_literal_reference(weights: str, options: dict[str, Any]) -> None:
    maps, size = random_maps(), (71, 41)  # 71 becomes 64 and 41 becomes 48
    check_same(prescribed(weights, maps, size, **options), reference(maps, size, **options))


def test_equal_scores_prefer_the_first_pixel(weights: str) -> None:
    maps = random_maps()
    maps[0] = maps[0].round()
    options = {"max_keypoints": 20, "detection_threshold": 0.85}
    result = prescribed(weights, maps, (64, 48), **options)
    expected = reference(maps, (64, 48), **options)
    assert len(set(result["scores"])) < len(result["scores"]) == 20
    check_same(result, expected)


def test_network_of_a_conf_is_evaluated_without_dropout(weights: str) -> None:
    image = seeded_image(48, 64)
    conf = {**feature_conf("mtldesc")["model"], "weights": weights, **LOW}
    by_name = extract(build_extractor(conf), image)
    assert len(by_name["scores"]) > 10
    del conf["name"]
    extractor = MTLDescExtractor(conf)
    check_same(extract(extractor, image), by_name)
    with torch.no_grad():
        maps = extractor.network(normalize(image[None] * 255))
    expected = reference([m.squeeze().numpy() for m in maps], (64, 48), **LOW)
    assert len(by_name["scores"]) == len(expected["scores"])


def test_zero_descriptor_stays_zero(weights: str) -> None:
    maps = random_maps()
    maps[1][:] = 0
    result = prescribed(weights, maps, (64, 48))
    assert len(result["scores"]) > 5
    assert not result["descriptors"].any()
    assert (result["attention"] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_leaves_detection_in_float32(weights: str, dtype: torch.dtype) -> None:
    extractor = MTLDescExtractor({"weights": weights, **LOW})
    image = (seeded_image(48, 64) * 255).round() / 255
    with torch.autocast("cpu", dtype), torch.no_grad():
        result = extract(extractor, image)
        maps = extractor.network(normalize(image[None] * 255))
    assert maps.attention.dtype == dtype
    expected = reference([m.float().squeeze().numpy() for m in maps], (64, 48), **LOW)
    assert len(expected["scores"]) > 10
    check_same(result, expected)


# ---------------------------------------------------------------- numbers of keypoints, sizes


def assert_empty(result: dict[str, np.ndarray]) -> None:
    shapes = {key: value.shape for key, value in result.items()}
    assert shapes == {
        "keypoints": (0, 2),
        "scores": (0,),
        "descriptors": (128, 0),
        "attention": (0,),
        "scales": (0,),
    }
    assert all(value.dtype == np.float32 for value in result.values())


def test_no_and_one_keypoint(weights: str) -> None:
    maps = random_maps()
    maps[0][:] = -9
    assert_empty(prescribed(weights, maps, (64, 48)))
    maps[0][20, 30] = 9
    result = prescribed(weights, maps, (64, 48))
    assert result["keypoints"].tolist() == [[30, 20]]
    check_same(result, reference(maps, (64, 48)))
    maps[0][20, 30], maps[0][20, 3] = -9, 9  # in the border
    assert_empty(prescribed(weights, maps, (64, 48)))
    assert_empty(prescribed(weights, random_maps(), (64, 48), max_keypoints=0))


def test_the_strongest_below_the_threshold_fill_up_a_budget(weights: str) -> None:
    maps, size = random_maps(), (64, 48)
    released = prescribed(weights, maps, size)
    budget = len(released["scores"]) + 3
    filled = prescribed(weights, maps, size, max_keypoints=budget)
    every = prescribed(weights, maps, size, max_keypoints=-1, detection_threshold=0.1)
    expected = {
        k: v[..., -budget:] if k == "descriptors" else v[-budget:] for k, v in every.items()
    }
    assert len(filled["scores"]) == budget < len(every["scores"])
    check_same(filled, expected)
    assert set(map(tuple, released["keypoints"])) < set(map(tuple, filled["keypoints"]))


@pytest.mark.parametrize("options", [{"fill": False}, {"detection_threshold": 0.9}])
def test_a_budget_is_not_filled_up_where_the_user_says_so(
    weights: str, options: dict[str, Any]
) -> None:
    maps = random_maps()
    limited = prescribed(weights, maps, (64, 48), max_keypoints=1000, **options)
    check_same(limited, prescribed(weights, maps, (64, 48)))


def test_nothing_fills_up_the_budget_of_an_image_without_points(weights: str) -> None:
    maps = random_maps()
    maps[0][:] = -9
    assert_empty(prescribed(weights, maps, (64, 48), max_keypoints=100))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (7, 7), (8, 8), (15, 90), (16, 16), (40, 2)])
@pytest.mark.parametrize("official", [False, True])
def test_tiny_images(weights: str, size: tuple[int, int], official: bool) -> None:
    conf = {"weights": weights, "border": 0, "detection_threshold": 0.0}
    conf["official_coordinates"] = official
    conf["scales"] = OFFICIAL_PYRAMID[:3]
    result = extract(MTLDescExtractor(conf), torch.rand(3, *size))
    assert set(result["scales"]) == {np.float32(1 / scale) for scale in OFFICIAL_PYRAMID[:3]}
    np.testing.assert_allclose(
        np.linalg.norm(result["descriptors"], axis=0), result["attention"], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("side", "expected"), [(7, 16), (16, 16), (23, 16), (24, 32), (40, 32), (41, 48), (56, 64)]
)
def test_sides_become_multiples_of_16_and_halves_even_ones(
    weights: str, side: int, expected: int
) -> None:
    extractor = MTLDescExtractor({"weights": weights})
    seen: list[Tensor] = []
    extractor.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    extract(extractor, torch.rand(3, side, 32))
    extract(extractor, torch.rand(3, 32, side))
    assert [tuple(images.shape) for images in seen] == [
        (1, 3, expected, 32),
        (1, 3, 32, expected),
    ]


# ---------------------------------------------------------------- coordinates and options


@pytest.mark.parametrize("width", [80, 86, 75])
def test_mirrored_image_gives_mirrored_keypoints(tmp_path: Path, width: int) -> None:
    file = tmp_path / "symmetric.safetensors"
    save_file(seeded_state(MTLDesc(), symmetric=True), file)
    image = seeded_image(64, width)
    distances = []
    for official in (False, True):
        conf = {"official_coordinates": official, "detection_threshold": 0.0}
        extractor = MTLDescExtractor({"weights": str(file), **conf})
        result, mirrored = extract(extractor, image), extract(extractor, image.flip(-1))
        assert len(result["scores"]) > 10
        back = [width - 1, 0] + [-1, 1] * mirrored["keypoints"]
        nearest = np.linalg.norm(result["keypoints"][:, None] - back, axis=2).min(1)
        distances.append(np.median(nearest))
    assert distances[0] < 1e-4
    # The released formula moves keypoints by (W / W_network - 1) / 2 from either side.
    np.testing.assert_allclose(distances[1], abs(width / 80 - 1), atol=1e-4)


def released_scales() -> list[float]:
    """The loop of the authors' function, with the values of their command line."""
    scales, scale = [], 1.0
    while scale + 0.001 >= 0.3:
        scales.append(scale)
        scale /= 2**0.25
    return scales


@pytest.mark.parametrize("max_keypoints", [25, -1])
def test_pyramid_is_the_released_one(weights: str, max_keypoints: int) -> None:
    np.testing.assert_allclose(OFFICIAL_PYRAMID, released_scales(), rtol=0)
    width, height = 150, 117
    image = (seeded_image(height, width) * 255).round() / 255
    level = np.ascontiguousarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    conf = {**LOW, "weights": weights, "official_coordinates": True}
    single = MTLDescExtractor(conf)
    parts: dict[str, list[np.ndarray]] = {}
    for scale in released_scales():
        size = (round(width * scale), round(height * scale))
        level = cv2.resize(level, size, interpolation=cv2.INTER_LINEAR)
        found = extract(single, torch.from_numpy(level).permute(2, 0, 1).float() / 255)
        found["keypoints"] *= [width / size[0], height / size[1]]
        found["scales"][:] = 1 / scale
        for key, value in found.items():
            parts.setdefault(key, []).append(value.T if key == "descriptors" else value)
    everything = {key: np.concatenate(values) for key, values in parts.items()}
    order = everything["scores"].argsort(kind="stable")
    order = order[-max_keypoints:] if max_keypoints > 0 else order
    expected = {key: values[order] for key, values in everything.items()}
    conf = {**conf, "scales": OFFICIAL_PYRAMID, "max_keypoints": max_keypoints}
    result = extract(MTLDescExtractor(conf), image)
    assert len(set(result["scales"])) > 3
    check_same(result, {**expected, "descriptors": expected["descriptors"].T})


def test_bad_options_and_another_systems_weights_are_refused(weights: str, tmp_path: Path) -> None:
    for scales in ([], [1.0, 0.0], [0.5, 1.0]):
        with pytest.raises(ValueError, match="positive and descending"):
            MTLDescExtractor({"weights": weights, "scales": scales})
    for name in ("nms_radius", "border"):
        with pytest.raises(ValueError, match=name):
            MTLDescExtractor({"weights": weights, name: -1})
    with pytest.raises(ValueError, match="nms_dist"):
        MTLDescExtractor({"weights": weights, "nms_dist": 4})
    path = tmp_path / "superpoint_v1.pth"
    torch.save({"conv1a.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"superpoint_v1\.pth.*MTLDesc: missing"):
        MTLDescExtractor({"weights": str(path)})


# ---------------------------------------------------------------- golden files


@pytest.fixture(scope="module")
def golden_weights(golden_set: GoldenSet, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("golden") / "model_29.pt"
    torch.save(golden_set.torch_state("mtldesc"), file)
    return str(file)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("image", ["img0", "img1"])
def test_golden_features(
    golden_set: GoldenSet, golden_weights: str, parity: Parity, image: str, align_corners: bool
) -> None:
    golden = golden_set.arrays(f"mtldesc/{image}")
    conf = {"weights": golden_weights, "official_coordinates": True}
    extractor = MTLDescExtractor({**conf, "align_corners": align_corners})
    seen: list[Tensor] = []
    extractor.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.from_numpy(golden["image"]).permute(2, 0, 1).float() / 255
    result = extract(extractor, pixels)

    # Another OpenCV may round the resized image differently, by one grey value.
    given = (seen[0][0].permute(1, 2, 0).numpy() + 1) / 2 * 255
    parity.compare("mtldesc", "network input (grey values)", given, golden["network_input_u8"], 1.1)

    # Other hardware may decide differently on one keypoint in fifty.
    distances = np.abs(result["keypoints"][:, None] - golden["keypoints_xy"]).max(2)
    mine, their = np.nonzero(distances < 1e-3)
    assert len(set(mine)) == len(set(their)) == len(mine) >= 0.98 * max(distances.shape)
    keypoints, scores = result["keypoints"][mine], result["scores"][mine]
    assert (np.diff(result["scores"]) >= 0).all()
    descriptors = golden["descriptors" if align_corners else "descriptors_align_corners_false"]
    label = "descriptors" if align_corners else "descriptors, align_corners False"
    parity.compare("mtldesc", "keypoints (px)", keypoints, golden["keypoints_xy"][their], 1e-3)
    parity.compare("mtldesc", "scores", scores, golden["scores"][their], 1e-5)
    parity.compare("mtldesc", label, result["descriptors"].T[mine], descriptors[their], 5e-5)
    lengths = np.linalg.norm(descriptors[their], axis=1)
    parity.compare("mtldesc", "attention of keypoints", result["attention"][mine], lengths, 5e-6)


def test_both_official_matching_rules(golden_set: GoldenSet) -> None:
    descriptors = [golden_set.arrays(f"mtldesc/img{index}")["descriptors"] for index in "01"]
    dot = descriptors[0].astype(float) @ descriptors[1].T
    squares = [(d.astype(float) ** 2).sum(1) for d in descriptors]
    distance = np.sqrt(squares[0][:, None] + squares[1] - 2 * dot + 1e-4)
    for name, similarity in {"mtldesc-dot": dot, "mtldesc": -distance}.items():
        nearest = similarity.argmax(1)
        mutual = similarity.argmax(0)[nearest] == np.arange(len(nearest))
        expected = np.where(mutual, nearest, -1)
        given = {
            f"descriptors{index}": torch.from_numpy(d.T)[None]
            for index, d in enumerate(descriptors)
        }
        matches = build_matcher(matcher_conf(name)["model"])(given)["matches0"][0].numpy()
        np.testing.assert_array_equal(matches, expected)
        assert mutual.any()


def test_the_matching_rules_differ_where_lengths_do() -> None:
    query, near_it, long_one = [1.0, 0.0], [0.9, 0.1], [3.0, 1.0]
    given = {
        "descriptors0": torch.tensor([query]).T[None],
        "descriptors1": torch.tensor([near_it, long_one]).T[None],
    }
    for name, expected in (("mtldesc", 0), ("mtldesc-dot", 1)):
        assert build_matcher(matcher_conf(name)["model"])(given)["matches0"].tolist() == [
            [expected]
        ]
