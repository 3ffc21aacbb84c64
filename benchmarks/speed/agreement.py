"""Agreement of a device and precision with the CPU in float32, on the same photographs."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.measured_method import MeasuredMethod, find_method
from benchmarks.speed.measure import Sample, Setup, SpeedOptions
from featplug.api import Features, Matches, load, load_matcher
from featplug.api.image_matcher import ImageMatcher
from featplug.io.image_folder import list_images
from featplug.io.metric_table import with_units

_NUM_IMAGES = 3
TOLERANCE = 0.1
"""Largest distance in pixels between keypoints that are the same."""


def agreement(setup: Setup) -> Sample:
    """Compare keypoints, descriptors and matches with those of the CPU in float32."""
    method, options = find_method(setup.feature), setup.options
    images = [options.images / name for name in list_images(options.images)[:_NUM_IMAGES]]
    features, matches = _results(method, options, images, "cpu", "fp32")
    others, other_matches = _results(method, options, images, setup.device, setup.precision)
    values = {}
    if features:
        compared = [_compare(a, b) for a, b in zip(features, others, strict=True)]
        values["same_keypoints"] = float(np.mean([fraction for fraction, _ in compared]))
        differences = np.concatenate([distances for _, distances in compared])
        if len(differences):
            values["descriptor_difference"] = float(np.percentile(differences, 99))
    fractions = [
        common_fraction(*(np.column_stack([m.points0, m.points1]) for m in pair))
        for pair in zip(matches, other_matches, strict=True)
    ]
    if fractions:
        values["same_matches"] = float(np.mean(fractions))
    return Sample([], metrics=with_units(values))


def _results(
    method: MeasuredMethod,
    options: SpeedOptions,
    images: Sequence[Path],
    device: str,
    precision: str,
) -> tuple[list[Features], list[Matches]]:
    """Return the features of images, and the matches of each with the next one."""
    pairs = list(pairwise(images))
    if method.matches_images:
        conf = options.pair_matcher_conf(method)
        image_matcher = ImageMatcher(conf, device=device, precision=precision)
        return [], [image_matcher.match(a, b) for a, b in pairs]
    conf = options.extraction(method).conf(method.feature or "")
    feature = load(conf, device=device, precision=precision)
    features = [feature.extract(image) for image in images]
    matcher = load_matcher(method.matcher_conf(), feature, device=device)
    return features, [matcher.match(a, b) for a, b in pairwise(features)]


def _compare(features: Features, other: Features) -> tuple[float, np.ndarray]:
    """Return the fraction of keypoints that both have, and the distances of their descriptors.

    Of several keypoints at one place, such as SIFT's of several orientations, the one with the
    nearest descriptor is compared.
    """
    fraction = common_fraction(features.keypoints, other.keypoints)
    if len(features.keypoints) == 0 or len(other.keypoints) == 0:
        return fraction, np.zeros(0)
    near = cKDTree(other.keypoints).query_ball_point(features.keypoints, TOLERANCE)
    distances = [
        np.linalg.norm(other.descriptors[indices] - descriptor, axis=1).min()
        for descriptor, indices in zip(features.descriptors, near, strict=True)
        if indices
    ]
    return fraction, np.array(distances)


def common_fraction(points: np.ndarray, others: np.ndarray) -> float:
    """Return the fraction of points N×D that others have within the tolerance, of both sides."""
    if len(points) == 0 or len(others) == 0:
        return float(len(points) == len(others))
    fractions = []
    for a, b in ((points, others), (others, points)):
        distances, _ = cKDTree(b).query(a, p=np.inf)
        fractions.append(np.mean(distances <= TOLERANCE))
    return float(np.mean(fractions))
