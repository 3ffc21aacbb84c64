"""Figures of one matched pair, as papers define them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np

from benchmarks.matching.sweep import Swept, loosest_matches
from benchmarks.pairs.feature_pairs import FeaturePair
from benchmarks.pairs.pair_protocol import MeasuredPair, NotDefinedError
from benchmarks.pairs.pair_set import ImagePair
from featplug.api import Matches
from featplug.metrics.epipolar import epipolar_errors, estimate_fundamental
from featplug.metrics.homography import (
    Size,
    closest_point_recall,
    corner_error,
    correspondence_recall,
    covisible,
    estimate_homography,
    homography_errors,
    matching_score,
    nearest_counterparts,
    repeatability,
    two_way_precision,
    visible_part_error,
)
from featplug.metrics.patch_tasks import average_precision

RIGHT = 3.0
"""Largest error of a right match in pixels, where a protocol has no other threshold."""
_RECALL = 2.5
EPIPOLAR_THRESHOLDS = tuple(range(20))
"""Thresholds of WxBS's recall, symmetric epipolar distances in pixels."""
_MAA_EPIPOLAR = 10
"""Largest of the thresholds that the mean accuracy on WxBS is over."""
VISIBLE_THRESHOLDS = tuple(np.geomspace(1, 20, 10).tolist())
"""Thresholds of EVD's mean accuracy, in pixels."""

MEASURES = (
    *("match_score", "repeatability", "precision", "recall", "average_precision"),
    *("correspondence_maa_10", "homography_maa_20"),
)
"""Metrics of a single pair."""


class HomographyFit(NamedTuple):
    """What a homography is estimated from, and compared with."""

    points: tuple[np.ndarray, np.ndarray]
    """Matched keypoints, K×2 of each image."""
    true: np.ndarray
    """The true homography, 3×3."""
    size: Size
    """(width, height) of image 0, whose corners are compared."""
    in_image0: bool = False
    """Whether the error is in image 0, see :func:`featplug.metrics.homography.corner_error`."""

    @property
    def corner_error(self) -> float:
        """Error of the homography by OpenCV's RANSAC, as papers have it."""
        estimated = estimate_homography(*self.points)
        return corner_error(estimated, self.true, self.size, self.in_image0)


@dataclass(frozen=True)
class PairMeasures(MeasuredPair):
    """Figures of one pair."""

    corner_error: float | None = None
    """Error of the homography estimated from the matches, in pixels; None where not measured."""
    values: dict[str, float] = field(default_factory=dict)
    """Values of :data:`MEASURES`."""
    recall_curve: np.ndarray | None = None
    """Fractions of the true correspondences that agree with the epipolar geometry estimated from
    the matches, at 0 to 19 px."""
    selected_keypoints: bool = False
    """Whether the matched keypoints were selected for this pair."""
    swept: Swept | None = None
    """Matches at other thresholds than the conf's; None where only its own are known."""
    homography_fit: HomographyFit | None = None
    """What other estimators estimate the homography from; None where none is estimated."""
    corner_errors: Mapping[int, float] = field(default_factory=dict)
    """Seed to the error of the homography by another estimator."""


def _true_homography(pair: ImagePair) -> np.ndarray:
    if pair.homography is None:
        raise ValueError(f"{pair.name0} and {pair.name1} have no homography.")
    return pair.homography


def _require_keypoints(features: FeaturePair, figure: str) -> None:
    if not features.is_detected:
        raise NotDefinedError(f"{figure} is not defined without keypoints of each image")


def _covisible(pair: ImagePair, features: FeaturePair, margin: float = 0.0) -> list[np.ndarray]:
    """Return the indices of each image's keypoints that lie in the other image as well."""
    matrix = _true_homography(pair)
    matrices = (matrix, np.linalg.inv(matrix))
    return [
        np.flatnonzero(covisible(keypoints, to_other, other_size, margin))
        for keypoints, to_other, other_size in zip(
            features.keypoints, matrices, features.sizes[::-1], strict=True
        )
    ]


def measure_plane(pair: ImagePair, features: FeaturePair) -> PairMeasures:
    """Measure MMA (Dusmanu et al. 2019), and the other usual figures of the same matches."""
    measured = _measure_plane(pair, features, features.match())
    return replace(measured, swept=_sweep(pair, features))


def _sweep(pair: ImagePair, features: FeaturePair) -> Swept:
    """Find out which matches are right, and how many could be."""
    matrix = _true_homography(pair)
    loosest, levels, is_shipped = loosest_matches(features)
    num_possible = None
    if features.is_detected:
        distances, _ = nearest_counterparts(*features.keypoints, matrix)
        num_possible = int(np.sum(distances <= RIGHT))
    errors = homography_errors(*features.points(loosest), matrix)
    return Swept(levels, errors <= RIGHT, is_shipped, num_possible)


def measure_plane_covisible(pair: ImagePair, features: FeaturePair) -> PairMeasures:
    """Measure MTLDesc's figures: MMA of all keypoints, the others of matches in the shared view.

    ASLFeat and MTLDesc (Wang et al. 2022, "Datasets and Metrics") evaluate this way.
    """
    whole = measure_plane(pair, features)
    shared = _measure_plane(pair, features, features.match(*_covisible(pair, features)))
    fit, error = shared.homography_fit, shared.corner_error
    return replace(whole, corner_error=error, values=shared.values, homography_fit=fit)


def _measure_plane(pair: ImagePair, features: FeaturePair, matches: Matches) -> PairMeasures:
    matrix, sizes = _true_homography(pair), features.sizes
    points = features.points(matches)
    errors = homography_errors(*points, matrix)
    values = {}
    if features.is_detected:
        num_shared0, num_shared1 = map(len, _covisible(pair, features))
        values["match_score"] = matching_score(errors, num_shared0, num_shared1, RIGHT)
        values["repeatability"] = repeatability(*features.keypoints, matrix, sizes, RIGHT)
    fit = HomographyFit(points, matrix, sizes[0])
    return PairMeasures(
        points,
        features.num_keypoints,
        matches.scores,
        errors,
        fit.corner_error,
        values,
        homography_fit=fit,
    )


def measure_recall(pair: ImagePair, features: FeaturePair) -> PairMeasures:
    """Measure ContextDesc's recall (Luo et al. 2019, section 4.3): 2.5 px, one-way neighbours."""
    _require_keypoints(features, "ContextDesc's recall")
    matrix = _true_homography(pair)
    matches = features.match()
    points = features.points(matches)
    errors = homography_errors(*points, matrix)
    recall = correspondence_recall(errors, *features.keypoints, matrix, _RECALL)
    return PairMeasures(
        points, features.num_keypoints, matches.scores, errors, values={"recall": recall}
    )


def measure_average_precision(pair: ImagePair, features: FeaturePair) -> PairMeasures:
    """Measure DOAP's average precision of one-way neighbours (He et al. 2018, section 5.4).

    Matches are ranked by their distance. Recall is of the keypoints of image 0 that have a
    counterpart; without any, the figure is 0.
    """
    _require_keypoints(features, "average precision")
    matrix = _true_homography(pair)
    matches = features.match()
    points = features.points(matches)
    errors = homography_errors(*points, matrix)
    distances, _ = nearest_counterparts(*features.keypoints, matrix)
    num_correspondences = int(np.sum(distances <= RIGHT))
    precision = 0.0
    if num_correspondences > 0:
        precision = average_precision(-matches.scores, errors <= RIGHT, num_correspondences)
    values = {"average_precision": precision}
    return PairMeasures(points, features.num_keypoints, matches.scores, errors, values=values)


def measure_shared(pair: ImagePair, features: FeaturePair) -> PairMeasures:
    """Measure LISRD's precision and recall (Pautrat et al. 2020, section 4.1).

    Matched are the 1,000 strongest of the keypoints that lie in the other image, 3 px or more from
    its border.
    """
    matrix, sizes = _true_homography(pair), features.sizes
    images = features.image0, features.image1
    kept = [
        np.sort(keep[np.argsort(-image.scores[keep], kind="stable")[:1000]])
        for keep, image in zip(_covisible(pair, features, 3.0), images, strict=True)
    ]
    matches = features.match(*kept)
    points = features.points(matches)
    values = {"precision": two_way_precision(*points, matrix, RIGHT)}
    if features.is_detected:
        own = [np.zeros(len(image.keypoints), np.int64) for image in images]
        for indices, keep in zip(own, kept, strict=True):
            indices[keep] = np.arange(len(keep))
        selected = [image.keypoints[keep] for image, keep in zip(images, kept, strict=True)]
        among = np.stack([own[side][matches.indices[:, side]] for side in (0, 1)], axis=1)
        values["recall"] = closest_point_recall(among, selected[0], selected[1], matrix, RIGHT)
    fit = HomographyFit(points, matrix, sizes[0], in_image0=True)
    return PairMeasures(
        points,
        (len(kept[0]), len(kept[1])) if features.is_detected else None,
        matches.scores,
        homography_errors(*points, matrix),
        fit.corner_error,
        values,
        selected_keypoints=True,
        homography_fit=fit,
    )


def measure_visible_part(pair: ImagePair, features: FeaturePair) -> PairMeasures:
    """Measure EVD's mean accuracy (Mishkin et al. 2015), and the usual figures of the same matches.

    The homography is that of MAGSAC++ with the options of the wxbs-benchmark package, and its error
    the mean over the part of image 0 that is visible in image 1.
    """
    whole = measure_plane(pair, features)
    estimated = estimate_homography(
        *whole.points, 0.5, cv2.USAC_MAGSAC, max_trials=100_000, confidence=0.999
    )
    error = visible_part_error(estimated, _true_homography(pair), features.sizes)
    accuracy = float(np.mean(error <= np.array(VISIBLE_THRESHOLDS)))
    return replace(whole, values={**whole.values, "homography_maa_20": accuracy})


def measure_epipolar(pair: ImagePair, features: FeaturePair) -> PairMeasures:
    """Measure distances from the true epipolar lines, and WxBS's recall (Mishkin et al. 2015).

    The recall is the fraction of the true correspondences that agree, by the symmetric epipolar
    distance, with the fundamental matrix that MAGSAC++ estimates from the matches, with the options
    of the wxbs-benchmark package. A pair without an estimate has the recall 0 (there, evaluations
    put a fixed matrix in its place). The mean accuracy is over the thresholds 0, 1, …, 10 px.
    """
    matches = features.match()
    points = features.points(matches)
    errors = curve = None
    values = {}
    if pair.fundamental is not None:
        errors = epipolar_errors(*points, pair.fundamental)
    if pair.correspondences is not None:
        estimated = estimate_fundamental(*points, threshold=0.25, confidence=0.999)
        curve = np.zeros(len(EPIPOLAR_THRESHOLDS))
        if estimated is not None:
            true = pair.correspondences
            distances = epipolar_errors(true[:, :2], true[:, 2:], estimated)
            curve = np.array([np.mean(distances <= t) for t in EPIPOLAR_THRESHOLDS])
        values["recall"] = float(curve[EPIPOLAR_THRESHOLDS.index(3)])
        values["correspondence_maa_10"] = float(curve[: _MAA_EPIPOLAR + 1].mean())
    num_keypoints = features.num_keypoints
    return PairMeasures(points, num_keypoints, matches.scores, errors, None, values, curve)
