"""Validation as the benchmarks measure: matching accuracy under known homographies."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.matchers.nearest_neighbor import NearestNeighbor
from featplug.methods import build_extractor, build_matcher, feature_conf, matcher_conf
from featplug.metrics.homography import homography_errors, mean_matching_accuracy, repeatability

Features = dict[str, Tensor]


def trained_confs(
    feature: str, weights: Path, max_keypoints: int = 1000
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``model`` of a feature's conf with these weights, and of its matcher's conf."""
    conf = feature_conf(feature)
    model = {**conf["model"], "weights": str(weights), "max_keypoints": max_keypoints}
    return model, matcher_conf(conf["matcher"])["model"]


def matching_accuracy(
    model_conf: Mapping[str, Any],
    matcher_conf: Mapping[str, Any],
    batches: Iterable[Mapping[str, Tensor]],
    heads: Sequence[str] = (),
    thresholds: Sequence[float] = (1, 3, 5),
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Match pairs of views of photographs.

    Args:
        model_conf: ``model`` of a feature conf.
        matcher_conf: ``model`` of a matcher conf.
        batches: pairs with ``image0`` and ``image1`` B×C×H×W and ``homography`` B×3×3.
        heads: names of the descriptors of which ``descriptors`` are the concatenation; each is
            also matched alone, by nearest neighbours at the same keypoints.
        thresholds: largest errors of a correct match, in pixels.
        device: device to compute on.

    Returns:
        ``mma_N`` for each threshold, the mean over all pairs of the ratio of correct matches;
        ``matches``, their mean number; ``repeatability``, the mean ratio of keypoints that are
        repeated within 3 pixels; and ``mma_N_HEAD`` for each head.
    """
    extractor = build_extractor(model_conf).to(device)
    matcher = build_matcher(matcher_conf).to(device)
    alone = NearestNeighbor({"metric": "l2"}).to(device)
    errors: dict[str, list[np.ndarray]] = {head: [] for head in ("", *heads)}
    repeated = []
    for batch in batches:
        images = (batch["image0"], batch["image1"])
        size0, size1 = ((image.shape[3], image.shape[2]) for image in images)
        sides = [extractor({"image": image.to(device)}) for image in images]
        for index, homography in enumerate(batch["homography"].double().numpy()):
            pair = [{key: values[index] for key, values in side.items()} for side in sides]
            errors[""].append(_errors(matcher, pair[0], pair[1], homography))
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
    matcher: Matcher, features0: Features, features1: Features, homography: np.ndarray
) -> np.ndarray:
    """Compute the errors of the matches of a pair, in pixels."""
    data = {f"{key}0": value[None] for key, value in features0.items()}
    data |= {f"{key}1": value[None] for key, value in features1.items()}
    matches = matcher(data)["matches0"][0]
    matched = matches >= 0
    points0 = features0["keypoints"][matched].cpu().numpy()
    points1 = features1["keypoints"][matches[matched]].cpu().numpy()
    return homography_errors(points0, points1, homography)
