"""The measurements of featplug, and of peers that do the same."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measured_method import find_method
from benchmarks.speed.agreement import agreement
from benchmarks.speed.measure import CaseName, Measurement, Sample, Setup, measure_step
from benchmarks.speed.method_parts import method_parts
from benchmarks.speed.pipeline_stages import stages_colmap, stages_hloc, stages_ours
from featplug.api import load
from featplug.api.image_matcher import ImageMatcher
from featplug.base import Matcher, autocast, choose_device
from featplug.io.image_folder import list_images
from featplug.io.images import load_image
from featplug.io.orientation import Turn
from featplug.io.parts.feature_parts import open_features
from featplug.methods import (
    Conf,
    build_matcher,
    feature_conf,
)
from featplug.methods.method_names import file_word
from featplug.stages.extract import extract_features
from featplug.stages.shared_options import NetworkOptions
from featplug.weights.loading import load_weights
from pipelines.run_options import values_of

IMAGE_SIZES = (640, 1024, 1600, 2048)
"""Longer sides of the images in pixels."""
NUM_KEYPOINTS = (1000, 2000, 5000, 10_000, 20_000)
_HLOC_NUM_KEYPOINTS = 10_000
"""Largest number for hloc, whose similarities and their sorting take 3.2 GB at 20,000 keypoints."""
_ROUNDS = 3


@torch.inference_mode()
def image_size_ours(setup: Setup) -> Sample:
    """Measure extraction from one photograph at several sizes, up to its own."""
    options, method = setup.options, find_method(setup.feature)
    if method.matches_images:
        return _pairs_of_images(setup, options.pair_matcher_conf(method))
    extraction = options.extraction(method)
    feature = load(
        extraction.conf(method.feature or ""), device=setup.device, precision=setup.precision
    )

    def extract(image: np.ndarray) -> int:
        batch = torch.from_numpy(image)[None].to(feature.device)
        with autocast(feature.device, feature.precision):
            return len(feature.extractor({"image": batch})["keypoints"][0])

    return _over_image_sizes(setup, lambda images: extract(images[0]), feature.device)


def _pairs_of_images(setup: Setup, conf: Conf) -> Sample:
    """Measure a matcher of two images on two photographs."""
    matcher = ImageMatcher(conf, device=setup.device, precision=setup.precision)

    def match(images: Sequence[np.ndarray]) -> int:
        sides = [matcher.prepare(image, Turn(image.shape[:0:-1])) for image in images]
        return len(matcher.match_prepared(sides[0], sides[1]))

    return _over_image_sizes(setup, match, matcher.device, num_images=2)


@torch.inference_mode()
def image_size_authors(setup: Setup) -> Sample:
    """Measure the code of D2-Net's authors on the same images and weights, on the CPU."""
    sys.path.insert(0, str(setup.options.d2net))
    from lib.model_test import D2Net  # type: ignore[import-not-found]
    from lib.pyramid import process_multiscale  # type: ignore[import-not-found]
    from lib.utils import preprocess_image  # type: ignore[import-not-found]

    conf = feature_conf(setup.feature)["model"]
    model = D2Net(model_file=None, use_relu=conf.get("use_relu", True), use_cuda=False)
    load_weights(conf["checkpoint"], setup.options.weights_of(setup.feature) or "auto", model)
    scales = list(conf.get("scales", (1.0,)))

    def extract(image: np.ndarray) -> int:
        pixels = preprocess_image(255 * image.transpose(1, 2, 0), preprocessing="caffe")
        batch = torch.from_numpy(pixels[None].astype(np.float32))
        return len(process_multiscale(batch, model, scales=scales)[0])

    return _over_image_sizes(setup, lambda images: extract(images[0]), torch.device("cpu"))


def _over_image_sizes(
    setup: Setup,
    measured: Callable[[Sequence[np.ndarray]], int],
    device: torch.device,
    num_images: int = 1,
) -> Sample:
    """Measure a function from images C×H×W in [0, 1] to its number of keypoints, or of matches."""
    preprocessing = find_method(setup.feature).conf["preprocessing"]
    names = list_images(setup.options.images)[:num_images]
    of_size: dict[int, list[np.ndarray]] = {}
    for size in IMAGE_SIZES:
        limits = {"resize_max": size, "resize_max_sum": None}
        images = [load_image(setup.options.images, n, preprocessing | limits).image for n in names]
        of_size.setdefault(max(images[0].shape[1:]), images)
    measured(next(iter(of_size.values())))  # the first pass also initializes libraries
    steps = []
    for size, images in of_size.items():
        step, num = measure_step(f"{size}", partial(measured, images), device, 1)
        megapixels = sum(image.shape[1] * image.shape[2] for image in images) / 1e6
        found = "keypoints" if num_images == 1 else "matches"
        steps.append(replace(step, counts={"megapixels": megapixels, found: num}))
        if step.seconds[0] > setup.options.max_seconds:
            break
    return Sample(steps, "longer side (px)")


def keypoints_ours(setup: Setup) -> Sample:
    """Measure the feature's own matcher on two images with several numbers of keypoints."""
    return _over_keypoints(setup, _matcher(setup.feature), NUM_KEYPOINTS)


def keypoints_hloc(setup: Setup) -> Sample:
    """Measure hloc's matcher with the same options on the same keypoints."""
    sys.path.insert(0, str(setup.options.hloc))
    from hloc.matchers.nearest_neighbor import NearestNeighbor  # type: ignore[import-not-found]

    matcher = NearestNeighbor(find_method(setup.feature).matcher_conf()["model"])
    counts = tuple(num for num in NUM_KEYPOINTS if num <= _HLOC_NUM_KEYPOINTS)
    return _over_keypoints(setup, matcher, counts)


@torch.inference_mode()
def _over_keypoints(setup: Setup, matcher: nn.Module, counts: tuple[int, ...]) -> Sample:
    device = choose_device(setup.device)
    matcher = matcher.eval().to(device)

    def match(num: int) -> int:
        with autocast(device, setup.precision):
            return int((matcher(_pair(ours, sides, num))["matches0"] >= 0).sum())

    ours = _matcher(setup.feature)
    sides = [{k: v.to(device) for k, v in side.items()} for side in _sides(setup, ours)]
    most = min(map(ours.num_keypoints, sides))
    counts = tuple(num for num in counts if num <= most) or (most,)
    match(counts[0])  # the first pass also initializes libraries
    steps = []
    for num in counts:
        step, found = measure_step(f"{num}", partial(match, num), device, _ROUNDS)
        steps.append(replace(step, counts={"keypoints": 2.0 * num, "matches": found}))
        if max(step.seconds) > setup.options.max_seconds:
            break
    return Sample(steps, "keypoints of an image")


def _pair(ours: Matcher, sides: Sequence[Mapping[str, Tensor]], num: int) -> dict[str, Tensor]:
    """Return each image's first keypoints as input of our matcher, or one that reads the same."""
    return {
        f"{key}{i}": value.contiguous()[None]
        for i, side in enumerate(sides)
        for key, value in ours.select(side, slice(num)).items()
    }


def _sides(setup: Setup, matcher: Matcher) -> list[dict[str, Tensor]]:
    """Return two images' features, each pooled from half of the photographs and shuffled.

    No single photograph has as many keypoints, and random descriptors would be easier to match than
    true ones.
    """
    sides = []
    with open_features(_features(setup)) as reader:
        names = reader.names()
        for number, half in enumerate((names[::2], names[1::2])):
            images = [reader.read(name) for name in half]
            axes = {key: axis for key, axis in matcher.axes.items() if key in images[0]}
            side = {key: images[0][key] for key in axes}
            num = sum(len(image["keypoints"]) for image in images)
            order = np.random.default_rng(number).permutation(num)
            for key, axis in axes.items():
                if axis is not None:
                    pooled = np.concatenate([image[key] for image in images], axis)
                    side[key] = pooled.take(order, axis)
            tensors = {key: torch.from_numpy(np.ascontiguousarray(a)) for key, a in side.items()}
            sides.append({k: t.float() if t.is_floating_point() else t for k, t in tensors.items()})
    return sides


def _features(setup: Setup) -> Path:
    """Extract the features of the photographs, unless the file already has them."""
    method = find_method(setup.feature)
    extraction = setup.options.extraction(method)
    return extract_features(
        extraction.method.feature,
        setup.options.images,
        setup.work / f"keypoints-{file_word(extraction.method.feature)}",
        **values_of(NetworkOptions, extraction),
    ).feature_path


def _matcher(feature: str) -> Matcher:
    return build_matcher(find_method(feature).matcher_conf()["model"])


CASES: dict[CaseName, dict[str, Measurement]] = {
    "stages": {"featplug": stages_ours, "hloc": stages_hloc, "colmap": stages_colmap},
    "image-size": {"featplug": image_size_ours, "authors": image_size_authors},
    "keypoints": {"featplug": keypoints_ours, "hloc": keypoints_hloc},
    "agreement": {"featplug": agreement},
}
"""Case to the measurements by featplug and its peers."""


def has_case(case: CaseName, setup: Setup) -> bool:
    """Return whether a device and a precision are measured in a case.

    The stages are those of the pipeline as it is, agreement is that with the CPU in float32, and
    without a network nothing depends on the precision.
    """
    if case == "stages":
        best = str(choose_device(setup.options.device))
        return (setup.device, setup.precision) == (best, "fp32")
    if case == "agreement" and setup.is_reference:
        return False
    parts = method_parts(setup.options, setup.feature)
    is_network = parts.matching_is_network if case == "keypoints" else parts.extraction_is_network
    return setup.precision == "fp32" or is_network


def measurements(case: CaseName, setup: Setup) -> dict[str, Measurement]:
    """Return the measurements of a case by the available peers that do the same.

    Features that all of them read are extracted here, so that no measurement includes that.
    """
    method = find_method(setup.feature)
    if method.matches_images and case == "keypoints":
        raise ValueError(f"{method.name} matches images, without keypoints; measure other cases.")
    conf = method.conf
    matcher = {"name": None} if method.matches_images else method.matcher_conf()["model"]
    # hloc's matcher compares by dot products only.
    has_hlocs_matcher = matcher["name"] == "nearest_neighbor" and "metric" not in matcher
    does_the_same = setup.feature == "sift" if case == "stages" else has_hlocs_matcher
    able = {
        "featplug": True,
        "hloc": setup.options.hloc is not None and does_the_same and setup.precision == "fp32",
        "colmap": setup.feature == "sift",
        "authors": setup.options.d2net is not None
        and conf["model"]["name"] == "d2net"
        and setup.is_reference,
    }
    if case == "keypoints":
        _features(setup)
    return {name: measurement for name, measurement in CASES[case].items() if able[name]}
