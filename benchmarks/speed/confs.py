"""Every conf alike: its stages, and how its time grows with the image and with the keypoints."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.record import Curve
from benchmarks.speed.measure import Case, Figures, Measurement, Setup
from featplug.base import Matcher, choose_device
from featplug.io.images import list_images, load_image
from featplug.io.pair_lists import write_pairs
from featplug.io.results import StageRecorder
from featplug.io.store import FeatureReader
from featplug.methods import build_extractor, build_matcher, feature_conf, matcher_conf
from featplug.stages.extract import extract_features, resolve_feature_conf
from featplug.stages.pairs import exhaustive
from pipelines.run import FeatureOptions
from pipelines.sfm import SfmOptions, reconstruct

IMAGE_SIZES = (640, 1024, 1600, 2048)
"""Longer sides in pixels."""
_HEADLINE_SIZE = 1600
"""The single figures of a conf are at this one, to which the confs resize by default."""
NUM_KEYPOINTS = (1000, 2000, 5000, 10_000, 20_000)
_HLOC_NUM_KEYPOINTS = 10_000
"""hloc holds all similarities at once: 3.2 GB at 20,000, with what it sorts."""
_ROUNDS = 3


def stages_ours(setup: Setup, feature: str) -> Figures:
    """``pipelines.sfm`` on all pairs, from photographs to model."""
    outputs = setup.work / f"stages-{feature}"
    shutil.rmtree(outputs, ignore_errors=True)
    extraction = FeatureOptions(
        feature,
        max_keypoints=setup.max_keypoints,
        weights=setup.weights.get(feature),
        device=setup.device,
    )
    results = reconstruct(
        SfmOptions(setup.images, extraction, outputs=outputs, reference=setup.reference)
    )
    return _with_stages(results["stages"]) | results["metrics"]


def stages_hloc(setup: Setup) -> Figures:
    """The same by hloc with its own SIFT: extraction, matching, reconstruction."""
    sys.path.insert(0, str(setup.hloc))
    from hloc import extract_features as hloc_extract  # type: ignore[import-not-found]
    from hloc import match_features as hloc_match
    from hloc import reconstruction

    outputs = setup.work / "stages-hloc"
    shutil.rmtree(outputs, ignore_errors=True)
    pairs = outputs / "pairs.txt"
    outputs.mkdir()
    write_pairs(pairs, exhaustive(list_images(setup.images)))
    recorder = StageRecorder()
    with recorder.stage("extract"):
        features = hloc_extract.main(hloc_extract.confs["sift"], setup.images, outputs)
    with recorder.stage("match"):
        matches = hloc_match.main(
            hloc_match.confs["NN-ratio"], pairs, features=features, matches=outputs / "matches.h5"
        )
    with recorder.stage("reconstruct"):
        model = reconstruction.main(outputs / "sfm", setup.images, pairs, features, matches)
    figures = {"registered_images": 0, "sparse_points": 0}
    if model is not None:
        figures["registered_images"] = model.num_reg_images()
        figures["sparse_points"] = model.num_points3D()
    return _with_stages(recorder.stages) | figures


def _with_stages(stages: dict[str, dict[str, float]]) -> Figures:
    return {
        "seconds": sum(stage["seconds"] for stage in stages.values()),
        "peak_memory_mib": max(stage["peak_memory_mib"] for stage in stages.values()),
        "stages": stages,
    }


class _Series:
    """Measures one thing at several sizes, in one process."""

    def __init__(self, label: str, device: torch.device) -> None:
        self._label = label
        self._device = device
        self._recorder = StageRecorder()
        self.x: list[float] = []
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    def measure(self, x: float, call: Callable[[], Any], rounds: int) -> Any:
        """Call some times, note the medians, and give what the last call returned."""
        seconds, cpu_seconds = [], []
        for _ in range(rounds):
            with self._recorder.stage(f"{x:g}"):
                start, cpu_start = time.perf_counter(), time.process_time()
                result = call()
                if self._device.type != "cpu":
                    torch.accelerator.synchronize(self._device)
                seconds.append(time.perf_counter() - start)
                cpu_seconds.append(time.process_time() - cpu_start)
        self.x.append(x)
        self.seconds.append(median(seconds))
        self.cpu_seconds.append(median(cpu_seconds))
        return result

    def figures(self, chosen: int, **others: tuple[list[float], str]) -> Figures:
        """Give the figures at one of the sizes, and curves over all of them.

        Args:
            chosen: index of the size.
            others: name to what else there is at each size, and its label.
        """
        peaks = [stage["peak_memory_mib"] for stage in self._recorder.stages.values()]
        curves = {
            "seconds": (self.seconds, "seconds"),
            "cpu_seconds": (self.cpu_seconds, "seconds of all cores"),
            **others,
            "peak_memory_mib": (peaks, "peak memory (MiB)"),
        }
        return {
            **{name: y[chosen] for name, (y, _) in curves.items()},
            "curves": {
                name: Curve(self.x, y, self._label, label) for name, (y, label) in curves.items()
            },
        }


@torch.inference_mode()
def image_sizes(setup: Setup, feature: str) -> Figures:
    """Extraction from one photograph at several sizes, up to its own."""
    device = choose_device(setup.device)
    conf = resolve_feature_conf(
        feature, max_keypoints=setup.max_keypoints, weights=setup.weights.get(feature)
    )
    extractor = build_extractor(conf["model"]).eval().to(device)
    name = list_images(setup.images)[0]
    images: dict[int, Tensor] = {}
    for size in IMAGE_SIZES:
        limits = {"resize_max": size, "resize_max_sum": None}
        loaded = load_image(setup.images, name, conf["preprocessing"] | limits)
        image = torch.from_numpy(loaded.image)
        images.setdefault(max(image.shape[1:]), image[None].to(device))
    series, num_keypoints = _Series("longer side (px)", device), []
    extractor({"image": next(iter(images.values()))})  # the first pass also sets things up
    for size, image in images.items():
        rounds = _ROUNDS if size < _HEADLINE_SIZE else 1
        features = series.measure(size, partial(extractor, {"image": image}), rounds)
        num_keypoints.append(float(len(features["keypoints"][0])))
    megapixels = [image.shape[2] * image.shape[3] / 1e6 for image in images.values()]
    headline = max(i for i, size in enumerate(images) if i == 0 or size <= _HEADLINE_SIZE)
    return series.figures(
        headline,
        megapixels_per_second=(_over(megapixels, series.seconds), "megapixels per second"),
        keypoints_per_second=(_over(num_keypoints, series.seconds), "keypoints per second"),
        keypoints=(num_keypoints, "keypoints"),
    )


def _over(amounts: Sequence[float], seconds: Sequence[float]) -> list[float]:
    return [amount / s for amount, s in zip(amounts, seconds, strict=True)]


def _features(setup: Setup, feature: str) -> Path:
    """Extract the photographs' features, unless they are there."""
    outputs = setup.work / f"stages-{feature}"
    return extract_features(
        feature,
        setup.images,
        outputs,
        max_keypoints=setup.max_keypoints,
        weights=setup.weights.get(feature),
        device=setup.device,
    ).feature_path


def _sides(setup: Setup, feature: str) -> list[dict[str, Tensor]]:
    """Two images' features, each pooled from half of the photographs and shuffled.

    No single photograph has as many, and descriptors drawn at random would be easier to tell apart
    than true ones.
    """
    matcher = _matcher(feature)
    keys = (*matcher.required_keys, *matcher.optional_keys)
    sides = []
    with FeatureReader(_features(setup, feature)) as reader:
        names = reader.names()
        for number, half in enumerate((names[::2], names[1::2])):
            arrays = [reader.read(name) for name in half]
            num = sum(len(array["keypoints"]) for array in arrays)
            order = np.random.default_rng(number).permutation(num)
            side = {}
            for key in keys:
                if key not in arrays[0]:
                    continue
                if arrays[0][key].shape[-1] == len(arrays[0]["keypoints"]):
                    pooled = np.concatenate([array[key] for array in arrays], -1)[..., order]
                else:
                    pooled = arrays[0][key]  # of the whole image, such as LISRD's tiles
                tensor = torch.from_numpy(np.ascontiguousarray(pooled))
                side[key] = tensor.float() if tensor.is_floating_point() else tensor
            sides.append(side)
    return sides


def _matcher(feature: str) -> Matcher:
    return build_matcher(matcher_conf(feature_conf(feature)["matcher"])["model"])


def keypoints_ours(setup: Setup, feature: str) -> Figures:
    """Matching of two images with several numbers of keypoints, by the conf's own matcher."""
    return _match(_matcher(feature), _sides(setup, feature), NUM_KEYPOINTS, setup.device)


def keypoints_hloc(setup: Setup, feature: str) -> Figures:
    """The same by hloc's matcher, with the same options."""
    sys.path.insert(0, str(setup.hloc))
    from hloc.matchers.nearest_neighbor import NearestNeighbor  # type: ignore[import-not-found]

    options = matcher_conf(feature_conf(feature)["matcher"])["model"]
    counts = tuple(num for num in NUM_KEYPOINTS if num <= _HLOC_NUM_KEYPOINTS)
    return _match(NearestNeighbor(options), _sides(setup, feature), counts, setup.device)


def _pair(sides: Sequence[Mapping[str, Tensor]], num: int) -> dict[str, Tensor]:
    """Give a matcher's input, of some keypoints of each image only."""
    data = {}
    for i, side in enumerate(sides):
        total = side["descriptors"].shape[-1]
        for key, value in side.items():
            chosen = value[..., :num].contiguous() if value.shape[-1] == total else value
            data[f"{key}{i}"] = chosen[None]
    return data


@torch.inference_mode()
def _match(
    matcher: nn.Module,
    sides: list[dict[str, Tensor]],
    counts: tuple[int, ...],
    device_name: str | None,
) -> Figures:
    device = choose_device(device_name)
    matcher = matcher.eval().to(device)
    sides = [{key: value.to(device) for key, value in side.items()} for side in sides]
    most = min(side["descriptors"].shape[-1] for side in sides)
    counts = tuple(num for num in counts if num <= most) or (most,)
    series = _Series("keypoints of an image", device)
    matcher(_pair(sides, counts[0]))  # the first pass also sets things up
    for num in counts:
        series.measure(num, partial(matcher, _pair(sides, num)), _ROUNDS)
    numbers = [float(num) for num in counts]
    return series.figures(
        len(counts) - 1,
        keypoints=(numbers, "keypoints of an image"),
        keypoints_per_second=(
            _over([2 * num for num in numbers], series.seconds),
            "keypoints per second",
        ),
    )


def _stages_case(feature: str) -> Case:
    measurements: dict[str, Measurement] = {"featplug": partial(stages_ours, feature=feature)}
    if feature == "sift":  # the one that hloc has, too
        measurements["hloc"] = stages_hloc
    return Case(feature, measurements)


def _image_size_case(feature: str) -> Case:
    return Case(feature, {"featplug": partial(image_sizes, feature=feature)})


def _keypoints_case(feature: str) -> Case:
    model = matcher_conf(feature_conf(feature)["matcher"])["model"]
    measurements: dict[str, Measurement] = {"featplug": partial(keypoints_ours, feature=feature)}
    if model["name"] == "nearest_neighbor" and "metric" not in model:  # hloc's has products only
        measurements["hloc"] = partial(keypoints_hloc, feature=feature)
    return Case(feature, measurements, partial(_features, feature=feature))


CASES: dict[str, Callable[[str], Case]] = {
    "stages": _stages_case,
    "image-size": _image_size_case,
    "keypoints": _keypoints_case,
}
"""Of any conf, by its name."""
