"""Precision of a pair's matches as their threshold changes, beyond that of the conf as well.

A matcher with a strict test is one point: few matches, most of them right. Which matcher is better
is seen on the curve of all thresholds (Mikolajczyk and Schmid, "A Performance Evaluation of Local
Descriptors", PAMI 2005, section 4.1), on which the test of the conf is marked. Matches are sorted
by their score; those of a matcher with a ratio test by the strictest ratio that they pass, from
mutual neighbours without a test on. Thresholds are those of all pairs together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.pairs.feature_pairs import FeaturePair
from benchmarks.record import Curve
from featplug.api import Matches
from featplug.base import Matcher

_RATIO = "ratio_threshold"
_RATIOS = (0.9, 0.7, 0.6)
"""Ratios that are tried next to a conf's own and to none."""
_MATCHES_STEP = 10.0
"""Right matches of a pair from one point of a curve to the next."""
_RECALL_STEP = 0.01


@dataclass(frozen=True)
class Swept:
    """Matches of one pair, of which a threshold keeps those with the highest levels."""

    levels: np.ndarray
    """K values; the surest match has the highest."""
    is_right: np.ndarray
    """K bool."""
    is_shipped: np.ndarray
    """K bool: whether the conf as it is keeps the match."""
    num_possible: int | None = None
    """Number of keypoints of image 0 with a counterpart; None where no keypoints were detected."""


def loosest_matches(features: FeaturePair) -> tuple[Matches, np.ndarray, np.ndarray]:
    """Return all matches that a threshold could keep, their levels, and which of them are shipped.

    These are the pair's own matches; of a matcher with a ratio test those without it.
    """
    own = features.match()
    matcher = features.matcher
    if isinstance(matcher, Matches) or not looser_matchers(matcher):
        return own, own.scores, np.ones(len(own), bool)
    looser = looser_matchers(matcher)
    by_ratio = {ratio: features.match_by(m, f"ratio {ratio:g}") for ratio, m in looser.items()}
    by_ratio[matcher.conf[_RATIO]] = own
    loosest = by_ratio[np.inf]
    levels = np.full(len(loosest), -np.inf)
    for ratio in sorted(by_ratio, reverse=True):
        levels[_among(loosest, by_ratio[ratio])] = -ratio
    return loosest, levels, _among(loosest, own)


@lru_cache(maxsize=2)
def looser_matchers(matcher: Matcher) -> dict[float, Matcher]:
    """Return a matcher with other ratio tests by their ratio, infinite for none.

    Empty for a matcher without a ratio test, and for a network, which would be loaded again.
    """
    own = matcher.conf.get(_RATIO)
    if own is None or next(matcher.parameters(), None) is not None:
        return {}
    ratios = [ratio for ratio in _RATIOS if ratio != own]
    confs = {ratio: {**matcher.conf, _RATIO: ratio} for ratio in ratios}
    confs[np.inf] = {**matcher.conf, _RATIO: None}
    return {ratio: type(matcher)(conf) for ratio, conf in confs.items()}


def _among(matches: Matches, others: Matches) -> np.ndarray:
    """Return which matches are also among others: K bool."""
    width = 1 + max((int(m.indices.max()) for m in (matches, others) if len(m)), default=0)
    keys, other_keys = (m.indices[:, 0] * width + m.indices[:, 1] for m in (matches, others))
    return np.isin(keys, other_keys)


def precision_curves(pairs: Sequence[Swept]) -> dict[str, Curve]:
    """Return the precision over right matches and, where keypoints are known, over recall.

    The precision at a recall is that where it is first reached, the thresholds falling.
    """
    levels = np.concatenate([pair.levels for pair in pairs])
    is_right = np.concatenate([pair.is_right for pair in pairs])
    is_shipped = np.concatenate([pair.is_shipped for pair in pairs])
    if not is_right.any():
        return {}
    _, group, sizes = np.unique(-levels, return_inverse=True, return_counts=True)
    right = np.cumsum(np.bincount(group, is_right, len(sizes)))
    everything = np.cumsum(sizes)
    right, first = np.unique(right, return_index=True)
    everything = everything[first]
    if right[0] == 0:
        right, everything = right[1:], everything[1:]

    def curve(scale: float, step: float, x_label: str, y_label: str) -> Curve:
        """Return the curve over right matches / scale, from the strictest threshold on."""
        start, end = right[0] / scale, right[-1] / scale
        x = np.append(np.arange(1, int(end / step) + 1) * step, [end])
        x = np.unique(x[(start <= x) & (x <= end)].round(9))
        precision = np.interp(x * scale, right, right / everything)
        shipped = is_right[is_shipped]
        point = [float(shipped.sum() / scale), float(shipped.mean())] if shipped.size else []
        return Curve(x.tolist(), precision.tolist(), x_label, y_label, point)

    curves = {
        "precision": curve(
            *(len(pairs), _MATCHES_STEP, "right matches of a pair (3 px)"),
            "precision",
        )
    }
    possible = sum(pair.num_possible or 0 for pair in pairs)
    if possible and all(pair.num_possible is not None for pair in pairs):
        curves["precision_recall"] = curve(
            *(possible, _RECALL_STEP, "recall of what the keypoints allow (3 px)"),
            "precision",
        )
    return curves
