"""The extraction engine: what it writes, what it skips, and that it survives being killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
import zlib
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from featplug.base import Extractor
from featplug.io.artifact import file_hash
from featplug.io.store import FeatureReader
from featplug.methods import feature_conf
from featplug.networks.mtldesc import MTLDesc
from featplug.stages.extract import ExtractSummary, extract_features
from tests.scenes.pictures import textured_image, write_textured_images
from tests.stages.killing import Killer


def read_all(path: Path) -> dict[str, np.ndarray]:
    """Every dataset of a file."""
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def assert_same_content(path0: Path, path1: Path) -> None:
    content0, content1 = read_all(path0), read_all(path1)
    assert content0.keys() == content1.keys()
    for name, value in content0.items():
        np.testing.assert_array_equal(value, content1[name], err_msg=name)


def test_features_are_in_original_pixels(tmp_path: Path) -> None:
    """A picture at twice the size, reduced by the conf, gives the keypoints of the small one."""
    small = textured_image(1, 200, 150)
    Image.fromarray(small).save(tmp_path / "small.png")
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    Image.fromarray(large).save(tmp_path / "large.png")
    conf = feature_conf("sift")
    conf["preprocessing"]["resize_max"] = 200
    summary = extract_features(conf, tmp_path, tmp_path)
    assert summary.num_extracted == 2
    with FeatureReader(summary.feature_path) as features:
        first, second = features.read("small.png"), features.read("large.png")
    assert len(first["keypoints"]) > 30
    # Pixel centres: small pixel k covers large pixels 2k and 2k + 1, its centre is at 2k + 0.5.
    np.testing.assert_allclose(second["keypoints"], 2 * first["keypoints"] + 0.5, atol=1e-3)
    np.testing.assert_allclose(second["scales"], 2 * first["scales"], rtol=1e-5)
    assert second["image_size"].tolist() == [400, 300]
    assert first["keypoints"].dtype == np.float32
    assert first["descriptors"].dtype == np.float16


def test_descriptors_can_be_kept_whole(tmp_path: Path) -> None:
    write_textured_images(tmp_path, 1)
    summary = extract_features("sift", tmp_path, tmp_path, as_half=False)
    assert read_all(summary.feature_path)["000.png/descriptors"].dtype == np.float32


def test_bad_images_are_skipped_and_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 3)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "images/black.png")
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(tmp_path / "images/dot.png")
    (tmp_path / "images/bad.jpg").write_bytes(b"\xff\xd8\xff")
    names = ["000.png", "bad.jpg", "gone.png", "black.png", "dot.png"]
    summary = extract_features("sift", tmp_path / "images", tmp_path, image_list=names)
    assert list(summary.skipped) == ["bad.jpg", "gone.png"]
    assert "bad.jpg" in summary.skipped["bad.jpg"]
    with FeatureReader(summary.feature_path) as features:
        assert features.names() == ["000.png", "black.png", "dot.png"]
        for name in ("black.png", "dot.png"):
            empty = features.read(name)
            assert empty["keypoints"].shape == (0, 2)
            assert empty["descriptors"].shape == (128, 0)


def test_nothing_but_bad_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"None of the 1 images could be used; .*bad.jpg"):
        extract_features("sift", tmp_path, tmp_path)


def test_only_new_images_are_extracted(tmp_path: Path) -> None:
    names = write_textured_images(tmp_path, 3)
    first = extract_features("sift", tmp_path, tmp_path, image_list=names[:2])
    again = extract_features("sift", tmp_path, tmp_path)
    assert (first.num_extracted, again.num_extracted, again.num_present) == (2, 1, 2)


def test_an_exchanged_photograph_is_noticed(tmp_path: Path) -> None:
    write_textured_images(tmp_path, 2)
    extract_features("sift", tmp_path, tmp_path)
    Image.fromarray(textured_image(9)).save(tmp_path / "001.png")
    with pytest.raises(ValueError, match=r"001.png is another photograph .* --overwrite"):
        extract_features("sift", tmp_path, tmp_path)
    assert extract_features("sift", tmp_path, tmp_path, overwrite=True).num_extracted == 2


def test_an_exchanged_photograph_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    for seed in (0, 1):
        Image.fromarray(textured_image(seed)).save(tmp_path / "plain.pgm")
        if seed == 0:
            extract_features("sift", tmp_path, tmp_path)
    with pytest.raises(ValueError, match=r"plain.pgm is another photograph"):
        extract_features("sift", tmp_path, tmp_path)


def test_a_photograph_that_changed_in_one_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "plain.pgm"
    Image.fromarray(textured_image(0)).save(path)
    extract_features("sift", tmp_path, tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"plain.pgm .* --overwrite"):
        extract_features("sift", tmp_path, tmp_path)


class Means(Extractor):
    """One keypoint, described by the mean grey value; computes batches within a memory."""

    default_conf: ClassVar[dict[str, Any]] = {"largest": 99, "bad": -1.0}
    sizes: ClassVar[list[int]] = []

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        return self.extract_batch(image[None])[0]

    def extract_batch(self, images: Tensor) -> list[dict[str, Tensor]]:
        if len(images) > self.conf["largest"]:
            raise RuntimeError("CUDA out of memory. Tried to allocate 7 GiB.")
        self.sizes.append(len(images))
        means = images.mean((1, 2, 3))
        if (means == self.conf["bad"]).any():
            raise IndexError("index 7 is out of bounds")
        one = {"keypoints": torch.ones(1, 2), "scores": torch.ones(1)}
        return [{**one, "descriptors": mean.reshape(1, 1)} for mean in means]


def extract_means(folder: Path, path: Path, batch_size: int, **options: object) -> ExtractSummary:
    Means.sizes.clear()
    conf = {"output": "feats-featplug-means", "model": {"name": f"{__name__}:Means", **options}}
    return extract_features(
        conf, folder, feature_path=path, batch_size=batch_size, device="cpu", as_half=False
    )


@pytest.fixture
def grey_images(tmp_path: Path) -> Path:
    """Ten images of two sizes in turn, each of one grey value."""
    folder = tmp_path / "grey"
    folder.mkdir()
    for grey in range(10):
        shape = (12, 16) if grey % 2 else (16, 12)
        Image.fromarray(np.full(shape, grey, np.uint8)).save(folder / f"{grey}.png")
    return folder


def test_images_of_one_size_are_extracted_together(grey_images: Path, tmp_path: Path) -> None:
    extract_means(grey_images, tmp_path / "one.h5", 1)
    assert Means.sizes == [1] * 10
    summary = extract_means(grey_images, tmp_path / "three.h5", 3)
    assert sorted(Means.sizes) == [2, 2, 3, 3]
    assert (summary.num_extracted, summary.skipped) == (10, {})
    assert_same_content(tmp_path / "one.h5", tmp_path / "three.h5")
    content = read_all(tmp_path / "three.h5")
    for grey in range(10):
        assert round(255 * float(content[f"{grey}.png/descriptors"][0, 0])) == grey
        assert content[f"{grey}.png/image_size"].tolist() == [[12, 16], [16, 12]][grey % 2]
    # The size of a batch is no reason to extract again.
    assert extract_means(grey_images, tmp_path / "one.h5", 4).num_present == 10
    with pytest.raises(ValueError, match="batch size must be 1 or more, not 0"):
        extract_means(grey_images, tmp_path / "none.h5", 0)


def test_a_networks_batches_differ_in_the_last_bit_stored_at_most(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 4)
    torch.manual_seed(0)
    save_file(MTLDesc().state_dict(), tmp_path / "drawn.safetensors")
    conf = feature_conf("mtldesc")
    conf["model"] |= {"detection_threshold": 0.5, "weights": str(tmp_path / "drawn.safetensors")}
    alone, together = (
        read_all(
            extract_features(
                conf, tmp_path / "images", feature_path=tmp_path / f"{size}.h5", batch_size=size
            ).feature_path
        )
        for size in (1, 3)
    )
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        assert value.shape == together[name].shape
        if name.endswith("descriptors"):
            assert value.shape[1] > 10
            # Numbers next to each other in float16 have bits that follow each other.
            bits = [array.view(np.int16).astype(int) for array in (value, together[name])]
            same_sign = np.sign(value) == np.sign(together[name])
            assert np.abs(bits[0] - bits[1])[same_sign].max() <= 1
            assert np.abs(value[~same_sign]).max(initial=0) < 1e-6
        else:
            np.testing.assert_allclose(value, together[name], rtol=1e-5, err_msg=name)


def test_a_batch_that_does_not_fit_memory_is_made_smaller_and_that_is_said_once(
    grey_images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extract_means(grey_images, tmp_path / "one.h5", 1)
    summary = extract_means(grey_images, tmp_path / "five.h5", 5, largest=1)
    assert (summary.num_extracted, summary.skipped) == (10, {})
    assert Means.sizes == [1] * 10
    (message,) = [record.message for record in caplog.records if "memory" in record.message]
    assert message == "5 images at a time do not fit memory; 1 from now on."
    assert_same_content(tmp_path / "one.h5", tmp_path / "five.h5")


def test_an_image_that_does_not_fit_memory_alone_is_skipped(
    grey_images: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"None of the 10.*\.png: CUDA out of memory"):
        extract_means(grey_images, tmp_path / "none.h5", 4, largest=0)


def test_an_image_that_a_method_fails_for_costs_no_other_of_its_batch(
    grey_images: Path, tmp_path: Path
) -> None:
    summary = extract_means(grey_images, tmp_path / "five.h5", 5, bad=0.0)
    assert list(summary.skipped) == ["0.png"]
    assert "0.png: IndexError" in summary.skipped["0.png"]
    assert summary.num_extracted == 9


def turn_into_0_1(path: Path, image_dir: Path) -> None:
    """Write the provenance and the fingerprints of featplug 0.1 into a feature file."""
    with h5py.File(path, "r+") as file:
        provenance = json.loads(file.attrs["featplug"])
        del provenance["revisions"], provenance["commit"]
        file.attrs["featplug"] = json.dumps({**provenance, "version": "0.1.0"})
        del file.attrs["featplug_groups"]
        for name in file:
            content = (image_dir / name).read_bytes()
            middle = content[len(content) // 2 - 2048 :][:4096]
            fingerprint = f"{len(content)}-{zlib.crc32(middle):08x}"
            file[name].attrs["image_fingerprint"] = fingerprint
            del file[name].attrs["featplug_checksums"]


def test_a_feature_file_of_0_1_is_continued_while_the_photographs_are_untouched(
    tmp_path: Path,
) -> None:
    names = write_textured_images(tmp_path, 3)
    path = extract_features("sift", tmp_path, tmp_path, image_list=names[:2]).feature_path
    turn_into_0_1(path, tmp_path)
    later = time.time() + 10  # than the photographs, whatever the disk's clock resolves
    os.utime(path, (later, later))
    again = extract_features("sift", tmp_path, tmp_path)
    assert (again.num_extracted, again.num_present) == (1, 2)
    with FeatureReader(path) as reader:
        assert reader.fingerprint(names[0]).startswith(file_hash(tmp_path / names[0]))


def test_a_run_between_does_not_make_a_changed_photograph_the_one_of_0_1(tmp_path: Path) -> None:
    names = write_textured_images(tmp_path, 2, width=400, height=300)
    path = extract_features("sift", tmp_path, tmp_path).feature_path
    turn_into_0_1(path, tmp_path)
    now = time.time()
    os.utime(path, (now + 10, now + 10))
    changed = tmp_path / names[1]
    content = bytearray(changed.read_bytes())
    assert len(content) > 3 * 4096
    content[-1] ^= 1  # far from the middle that 0.1 looked at
    changed.write_bytes(content)
    os.utime(changed, (now + 20, now + 20))
    extract_features("sift", tmp_path, tmp_path, image_list=names[:1])
    os.utime(path, (now + 30, now + 30))
    with pytest.raises(ValueError, match=rf"{names[1]} .* --overwrite"):
        extract_features("sift", tmp_path, tmp_path)


def test_a_feature_file_of_0_1_is_not_continued_for_photographs_of_later(tmp_path: Path) -> None:
    (name,) = write_textured_images(tmp_path, 1)
    path = extract_features("sift", tmp_path, tmp_path).feature_path
    content = bytearray((tmp_path / name).read_bytes())
    fingerprint = f"{len(content)}-{zlib.crc32(content[len(content) // 2 - 2048 :][:4096]):08x}"
    with h5py.File(path, "r+") as file:
        file[name].attrs["image_fingerprint"] = fingerprint
        del file[name].attrs["featplug_checksums"]
    os.utime(path, (0, 0))
    with pytest.raises(ValueError, match=rf"{name} .*0\.1.* --overwrite"):
        extract_features("sift", tmp_path, tmp_path)


class Stubborn(Extractor):
    """Fails on bright images, and returns NaN for dark ones."""

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        if image.mean() > 0.9:
            raise RuntimeError("out of memory\nwith a long story")
        value = float("nan") if image.mean() < 0.1 else 1.0
        return {
            "keypoints": torch.zeros((1, 2)),
            "scores": torch.full((1,), value),
            "descriptors": torch.ones((4, 1)),
        }


def test_an_image_that_the_method_fails_on_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    for name, grey in (("bright.png", 255), ("dark.png", 0), ("fine.png", 128)):
        Image.new("L", (20, 20), grey).save(tmp_path / name)
    conf = {"output": "feats-featplug-x", "model": {"name": f"{__name__}:Stubborn"}}
    summary = extract_features(conf, tmp_path, tmp_path)
    assert summary.names == ["fine.png"]
    assert summary.skipped["bright.png"].endswith("bright.png: out of memory")
    assert "dark.png: Stubborn: scores has NaN" in summary.skipped["dark.png"]


def test_weights_by_another_way_do_not_make_another_file(shared: Path, tmp_path: Path) -> None:
    """The same hash is the same conf, however the file was found."""
    write_textured_images(tmp_path / "images", 1, width=40, height=32)
    file = shared / "weights" / "vgg16_imagenet_d2net_fp16.pth"
    for place in (file, tmp_path / "copy.pth"):
        if place != file:
            shutil.copyfile(file, place)
        summary = extract_features("d2net-ots", tmp_path / "images", tmp_path, weights=str(place))
    assert summary.num_present == 1


def test_max_keypoints_keeps_the_strongest_and_is_another_conf(tmp_path: Path) -> None:
    write_textured_images(tmp_path, 1)
    everything = read_all(extract_features("sift", tmp_path, tmp_path).feature_path)
    with pytest.raises(ValueError, match=r"max_keypoints = -1, .* 20;"):
        extract_features("sift", tmp_path, tmp_path, max_keypoints=20)
    few = extract_features("sift", tmp_path, feature_path=tmp_path / "few.h5", max_keypoints=20)
    kept = read_all(few.feature_path)["000.png/scores"]
    assert len(kept) == 20
    assert sorted(kept) == sorted(everything["000.png/scores"])[-20:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conf": "shift"}, "no feature 'shift'; there are sift, sift-opencv, d2net"),
        ({"max_keypoints": -3}, "max_keypoints must be 1 or more"),
        ({"precision": "int4"}, "precision must be one of fp32, fp16, bf16"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"image_list": ["../x.png"]}, "'../x.png' must be a plain path"),
        ({"conf": {**feature_conf("sift"), "model": {"name": "sift", "x": 1}}}, "no option 'x'"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    write_textured_images(tmp_path, 1)
    with pytest.raises(ValueError, match=message):
        extract_features(
            **{"conf": "sift", "image_dir": tmp_path, "export_dir": tmp_path, **arguments}
        )


@pytest.mark.slow
def test_killed_at_random_instants_it_loses_nothing(tmp_path: Path) -> None:
    names = write_textured_images(tmp_path / "images", 60)
    whole = extract_features("sift", tmp_path / "images", tmp_path / "whole")
    killer = Killer([extract_features.__module__, "featplug.extractors.sift"])
    rng = random.Random(0)
    path = tmp_path / "killed" / whole.feature_path.name
    survived = [0]
    for _ in range(8):
        arguments = ("sift", tmp_path / "images", path.parent)
        killer.kill(extract_features, arguments, path, rng.uniform(0, whole.seconds / 20))
        with FeatureReader(path) as features:
            survived.append(len(features.names()))
            for name in features.names():
                assert len(features.read(name)) == 6
    assert survived == sorted(survived)
    assert killer.num_hits > 0
    assert any(0 < num < len(names) for num in survived)
    rest = extract_features("sift", tmp_path / "images", path.parent)
    assert rest.num_present == survived[-1]
    assert rest.num_present + rest.num_extracted == len(names)
    assert_same_content(path, whole.feature_path)
