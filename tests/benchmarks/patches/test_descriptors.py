"""What describes patches."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.patches.descriptors import load_descriptor, resize_patches
from benchmarks.patches.sift import sift_of_patches
from featplug.extractors.contextdesc import ContextDescExtractor, PatchSampler
from tests.scenes.pictures import textured_image


def patches(num: int = 6, size: int = 65) -> np.ndarray:
    return np.stack([textured_image(seed, size, size) for seed in range(num)])


def first_pixels(given: np.ndarray) -> np.ndarray:
    """A descriptor of the user's, which these tests name."""
    return given[:, 0, :8].astype(float) - 100


def one_too_few(given: np.ndarray) -> np.ndarray:
    return first_pixels(given)[1:]


def broken(given: np.ndarray) -> np.ndarray:
    raise RuntimeError("out of order")


def test_sift_of_a_ramp_has_one_orientation() -> None:
    y, x = np.mgrid[:65, :65]
    for turn, ramp in enumerate((x, x + y, y, y - x + 64)):  # 0°, 45°, 90°, 135°
        (descriptor,) = sift_of_patches(ramp[None])
        cells = descriptor.reshape(16, 8)
        np.testing.assert_allclose(np.delete(cells, turn, axis=1), 0, atol=1e-6)
        assert (cells[:, turn] > 0).all()
    assert (sift_of_patches(np.full((1, 65, 65), 7)) == 0).all()


def test_sift_of_a_turned_patch_is_turned() -> None:
    given = patches()
    cells = sift_of_patches(given).reshape(-1, 4, 4, 8)
    turned = sift_of_patches(np.rot90(given, -1, axes=(1, 2))).reshape(-1, 4, 4, 8)
    # A quarter turn, clockwise on the screen, is two orientations of eight.
    expected = np.roll(np.rot90(cells, -1, axes=(1, 2)), 2, axis=3)
    np.testing.assert_allclose(turned, expected, atol=1e-6)


def test_sift_and_rootsift_differ_by_the_square_root() -> None:
    given = patches()
    plain, root = (load_descriptor(name)(given) for name in ("sift", "rootsift"))
    np.testing.assert_allclose(root**2, plain / plain.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(("name", "length"), [("doap", 128), ("doap-binary", 256)])
def test_networks_describe_patches_of_any_size_alike(name: str, length: int) -> None:
    descriptor = load_descriptor(name, "featplug", "cpu")
    assert [record["origin"] for record in descriptor.weights] == ["featplug"]
    given = patches(size=64)
    described = descriptor(given)
    assert described.shape == (6, length)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)
    if name == "doap-binary":
        assert set(np.unique(described)) == {-1 / 16, 1 / 16}
    large = np.repeat(np.repeat(given, 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(descriptor(large), described, atol=1e-4)


def test_contextdesc_is_its_local_network() -> None:
    """The patches that the extractor cuts have the extractor's local features."""
    image = textured_image(4, 200, 160)
    keypoints, scales, oris = np.array([[80.0, 70], [120, 90]]), np.array([3.0, 4]), np.zeros(2)
    standard = PatchSampler(image, scales)(keypoints, scales, oris)
    rescaled = (standard - standard.min((1, 2), keepdims=True)) / np.ptp(
        standard, axis=(1, 2), keepdims=True
    )
    described = load_descriptor("contextdesc", "featplug", "cpu")(
        np.rint(255 * rescaled).astype(np.uint8)
    )
    extractor = ContextDescExtractor({"visual_context": False, "weights": "featplug"})
    with torch.inference_mode():
        local, _ = extractor.network.describe_patches(torch.from_numpy(standard))
    expected = torch.nn.functional.normalize(local).numpy()
    assert ((described * expected).sum(1) > 0.999).all()


def test_patches_are_made_smaller_by_averages() -> None:
    given = np.zeros((1, 4, 4), np.uint8)
    given[0, 0, 0], given[0, 3, 3] = 200, 40
    np.testing.assert_allclose(resize_patches(given, 2), [[[50, 0], [0, 10]]])
    assert resize_patches(given, 4).dtype == np.float32


def test_a_function_of_the_users_describes_patches() -> None:
    name = f"{__name__}:first_pixels"
    descriptor = load_descriptor(name)
    given = patches()
    np.testing.assert_allclose(descriptor(given), given[:, 0, :8] - 100.0)
    assert descriptor.name == name
    with pytest.raises(ValueError, match=r"shape \(5, 8\) for 6 patches"):
        load_descriptor(f"{__name__}:one_too_few")(given)
    with pytest.raises(ValueError, match=r"broken.*out of order"):
        load_descriptor(f"{__name__}:broken")(given)


def test_a_function_of_a_file_describes_patches(tmp_path: Path) -> None:
    file = tmp_path / "own_patches.py"
    file.write_text("def first(patches):\n    return patches[:, 0, :8] / 1.0\n")
    given = patches()
    np.testing.assert_allclose(load_descriptor(f"{file}:first")(given), given[:, 0, :8])
    with pytest.raises(ValueError, match="no file"):
        load_descriptor(f"{tmp_path}/none.py:first")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("d2net", None, "sift, rootsift, contextdesc"),
        ("nothing", None, "nothing"),
        ("sift", "official", "sift"),
        ("no_such_module:f", None, "no_such_module:f"),
        ("numpy:no_such", None, "numpy:no_such"),
        ("numpy:pi", None, "numpy:pi"),
    ],
)
def test_what_describes_nothing_is_named(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_descriptor(name, weights)
