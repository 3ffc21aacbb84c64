"""Validation as the benchmarks measure: matching accuracy under known homographies."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featplug.api import Feature, FeatureMatcher
from featplug.api.feature_types import Matches, found_matches
from featplug.base import Matcher
from featplug.matchers.nearest_neighbor import NearestNeighbor
from featplug.methods import matcher_conf_for, matcher_of
from featplug.metrics.homography import homography_errors, mean_matching_accuracy, repeatability


def trained_feature(
    name: str,
    weights: Path,
    device: torch.device | str = "cpu",
    max_keypoints: int = 1000,
    **options: Any,
) -> Feature:
    """Return a feature with weights that were trained, and other options."""
    return Feature(
        name,
        device=str(device),
        weights=str(weights),
        max_keypoints=max_keypoints,
        **options,
    )


def matching_accuracy(
    feature: Feature,
    batches: Iterable[Mapping[str, Tensor]],
    heads: Sequence[str] = (),
    thresholds: Sequence[float] = (1, 3, 5),
    matcher: str | Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Match pairs of views of photographs.

    Args:
        feature: the feature.
        batches: pairs with ``image0`` and ``image1`` B×C×H×W and ``homography`` B×3×3.
        heads: names of the descriptors of which ``descriptors`` are the concatenation; each is
            also matched alone, by nearest neighbours at the same keypoints.
        thresholds: largest errors of a correct match, in pixels.
        matcher: name of the matcher, or its conf; the feature's own for two views if None.

    Returns:
        ``mma_N`` for each threshold, the mean over all pairs of the ratio of correct matches;
        ``matches``, their mean number; ``repeatability``, the mean ratio of keypoints that are
        repeated within 3 pixels; and ``mma_N_HEAD`` for each head.
    """
    device = feature.device
    conf = matcher_conf_for(feature.conf, matcher or matcher_of(feature.conf, two_views=True))
    matching = FeatureMatcher(conf, device=str(device)).matcher
    alone = NearestNeighbor({"metric": "l2"}).to(device)
    errors: dict[str, list[np.ndarray]] = {head: [] for head in ("", *heads)}
    repeated = []
    for batch in batches:
        images = (batch["image0"], batch["image1"])
        size0, size1 = ((image.shape[3], image.shape[2]) for image in images)
        sides = [feature.extractor({"image": image.to(device)}) for image in images]
        for index, homography in enumerate(batch["homography"].double().numpy()):
            pair = [
                {"image_size": torch.tensor(size, device=device).float()}
                | {key: values[index] for key, values in side.items()}
                for side, size in zip(sides, (size0, size1), strict=True)
            ]
            errors[""].append(_errors(matching, pair[0], pair[1], homography))
            keypoints0, keypoints1 = (features["keypoints"].cpu().numpy() for features in pair)
            repeated.append(repeatability(keypoints0, keypoints1, homography, (size0, size1)))
            for number, head in enumerate(heads):
                features0, features1 = (
                    {**f, "descriptors": f["descriptors"].chunk(len(heads))[number]} for f in pair
                )
                errors[head].append(_errors(alone, features0, features1, homography))
    accuracy = {}
    for head, of_pairs in errors.items():
        means = mean_matching_accuracy(of_pairs, thresholds)
        for threshold, mean in zip(thresholds, means, strict=True):
            accuracy[f"mma_{threshold:g}" + (head and f"_{head}")] = float(mean)
    accuracy["matches"] = sum(map(len, errors[""])) / len(errors[""])
    return {**accuracy, "repeatability": float(np.mean(repeated))}


def _errors(
    matcher: Matcher,
    features0: Mapping[str, Tensor],
    features1: Mapping[str, Tensor],
    homography: np.ndarray,
) -> np.ndarray:
    """Compute the errors of the matches of a pair, in pixels."""
    keypoints = [features["keypoints"].cpu().numpy() for features in (features0, features1)]
    found = found_matches(matcher.match_pair(features0, features1))
    matches = Matches.of_keypoints(*found, *keypoints)
    return homography_errors(matches.points0, matches.points1, homography)
