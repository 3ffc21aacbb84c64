"""The measurements of featplug, and of peers that do the same."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pycolmap
import torch
from torch import Tensor, nn

from benchmarks.measured_method import find_method
from benchmarks.speed.measure import CaseName, Measurement, Sample, Setup, Step, measure_step
from featplug.api import load
from featplug.base import Matcher, choose_device
from featplug.colmap.mapping import log_to_file
from featplug.io.image_folder import list_images
from featplug.io.images import load_image
from featplug.io.metric_table import with_units
from featplug.io.pair_lists import write_pairs
from featplug.io.results import StageRecorder
from featplug.io.store import FeatureReader
from featplug.methods import build_matcher, feature_conf
from featplug.methods.method_names import file_word
from featplug.metrics.poses import reconstruction_statistics
from featplug.stages.extract import extract_features
from featplug.stages.pairs import exhaustive
from featplug.stages.shared_options import NetworkOptions
from featplug.weights.loading import load_weights
from pipelines.run_options import values_of
from pipelines.sfm import SfmOptions, reconstruct

IMAGE_SIZES = (640, 1024, 1600, 2048)
"""Longer sides of the images in pixels."""
NUM_KEYPOINTS = (1000, 2000, 5000, 10_000, 20_000)
_HLOC_NUM_KEYPOINTS = 10_000
"""Largest number for hloc, whose similarities and their sorting take 3.2 GB at 20,000 keypoints."""
_ROUNDS = 3


def stages_ours(setup: Setup) -> Sample:
    """Measure ``pipelines.sfm`` on all pairs, from photographs to model."""
    options, method = setup.options, find_method(setup.feature)
    results = reconstruct(
        SfmOptions(
            options.images,
            extraction=options.extraction(method, overwrite=True),
            matcher=method.matcher,
            outputs=setup.work / f"stages-{method.word}",
            reference=options.reference,
        )
    )
    return replace(_stages(results["stages"]), metrics=results["metrics"])


def stages_hloc(setup: Setup) -> Sample:
    """Measure hloc with its own SIFT on the same photographs."""
    sys.path.insert(0, str(setup.options.hloc))
    from hloc import extract_features as hloc_extract  # type: ignore[import-not-found]
    from hloc import match_features as hloc_match
    from hloc import reconstruction

    images, outputs = setup.options.images, Path(mkdtemp(dir=setup.work))
    pairs = outputs / "pairs.txt"
    write_pairs(pairs, exhaustive(list_images(images)))
    recorder = StageRecorder()
    with recorder.stage("extract"):
        features = hloc_extract.main(hloc_extract.confs["sift"], images, outputs)
    with recorder.stage("match"):
        conf = hloc_match.confs["NN-ratio"]
        matches = hloc_match.main(conf, pairs, features, matches=outputs / "matches.h5")
    with recorder.stage("map"):
        model = reconstruction.main(outputs / "sfm", images, pairs, features, matches)
    return replace(_stages(recorder.stages), metrics=_model_metrics(model))


def stages_colmap(setup: Setup) -> Sample:
    """Measure COLMAP alone through pycolmap: full resolution, all defaults."""
    images, outputs = str(setup.options.images), Path(mkdtemp(dir=setup.work))
    database = str(outputs / "database.db")
    recorder = StageRecorder()
    with log_to_file(outputs / "colmap.log"):
        with recorder.stage("extract"):
            pycolmap.extract_features(database, images)
        with recorder.stage("match"):
            pycolmap.match_exhaustive(database)
        with recorder.stage("map"):
            models = pycolmap.incremental_mapping(database, images, str(outputs))
    model = max(models.values(), key=lambda m: m.num_reg_images(), default=None)
    return replace(_stages(recorder.stages), metrics=_model_metrics(model))


def _stages(stages: Mapping[str, Mapping[str, float]]) -> Sample:
    return Sample([Step(name, [s["seconds"]], s["peak_memory_mib"]) for name, s in stages.items()])


def _model_metrics(model: pycolmap.Reconstruction | None) -> dict[str, dict[str, Any]]:
    statistics = reconstruction_statistics(model or pycolmap.Reconstruction())
    return with_units(
        {
            "registered_images": statistics.num_registered,
            "sparse_points": statistics.num_points,
            "observations": statistics.num_observations,
            "mean_reprojection_error": statistics.mean_reprojection_error,
        }
    )


@torch.inference_mode()
def image_size_ours(setup: Setup) -> Sample:
    """Measure extraction from one photograph at several sizes, up to its own."""
    options = setup.options
    extraction = options.extraction(find_method(setup.feature))
    feature = load(extraction.conf(setup.feature), device=options.device)

    def extract(image: np.ndarray) -> int:
        batch = torch.from_numpy(image)[None].to(feature.device)
        return len(feature.extractor({"image": batch})["keypoints"][0])

    return _over_image_sizes(setup, extract, feature.device)


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

    return _over_image_sizes(setup, extract, torch.device("cpu"))


def _over_image_sizes(
    setup: Setup, extract: Callable[[np.ndarray], int], device: torch.device
) -> Sample:
    """Measure a function from an image C×H×W in [0, 1] to its number of keypoints."""
    preprocessing = feature_conf(setup.feature)["preprocessing"]
    name = list_images(setup.options.images)[0]
    images: dict[int, np.ndarray] = {}
    for size in IMAGE_SIZES:
        limits = {"resize_max": size, "resize_max_sum": None}
        image = load_image(setup.options.images, name, preprocessing | limits).image
        images.setdefault(max(image.shape[1:]), image)
    extract(next(iter(images.values())))  # the first pass also initializes libraries
    steps = []
    for size, image in images.items():
        step, num = measure_step(f"{size}", partial(extract, image), device, 1)
        megapixels = image.shape[1] * image.shape[2] / 1e6
        steps.append(replace(step, counts={"megapixels": megapixels, "keypoints": num}))
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
    device = choose_device(setup.options.device)
    matcher = matcher.eval().to(device)
    ours = _matcher(setup.feature)
    sides = [{k: v.to(device) for k, v in side.items()} for side in _sides(setup, ours)]
    most = min(map(ours.num_keypoints, sides))
    counts = tuple(num for num in counts if num <= most) or (most,)
    matcher(_pair(ours, sides, counts[0]))  # the first pass also initializes libraries
    steps = []
    for num in counts:
        step, _ = measure_step(f"{num}", partial(matcher, _pair(ours, sides, num)), device, _ROUNDS)
        steps.append(replace(step, counts={"keypoints": 2.0 * num}))
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
    with FeatureReader(_features(setup)) as reader:
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
    extraction = setup.options.extraction(find_method(setup.feature))
    return extract_features(
        setup.feature,
        setup.options.images,
        setup.work / f"keypoints-{file_word(setup.feature)}",
        **values_of(NetworkOptions, extraction),
    ).feature_path


def _matcher(feature: str) -> Matcher:
    return build_matcher(find_method(feature).matcher_conf()["model"])


CASES: dict[CaseName, dict[str, Measurement]] = {
    "stages": {"featplug": stages_ours, "hloc": stages_hloc, "colmap": stages_colmap},
    "image-size": {"featplug": image_size_ours, "authors": image_size_authors},
    "keypoints": {"featplug": keypoints_ours, "hloc": keypoints_hloc},
}
"""Case to the measurements by featplug and its peers."""


def measurements(case: CaseName, setup: Setup) -> dict[str, Measurement]:
    """Return the measurements of a case by the available peers that do the same.

    Features that all of them read are extracted here, so that no measurement includes that.
    """
    method = find_method(setup.feature)
    if method.matches_images and case != "stages":
        raise ValueError(f"{method.name} matches images, without keypoints; measure its stages.")
    conf = method.conf
    matcher = {"name": None} if method.matches_images else method.matcher_conf()["model"]
    # hloc's matcher compares by dot products only.
    has_hlocs_matcher = matcher["name"] == "nearest_neighbor" and "metric" not in matcher
    does_the_same = setup.feature == "sift" if case == "stages" else has_hlocs_matcher
    able = {
        "featplug": True,
        "hloc": setup.options.hloc is not None and does_the_same,
        "colmap": setup.feature == "sift",
        "authors": setup.options.d2net is not None and conf["model"]["name"] == "d2net",
    }
    if case == "keypoints":
        _features(setup)
    return {name: measurement for name, measurement in CASES[case].items() if able[name]}
