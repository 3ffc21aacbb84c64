"""Shift trained patch descriptors along their mean, so that stray points find no partner.

Of the keypoints of two images half or more have no counterpart, and neither average precision nor
N pairs say anything of these. Nearest neighbours drop them where the neighbour has a nearer one in
turn, which is the more often so the more hubs there are: points near the mean of all are near to
every one (Radovanović et al., "Hubs in Space", JMLR 2010). Training spreads descriptors around the
origin, where there are few. A constant added to the outputs before they are scaled to unit length
brings hubs back; right matches hardly depend on it. It is a bias of the last layer, so that the
network stays what it is. Its length is chosen on views of photographs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.base import Extractor
from featplug.checkpoints import read_safetensors, save_readable, state_sha256
from featplug.confs import feature_conf
from featplug.extractors import build_extractor
from featplug.extractors.contextdesc import ContextDescExtractor
from featplug.extractors.doap import DOAPExtractor, binary_descriptors
from featplug.files import write_whole
from featplug.homography_metrics import homography_errors
from featplug.matchers import build_matcher
from featplug.networks.contextdesc import DIMENSIONS, ContextDesc
from featplug.networks.l2net import DOAP
from featplug.training.homographies import warp_points
from featplug.training.pairs import VALIDATION_PAIRS, HomographyPairOptions, HomographyPairs
from featplug.training.photographs import Photographs, split_photographs
from featplug.training.sift_pairs import same_points
from featplug.training.validation import trained_confs


@dataclass(frozen=True)
class ShiftOptions:
    """How :func:`choose_shift` looks for the length."""

    lengths: tuple[float, ...] = (0, 0.25, 0.5, 1, 1.5, 2, 3)
    """Multiples of the outputs' own mean length. With more all descriptors are nearly one."""
    num_pairs: int = 24
    """Of views, each of another photograph that is trained on."""
    threshold: float = 3.0
    """Greatest error of a right match, pixels."""
    views: HomographyPairOptions = VALIDATION_PAIRS
    seed: int = 0


class ShiftScore(NamedTuple):
    """Mutual nearest neighbours with one length of the shift, over all pairs."""

    length: float
    precision: float
    """Right matches of all matches."""
    recall: float
    """Right matches of all keypoints with a counterpart."""

    @property
    def f_measure(self) -> float:
        """Harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class _Side:
    """One view of a pair."""

    keypoints: np.ndarray
    outputs: Tensor
    """N×D, before they are scaled to unit length or reduced to their signs."""


def choose_shift(
    feature: str,
    weights: Path,
    photographs: Path,
    names: Sequence[str],
    options: ShiftOptions | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, list[ShiftScore]]:
    """Find the shift that gives the best F-measure of mutual nearest neighbours.

    Args:
        feature: a conf of DOAP or ContextDesc.
        weights: file of it.
        photographs: folder.
        names: relative to the folder; those held out in training are left out here, too.
        options: see there.
        device: for the network.

    Returns:
        The shift, D numbers, and the score of each length.

    Raises:
        ValueError: the feature is another system's, or its photographs have no matches.
    """
    options = options or ShiftOptions()
    model, matcher_conf = trained_confs(feature, weights)
    extractor = build_extractor(model).to(device)
    views = HomographyPairs(
        Photographs(photographs, split_photographs(names)[0]), options.views, options.seed
    )
    pairs = list(_described(extractor, views, options.num_pairs, device))
    outputs = torch.cat([side.outputs for sides, _ in pairs for side in sides])
    mean = F.normalize(F.normalize(outputs).mean(0), dim=0) * outputs.norm(dim=1).mean()
    matcher = build_matcher(matcher_conf)
    is_binary = isinstance(extractor, DOAPExtractor) and extractor.network.is_binary
    scores = []
    for length in options.lengths:
        counts = np.zeros(3)
        for sides, homography in pairs:
            descriptors = [_descriptors(s.outputs + length * mean, is_binary) for s in sides]
            data = {f"descriptors{k}": d[None] for k, d in enumerate(descriptors)}
            found = matcher(data)["matches0"][0].numpy(force=True)
            counts += _counts(found, sides, homography, options.threshold)
        if counts.min() == 0:
            raise ValueError(f"Views of the photographs in {photographs} have no right matches.")
        matches, right, corresponding = counts
        scores.append(ShiftScore(length, right / matches, right / corresponding))
    best = max(scores, key=lambda score: score.f_measure)
    return (best.length * mean).cpu(), scores


@torch.no_grad()
def _described(
    extractor: Extractor, views: HomographyPairs, num_pairs: int, device: torch.device | str
) -> Iterator[tuple[tuple[_Side, _Side], np.ndarray]]:
    for step in range(num_pairs):
        batch = views[step]
        sides = [_side(extractor, batch[key][0].to(device)) for key in ("image0", "image1")]
        if all(len(side.keypoints) for side in sides):
            yield (sides[0], sides[1]), batch["homography"][0].double().numpy()


def _side(extractor: Extractor, image: Tensor) -> _Side:
    found = extractor.detect(image)
    keypoints = found["keypoints"].numpy(force=True)
    if isinstance(extractor, DOAPExtractor):
        return _Side(keypoints, extractor.outputs(image, found))
    contextdesc = cast(ContextDescExtractor, extractor)
    collected = [image.new_zeros((0, DIMENSIONS))]  # without keypoints the network is not asked

    def collect(network: ContextDesc, inputs: tuple[Any, ...], _: Tensor) -> None:
        collected.append(network.outputs(*inputs))

    handle = contextdesc.network.register_forward_hook(collect)
    try:
        contextdesc.describe(image, found)
    finally:
        handle.remove()
    return _Side(keypoints, torch.cat(collected))


def _descriptors(outputs: Tensor, is_binary: bool) -> Tensor:
    return binary_descriptors(outputs)["descriptors"] if is_binary else F.normalize(outputs).t()


def _counts(
    found: np.ndarray, sides: tuple[_Side, _Side], homography: np.ndarray, threshold: float
) -> np.ndarray:
    """Matches, right ones, and keypoints with a counterpart."""
    points0, points1 = (side.keypoints for side in sides)
    matched = found >= 0
    errors = homography_errors(points0[matched], points1[found[matched]], homography)
    warped = warp_points(
        torch.from_numpy(points0)[None].double(), torch.from_numpy(homography)[None]
    )
    counterparts = same_points(warped[0].numpy(), points1, threshold)
    right = (errors <= threshold).sum()
    return np.array([matched.sum(), right, max(right, (counterparts >= 0).sum())])


def shift_weights(feature: str, weights: Path, path: Path, shift: Tensor) -> None:
    """Write weights whose outputs are shifted.

    Args:
        feature: as for :func:`choose_shift`.
        weights: safetensors, a run's or exported.
        path: the file to write.
        shift: D numbers.

    Raises:
        ValueError: the file is damaged, or has no layer that the shift can be added to.
    """
    state, metadata = read_safetensors(weights)
    key = _last_bias(feature, state)
    if key not in state or state[key].shape != shift.shape:
        raise ValueError(f"{weights} has no last layer of {feature} that can be shifted.")
    state = {**state, key: (state[key].float() + shift).to(state[key].dtype)}
    metadata["shift"] = json.dumps([round(float(value), 6) for value in shift])
    metadata["tensors_sha256"] = state_sha256(state)
    write_whole(path, lambda part: save_readable(state, part, metadata))


def _last_bias(feature: str, state: Mapping[str, Tensor]) -> str:
    """Name the bias that every output has in it."""
    if feature_conf(feature)["model"]["name"] == "contextdesc":
        # In the sum with and without visual context.
        return "geometric_context.context_trans.bias"
    with torch.device("meta"):
        *_, (name, _) = DOAP.from_state(state).trunk.named_children()
    return f"trunk.{name}.bias"
