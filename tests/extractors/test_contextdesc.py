"""ContextDesc's extractor: golden patches and descriptors, options, few keypoints, small images."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from featplug.base.output_checks import check_features
from featplug.extractors.contextdesc import ContextDescExtractor, PatchSampler, patch_radii
from featplug.io.images import to_grey
from featplug.methods import feature_conf
from featplug.networks.contextdesc import ContextDesc, normalise_positions
from featplug.networks.efficientnet_lite import EfficientNetLite0
from featplug.weights.converters.contextdesc import contextdesc, regional
from tests.extractors.contract import ExtractorContract
from tests.golden.golden_set import GoldenSet
from tests.golden.parity import Parity
from tests.networks.contextdesc_weights import rule_variables, seeded_networks, seeded_state
from tests.weights.converters import tensorflow_writer as writer


class TestContextDesc(ExtractorContract):
    method = "contextdesc"


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Seeded weights of both networks."""
    folder = tmp_path_factory.mktemp("weights")
    for name, network in zip(("own", "regional"), seeded_networks(), strict=True):
        save_file(network.state_dict(), folder / f"{name}.safetensors")
    return {
        "weights": str(folder / "own.safetensors"),
        "regional_weights": str(folder / "regional.safetensors"),
    }


@pytest.fixture(scope="module")
def extractor(conf: dict[str, Any]) -> ContextDescExtractor:
    return ContextDescExtractor(conf)


@pytest.fixture(scope="module")
def rule_extractor(
    golden_set: GoldenSet, tmp_path_factory: pytest.TempPathFactory
) -> ContextDescExtractor:
    """The rule's weights, converted from frozen graphs."""
    folder = tmp_path_factory.mktemp("golden")
    for graph in ("loc", "aug", "reg"):
        content = writer.frozen_graph(rule_variables(golden_set, graph))
        (folder / f"{graph}.pb").write_bytes(content)
    save_file(contextdesc(folder / "loc.pb"), folder / "own.safetensors")
    save_file(regional(folder / "reg.pb"), folder / "regional.safetensors")
    paths = {"weights": "own", "regional_weights": "regional"}
    return ContextDescExtractor(
        {key: str(folder / f"{name}.safetensors") for key, name in paths.items()}
    )


def variant(extractor: ContextDescExtractor, **options: Any) -> ContextDescExtractor:
    """The same networks with other options."""
    other = copy.copy(extractor)
    other.conf = {**extractor.conf, **options}
    return other


def image_of(height: int, width: int, seed: int = 0) -> Tensor:
    """A textured image 3×height×width in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 3, height // 4 + 2, width // 4 + 2), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return fine[0].clamp(0, 1)


def frames_of(num: int, height: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    generator = np.random.default_rng(seed)
    return {
        "keypoints": torch.from_numpy(
            generator.uniform(0, [width - 1, height - 1], (num, 2)).astype(np.float32)
        ),
        "scores": torch.rand(num, generator=torch.Generator().manual_seed(seed)),
        "scales": torch.from_numpy(generator.uniform(1.2, 6, num).astype(np.float32)),
        "oris": torch.from_numpy(generator.uniform(0, 360, num).astype(np.float32)),
    }


@torch.no_grad()
def describe(
    extractor: ContextDescExtractor, image: Tensor, frames: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Describe given frames, and check what comes out as forward() does."""
    result = extractor.describe(image, frames)
    check_features({**frames, **result}, (image.shape[-1], image.shape[-2]), "test")
    num = len({**frames, **result}["keypoints"])
    assert result["descriptors"].shape == (128, num)
    assert result["matchability"].shape == (num,)
    if num and not extractor.conf["quantise"]:
        torch.testing.assert_close(result["descriptors"].norm(dim=0), torch.ones(num))
    return result


# ---------------------------------------------------------------- golden files


@pytest.mark.parametrize(
    ("frames", "patches", "pyramid"),
    [
        ("frames", "patches_nopyr", False),
        ("frames", "patches_pyr", True),
        ("upright_frames", "upright_patches", False),
    ],
)
def test_golden_patches(
    golden_set: GoldenSet, parity: Parity, frames: str, patches: str, pyramid: bool
) -> None:
    golden = golden_set.arrays("contextdesc/sampler")
    x, y, size, angle = golden[frames].T[:4]
    scales, angle = size / 2, 0 * angle if "upright" in frames else angle
    sampler = PatchSampler(golden["gray"], scales, pyramid)
    sampled = sampler(np.stack([x, y], axis=1), scales, angle)
    assert np.sqrt(np.mean((sampled - golden[patches]) ** 2)) < 0.015
    parity.compare("contextdesc", patches, sampled, golden[patches], 0.15)


def test_golden_upright_frames(golden_set: GoldenSet, rule_extractor: ContextDescExtractor) -> None:
    golden = golden_set.arrays("contextdesc/sampler")
    frames = golden["upright_frames"].astype(np.float32)
    given = {
        "keypoints": torch.from_numpy(frames[:, :2]),
        "scales": torch.from_numpy(frames[:, 2] / 2),
        "oris": torch.from_numpy(frames[:, 3]),
        "scores": torch.from_numpy(frames[:, 4]),
    }
    image = torch.from_numpy(golden["gray"])[None].float() / 255
    upright = variant(rule_extractor, upright=True)
    kept = upright.select(given)
    assert torch.equal(kept["keypoints"], given["keypoints"])  # they are without duplicates
    result = describe(upright, image, kept)
    with torch.no_grad():
        patches = torch.from_numpy(golden["upright_patches"])
        _, matchability = rule_extractor.network.describe_patches(patches)
    torch.testing.assert_close(result["matchability"], matchability, rtol=0, atol=1e-3)


def test_golden_pipeline(
    golden_set: GoldenSet, rule_extractor: ContextDescExtractor, parity: Parity
) -> None:
    golden = golden_set.arrays("contextdesc/pipeline")
    image = torch.from_numpy(golden["image"]).permute(2, 0, 1).float() / 255
    parity.compare("contextdesc", "pipeline gray", to_grey(image), golden["gray"], 1)
    x, y, size, angle, score = torch.from_numpy(golden["frames"].astype(np.float32)).T
    frames = {
        "keypoints": torch.stack([x, y], dim=1),
        "scales": size / 2,
        "oris": angle,
        "scores": score,
    }
    result = describe(rule_extractor, image, frames)
    with torch.no_grad():
        local, matchability = rule_extractor.local_features(
            image, frames["keypoints"], frames["scales"], frames["oris"]
        )
        features = rule_extractor.regional_features(image)
        positions = normalise_positions(frames["keypoints"], (image.shape[2], image.shape[1]))
        given = (torch.from_numpy(golden[key]) for key in ("local_feat", "matchability"))
        local_given, matchability_given = given
        augmented = rule_extractor.network(
            local_given, matchability_given[:, 0], positions, features
        )
    regional_mean = features.mean(0).numpy()
    parity.compare("contextdesc", "pipeline kpt_xy", positions, golden["kpt_xy"], 1e-6)
    parity.compare(
        "contextdesc", "pipeline regional_mean", regional_mean, golden["regional_mean"], 2e-2
    )
    # As the golden file's README says for patches of another OpenCV.
    for name, actual in (("local_feat", local), ("augmented", result["descriptors"].T)):
        cosine = torch.cosine_similarity(actual, torch.from_numpy(golden[name])).numpy()
        parity.compare("contextdesc", f"pipeline cosine {name}", cosine, np.ones(len(x)), 1e-3)
    expected = golden["matchability"][:, 0]
    parity.compare("contextdesc", "pipeline matchability", matchability, expected, 0.05)
    expected = golden["augmented"]
    parity.compare("contextdesc", "pipeline augmented", augmented, expected, 1e-5, outliers=0.01)


# ---------------------------------------------------------------- patches


def test_radii_round_half_to_even_and_stay_below_the_diagonal() -> None:
    sizes = np.array([1.0, 2.0, 7.3, 1e4])
    expected = [np.rint(5.303300858899107 * size) for size in sizes]
    expected[-1] = 500
    np.testing.assert_array_equal(patch_radii(sizes / 2, (300, 400)), expected)


def test_patch_is_shifted_by_half_its_pixel() -> None:
    # On a ramp a patch shows where its pixels lie: from -r to +0.9375 r about the keypoint.
    ramp = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    scales = np.array([3.0])
    radius = patch_radii(scales, (200, 200))[0]
    (patch,) = PatchSampler(ramp, scales)(np.array([[100.0, 100.0]]), scales, np.zeros(1))
    values = 100 + radius * (np.arange(32) / 16 - 1)
    expected = (values - values.mean()) / values.std()
    np.testing.assert_allclose(patch, np.tile(expected, (32, 1)), rtol=0, atol=1e-3)


def test_patches_do_not_depend_on_the_batch() -> None:
    grey = to_grey(image_of(90, 120))
    frames = frames_of(23, 90, 120)
    arrays = [frames[key].numpy() for key in ("keypoints", "scales", "oris")]
    for pyramid in (False, True):
        sampler = PatchSampler(grey, arrays[1], pyramid)
        parts = [sampler(*(array[part] for array in arrays)) for part in (slice(9), slice(9, 23))]
        np.testing.assert_array_equal(np.concatenate(parts), sampler(*arrays))


# ---------------------------------------------------------------- few keypoints, small images


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_keypoints(extractor: ContextDescExtractor, num: int, upright: bool) -> None:
    for pyramid in (False, True):
        changed = variant(extractor, upright=upright, pyramid=pyramid)
        describe(changed, image_of(70, 100), frames_of(num, 70, 100))


@pytest.mark.parametrize("size", [(1, 1), (3, 31), (32, 33), (64, 20), (33, 65)])
def test_small_images(extractor: ContextDescExtractor, size: tuple[int, int]) -> None:
    describe(extractor, image_of(*size), frames_of(4, *size))
    result = extractor({"image": image_of(*size)[None]})
    assert result["descriptors"][0].shape == (128, len(result["keypoints"][0]))


def test_image_without_contrast(extractor: ContextDescExtractor) -> None:
    describe(extractor, torch.full((3, 60, 80), 0.5), frames_of(5, 60, 80))
    result = extractor({"image": torch.zeros(1, 1, 60, 80)})
    assert result["keypoints"][0].shape == (0, 2)
    assert result["descriptors"][0].shape == (128, 0)
    assert result["matchability"][0].shape == (0,)


# ---------------------------------------------------------------- behaviour


def test_grey_equals_repeated_rgb_and_batch_size_changes_nothing(
    extractor: ContextDescExtractor,
) -> None:
    image, frames = image_of(80, 100)[:1], frames_of(30, 80, 100)
    grey = describe(extractor, image, frames)
    colour = describe(extractor, image.expand(3, -1, -1), frames)
    small = describe(variant(extractor, batch_size=7), image, frames)
    for key, value in grey.items():
        torch.testing.assert_close(colour[key], value, rtol=0, atol=0)
        torch.testing.assert_close(small[key], value, rtol=0, atol=2e-6)


def test_context_is_of_all_keypoints_and_of_the_image(extractor: ContextDescExtractor) -> None:
    image, frames = image_of(80, 100), frames_of(20, 80, 100)
    whole = describe(extractor, image, frames)
    half = describe(extractor, image, {key: value[:10] for key, value in frames.items()})
    difference = (whole["descriptors"][:, :10] - half["descriptors"]).abs().max()
    assert difference > 1e-2
    torch.testing.assert_close(whole["matchability"][:10], half["matchability"])
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    turned = describe(extractor, image, {key: value[order] for key, value in frames.items()})
    torch.testing.assert_close(
        turned["descriptors"], whole["descriptors"][:, order], rtol=0, atol=2e-6
    )


def test_options_change_what_they_say(extractor: ContextDescExtractor) -> None:
    image, frames = image_of(80, 100), frames_of(20, 80, 100)
    plain = describe(extractor, image, frames)["descriptors"]
    for option in (
        {"pyramid": True},
        {"upright": True},
        {"interpolation": "inverse_distance"},
    ):
        other = describe(variant(extractor, **option), image, frames)["descriptors"]
        assert (other - plain).abs().max() > 1e-3, option
    quantised = describe(variant(extractor, quantise=True), image, frames)["descriptors"]
    steps = 128 * quantised
    assert torch.equal(steps, steps.round())
    torch.testing.assert_close(steps, (128 * plain + 128).floor() - 128, rtol=0, atol=1)


def test_upright_counts_turned_copies_once(extractor: ContextDescExtractor) -> None:
    frames = frames_of(6, 80, 100)
    doubled = {key: torch.cat([value, value[[2, 0]]]) for key, value in frames.items()}
    doubled["oris"][6:] += 90
    doubled["scales"][7] += 1  # another size at the place of the first
    upright = variant(extractor, upright=True)
    selected = upright.select(doubled)
    kept = [0, 1, 2, 3, 4, 5, 7]
    for key in ("keypoints", "scores", "scales"):
        assert torch.equal(selected[key], doubled[key][kept])
    assert selected["oris"].abs().max() == 0
    result = describe(upright, image_of(80, 100), selected)
    # The same as at keypoints that say nothing but their place and size.
    without = {**{key: value[kept] for key, value in doubled.items()}, "oris": torch.zeros(7)}
    expected = describe(extractor, image_of(80, 100), without)
    torch.testing.assert_close(result["descriptors"], expected["descriptors"])


def test_keypoints_without_frames_are_upright_and_of_one_size(
    extractor: ContextDescExtractor,
) -> None:
    image, frames = image_of(80, 100), frames_of(10, 80, 100)
    bare = {key: frames[key] for key in ("keypoints", "scores")}
    given = {**bare, "scales": torch.full((10,), 3.0), "oris": torch.zeros(10)}
    expected = describe(extractor, image, given)["descriptors"]
    torch.testing.assert_close(describe(extractor, image, bare)["descriptors"], expected)
    upright = variant(extractor, upright=True, pyramid=True)
    assert "oris" not in describe(upright, image, bare)


def test_large_images_are_reduced_for_the_regional_features(
    extractor: ContextDescExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(extractor.regional, "forward", lambda x: seen.append(x) or x)
    image = image_of(150, 2051)
    extractor.regional_features(image)
    pixels = image.mul(255).round().byte().permute(1, 2, 0).numpy()
    factor = 1024 / 2051
    reduced = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    assert reduced.shape == (75, 1024, 3)
    expected = reduced.astype(np.float32) - [124, 117, 104]
    np.testing.assert_array_equal(seen[0][0].permute(1, 2, 0), expected)


# ---------------------------------------------------------------- weights and options


def test_weights_records_are_own_regional_detector(conf: dict[str, Any]) -> None:
    names = [record.name for record in ContextDescExtractor(conf).weights_records]
    assert names == ["own.safetensors", "regional.safetensors"]
    model = {**feature_conf("contextdesc-geo")["model"], "weights": conf["weights"]}
    geometric = ContextDescExtractor(model)
    assert [record.name for record in geometric.weights_records] == ["own.safetensors"]
    assert geometric.regional is None
    image, frames = image_of(80, 100), frames_of(20, 80, 100)
    both = describe(ContextDescExtractor(conf), image, frames)["descriptors"]
    assert (describe(geometric, image, frames)["descriptors"] - both).abs().max() > 1e-3


def test_weights_that_do_not_belong_together_are_refused(
    conf: dict[str, Any], tmp_path: Path
) -> None:
    save_file(seeded_state(ContextDesc(16)), tmp_path / "small.safetensors")
    own = {**conf, "weights": str(tmp_path / "small.safetensors")}
    with pytest.raises(ValueError, match=r"16 channels.*other weights"):
        ContextDescExtractor(own)
    ContextDescExtractor({**own, "visual_context": False})
    with pytest.raises(ValueError, match=r"contextdesc: .*matrix"):
        ContextDescExtractor({**conf, "weights": conf["regional_weights"]})


def test_weights_with_a_backbone_need_no_other_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "none"))
    network = ContextDesc(1280, EfficientNetLite0())
    network.load_state_dict(seeded_state(network))
    save_file({k: v.half() if v.is_floating_point() else v for k, v in
               network.state_dict().items()}, tmp_path / "own.safetensors")  # fmt: skip
    conf = {"weights": str(tmp_path / "own.safetensors")}
    extractor = ContextDescExtractor(conf)
    assert [record.name for record in extractor.weights_records] == ["own.safetensors"]
    assert extractor.regional is extractor.network.backbone
    # What --weights featplug asks of all networks of a conf.
    assert ContextDescExtractor({**conf, "regional_weights": "featplug"}).regional is not None
    assert {p.dtype for p in extractor.network.parameters()} == {torch.float32}

    image, frames = image_of(80, 100), frames_of(20, 80, 100)
    with torch.no_grad():
        expected = extractor.regional((image.mul(255).round()[None] - 127) / 128)[0]
        torch.testing.assert_close(extractor.regional_features(image), expected)
        assert extractor.regional_features(image_of(600, 300)).shape == (1280, 16, 8)
    own = describe(extractor, image, frames)["descriptors"]
    # Of grey pixels the backbone makes another map, and visual context other descriptors.
    other = describe(extractor, image.mean(0, keepdim=True), frames)["descriptors"]
    assert (own - other).abs().max() > 1e-4
    assert ContextDescExtractor({**conf, "visual_context": False}).network.backbone is None


def test_weights_and_backbones_that_do_not_belong_together_are_refused(
    conf: dict[str, Any], tmp_path: Path
) -> None:
    state = seeded_state(ContextDesc(1280, EfficientNetLite0()))
    save_file(state, tmp_path / "whole.safetensors")
    whole = {"weights": str(tmp_path / "whole.safetensors")}
    with pytest.raises(ValueError, match="leave out regional_weights"):
        ContextDescExtractor({**conf, **whole})
    own = {k: v for k, v in state.items() if not k.startswith("backbone.")}
    save_file(own, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"1280 channels.*other weights"):
        ContextDescExtractor({"weights": str(tmp_path / "own.safetensors")})
    backbone = {k: v for k, v in state.items() if k.startswith("backbone.")}
    save_file({**seeded_state(ContextDesc()), **backbone}, tmp_path / "mixed.safetensors")
    with pytest.raises(ValueError, match=r"backbone.*1280"):
        ContextDescExtractor({"weights": str(tmp_path / "mixed.safetensors")})


@pytest.mark.parametrize(
    "option",
    [{"interpolation": "bilinear"}, {"batch_size": 0}, {"default_scale": -1.0}, {"uprigt": True}],
)
def test_bad_options_are_refused(conf: dict[str, Any], option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        ContextDescExtractor({**conf, **option})
