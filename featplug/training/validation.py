"""Validation as the benchmarks measure: matching accuracy under known homographies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from featplug.base import Extractor, Matcher
from featplug.matchers.nearest_neighbor import NearestNeighbor
from featplug.methods import build_extractor, build_matcher, feature_conf, matcher_conf
from featplug.metrics.homography import (
    homography_errors,
    mean_matching_accuracy,
    repeatability,
)

Features = dict[str, Tensor]


def trained_confs(
    feature: str, weights: Path, max_keypoints: int = 1000
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what validates weights in the making as users will use them.

    Args:
        feature: name of the feature conf.
        weights: file to use with it.
        max_keypoints: of an image, the strongest.

    Returns:
        ``model`` of the feature conf and of the matcher conf that it names.
    """
    conf = feature_conf(feature)
    model = {**conf["model"], "weights": str(weights), "max_keypoints": max_keypoints}
    return model, matcher_conf(conf["matcher"])["model"]


class _Pair(NamedTuple):
    """What was extracted from two views."""

    features0: Features
    features1: Features
    homography: np.ndarray
    sizes: tuple[tuple[int, int], tuple[int, int]]
    """(width, height) of both."""


def matching_accuracy(
    model_conf: Mapping[str, Any],
    matcher_conf: Mapping[str, Any],
    pairs: Dataset[dict[str, Tensor]],
    steps: Sequence[int],
    thresholds: Sequence[float] = (1, 3, 5),
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Match pairs of views of photographs.

    Args:
        model_conf: ``model`` of a feature conf, as inference builds it.
        matcher_conf: ``model`` of a matcher conf.
        pairs: batches with ``image0`` and ``image1`` B×C×H×W and ``homography`` B×3×3.
        steps: of the batches to take.
        thresholds: greatest errors of a right match, in pixels.
        device: for both.

    Returns:
        ``mma_N`` for each threshold, the mean over all pairs of the part of matches that are right;
        ``matches``, their mean number; and ``repeatability``, the mean part of the keypoints that
        are found again within 3 pixels.
    """
    extractor = build_extractor(model_conf).to(device)
    matcher = build_matcher(matcher_conf).to(device)
    errors, repeated = [], []
    for features0, features1, homography, sizes in _extracted(extractor, pairs, steps, device):
        errors.append(_errors(matcher, features0, features1, homography))
        keypoints0, keypoints1 = (
            features["keypoints"].cpu().numpy() for features in (features0, features1)
        )
        repeated.append(repeatability(keypoints0, keypoints1, homography, sizes))
    return {**_accuracy(errors, thresholds), "repeatability": float(np.mean(repeated))}


def heads_accuracy(
    model_conf: Mapping[str, Any],
    matcher_conf: Mapping[str, Any],
    heads: Sequence[str],
    pairs: Dataset[dict[str, Tensor]],
    steps: Sequence[int],
    thresholds: Sequence[float] = (1, 3, 5),
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Match by several descriptors together and by each of them alone, at the same keypoints.

    Args:
        model_conf: as for :func:`matching_accuracy`, of a feature whose ``descriptors`` are those
            of all heads, one after the other.
        matcher_conf: of what matches them together.
        heads: names of the heads.
        pairs: as for :func:`matching_accuracy`.
        steps: of the batches to take.
        thresholds: greatest errors of a right match, in pixels.
        device: for all.

    Returns:
        What :func:`matching_accuracy` gives, and ``mma_N_HEAD`` of the nearest neighbours in each
        head.
    """
    extractor = build_extractor(model_conf).to(device)
    together = build_matcher(matcher_conf).to(device)
    alone = NearestNeighbor({"metric": "l2"}).to(device)
    errors: dict[str, list[np.ndarray]] = {head: [] for head in ("", *heads)}
    for features0, features1, homography, _ in _extracted(extractor, pairs, steps, device):
        errors[""].append(_errors(together, features0, features1, homography))
        parts = (f["descriptors"].unflatten(0, (len(heads), -1)) for f in (features0, features1))
        for head, part0, part1 in zip(heads, *parts, strict=True):
            sides = ({**features0, "descriptors": part0}, {**features1, "descriptors": part1})
            errors[head].append(_errors(alone, *sides, homography))
    accuracy = _accuracy(errors.pop(""), thresholds)
    for head, of_pairs in errors.items():
        for key, value in _accuracy(of_pairs, thresholds).items():
            if key.startswith("mma"):
                accuracy[f"{key}_{head}"] = value
    return accuracy


def _extracted(
    extractor: Extractor,
    pairs: Dataset[dict[str, Tensor]],
    steps: Iterable[int],
    device: torch.device | str,
) -> Iterator[_Pair]:
    for step in steps:
        batch = pairs[step]
        images = (batch["image0"], batch["image1"])
        sides = [extractor({"image": image.to(device)}) for image in images]
        size0, size1 = ((image.shape[3], image.shape[2]) for image in images)
        for index, homography in enumerate(batch["homography"].double().numpy()):
            features0, features1 = (
                {key: value[index] for key, value in side.items()} for side in sides
            )
            yield _Pair(features0, features1, homography, (size0, size1))


def _errors(
    matcher: Matcher, features0: Features, features1: Features, homography: np.ndarray
) -> np.ndarray:
    """Errors of the matches of a pair, in pixels."""
    data = {f"{key}0": value[None] for key, value in features0.items()}
    data |= {f"{key}1": value[None] for key, value in features1.items()}
    found = matcher(data)["matches0"][0]
    matched = found >= 0
    points0 = features0["keypoints"][matched].cpu().numpy()
    points1 = features1["keypoints"][found[matched]].cpu().numpy()
    return homography_errors(points0, points1, homography)


def _accuracy(errors: Sequence[np.ndarray], thresholds: Sequence[float]) -> dict[str, float]:
    accuracy = mean_matching_accuracy(errors, thresholds)
    return {
        **{f"mma_{t:g}": float(a) for t, a in zip(thresholds, accuracy, strict=True)},
        "matches": sum(map(len, errors)) / len(errors),
    }
