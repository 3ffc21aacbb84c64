"""Validation as the benchmarks measure: matching accuracy under known homographies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from featplug.extractors import build_extractor
from featplug.matchers import build_matcher
from featplug.metrics import homography_errors, mean_matching_accuracy


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
        ``mma_N`` for each threshold, the mean over all pairs of the part of matches that are right,
        and ``matches``, their mean number.
    """
    extractor = build_extractor(model_conf).to(device)
    matcher = build_matcher(matcher_conf).to(device)
    errors = []
    for step in steps:
        batch = pairs[step]
        sides = [extractor({"image": batch[key].to(device)}) for key in ("image0", "image1")]
        for index, homography in enumerate(batch["homography"].double().numpy()):
            features0, features1 = (
                {key: value[index] for key, value in side.items()} for side in sides
            )
            data = {f"{key}0": value[None] for key, value in features0.items()}
            data |= {f"{key}1": value[None] for key, value in features1.items()}
            found = matcher(data)["matches0"][0]
            matched = found >= 0
            points0 = features0["keypoints"][matched].cpu().numpy()
            points1 = features1["keypoints"][found[matched]].cpu().numpy()
            errors.append(homography_errors(points0, points1, homography))
    accuracy = mean_matching_accuracy(errors, thresholds)
    return {
        **{f"mma_{t:g}": float(a) for t, a in zip(thresholds, accuracy, strict=True)},
        "matches": sum(map(len, errors)) / len(errors),
    }
