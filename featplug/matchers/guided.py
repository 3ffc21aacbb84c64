"""Guided matching: the strongest keypoints first, then the others near their epipolar lines.

As COLMAP's guided matching, after a matching of few keypoints instead of all: most pairs of
photographs of a scene do not overlap, and a few thousand keypoints show that; where they do
overlap, most similarities are of keypoints that the geometry keeps apart.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.matchers.guidance import LEAST_BAND, Guidance, estimate_guidance
from featplug.matchers.nearest_neighbor import NearestNeighbor

_WORTHWHILE = 4
"""How many times the similarities of the strongest keypoints all of them must be, at least: fewer
take no longer than the geometry and the second step."""
_GUIDING_KEYS = ("keypoints", "scores")
_WEAK_EVIDENCE = 5.0
"""Decimal logarithm of false alarms up to which all keypoints of a pair are matched with all: the
strongest ones do not show a geometry, but may have missed one. Of 77 pairs of photographs of two
facades, the 64 matched with a ratio test had 4 matches or fewer, the others 10 or more."""


def guided(matcher: Matcher, strongest: int) -> Matcher:
    """Return a matcher that is guided where images have many more keypoints than ``strongest``.

    Returns:
        The same matcher where -1 says that all keypoints are matched with all, or where it cannot
        be guided.

    Raises:
        ValueError: ``strongest`` is 0 or below -1.
    """
    if strongest < 1 and strongest != -1:
        raise ValueError(f"strongest must be 1 or more, or -1 for all, not {strongest}.")
    if strongest == -1 or matcher.guided_options is None:
        return matcher
    return GuidedMatcher(matcher, strongest)


class GuidedMatcher(Matcher):
    """Matches the strongest keypoints, estimates the geometry, and matches the others near it.

    The geometry, which knows no camera, only says which further keypoints may match. The result has
    the matches of the strongest keypoints, whether they fit it or not, and of nearest neighbours
    among all keypoints of similar epipolar lines (or, on a plane, of the same place) the ones
    within a band around it, as wide as the errors of the first matches. Of two matches of a
    keypoint the one with the higher score remains, as where all are matched with all. A pair that
    shows no geometry keeps the matches of its strongest keypoints, or is matched as a whole where
    the evidence is not far from enough.

    Images with fewer than about twice as many keypoints, and features without places or scores, are
    matched as by the matcher itself.

    Args:
        matcher: matches the strongest keypoints; its :attr:`~Matcher.guided_options` match the
            others.
        strongest: number of keypoints with the highest scores that are matched first.
    """

    revision = 2

    def __init__(self, matcher: Matcher, strongest: int) -> None:
        super().__init__()
        self.conf = matcher.conf
        self.matcher, self.strongest = matcher, strongest
        self.neighbors = NearestNeighbor(matcher.guided_options)
        self.required_keys = matcher.required_keys
        further = (*matcher.optional_keys, *_GUIDING_KEYS)
        self.optional_keys = tuple(key for key in further if key not in self.required_keys)
        self.keypoint_axes = matcher.keypoint_axes  # type: ignore[misc]
        self.weights_records = matcher.weights_records

    @property
    def settings(self) -> dict[str, Any]:
        """Options of the matcher, the number of strongest keypoints, and the least band in px."""
        return {**self.matcher.settings, "strongest": self.strongest, "least_band": LEAST_BAND}

    @property
    def revisions(self) -> dict[str, int]:
        """Revisions of the methods that are used."""
        return {**super().revisions, **self.neighbors.revisions, **self.matcher.revisions}

    def check_features_of(self, method: str | None) -> None:
        """Check that the matcher is for the features of a method."""
        self.matcher.check_features_of(method)

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match one pair of images; see :class:`Matcher`."""
        self.matcher.memory_budget = self.neighbors.memory_budget = self.memory_budget
        sides = features0, features1
        num0, num1 = (self.num_keypoints(side) for side in sides)
        is_worthwhile = num0 * num1 > _WORTHWHILE * self.strongest**2
        can_be_guided = all(key in side for side in sides for key in _GUIDING_KEYS)
        if not (is_worthwhile and can_be_guided):
            return self.matcher.match_pair(*sides)
        points0, points1 = (side["keypoints"].cpu().numpy().astype(np.float64) for side in sides)
        matches, scores = self._match_strongest(*sides)
        guidance, evidence = estimate_guidance(points0[matches[:, 0]], points1[matches[:, 1]])
        if (
            guidance is None
            and evidence is not None
            and evidence.log_false_alarms <= _WEAK_EVIDENCE
        ):
            return self.matcher.match_pair(*sides)
        if guidance is None:
            return _as_result(len(points0), matches, scores)
        result = self.neighbors.match_blocks(
            *sides, _on_device(guidance, points0, points1, features0["descriptors"].device)
        )
        further, further_scores = _as_matches(result)
        near = guidance.errors(points0[further[:, 0]], points1[further[:, 1]]) <= guidance.band
        axes = (0, 1) if self.neighbors.conf["do_mutual_check"] else (0,)
        merged = _merged((matches, scores), (further[near], further_scores[near]), axes)
        return _as_result(len(points0), *merged)

    def _match_strongest(self, *sides: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Return the matches K×2 of the strongest keypoints, and their scores K."""
        keep0, keep1 = (
            torch.argsort(side["scores"], descending=True, stable=True)[: self.strongest]
            for side in sides
        )
        result = self.matcher.match_pair(self.select(sides[0], keep0), self.select(sides[1], keep1))
        matches, scores = _as_matches(result)
        indices = keep0.cpu().numpy()[matches[:, 0]], keep1.cpu().numpy()[matches[:, 1]]
        return np.column_stack(indices), scores


def _on_device(
    guidance: Guidance, points0: np.ndarray, points1: np.ndarray, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for rows, columns in guidance.blocks(points0, points1):
        yield torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)


def _merged(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    axes: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Add the second matches with higher scores than the first ones of their keypoints.

    Args:
        first: matches K×2 and scores K.
        second: matches M×2 and scores M.
        axes: the images, 0 and 1, in which a keypoint has one match at most.
    """
    (matches, scores), (others, other_scores) = first, second
    nearer, stays = np.ones(len(others), bool), np.ones(len(matches), bool)
    for axis in axes:
        highest = np.full(1 + max(m[:, axis].max(initial=0) for m in (matches, others)), -np.inf)
        np.maximum.at(highest, matches[:, axis], scores)
        nearer &= other_scores > highest[others[:, axis]]
    for axis in axes:
        stays &= ~np.isin(matches[:, axis], others[nearer, axis])
    return (
        np.concatenate([matches[stays], others[nearer]]),
        np.concatenate([scores[stays], other_scores[nearer]]),
    )


def _as_matches(result: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return a matcher's result as indices K×2 and scores K."""
    matches0 = result["matches0"].cpu().numpy()
    (rows,) = np.nonzero(matches0 >= 0)
    scores = result["matching_scores0"].cpu().numpy()[rows]
    return np.column_stack([rows, matches0[rows]]), scores


def _as_result(num0: int, matches: np.ndarray, scores: np.ndarray) -> dict[str, Tensor]:
    """Return matches in the form of a matcher's result."""
    matches0 = torch.full((num0,), -1, dtype=torch.int64)
    scores0 = torch.zeros(num0)
    rows = torch.from_numpy(matches[:, 0])
    matches0[rows], scores0[rows] = torch.from_numpy(matches[:, 1]), torch.from_numpy(scores)
    return {"matches0": matches0, "matching_scores0": scores0}
